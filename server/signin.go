package server

import (
	"fmt"
	"net/url"

	"nestbox/account"
	"nestbox/internal/seal"
	"nestbox/ratelimit"
	"nestbox/signin"
)

// guessBuckets bounds for how many accounts wrong second factors are counted, with two
// buckets a method.
const guessBuckets = 80_000

// buildSignIns wires what proves people.
func (s *Server) buildSignIns(box *seal.Box, hasher *account.Hasher, limits *ratelimit.Limiter) (*signin.Service, error) {
	name, now := s.opts.Config.Service(), s.opts.Now
	origin, err := url.Parse(s.URL)
	if err != nil {
		return nil, fmt.Errorf("URL of the server: %w", err)
	}
	passkeys, err := signin.NewWebAuthn(origin.Hostname(), name, s.URL, now)
	if err != nil {
		return nil, err
	}
	s.signIns = &signin.Service{
		Accounts: s.stores.Accounts, Hasher: hasher, Codes: s.codes, Limits: limits,
		Factors: s.stores.Factors, Box: box, WebAuthn: passkeys, Issuer: name, Notices: s.notices,
		Guesses: ratelimit.New(guessBuckets, now), Noted: ratelimit.New(notedSessions, now), Now: now, Log: s.opts.Log,
	}
	return s.signIns, nil
}

// SignIns returns what proves people, for tests on a server in their own process: factors
// are set up in the browser only.
func (s *Server) SignIns() *signin.Service { return s.signIns }
