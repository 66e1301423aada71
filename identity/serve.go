package identity

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/auth"
	"nestbox/xrpc"
)

// Service answers for the identities of this server.
type Service struct {
	// Lookup returns the DID of an account here, "" where no account has the
	// handle.
	Lookup func(ctx context.Context, h syntax.Handle) (syntax.DID, error)
	// DID and URL are the server's own.
	DID syntax.DID
	URL string
}

// HandleParams is what resolveHandle takes.
type HandleParams struct {
	Handle string `json:"handle"`
}

// HandleOutput is what resolveHandle answers.
type HandleOutput struct {
	DID syntax.DID `json:"did"`
}

// ResolveHandle is com.atproto.identity.resolveHandle, for the handles of this
// server.
func (s *Service) ResolveHandle(ctx context.Context, _ auth.Anyone, p HandleParams) (HandleOutput, error) {
	h, err := syntax.ParseHandle(p.Handle)
	if err != nil {
		return HandleOutput{}, xrpc.InvalidRequest("Invalid handle format at $.handle")
	}
	did, err := s.Lookup(ctx, h.Normalize())
	if err != nil {
		return HandleOutput{}, xrpc.Unavailable(err)
	}
	if did == "" {
		return HandleOutput{}, xrpc.BadRequest("HandleNotFound", "Unable to resolve handle")
	}
	return HandleOutput{did}, nil
}

// ServeAtprotoDID is /.well-known/atproto-did: the DID of the account whose
// handle is the host name that was asked
// (https://atproto.com/specs/handle#handle-resolution).
func (s *Service) ServeAtprotoDID(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	h, err := syntax.ParseHandle(strings.TrimSuffix(host, "."))
	if err != nil {
		http.Error(w, "User not found", http.StatusNotFound)
		return
	}
	did, err := s.Lookup(r.Context(), h.Normalize())
	switch {
	case err != nil:
		http.Error(w, "Internal Server Error", http.StatusInternalServerError)
	case did == "":
		http.Error(w, "User not found", http.StatusNotFound)
	default:
		_, _ = w.Write([]byte(did)) // a client that has gone needs no answer
	}
}

// ServeDocument is /.well-known/did.json: the server's own DID document.
func (s *Service) ServeDocument(w http.ResponseWriter, _ *http.Request) {
	type service struct {
		ID              string `json:"id"`
		Type            string `json:"type"`
		ServiceEndpoint string `json:"serviceEndpoint"`
	}
	doc, err := json.Marshal(struct {
		Context []string   `json:"@context"`
		ID      syntax.DID `json:"id"`
		Service []service  `json:"service"`
	}{[]string{"https://www.w3.org/ns/did/v1"}, s.DID, []service{{"#atproto_pds", "AtprotoPersonalDataServer", s.URL}}})
	if err != nil {
		http.Error(w, "Internal Server Error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(doc)
}
