package proxy_test

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"

	"nestbox/internal/pdstest"
)

func equal(a, b any) bool { return reflect.DeepEqual(a, b) }

// payload returns the claims of a token.
func payload(t *testing.T, token string) (claims map[string]any) {
	t.Helper()
	parts := strings.Split(strings.TrimPrefix(token, "Bearer "), ".")
	if len(parts) != 3 {
		t.Fatalf("no token: %q", token)
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(raw, &claims)
	}
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

const appView = "did:web:appview.example.com"

// arrival is a request as it came to a service.
type arrival struct {
	*http.Request

	body string
}

// service is another server: it records what arrives, and a test chooses its answer.
type service struct {
	*httptest.Server

	// did is that of its document, which it serves.
	did string

	mu       sync.Mutex
	answer   http.HandlerFunc
	entries  string
	arrivals []arrival
}

func newService(t *testing.T) *service {
	t.Helper()
	s := &service{answer: func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"ok":true}`)
	}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s.did = "did:web:localhost%3A" + port
	s.entries = `{"id":"#bsky_appview","type":"BskyAppView","serviceEndpoint":"` + s.URL + `"}`
	return s
}

func (s *service) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	answer, entries := s.answer, s.entries
	s.mu.Unlock()
	if r.URL.Path == "/.well-known/did.json" {
		_, _ = io.WriteString(w, `{"id":"`+s.did+`","service":[`+entries+`]}`)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		body = []byte("broke off")
	}
	s.mu.Lock()
	s.arrivals = append(s.arrivals, arrival{r, string(body)})
	s.mu.Unlock()
	answer(w, r)
}

// does sets how the service answers.
func (s *service) does(answer http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
}

// says makes the service answer with a status, headers (name, value, …) and a body.
func (s *service) says(status int, body string, headers ...string) {
	s.does(func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Add(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	})
}

// arrived returns what arrived since the last call.
func (s *service) arrived() []arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.arrivals
	s.arrivals = nil
	return all
}

// one returns the only request that arrived since the last call.
func (s *service) one(t *testing.T) arrival {
	t.Helper()
	all := s.arrived()
	if len(all) != 1 {
		t.Fatalf("%d requests arrived", len(all))
	}
	return all[0]
}

// place is a server with an AppView, and an account on it.
type place struct {
	*pdstest.InProcess

	appView *service
	alice   pdstest.Session
	auth    string
}

func newPlace(t *testing.T, settings ...string) *place {
	t.Helper()
	p := &place{appView: newService(t)}
	settings = append([]string{"PDS_BSKY_APP_VIEW_URL=" + p.appView.URL, "PDS_BSKY_APP_VIEW_DID=" + appView}, settings...)
	p.InProcess = pdstest.Start(t, pdstest.Options{Settings: settings})
	p.alice = p.SignUp(t, "alice")
	p.auth = pdstest.Bearer(p.alice.AccessJwt)
	return p
}

// get makes a call that alice is proven for, with headers (name, value, …).
func (p *place) get(t *testing.T, nsid string, headers ...string) pdstest.Answer {
	t.Helper()
	return p.Do(t, pdstest.Request{NSID: nsid, Auth: p.auth, Header: headersOf(headers)})
}

func headersOf(pairs []string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}
