package server

import (
	"net/http"

	"nestbox/auth"
	"nestbox/config"
	"nestbox/internal/seal"
	"nestbox/oauth"
	"nestbox/ratelimit"
	"nestbox/session"
)

// queuedCalls bounds the sessions whose last call waits to be written down.
const queuedCalls = 4096

// grantRules returns the lives of OAuth sessions and tokens.
func (s *Server) grantRules() session.GrantRules {
	c := &s.opts.Config
	return session.GrantRules{
		Issuer: s.URL, AccessTTL: c.OAuthAccessTokenTTL, RefreshTTL: c.OAuthRefreshTokenTTL, PublicTTL: c.OAuthPublicSessionTTL,
		TTL: c.OAuthSessionTTL,
	}
}

// buildOAuth makes the authorization server.
func (s *Server) buildOAuth(box *seal.Box, limits *ratelimit.Limiter) {
	c := &s.opts.Config
	s.oauth = &oauth.Service{
		Settings: oauth.Settings{
			Issuer: s.URL, Audience: s.DID, SignUp: c.Signup == config.SignupOpen || c.Signup == config.SignupInvite,
			PolicyURL: c.PrivacyPolicyURL, TermsURL: c.TermsOfServiceURL,
		},
		Store: s.stores.OAuth, Sessions: s.sessions, Accounts: s.stores.Accounts, Factors: s.stores.Factors, Keyring: s.sessions.Keyring,
		Clients: s.clients,
		Schemas: s.schemas, DPoP: s.dpop, CodeKey: box.Derive("codes of OAuth clients"), Box: box, Limits: limits,
		Now: s.opts.Now, Doubt: s.clock.Check, Log: s.opts.Log,
	}
}

// buildResource lets the verifier prove OAuth clients.
func (s *Server) buildResource() {
	s.verifier.Resource = &auth.Resource{Issuer: s.URL, Proofs: s.dpop, Grants: s.sessions}
}

// serveXRPC serves /xrpc/, and gives clients of OAuth their next nonce.
func (s *Server) serveXRPC(w http.ResponseWriter, r *http.Request) {
	s.verifier.Resource.SetNonce(w, r)
	s.xrpc.ServeHTTP(w, r)
}
