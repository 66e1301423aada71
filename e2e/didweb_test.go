package e2e

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"github.com/bluesky-social/indigo/atproto/atclient"
	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/auth"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/internal/pdstest"
)

// webOwner is somebody whose DID is a did:web: it serves the document itself.
type webOwner struct {
	did string
	key *atcrypto.PrivateKeyK256
	// document is what is served now.
	document atomic.Pointer[string]
}

func newWebOwner(t *testing.T) *webOwner {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	o := &webOwner{key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/did.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(*o.document.Load()))
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	o.did = "did:web:localhost%3A" + srv.URL[strings.LastIndexByte(srv.URL, ':')+1:]
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	o.serve(t, "old.example.com", public.Multibase(), "https://pds.example.com")
	return o
}

// serve changes the document.
func (o *webOwner) serve(t *testing.T, handle, key, endpoint string) {
	t.Helper()
	doc, err := json.Marshal(map[string]any{
		"@context": []string{"https://www.w3.org/ns/did/v1", "https://w3id.org/security/multikey/v1"}, "id": o.did,
		"alsoKnownAs":        []string{"at://" + handle},
		"verificationMethod": []any{map[string]string{"id": o.did + "#atproto", "type": "Multikey", "controller": o.did, "publicKeyMultibase": key}},
		"service":            []any{map[string]string{"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": endpoint}},
	})
	if err != nil {
		t.Fatal(err)
	}
	o.document.Store(new(string(doc)))
}

// token is a service token that the owner signs.
func (o *webOwner) token(t *testing.T, lxm string) string {
	t.Helper()
	nsid := syntax.NSID(lxm)
	token, err := auth.SignServiceAuth(syntax.DID(o.did), "did:web:localhost", time.Minute, &nsid, o.key)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestDIDWeb: an owner with a did:web moves in, by a token of their own key, points
// the document here by hand, lives here, changes the handle, and moves out.
func TestDIDWeb(t *testing.T) {
	o := newWebOwner(t)
	p := pdstest.Launch(t, "", "PDS_LOG_LEVEL=warn")
	fresh := atclient.NewAPIClient(p.Base)
	in := &comatproto.ServerCreateAccount_Input{Did: &o.did, Handle: "wendy.test", Email: new("wendy@example.com"), Password: new(pdstest.Password)}
	refused := func(what string, err error, says string) {
		t.Helper()
		var e *atclient.APIError
		if !errors.As(err, &e) || e.StatusCode < 400 || e.StatusCode > 403 || !strings.Contains(e.Message, says) {
			t.Errorf("%s: %v, want one that says %q", what, err, says)
		}
	}
	fresh.Headers.Set("Authorization", "Bearer "+newWebOwner(t).token(t, "com.atproto.server.createAccount"))
	_, err := comatproto.ServerCreateAccount(t.Context(), fresh, in)
	refused("by another's token", err, "")
	fresh.Headers.Set("Authorization", "Bearer "+o.token(t, "com.atproto.server.createAccount"))
	if out, err := comatproto.ServerCreateAccount(t.Context(), fresh, in); err != nil || out.Did != o.did {
		t.Fatalf("move in: %+v, %v", out, err)
	}
	c := login(t, house{base: p.Base}, "wendy")

	refused("activated before the document points here", comatproto.ServerActivateAccount(t.Context(), c), "")
	var recommended struct {
		VerificationMethods map[string]string
		Services            map[string]struct{ Endpoint string }
	}
	if err := c.Get(t.Context(), "com.atproto.identity.getRecommendedDidCredentials", nil, &recommended); err != nil {
		t.Fatal(err)
	}
	key := strings.TrimPrefix(recommended.VerificationMethods["atproto"], "did:key:")
	endpoint := recommended.Services["atproto_pds"].Endpoint
	o.serve(t, "wendy.test", key, "https://pds.example.com")
	refused("activated with another endpoint", comatproto.ServerActivateAccount(t.Context(), c), "endpoint")
	o.serve(t, "wendy.test", key, endpoint)
	if err := comatproto.ServerActivateAccount(t.Context(), c); err != nil {
		t.Fatalf("activate: %v", err)
	}
	if s, err := comatproto.ServerCheckAccountStatus(t.Context(), c); err != nil || !s.Activated || !s.ValidDid {
		t.Errorf("%+v, %v", s, err)
	}
	s := p.SignIn(t, "wendy.test", pdstest.Password)
	if s.DID != o.did || s.Handle != "wendy.test" {
		t.Errorf("%+v", s)
	}
	if out, err := comatproto.IdentityResolveHandle(t.Context(), fresh, "wendy.test"); err != nil || out.Did != o.did {
		t.Errorf("%+v, %v", out, err)
	}
	record := map[string]any{"$type": "app.bsky.feed.post", "text": "from a did:web", "createdAt": "2026-01-01T00:00:00Z"}
	if err := c.Post(t.Context(), "com.atproto.repo.createRecord", map[string]any{"repo": o.did, "collection": "app.bsky.feed.post", "record": record}, nil); err != nil {
		t.Error(err)
	}

	rename := &comatproto.IdentityUpdateHandle_Input{Handle: "wanda.test"}
	refused("a handle that the document does not name", comatproto.IdentityUpdateHandle(t.Context(), c, rename), "document")
	o.serve(t, "wanda.test", key, endpoint)
	if err := comatproto.IdentityUpdateHandle(t.Context(), c, rename); err != nil {
		t.Errorf("update handle: %v", err)
	}
	if s := p.SignIn(t, "wanda.test", pdstest.Password); s.DID != o.did {
		t.Errorf("%+v", s)
	}
	refused("an operation of the PLC directory", c.Post(t.Context(), "com.atproto.identity.submitPlcOperation", map[string]any{"operation": map[string]any{}}, nil), "")

	if err := comatproto.ServerDeactivateAccount(t.Context(), c, &comatproto.ServerDeactivateAccount_Input{}); err != nil {
		t.Errorf("deactivate: %v", err)
	}
	o.serve(t, "wanda.test", key, "https://pds.example.com")
	refused("back, while the document points elsewhere", comatproto.ServerActivateAccount(t.Context(), c), "endpoint")
	if out, err := pdstest.Run(t, "", "identity", "show", "--dev", "--data", p.Dir, "wanda.test"); err != nil || !strings.Contains(out, "https://pds.example.com") {
		t.Errorf("identity show: %v\n%s", err, out)
	}
}
