package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/auth"
	"nestbox/internal/pdstest"
	"nestbox/plc/directory"
)

// counted is a host that counts the requests it gets: in all, and at once. While it
// holds, it answers nothing.
type counted struct {
	*httptest.Server

	mu               sync.Mutex
	total, now, most int
	hold             chan struct{}
}

func newCounted(t *testing.T, next http.Handler) *counted {
	t.Helper()
	c := &counted{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		c.total++
		c.now++
		c.most = max(c.most, c.now)
		hold := c.hold
		c.mu.Unlock()
		if hold != nil {
			select {
			case <-hold:
			case <-r.Context().Done():
			}
		}
		next.ServeHTTP(w, r)
		c.mu.Lock()
		c.now--
		c.mu.Unlock()
	}))
	t.Cleanup(c.Close)
	return c
}

// reset returns the counts, and begins again.
func (c *counted) reset() (total, most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	total, most = c.total, c.most
	c.total, c.most = 0, 0
	return total, most
}

// silent makes the host answer nothing until answering is called.
func (c *counted) silent() (answering func()) {
	hold := make(chan struct{})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hold = hold
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.hold = nil
		close(hold)
	}
}

// asking is a server whose outbound requests all go to hosts that count.
type asking struct {
	*pdstest.InProcess

	t        *testing.T
	plc, web *counted
	webDID   syntax.DID
	key      atcrypto.PrivateKey // signs tokens; no document names it
}

func newAsking(t *testing.T, settings ...string) *asking {
	t.Helper()
	dir, err := directory.Open(filepath.Join(t.TempDir(), "plc"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	a := &asking{t: t, plc: newCounted(t, dir.Handler())}
	a.web = newCounted(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, a.document()) }))
	u, err := url.Parse(a.web.URL)
	if err != nil {
		t.Fatal(err)
	}
	a.webDID = syntax.DID("did:web:localhost%3A" + u.Port())
	if a.key, err = atcrypto.GeneratePrivateKeyK256(); err != nil {
		t.Fatal(err)
	}
	a.InProcess = pdstest.Start(t, pdstest.Options{Settings: append(settings, "PDS_DID_PLC_URL="+a.plc.URL)})
	return a
}

// document returns that of webDID: its key is not the one that signs.
func (a *asking) document() string {
	other, _ := atcrypto.GeneratePrivateKeyK256()
	public, _ := other.PublicKey()
	doc, _ := json.Marshal(map[string]any{
		"id": a.webDID, "verificationMethod": []map[string]string{{"id": "#atproto", "type": "Multikey", "publicKeyMultibase": public.Multibase()}},
		"service": []map[string]string{{"id": "#atproto_labeler", "type": "AtprotoLabeler", "serviceEndpoint": a.web.URL}},
	})
	return string(doc)
}

// junk returns a service token that the issuer did not sign.
func (a *asking) junk(iss syntax.DID, method string) string {
	a.t.Helper()
	now := time.Now()
	token, err := auth.NewServiceToken(a.key, iss, a.DID, method, now, now.Add(time.Minute))
	if err != nil {
		a.t.Fatal(err)
	}
	return pdstest.Bearer(token)
}

// nobody returns a DID that no directory knows.
func nobody(i int) syntax.DID {
	const digits = "abcdefghijklmnopqrstuvwxyz234567"
	id := []byte(strings.Repeat("a", 24))
	for at := range 4 {
		id[at] = digits[i%32]
		i /= 32
	}
	return syntax.DID("did:plc:" + string(id))
}

// all makes n requests at once, and returns how many got each status.
func (a *asking) all(n int, request func(i int) pdstest.Request) map[int]int {
	a.t.Helper()
	statuses := map[int]int{}
	var mu sync.Mutex
	var calls sync.WaitGroup
	for i := range n {
		r := request(i)
		calls.Go(func() {
			answer, err := a.Try(a.t, r)
			if err != nil {
				a.t.Errorf("%s: %v", r.NSID, err)
			}
			mu.Lock()
			defer mu.Unlock()
			statuses[answer.Status]++
		})
	}
	calls.Wait()
	return statuses
}

// TestJunkTokens: service tokens that anybody can make cause no more lookups at
// once than the room of their network has places, however many come while the
// directory is silent.
func TestJunkTokens(t *testing.T) {
	const requests, room = 600, 64
	a := newAsking(t)
	a.plc.reset()
	answering := a.plc.silent()
	ended := make(chan int, requests)
	var calls sync.WaitGroup
	for i := range requests {
		calls.Go(func() {
			answer, err := a.Try(t, pdstest.Request{
				NSID: "com.atproto.server.createAccount", Auth: a.junk(nobody(i), "com.atproto.server.createAccount"), Body: map[string]string{"handle": "x.test"},
			})
			if err != nil {
				t.Error(err)
			}
			ended <- answer.Status
		})
	}
	refused := 0
	for range requests - room {
		if <-ended == http.StatusServiceUnavailable {
			refused++
		}
	}
	answering()
	calls.Wait()
	// A request that comes once the first ones have given up takes a place that is free.
	if total, most := a.plc.reset(); total > requests-refused || most > room || refused == 0 {
		t.Errorf("the directory was asked %d times, %d at once; the room has %d places, %d requests were refused", total, most, room, refused)
	}
}

// TestJunkTokensOfOne: one issuer is looked up once, whatever is signed in its
// name.
func TestJunkTokensOfOne(t *testing.T) {
	a := newAsking(t)
	for _, iss := range []syntax.DID{a.webDID, nobody(1)} {
		for range 3 { // at once, and again
			for status, n := range a.all(60, func(int) pdstest.Request {
				return pdstest.Request{NSID: "com.atproto.server.createAccount", Auth: a.junk(iss, "com.atproto.server.createAccount"), Body: map[string]string{"handle": "x.test"}}
			}) {
				if status != http.StatusUnauthorized {
					t.Errorf("%s: status %d, %d times", iss, status, n)
				}
			}
		}
	}
	// The key is looked up as it is known, and as it is now.
	if total, most := a.web.reset(); total > 2 || most > 1 {
		t.Errorf("the host was asked %d times, %d at once", total, most)
	}
	if total, most := a.plc.reset(); total > 2 || most > 1 {
		t.Errorf("the directory was asked %d times, %d at once", total, most)
	}
}

// TestLookupsOfRequests: how many requests each endpoint makes to hosts that its
// caller chooses, for 80 requests at once from one network.
func TestLookupsOfRequests(t *testing.T) {
	a := newAsking(t)
	signedIn := pdstest.Bearer(a.SignUp(t, "alice").AccessJwt)
	get := func(nsid string, query ...string) func(int) pdstest.Request {
		values := url.Values{}
		for i := 0; i < len(query); i += 2 {
			values.Set(query[i], query[i+1])
		}
		return func(int) pdstest.Request { return pdstest.Request{NSID: nsid + "?" + values.Encode(), Auth: signedIn} }
	}
	post := func(nsid string, body map[string]any) func(int) pdstest.Request {
		return func(int) pdstest.Request {
			return pdstest.Request{Method: http.MethodPost, NSID: nsid, Auth: signedIn, Body: body}
		}
	}
	newcomer := func(in map[string]any) func(int) pdstest.Request {
		return func(int) pdstest.Request {
			return pdstest.Request{NSID: "com.atproto.server.createAccount", Body: in}
		}
	}
	report := post("com.atproto.moderation.createReport", map[string]any{"reasonType": "com.atproto.moderation.defs#reasonSpam", "subject": map[string]string{}})
	// most is how many requests the directory and the host may get at once, web how
	// many the host may get in all.
	for _, c := range []struct {
		what    string
		request func(int) pdstest.Request
		most    int
		web     int
	}{
		{"resolveDid", get("com.atproto.identity.resolveDid", "did", a.webDID.String()), 1, 1},
		{"resolveIdentity", get("com.atproto.identity.resolveIdentity", "identifier", a.webDID.String()), 1, 0},
		{"refreshIdentity", post("com.atproto.identity.refreshIdentity", map[string]any{"identifier": a.webDID}), 1, 1},
		// The newest operation and the document, one of each at a time.
		{"checkAccountStatus", get("com.atproto.server.checkAccountStatus"), 2, 0},
		{"activateAccount", func(int) pdstest.Request {
			return pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.activateAccount", Auth: signedIn}
		}, 2, 0},
		{"createAccount, a handle of their own", newcomer(map[string]any{
			"handle": "somebody.example.com", "did": a.webDID, "email": "a@example.com", "password": pdstest.Password,
		}), 0, 0},
		{"createAccount, somebody else's DID", newcomer(map[string]any{
			"handle": "somebody.test", "did": a.webDID, "email": "a@example.com", "password": pdstest.Password,
		}), 0, 0},
		{"createReport", func(i int) pdstest.Request {
			r := report(i)
			r.Header = http.Header{"Atproto-Proxy": {a.webDID.String() + "#atproto_labeler"}}
			return r
		}, 32, 81}, // each report is sent, as many at a time as an account may to one host, which is looked up once
	} {
		a.plc.reset()
		a.web.reset()
		a.all(80, c.request)
		if total, most := a.plc.reset(); most > c.most {
			t.Errorf("%s: the directory was asked %d times, %d at once", c.what, total, most)
		}
		if total, most := a.web.reset(); most > c.most || total > c.web {
			t.Errorf("%s: the host was asked %d times, %d at once", c.what, total, most)
		}
	}
}

// TestLookupsInTime: a network causes so many lookups and no more, however fast they
// are answered.
func TestLookupsInTime(t *testing.T) {
	const allowed = 1000
	a := newAsking(t, "PDS_RATE_LIMITS_ENABLED=true")
	a.plc.reset()
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	for i := 0; i < allowed+100 && ctx.Err() == nil; i += 10 {
		a.all(10, func(of int) pdstest.Request {
			return pdstest.Request{NSID: "com.atproto.identity.resolveDid?did=" + nobody(i+of).String()}
		})
	}
	if total, _ := a.plc.reset(); total != allowed {
		t.Errorf("the directory was asked %d times", total)
	}
}
