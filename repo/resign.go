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

// Announcements keeps how far the accounts have been told of anew, after the
// numbers of the event stream have jumped. Each method is one transaction.
type Announcements interface {
	// Unannounced returns the next accounts that are to be told of, at most
	// limit. Where nothing is to be told, ok is false.
	Unannounced(ctx context.Context, limit int) (a Announcement, ok bool, err error)
	// Announce tells of them: for each one an account event and, where it is
	// active and has a repository, a sync event. Those among renewed get that
	// commit first; the event, which is the change's, is the sync event then. The
	// announcement goes on behind them, or ends. An account that is gone is left
	// out. ErrConflict, and nothing is kept: a repository is no longer at its
	// change's Was, or the announcement has begun anew or gone on meanwhile.
	Announce(ctx context.Context, a Announcement, renewed []Change, at time.Time) error
}

// Announcement is a step in telling of every account.
type Announcement struct {
	// After is the ID of the last account that was told of before, 0 at the
	// beginning.
	After int64
	// Accounts are those of this step, by ID. Last says that none follow.
	Accounts []AccountHead
	Last     bool
}

// announceStep is how many accounts Reannounce tells of at once: so many commits
// share an fsync, and so many accounts' writers wait for it.
const announceStep = 100

// Reannounce goes on with telling of every account anew, for a bounded number of
// them, and returns whether there are more. An interrupted announcement goes on
// where it was.
//
// It is for a database that was restored from a backup. What the network has
// seen of a repository since may have a newer revision than the repository, and
// consumers drop what is older than what they have. So each repository gets a
// new commit of the same tree, whose revision is the time of now: that is after
// all that this server signed before, as long as its clock is not behind what it
// was then. Repositories of accounts that are not active get theirs, too; it is
// told when the account comes back.
//
// Who writes to those accounts waits for it. One whose commit cannot be made is
// told of as it is; why, the log says.
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
		return true, nil // it is tried again, on what is there now
	}
	return err == nil && !a.Last, err
}

// renew makes a commit of the same tree, nil where the account has no
// repository. Its event is a sync event.
func (s *Service) renew(ctx context.Context, a AccountHead, now time.Time) (*Change, error) {
	key, err := s.Keys.SigningKey(ctx, a.AccountID)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	return s.resigned(ctx, a.AccountID, key, now)
}

// Resign makes a commit of the same tree by another key, and has do keep it, and
// the key, while nobody writes. do gets nil where the account has no repository.
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

// resigned is a commit of the repository's tree by a key, nil where there is none.
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
