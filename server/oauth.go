package server

import (
	"net/http"

	"nestbox/auth"
)

// buildResource lets the verifier prove OAuth clients.
func (s *Server) buildResource() {
	s.verifier.Resource = &auth.Resource{Issuer: s.URL, Proofs: s.dpop, Grants: s.sessions}
}

// serveXRPC serves /xrpc/, and gives clients of OAuth their next nonce.
func (s *Server) serveXRPC(w http.ResponseWriter, r *http.Request) {
	s.verifier.Resource.SetNonce(w, r)
	s.xrpc.ServeHTTP(w, r)
}
