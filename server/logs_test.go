package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"nestbox/admin"
	"nestbox/control"
	"nestbox/internal/pdstest"
)

// TestEvents: each way to an account, a sign-in and a session leaves one line, with the names and
// fields of the reference PDS; no line has a secret.
func TestEvents(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := pdstest.Start(t, pdstest.Options{
		Settings: []string{"PDS_LOG_SAMPLE=0"}, Log: slog.New(slog.NewJSONHandler(&log, nil)),
	})
	alice := s.SignUp(t, "alice")
	alice = s.MustRefresh(t, alice.RefreshJwt)
	in := s.SignIn(t, "alice.test", pdstest.Password)
	made, err := control.Call(t.Context(), s.DataDir, admin.CmdAccountCreate, admin.CreateArgs{Handle: "made.test", Email: "made@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	p := newVisitor(t, s)
	p.want(p.signIn("alice.test", pdstest.Password), http.StatusSeeOther, "/account?done=signed-in")
	q := newVisitor(t, s)
	signUp := url.Values{
		"handle": {"carol"}, "domain": {".test"}, "email": {"carol@example.com"}, "password": {"a good password"}, "terms": {"on"}, "decision": {"sign-up"},
	}
	if a := q.post(q.get("/account/sign-up"), "/account/sign-up", signUp); a.status != http.StatusSeeOther {
		t.Fatalf("sign-up: %d %.1000s", a.status, a.text)
	}
	app := newOAuthApp(t, s, "alice.test", "atproto")
	if status, answer := app.refreshed(); status != http.StatusOK {
		t.Fatalf("%d %+v", status, answer)
	}
	carol := s.SignIn(t, "carol.test", "a good password").DID
	s.Do(t, pdstest.Request{NSID: "com.atproto.server.getSession", Auth: pdstest.Bearer(alice.AccessJwt)})
	s.Stop()

	got := map[string]int{}
	for text := range strings.Lines(log.String()) {
		for _, secret := range []string{alice.AccessJwt, alice.RefreshJwt, in.AccessJwt, in.RefreshJwt, app.access, app.refresh, pdstest.Password, made.Password} {
			if strings.Contains(text, secret) {
				t.Errorf("a secret: %s", text)
			}
		}
		line := map[string]any{}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if nsid, _ := line["nsid"].(string); strings.HasSuffix(nsid, ".getSession") {
			t.Errorf("logged with a share of 0: %s", text)
		}
		if line["msg"] != "event" {
			continue
		}
		if _, ok := line["request_id"]; ok == (line["source"] == "operator") {
			t.Errorf("request_id of %s", text)
		}
		maps.DeleteFunc(line, func(key string, _ any) bool {
			return slices.Contains([]string{"time", "level", "msg", "request_id"}, key)
		})
		raw, err := json.Marshal(line)
		if err != nil {
			t.Fatal(err)
		}
		got[string(raw)]++
	}
	const method = "com.atproto.server."
	id := string(must(json.Marshal(app.id)))
	want := map[string]int{
		fmt.Sprintf(`{"deactivated":false,"did":%q,"eventName":"account.created","invited":false,"source":%q}`, alice.DID, method+"createAccount"): 1,
		fmt.Sprintf(`{"did":%q,"eventName":"session.created","source":%q}`, alice.DID, method+"createAccount"):                                     1,
		fmt.Sprintf(`{"did":%q,"eventName":"session.refreshed","source":%q}`, alice.DID, method+"refreshSession"):                                  1,
		fmt.Sprintf(`{"did":%q,"eventName":"session.created","source":%q}`, alice.DID, method+"createSession"):                                     1,
		fmt.Sprintf(`{"did":%q,"eventName":"session.created","source":%q}`, carol, method+"createSession"):                                         1,
		fmt.Sprintf(`{"deactivated":false,"did":%q,"eventName":"account.created","invited":false,"source":"operator"}`, made.DID):                  1,
		fmt.Sprintf(`{"did":%q,"eventName":"account.signed-in"}`, alice.DID):                                                                       1,
		fmt.Sprintf(`{"deactivated":false,"did":%q,"eventName":"account.created","invited":false,"source":"pages"}`, carol):                        1,
		fmt.Sprintf(`{"clientId":%s,"did":%q,"eventName":"account.signed-in"}`, id, alice.DID):                                                     1,
		fmt.Sprintf(`{"clientConfidential":false,"clientFirstParty":false,"clientId":%s,"clientTrusted":false,"did":%q,"eventName":"oauth.authorized"}`,
			id, alice.DID): 1,
		fmt.Sprintf(`{"clientId":%s,"did":%q,"eventName":"session.created","source":"oauth"}`, id, alice.DID):   1,
		fmt.Sprintf(`{"clientId":%s,"did":%q,"eventName":"session.refreshed","source":"oauth"}`, id, alice.DID): 1,
	}
	if !maps.Equal(got, want) {
		t.Errorf("events\n%v\nwant\n%v", got, want)
	}
}

// must returns what did not fail.
func must(raw []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return raw
}

// TestRequestIDStays: the name of a request is in the answer, also of a call that is passed on, and
// readable by a browser; the service that it was passed on to hears nothing of it, and its own
// name for the request does not reach the client.
func TestRequestIDStays(t *testing.T) {
	t.Parallel()
	heard := make(chan http.Header, 10)
	view := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		heard <- r.Header
		w.Header().Set("X-Request-Id", "the-service's")
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"feed":[]}`))
	}))
	t.Cleanup(view.Close)
	s := pdstest.Start(t, pdstest.Options{Settings: []string{
		"PDS_BSKY_APP_VIEW_URL=" + view.URL, "PDS_BSKY_APP_VIEW_DID=did:web:view.example", "PDS_TRUSTED_PROXIES=127.0.0.1",
	}})
	alice := s.SignUp(t, "alice")
	a := s.Do(t, pdstest.Request{
		NSID: "app.bsky.feed.getTimeline", Auth: pdstest.Bearer(alice.AccessJwt), Header: http.Header{"X-Request-Id": {"the-proxy's_1"}},
	})
	if a.Status != http.StatusOK || strings.Contains(a.Header.Get("X-Request-Id"), "service") {
		t.Fatalf("%d %v %s", a.Status, a.Header, a.Body)
	}
	b := s.Do(t, pdstest.Request{
		NSID: "app.bsky.feed.getTimeline", Auth: pdstest.Bearer(alice.AccessJwt), Header: http.Header{"X-Request-Id": {"the-proxy-1"}},
	})
	if got := b.Header["X-Request-Id"]; len(got) != 1 || got[0] != "the-proxy-1" {
		t.Errorf("%q, want the name that the proxy gave", got)
	}
	if !strings.Contains(b.Header.Get("Access-Control-Expose-Headers"), "X-Request-Id") {
		t.Errorf("not readable by browsers: %v", b.Header)
	}
	for range 2 {
		if h := <-heard; h.Get("X-Request-Id") != "" {
			t.Errorf("the service heard %q", h.Get("X-Request-Id"))
		}
	}
	for _, path := range []string{"/account/sign-in", "/xrpc/_health", "/.well-known/did.json", "/nothing"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.Header.Get("X-Request-Id") == "" {
			t.Errorf("%s has no name", path)
		}
	}
}
