package identity

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/request"
)

// Service answers for identities: those of this server, and by the Resolver those
// of others.
type Service struct {
	// Lookup returns the DID of an account here, "" where no account has the
	// handle, or one that is not to be found by it.
	Lookup   func(ctx context.Context, h syntax.Handle) (syntax.DID, error)
	Resolver *Resolver
	// DID and URL are the server's own; Domains those below which it gives
	// handles, each with a leading dot.
	DID     syntax.DID
	URL     string
	Domains []string
}

// nameInternal is the name of an error in the log line, and in the answers that have one.
const nameInternal = "InternalServerError"

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
		request.Fail(r.Context(), http.StatusInternalServerError, nameInternal, err)
		http.Error(w, "Internal Server Error", http.StatusInternalServerError)
	case did == "":
		http.Error(w, "User not found", http.StatusNotFound)
	default:
		_, _ = w.Write([]byte(did)) // a client that has gone needs no answer
	}
}

// ServeDocument is /.well-known/did.json: the server's own DID document.
func (s *Service) ServeDocument(w http.ResponseWriter, r *http.Request) {
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
		request.Fail(r.Context(), http.StatusInternalServerError, nameInternal, err)
		http.Error(w, "Internal Server Error", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(doc)
}

// ServeTLSCheck is /tls-check?domain=: whether a proxy may get a certificate for
// a host name, which is the server's own, or the handle of an account here
// (https://caddyserver.com/docs/caddyfile/options#on-demand-tls).
func (s *Service) ServeTLSCheck(w http.ResponseWriter, r *http.Request) {
	domain := r.URL.Query().Get("domain")
	answer := func(status int, name, message string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": name, "message": message}) // a client that has gone needs no answer
	}
	if domain == "" {
		answer(http.StatusBadRequest, "InvalidRequest", "bad or missing domain query param")
		return
	}
	own := strings.TrimPrefix(s.DID.String(), "did:web:")
	if u, err := url.Parse(s.URL); err == nil {
		own = u.Hostname()
	}
	h, err := syntax.ParseHandle(domain)
	if err != nil {
		answer(http.StatusBadRequest, "InvalidRequest", "domain is no host name")
		return
	}
	if h = h.Normalize(); h.String() == strings.ToLower(own) {
		_ = json.NewEncoder(w).Encode(map[string]bool{"success": true})
		return
	}
	if !slices.ContainsFunc(s.Domains, func(d string) bool { return strings.HasSuffix(h.String(), d) }) {
		answer(http.StatusBadRequest, "InvalidRequest", "handles are not provided on this domain")
		return
	}
	switch did, err := s.Lookup(r.Context(), h); {
	case err != nil:
		request.Fail(r.Context(), http.StatusInternalServerError, nameInternal, err)
		answer(http.StatusInternalServerError, nameInternal, "Internal Server Error")
	case did == "":
		answer(http.StatusNotFound, "NotFound", "handle not found for this domain")
	default:
		_ = json.NewEncoder(w).Encode(map[string]bool{"success": true})
	}
}
