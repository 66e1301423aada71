package identity_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/identity"
	"nestbox/internal/pdstest"
	"nestbox/request"
)

// well asks /.well-known/NAME of a server under a host name.
func well(t *testing.T, base, name, host string) (status int, kind, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/.well-known/"+name, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got := resp.Header.Get("Access-Control-Allow-Origin"); got != "*" {
		t.Errorf("%s of %s: Access-Control-Allow-Origin %q", name, host, got)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), string(raw)
}

func TestAtprotoDID(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice := s.SignUp(t, "alice")
	for host, found := range map[string]bool{
		"alice.test": true, "ALICE.Test": true, "alice.test:2583": true, "alice.test.": true, "alice.test.:443": true,
		"bob.test": false, "test": false, "www.alice.test": false, "localhost": false, "127.0.0.1": false, "127.0.0.1:80": false,
		"[::1]:80": false, "alice_.test": false, "xn--alice.test": false,
	} {
		status, kind, body := well(t, s.Base, "atproto-did", host)
		switch {
		case kind != "text/plain; charset=utf-8":
			t.Errorf("%s: Content-Type %q", host, kind)
		case found && (status != http.StatusOK || body != alice.DID):
			t.Errorf("%s: %d %q, want %s", host, status, body, alice.DID)
		case !found && (status != http.StatusNotFound || strings.Contains(body, "did:")):
			t.Errorf("%s: %d %q, want 404", host, status, body)
		}
	}
}

func TestServerDocument(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	status, kind, body := well(t, s.Base, "did.json", "localhost")
	want := `{"@context":["https://www.w3.org/ns/did/v1"],"id":"did:web:localhost","service":[` +
		`{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":"` + s.URL + `"}]}`
	if status != http.StatusOK || kind != "application/json" || body != want {
		t.Errorf("%d %s %s\nwant %s", status, kind, body, want)
	}
}

func TestResolveHandle(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice := s.SignUp(t, "alice")
	resolve := func(query string) pdstest.Answer {
		t.Helper()
		return s.Do(t, pdstest.Request{NSID: "com.atproto.identity.resolveHandle" + query})
	}
	for _, handle := range []string{"alice.test", "ALICE.TEST", "Alice.Test"} {
		a := resolve("?handle=" + handle)
		if got, want := strings.TrimSpace(string(a.Body)), `{"did":"`+alice.DID+`"}`; a.Status != http.StatusOK || got != want {
			t.Errorf("%s: %d %s, want %s", handle, a.Status, got, want)
		}
	}
	for query, message := range map[string]string{
		"?handle=bob.test":                          "Unable to resolve handle",
		"?handle=alice.example.com":                 "Unable to resolve handle",
		"?handle=www.alice.test":                    "Unable to resolve handle",
		"?handle=handle.invalid":                    "Unable to resolve handle",
		"?handle=" + url.QueryEscape("@alice.test"): "",
		"?handle=" + url.QueryEscape("al ice.test"): "",
		"?handle=alice":                             "",
		"?handle=":                                  "",
		"?handle=" + alice.DID:                      "",
		"":                                          "",
	} {
		a := resolve(query)
		name, got := a.Error(t)
		if a.Status != http.StatusBadRequest || message != "" && (name != "HandleNotFound" || got != message) || message == "" && name != "InvalidRequest" {
			t.Errorf("%q: %d %s %s", query, a.Status, name, got)
		}
	}
}

// TestLookupFails: when the store does not answer, no answer denies that the
// handle exists, and only the log line has the cause.
func TestLookupFails(t *testing.T) {
	s := &identity.Service{
		Lookup: func(context.Context, syntax.Handle) (syntax.DID, error) { return "", errors.New("disk on fire") }, Domains: []string{".test"},
	}
	for path, serve := range map[string]http.HandlerFunc{"/.well-known/atproto-did": s.ServeAtprotoDID, "/tls-check?domain=alice.test": s.ServeTLSCheck} {
		var log bytes.Buffer
		front := &request.Front{Log: slog.New(slog.NewJSONHandler(&log, nil)), Now: time.Now}
		w := httptest.NewRecorder()
		front.Handler(serve).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://alice.test"+path, http.NoBody))
		if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "fire") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		if !strings.Contains(log.String(), `"error":"InternalServerError","cause":"disk on fire"`) {
			t.Errorf("%s: the log line is %s", path, &log)
		}
	}
}
