package xrpc_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"nestbox/request"
	"nestbox/xrpc"
)

// BenchmarkQuery measures the framework's part of a request of getSession's
// size: routing, headers, encoding, the log line.
func BenchmarkQuery(b *testing.B) {
	type session struct {
		Handle         string          `json:"handle"`
		DID            string          `json:"did"`
		DIDDoc         json.RawMessage `json:"didDoc"`
		Email          string          `json:"email,omitzero"`
		EmailConfirmed bool            `json:"emailConfirmed"`
		Active         bool            `json:"active"`
	}
	out := session{
		Handle: "alice.test", DID: "did:plc:ewvi7nxzyoun6zhxrhs64oiz", Email: "alice@example.com", Active: true,
		DIDDoc: json.RawMessage(`{"@context":["https://www.w3.org/ns/did/v1"],"id":"did:plc:ewvi7nxzyoun6zhxrhs64oiz","alsoKnownAs":["at://alice.test"],"service":[{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":"https://pds.test"}]}`),
	}
	s, _ := server(map[string]xrpc.Method{"a.b.session": xrpc.Query(anyone, func(ctx context.Context, _ struct{}, _ xrpc.None) (session, error) {
		request.SetAccount(ctx, out.DID)
		return out, nil
	})})
	s.Log = slog.New(slog.DiscardHandler)
	r := get(b, "a.b.session")
	r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0")
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatal(w.Body)
		}
	}
}
