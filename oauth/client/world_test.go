package client_test

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"nestbox/internal/safehttp"
	"nestbox/oauth/client"
	"nestbox/oauth/oauthtest"
	"nestbox/store/storetest"
)

const (
	appID  = "https://app.example.com/oauth/client.json"
	setURL = "https://keys.example.com/jwks.json"
	issuer = "https://pds.example.com"
)

var start = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// world is a service, its database, and the hosts of clients.
type world struct {
	*client.Service

	db *storetest.Database

	mu    sync.Mutex
	now   time.Time
	hosts map[string]answer // by URL
	asked map[string]int
}

// answer is what a host sends.
type answer struct {
	status int // 200 if 0
	header map[string]string
	body   string
	err    error // instead of an answer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{now: start, hosts: map[string]answer{}, asked: map[string]int{}, db: storetest.Open(t, storetest.Options{})}
	w.restart()
	t.Cleanup(func() { w.Close() })
	return w
}

// restart makes the service again, on the same database.
func (w *world) restart() {
	if w.Service != nil {
		w.Close()
	}
	h := client.HTTP(safehttp.Options{}, false)
	h.Transport = w
	w.Service = client.New(client.Options{
		Store: w.db.Clients, HTTP: h, Issuer: issuer, Trusted: []string{"https://trusted.example.com/client.json"},
		Now: w.clock, Log: slog.New(slog.DiscardHandler),
	})
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

// RoundTrip implements http.RoundTripper for the hosts of clients.
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	u := r.URL.String()
	w.asked[u]++
	a, ok := w.hosts[u]
	if !ok {
		a.status = http.StatusNotFound
	}
	if a.err != nil {
		return nil, a.err
	}
	if a.status == 0 {
		a.status = http.StatusOK
	}
	h := http.Header{"Content-Type": {"application/json"}}
	for name, value := range a.header {
		h.Set(name, value)
	}
	return &http.Response{StatusCode: a.status, Header: h, Body: io.NopCloser(strings.NewReader(a.body)), ContentLength: -1, Request: r}, nil
}

func (w *world) serve(url string, a answer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hosts[url] = a
}

// fetched returns how often a URL was asked for since the last call.
func (w *world) fetched(url string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.asked[url]
	w.asked[url] = 0
	return n
}

// metadata is a right document of a public client, with changes: nil takes a member away.
func metadata(changes map[string]any) map[string]any {
	m := map[string]any{
		"client_id": appID, "redirect_uris": []string{"https://app.example.com/callback"}, "scope": "atproto transition:generic",
		"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
		"token_endpoint_auth_method": "none", "application_type": "web", "dpop_bound_access_tokens": true,
	}
	maps.Copy(m, changes)
	maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
	return m
}

// confidential adds what a confidential client has.
func confidential(changes map[string]any, keys ...map[string]any) map[string]any {
	m := map[string]any{
		"token_endpoint_auth_method": "private_key_jwt", "token_endpoint_auth_signing_alg": "ES256", "jwks": map[string]any{"keys": keys},
	}
	maps.Copy(m, changes)
	return metadata(m)
}

func jsonOf(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// keyOf is the key of a client, with a kid.
func keyOf(s *oauthtest.Signer, kid string, changes map[string]any) map[string]any {
	k := s.JWK()
	k["kid"] = kid
	maps.Copy(k, changes)
	maps.DeleteFunc(k, func(_ string, v any) bool { return v == nil })
	return k
}

// addresses finds the addresses of this server's network in what a stranger reads.
var addresses = regexp.MustCompile(`^Unable to obtain .*': .*[\d.]+:\d+`)

// refused fails unless err refuses a client with a code and a message that can be sent.
func refused(t *testing.T, err error, code, says string) {
	t.Helper()
	var e *client.Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Message, says) {
		t.Errorf("got %v, want %s with %q", err, code, says)
		return
	}
	if addresses.MatchString(e.Message) {
		t.Errorf("%q has an address of this server's network", e.Message)
	}
	if strings.ContainsFunc(e.Message, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }) {
		t.Errorf("%q does not fit into error_description", e.Message)
	}
}
