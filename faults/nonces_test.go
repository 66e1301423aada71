package faults

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"nestbox/oauth/dpop"
	"nestbox/oauth/oauthtest"
)

// TestNonce: each nonce works once; the one that comes with a refusal is another, and good.
func TestNonce(t *testing.T) {
	t.Parallel()
	now := time.Now()
	proofs := &dpop.Checker{
		Nonces: dpop.NewNonces(make([]byte, dpop.SecretSize)), Replays: dpop.NewReplays(now, 0), Origin: "http://localhost", Dev: true,
		Now: func() time.Time { return now },
	}
	passed := 0
	f := &Faults{}
	f.Start(Plan{Faults: []Fault{{Kind: Nonce}}})
	h, err := f.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("DPoP-Nonce", proofs.Nonce())
		if _, err := proofs.Check(dpop.Request{Headers: r.Header.Values("DPoP"), Method: r.Method, Path: r.URL.Path}); err != nil {
			t.Errorf("the server refuses: %v", err)
		}
		passed++
	}), Inside{Proofs: proofs, Now: proofs.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	key := oauthtest.NewSigner("ES256")
	call := func(path, nonce string) (status int, next string) {
		r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "http://localhost"+path, nil)
		r.Header.Set("DPoP", key.Proof(http.MethodPost, "http://localhost"+path, nonce, ""))
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code, w.Header().Get("DPoP-Nonce")
	}
	status, nonce := call("/oauth/token", "")
	if status != http.StatusBadRequest || passed != 0 {
		t.Fatalf("without a nonce: %d", status)
	}
	for i := range 10 {
		status, next := call("/oauth/token", nonce)
		if status != http.StatusOK || next == nonce || passed != i+1 {
			t.Fatalf("call %d: %d, nonce %q after %q", i, status, next, nonce)
		}
		nonce = next
	}
	used := nonce
	_, other := call("/xrpc/app.bsky.feed.getTimeline", nonce)
	status, again := call("/xrpc/app.bsky.feed.getTimeline", used)
	if status != http.StatusUnauthorized || again == used {
		t.Errorf("a nonce that was used: %d, %q", status, again)
	}
	for _, good := range []string{other, again} { // both were given out
		if status, _ := call("/xrpc/app.bsky.feed.getTimeline", good); status != http.StatusOK {
			t.Errorf("the nonce that came with a refusal: %d", status)
		}
	}
}
