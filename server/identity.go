package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/identity"
	"nestbox/internal/safehttp"
	"nestbox/ratelimit"
)

// buildIdentity wires what resolves identities in the network.
func (s *Server) buildIdentity(limits *ratelimit.Limiter) {
	c, now := s.opts.Config, s.opts.Now
	s.directory = &identity.Directory{URL: s.PLC, Client: &http.Client{Timeout: plcTimeout}, Limits: limits}
	o := identity.ResolverOptions{
		Directory: s.directory, HTTP: safehttp.Client(safehttp.Options{AllowLoopback: c.DevMode}), DNS: net.DefaultResolver,
		Limits: limits, Now: now,
		Local: func(ctx context.Context, h syntax.Handle) (did syntax.DID, ours bool, err error) {
			did, err = s.lookupHandle(ctx, h)
			return did, slices.ContainsFunc(c.HandleDomains, func(d string) bool { return strings.HasSuffix(h.String(), d) }), err
		},
	}
	if len(c.HandleBackupNameservers) > 0 {
		o.Backup = identity.Nameservers(c.HandleBackupNameservers)
	}
	s.resolver = identity.NewResolver(o)
	s.identity = &identity.Service{Lookup: s.lookupHandle, Resolver: s.resolver, DID: syntax.DID(s.DID), URL: s.URL, Domains: c.HandleDomains}
	s.checker = &identity.Checker{Store: s.stores.Identity, Resolver: s.resolver, Now: now, Doubt: s.clock.Check, Log: s.opts.Log}
}

// issuers implements auth.Issuers.
type issuers struct{ *identity.Resolver }

// SigningKey implements auth.Issuers.
func (i issuers) SigningKey(ctx context.Context, did syntax.DID, name string, fresh bool) (string, error) {
	find := i.DID
	if fresh {
		find = i.Fresh
	}
	d, err := find(ctx, did)
	if errors.Is(err, identity.ErrBusy) {
		return "", fmt.Errorf("%w: %w", auth.ErrBusy, err)
	}
	if err != nil {
		return "", err
	}
	if key := d.Key(name); key != "" {
		return key, nil
	}
	return "", auth.ErrNoKey
}

// lookupHandle resolves a handle of this server. That of an account which was taken
// down, or which its owner deactivated, leads nowhere, as in the reference.
func (s *Server) lookupHandle(ctx context.Context, h syntax.Handle) (syntax.DID, error) {
	a, err := s.stores.Accounts.ByHandle(ctx, h)
	if errors.Is(err, account.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if a.Hidden() {
		return "", nil
	}
	return a.DID, nil
}
