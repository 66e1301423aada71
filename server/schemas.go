package server

import (
	"context"
	"errors"
	"net"
	"net/http"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/identity"
	"nestbox/internal/safehttp"
	"nestbox/lexicon"
	"nestbox/ratelimit"
	"nestbox/repo"
	"nestbox/schema"
)

// buildSchemas wires what finds Lexicons of others. The repositories ask it for schemas.
func (s *Server) buildSchemas(limits *ratelimit.Limiter) error {
	c := s.opts.Config
	builtIn, err := schema.BuiltIn()
	if err != nil {
		return err
	}
	client := safehttp.Client(safehttp.Options{AllowLoopback: c.DevMode})
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	o := schema.Options{
		Store: s.stores.PermissionSets, DNS: net.DefaultResolver, Hosts: hosts{s.resolver}, Own: ownLexicons{s.stores.Accounts, s.repos},
		Proven: proven, HTTP: client, Authority: syntax.DID(c.LexiconAuthorityDID), BuiltIn: builtIn, Lexicons: lexicon.Known(),
		Limits: limits, Now: s.opts.Now, Log: s.opts.Log,
	}
	if len(c.HandleBackupNameservers) > 0 {
		o.Backup = identity.Nameservers(c.HandleBackupNameservers)
	}
	s.schemas = schema.NewService(o)
	s.repos.Schemas = s.schemas
	return nil
}

// hosts implements schema.Hosts.
type hosts struct{ *identity.Resolver }

// Host implements schema.Hosts.
func (h hosts) Host(ctx context.Context, did syntax.DID, fresh bool) (schema.Host, error) {
	find := h.DID
	if fresh {
		find = h.Fresh
	}
	d, err := find(ctx, did)
	if err != nil {
		return schema.Host{}, err
	}
	return schema.Host{URL: d.PDS(), Key: d.SigningKey()}, nil
}

// proven implements schema.Proven.
func proven(car []byte, did syntax.DID, signer, key string) (schema.Record, error) {
	r, err := repo.Proven(car, did, signer, key)
	if err != nil {
		return schema.Record{}, err
	}
	return schema.Record{Block: r.Block, CID: r.CID.String()}, nil
}

// ownLexicons implements schema.Own.
type ownLexicons struct {
	accounts account.Store
	repos    *repo.Service
}

// LexiconRecord implements schema.Own. An account that is not active publishes nothing.
func (o ownLexicons) LexiconRecord(ctx context.Context, did syntax.DID, nsid syntax.NSID) (schema.Record, bool, error) {
	a, err := o.accounts.ByDID(ctx, did)
	if errors.Is(err, account.ErrNotFound) {
		return schema.Record{}, false, nil
	}
	if err != nil {
		return schema.Record{}, false, err
	}
	if a.Hidden() {
		return schema.Record{}, true, schema.ErrUnknown
	}
	r, err := o.repos.Own(ctx, a.ID, schema.Collection+"/"+nsid.String())
	if errors.Is(err, repo.ErrNoRecord) {
		return schema.Record{}, true, schema.ErrUnknown
	}
	if err != nil {
		return schema.Record{}, true, err
	}
	return schema.Record{Block: r.Block, CID: r.CID.String()}, true, nil
}
