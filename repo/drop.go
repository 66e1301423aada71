package repo

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"nestbox/firehose/event"
	"nestbox/repo/car"
	"nestbox/repo/mst"
)

// Drop removes the record with a key from an account's repository, even if no client
// could name that key, as in records that older versions imported. It makes a commit
// and announces it with #sync: no operation of a #commit could name such a key. It
// returns the new head. Errors: ErrNoRecord, ErrNoRepo, ErrInactive, ErrConflict.
func (s *Service) Drop(ctx context.Context, a Account, key string) (Head, error) {
	unlock, err := s.lock(ctx, a.ID)
	if err != nil {
		return Head{}, err
	}
	defer unlock()
	signing, err := s.Keys.SigningKey(ctx, a.ID)
	if err != nil {
		return Head{}, err
	}
	collection, rkey, found := strings.Cut(key, "/")
	if !found {
		return Head{}, fmt.Errorf("%w: %q has no slash", ErrNoRecord, key)
	}
	s.recent.take(a.ID)
	var d *draft
	err = s.Store.View(ctx, a.ID, func(v View) error {
		if _, err := v.Record(key); err != nil {
			return err
		}
		h := v.Head()
		tree, err := mst.Open(h.Root, h.NextNode, v.Node)
		if err != nil {
			return err
		}
		d, err = newDraft(v, tree, []op{{action: actionDelete, collection: collection, rkey: rkey}}, h.CID)
		return err
	})
	if err == nil && d == nil {
		err = errors.New("nothing would change")
	}
	if err != nil {
		return Head{}, fmt.Errorf("drop record %q: %w", key, err)
	}
	now := s.Now()
	change, err := s.sign(a.ID, *d, signing, now)
	if err != nil {
		return Head{}, err
	}
	change.Event = event.Sync{
		DID: a.DID, Rev: change.Next.Rev, Commit: car.Block{CID: change.Next.CID, Data: change.Next.Commit}, Time: now,
	}.Event()
	if err := s.Store.Commit(ctx, change); err != nil {
		return Head{}, fmt.Errorf("drop record %q: %w", key, err)
	}
	s.revs.raise(a.ID, change.Next.Rev)
	return change.Next, nil
}
