package repo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"nestbox/dagcbor"
	"nestbox/firehose/event"
	"nestbox/repo/car"
)

// Announcements keeps how far the accounts have been announced again after the
// numbers of the event stream have jumped. Each method is one transaction.
type Announcements interface {
	// Unannounced returns the next accounts to announce, at most limit. If there is
	// nothing to announce, ok is false.
	Unannounced(ctx context.Context, limit int) (a Announcement, ok bool, err error)
	// Announce appends AnnounceEvents of each account. Those among renewed get that
	// commit first. The announcement goes on behind them, or ends. An account that is
	// gone is left out. ErrConflict, and nothing is kept: a repository is no longer at
	// its change's Was, or the announcement has restarted or gone on meanwhile.
	Announce(ctx context.Context, a Announcement, renewed []Change, at time.Time) error
}

// Announcement is a step in announcing every account.
type Announcement struct {
	// After is the ID of the last account that was announced already, 0 at the
	// beginning.
	After int64
	// Accounts are the accounts of this step, by ID. Last means that none follow.
	Accounts []AccountHead
	Last     bool
}

// announceStep is how many accounts Reannounce announces at once: so many commits
// share an fsync, and so many accounts' writers wait for it.
const announceStep = 100

// Reannounce announces the next accounts again, a bounded number of them, and reports
// whether there are more. An interrupted announcement resumes where it stopped.
//
// It is for a database that was restored from a backup. The network may have seen a
// newer revision of a repository than the restored one, and consumers drop revisions
// older than theirs. So each repository gets a new commit of the same tree, whose
// revision is the current time: newer than all that this server signed before, unless
// its clock has gone back since. Repositories of accounts that are not active get
// one, too; it is announced when the account comes back.
//
// Writers to these accounts wait. If a commit cannot be made, the account is
// announced unchanged and the reason is logged.
func (s *Service) Reannounce(ctx context.Context, l Announcements) (more bool, err error) {
	a, ok, err := l.Unannounced(ctx, announceStep)
	if err != nil || !ok {
		return false, err
	}
	unlocks := make([]func(), 0, len(a.Accounts))
	defer func() {
		for _, unlock := range unlocks {
			unlock()
		}
	}()
	for _, of := range a.Accounts {
		unlock, err := s.lock(ctx, of.AccountID)
		if err != nil {
			return false, err
		}
		unlocks = append(unlocks, unlock)
	}
	now := s.Now()
	results := make([]*Change, len(a.Accounts))
	var all sync.WaitGroup
	for i, of := range a.Accounts {
		all.Go(func() {
			var err error
			if results[i], err = s.renew(ctx, of, now); err != nil && ctx.Err() == nil {
				s.Log.LogAttrs(ctx, slog.LevelError, "account announced without a new commit",
					slog.String("did", of.DID.String()), slog.String("cause", err.Error()))
			}
		})
	}
	all.Wait()
	if err := ctx.Err(); err != nil {
		return false, err // some may be missing for no other reason
	}
	var renewed []Change
	for _, c := range results {
		if c != nil {
			renewed = append(renewed, *c)
		}
	}
	err = l.Announce(ctx, a, renewed, now)
	if errors.Is(err, ErrConflict) {
		return true, nil // the next attempt computes on what is there now
	}
	return err == nil && !a.Last, err
}

// renew makes a commit of the same tree, nil if the account has no repository. Its
// event is a sync event.
func (s *Service) renew(ctx context.Context, a AccountHead, now time.Time) (*Change, error) {
	key, err := s.Keys.SigningKey(ctx, a.AccountID)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	return s.resigned(ctx, a.AccountID, key, now)
}

// Resign makes a commit of the same tree by another key, and calls do to store it,
// and the key, while nobody writes. do gets nil if the account has no repository.
func (s *Service) Resign(ctx context.Context, accountID int64, key atcrypto.PrivateKey, do func(*Change) error) error {
	unlock, err := s.lock(ctx, accountID)
	if err != nil {
		return err
	}
	defer unlock()
	c, err := s.resigned(ctx, accountID, key, s.Now())
	if err != nil {
		return err
	}
	return do(c)
}

// resigned returns a commit of the repository's tree by a key, nil if there is no
// repository.
func (s *Service) resigned(ctx context.Context, accountID int64, key atcrypto.PrivateKey, now time.Time) (*Change, error) {
	var next Head
	err := s.Store.View(ctx, accountID, func(v View) error { next = v.Head(); return nil })
	if errors.Is(err, ErrNoRepo) {
		return nil, nil //nolint:nilnil // no repository, no commit, and no fault
	}
	if err != nil {
		return nil, err
	}
	was := next.CID
	rev, err := s.nextRev(now, next.Rev)
	if err != nil {
		return nil, err
	}
	c := Commit{DID: next.DID, Data: next.Root.CID, Rev: rev}
	if err := c.Sign(key); err != nil {
		return nil, err
	}
	next.Rev, next.Commit = c.Rev, c.Encode()
	next.CID = dagcbor.CID(next.Commit)
	return &Change{
		AccountID: accountID, Was: was, Next: next, At: now,
		Event: event.Sync{DID: next.DID, Rev: next.Rev, Commit: car.Block{CID: next.CID, Data: next.Commit}, Time: now}.Event(),
	}, nil
}
