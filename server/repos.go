package server

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/internal/seal"
	"nestbox/lexicon"
	"nestbox/ratelimit"
	"nestbox/repo"
)

// crowdBuckets bounds for how many credentials we remember how much they crowd
// repositories.
const crowdBuckets = 10_000

// buildRepos wires the repositories.
func (s *Server) buildRepos(box *seal.Box, limits *ratelimit.Limiter) {
	s.keys = hosting.NewKeys(s.stores.Hosting, box)
	s.repos = &repo.Service{
		Doubt:    s.clock.Check,
		Store:    s.stores.Repos,
		Accounts: repoAccounts{s.stores.Accounts, func(a *account.Account) []byte { return s.hosting.SeenDocument(a) }},
		Keys:     s.keys,
		Lexicons: lexicon.Known(), Limits: limits, Crowds: ratelimit.New(crowdBuckets, s.opts.Now), Now: s.opts.Now, Log: s.opts.Log,
		ClockID: rand.UintN(1024), //nolint:gosec // tells processes apart, and is not a secret
	}
}

// backfill gives a repository to accounts that a version without repositories made.
// If that fails for one account, the server goes on with the others.
func (s *Server) backfill(ctx context.Context) {
	if !s.clock.wait(ctx) {
		return
	}
	if err := s.repos.Backfill(ctx); err != nil && ctx.Err() == nil {
		s.opts.Log.LogAttrs(ctx, slog.LevelError, "accounts are left without a repository", slog.String("cause", err.Error()))
	}
}

// repoAccounts is what the repositories need to know about accounts.
type repoAccounts struct {
	store account.Store
	// document returns the DID document that we show for an account.
	document func(*account.Account) []byte
}

// Find implements repo.Accounts.
func (r repoAccounts) Find(ctx context.Context, name syntax.AtIdentifier) (repo.Account, error) {
	a, err := r.find(ctx, name)
	if errors.Is(err, account.ErrNotFound) {
		return repo.Account{}, repo.ErrNoRepo
	}
	if err != nil {
		return repo.Account{}, err
	}
	return repo.Account{
		ID: a.ID, DID: a.DID, Handle: a.ShownHandle(), HandleOK: !a.HandleInvalid, Document: r.document(a), Status: string(a.Status()),
	}, nil
}

func (r repoAccounts) find(ctx context.Context, name syntax.AtIdentifier) (*account.Account, error) {
	if did, err := name.AsDID(); err == nil {
		return r.store.ByDID(ctx, did)
	}
	handle, err := name.AsHandle()
	if err != nil {
		return nil, account.ErrNotFound
	}
	return r.store.ByHandle(ctx, handle.Normalize())
}
