package identity_test

import (
	"net/http"
	"strings"
	"testing"

	"nestbox/internal/pdstest"
)

// TestLookups asks a whole server: for its own people, through its directory.
func TestLookups(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice := s.SignUp(t, "alice")
	ask := func(what string) pdstest.Answer {
		t.Helper()
		return s.Do(t, pdstest.Request{NSID: "com.atproto.identity." + what})
	}
	for _, q := range []string{"resolveDid?did=" + alice.DID, "resolveIdentity?identifier=" + alice.DID, "resolveIdentity?identifier=Alice.test"} {
		var out struct {
			DID    string         `json:"did"`
			Handle string         `json:"handle"`
			DIDDoc map[string]any `json:"didDoc"`
		}
		ask(q).Decode(t, &out)
		if out.DIDDoc["id"] != alice.DID || strings.HasPrefix(q, "resolveIdentity") && (out.DID != alice.DID || out.Handle != "alice.test") {
			t.Errorf("%s: %+v", q, out)
		}
	}
	for q, want := range map[string][2]string{
		"resolveDid?did=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa":             {"DidNotFound", "Unable to resolve DID"},
		"resolveDid?did=did:key:z":                                    {"DidNotFound", "Unable to resolve DID"},
		"resolveDid?did=alice.test":                                   {"InvalidRequest", "Invalid DID at $.did"},
		"resolveIdentity?identifier=bob.test":                         {"HandleNotFound", "Unable to resolve handle"},
		"resolveIdentity?identifier=did:plc:aaaaaaaaaaaaaaaaaaaaaaaa": {"DidNotFound", "Unable to resolve DID"},
		"resolveIdentity?identifier=x":                                {"InvalidRequest", "Invalid DID or handle at $.identifier"},
		"resolveHandle?handle=bob.test":                               {"HandleNotFound", "Unable to resolve handle"},
	} {
		ask(q).WantError(t, http.StatusBadRequest, want[0], want[1])
	}
	refresh := func(auth string) pdstest.Answer {
		return s.Do(t, pdstest.Request{NSID: "com.atproto.identity.refreshIdentity", Auth: auth, Body: map[string]string{"identifier": "alice.test"}})
	}
	if a := refresh(""); a.Status != http.StatusUnauthorized {
		t.Errorf("refreshIdentity by anyone: %d %s", a.Status, a.Body)
	}
	if a := refresh(pdstest.Bearer(alice.AccessJwt)); a.Status != http.StatusOK || !strings.Contains(string(a.Body), `"handle":"alice.test"`) {
		t.Errorf("refreshIdentity: %d %s", a.Status, a.Body)
	}
}

func TestTLSCheck(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice := s.SignUp(t, "alice")
	check := func(domain string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.Base+"/tls-check?domain="+domain, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		raw := make([]byte, 200)
		n, _ := resp.Body.Read(raw)
		return resp.StatusCode, string(raw[:n])
	}
	for domain, want := range map[string]int{
		"alice.test": 200, "ALICE.test": 200, "bob.test": 404, "www.alice.test": 404, "alice.example.com": 400, "": 400, "test": 400, "a%20b": 400,
	} {
		if status, body := check(domain); status != want || (status == 200) != strings.Contains(body, `"success":true`) {
			t.Errorf("%q: %d %s, want %d", domain, status, body, want)
		}
	}
	s.Do(t, pdstest.Request{NSID: "com.atproto.server.deactivateAccount", Auth: pdstest.Bearer(alice.AccessJwt), Body: map[string]any{}})
	if status, body := check("alice.test"); status != http.StatusNotFound {
		t.Errorf("deactivated: %d %s", status, body)
	}
}
