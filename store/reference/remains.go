package reference

import (
	"context"
	"errors"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/takeover"
)

// Remains implements takeover.Source.
func (s *Source) Remains(ctx context.Context, did syntax.DID) (r takeover.Remains, err error) {
	a := &actor{DB: &DB{}, did: did, places: s.Places}
	if r.Key, err = a.Key(); err != nil {
		return r, err
	}
	if r.State, err = s.ActorState(did); err != nil && !errors.Is(err, takeover.ErrNoActor) {
		return r, err
	}
	opened, err := s.Actor(ctx, did)
	if err != nil {
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
		r.Lost = []string{"takedowns of records", "preferences", "unused uploads"}
		return r, nil //nolint:nilerr // that is the damage
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	if r.Records, err = opened.Records(); err != nil {
		r.Records, r.Lost = nil, append(r.Lost, "takedowns of records")
	}
	if r.Preferences, err = opened.Preferences(); err != nil {
		r.Preferences, r.Lost = nil, append(r.Lost, "preferences")
	}
	if r.Blobs, err = opened.Blobs(); err != nil {
		r.Blobs, r.Lost = nil, append(r.Lost, "unused uploads")
	} else if r.Blobs == nil {
		r.Blobs = []takeover.BlobFile{}
	}
	return r, ctx.Err()
}

// BlobPaths implements takeover.Source.
func (s *Source) BlobPaths(did syntax.DID, cid string) []string {
	return s.Places.blob(did, cid, "", false)
}
