package server

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/admin"
	"nestbox/backup"
	"nestbox/oauth/dpop"
	"nestbox/session"
)

// Routes returns the XRPC methods that the server answers.
func (s *Server) Routes() []string { return slices.Sorted(maps.Keys(s.methods())) }

// BackUpIfDue looks at once whether one of the server's own backups is due.
func (s *Server) BackUpIfDue(ctx context.Context) error { return s.backUpIfDue(ctx) }

// Disks looks at the disks at once, for the admin page.
func (s *Server) Disks(ctx context.Context) admin.Storage { return s.lookAtDisks(ctx) }

// Prove verifies the newest of the server's own backups at once, in a store as through sees it.
func (s *Server) Prove(ctx context.Context, through func(backup.Depot) backup.Depot) error {
	service, err := s.backupTo(s.ownBackup())
	if err != nil {
		return err
	}
	service.Depot = through(service.Depot)
	return s.prove(ctx, service, false)
}

// Proofs returns the check of DPoP proofs.
func (s *Server) Proofs() *dpop.Checker { return s.dpop }

// Grant makes a session of an OAuth client with a scope, and returns its access token.
func (s *Server) Grant(ctx context.Context, did, scope, jkt string) (access string, err error) {
	a, err := s.stores.Accounts.ByDID(ctx, syntax.DID(did))
	if err != nil {
		return "", err
	}
	cred, err := s.stores.Accounts.Credentials(ctx, a.ID)
	if err != nil {
		return "", err
	}
	now := s.opts.Now().UTC().Truncate(time.Millisecond)
	n, err := s.sessions.PrepareGrant(ctx, session.Authorization{
		Account: a, Epoch: cred.Epoch, Entry: account.NewEntry(ctx, now, account.EntryAppAuthorized, account.ActorOwner),
		Grant: session.Grant{
			Holder:    session.Holder{ClientID: "https://app.example.com/client-metadata.json", AuthMethod: "none", DPoPJKT: jkt},
			Requested: scope, Granted: scope, Effective: scope, EndsAt: now.Add(time.Hour),
		},
	})
	if err != nil {
		return "", err
	}
	st, err := s.stores.Sessions.Create(ctx, n)
	if err != nil {
		return "", err
	}
	signed, err := s.sessions.MintGrant(a, st)
	return signed.Access, err
}

// Kept returns what no call shows of an account: its sessions, and what is remembered of its
// consents, by name.
func (s *Server) Kept(ctx context.Context, did string) (map[string]string, error) {
	live, err := s.sessions.List(ctx, syntax.DID(did))
	if err != nil {
		return nil, err
	}
	kept := map[string]string{}
	for i := range live {
		kept["session "+live[i].SID()] = fmt.Sprint(live[i].Scope, " ", live[i].AppPassword)
		if g := live[i].Grant; g != nil {
			kept["session "+live[i].SID()] = fmt.Sprint(g.Holder, " ", g.Granted, " ", g.Effective)
		}
	}
	a, err := s.stores.Accounts.ByDID(ctx, syntax.DID(did))
	if err != nil {
		return nil, err
	}
	consents, err := s.stores.OAuth.Consents(ctx, a.ID)
	for _, c := range consents {
		kept["consent "+c.ClientID] = c.Scopes
	}
	return kept, err
}
