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
	"nestbox/store/sqlite"
)

// buildRepos wires the repositories.
func (s *Server) buildRepos(box *seal.Box, limits *ratelimit.Limiter) {
	s.keys = hosting.NewKeys(sqlite.Hosting{DB: s.db}, box)
	s.repos = &repo.Service{
		Clock:    s.clock.Check,
		Store:    sqlite.Repos{DB: s.db},
		Accounts: repoAccounts{s.accounts, func(a *account.Account) []byte { return s.hosting.Document(a) }},
		Keys:     s.keys,
		Lexicons: lexicon.Known(), Limits: limits, Now: s.opts.Now, Log: s.opts.Log,
		ClockID: rand.UintN(1024), //nolint:gosec // tells processes apart, and is no secret
	}
}

// backfill gives a repository to accounts that a version without repositories
// made. One that cannot have its own does not keep the server from the others.
func (s *Server) backfill(ctx context.Context) {
	if err := s.repos.Backfill(ctx); err != nil && ctx.Err() == nil {
		s.opts.Log.LogAttrs(ctx, slog.LevelError, "accounts are left without a repository", slog.String("cause", err.Error()))
	}
}

// repoAccounts is what the repositories need to know of accounts.
type repoAccounts struct {
	store account.Store
	// document builds a DID document for an account whose own was never seen.
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
	doc := a.Document
	if len(doc) == 0 {
		doc = r.document(a)
	}
	return repo.Account{
		ID: a.ID, DID: a.DID, Handle: a.ShownHandle(), HandleOK: !a.HandleInvalid, Document: doc, Status: string(a.Status()),
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
