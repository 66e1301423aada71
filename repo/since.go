package repo

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/maypok86/otter/v2"
)

// What a service that indexes the network shows of an account is some revision of its
// repository, usually a second old. Newer returns what that lacks, so that people see
// at once what they have just written (read-after-write).

const (
	// PostCollection holds posts. A store finds the newest of them without a search.
	PostCollection = "app.bsky.feed.post"
	// profileKey is the key of the account's profile.
	profileKey = "app.bsky.actor.profile/self"
	// maxNews, maxNewsSize and maxNewsBytes bound the posts that Newer returns: how many,
	// and their blocks in bytes, each and all. What an app writes has some kilobytes; a
	// repository takes a megabyte.
	maxNews      = 100
	maxNewsSize  = 256 << 10
	maxNewsBytes = 1 << 20
	// keptRevs is how many accounts' revisions are kept in memory, about 10 MB.
	keptRevs = 100_000
)

// News is what a repository has that an older revision of it had not.
type News struct {
	// Posts are the newest posts that were written or changed since, the oldest first. Those
	// of more than 256 KiB are left out.
	Posts []Record
	// Profile is the profile as it is now; nil if there is none, or if nothing is new.
	Profile *Record
	// ProfileNew: the profile was written since.
	ProfileNew bool
	// Deleted: the owner deleted a post or the profile since.
	Deleted bool
}

// Empty reports whether nothing is new.
func (n *News) Empty() bool { return len(n.Posts) == 0 && !n.ProfileNew && !n.Deleted }

// Newer returns what an account's repository has that revision rev had not: if posts is
// true its newest posts, up to 100 and 1 MiB, its profile, and whether a post or the
// profile was deleted. What moderation took
// down is not in it. It is empty if rev is of another history: older than the
// repository's first commit here, as after an account has moved in, or an import.
//
// If nothing was written since rev, that costs no query. Otherwise the cost follows
// what is new, whatever else the repository holds.
func (s *Service) Newer(ctx context.Context, accountID int64, rev syntax.TID, posts bool) (News, error) {
	head, ok := s.revs.cache().GetIfPresent(accountID)
	if !ok {
		var err error
		if head, err = s.revs.fill(accountID, func() (syntax.TID, error) {
			h, err := s.head(ctx, accountID)
			return h.Rev, err
		}); err != nil {
			return News{}, err
		}
	}
	if rev >= head {
		return News{}, nil
	}
	var n News
	err := s.Store.View(ctx, accountID, func(v View) (err error) {
		n, err = newsOf(v, rev, posts)
		return err
	})
	if err != nil || n.Empty() {
		return News{}, err
	}
	return n, nil
}

func newsOf(v View, rev syntax.TID, posts bool) (n News, err error) {
	h := v.Head()
	if rev < h.First {
		return News{}, nil
	}
	n.Deleted = h.Removed > rev
	if posts {
		if n.Posts, err = v.NewPosts(rev, Bounds{Count: maxNews, Size: maxNewsSize, Bytes: maxNewsBytes}); err != nil {
			return News{}, err
		}
	}
	switch profile, err := shownRecord(v, profileKey); {
	case err == nil:
		n.Profile, n.ProfileNew = &profile, profile.Rev > rev
	case !errors.Is(err, ErrNoRecord):
		return News{}, err
	}
	return n, nil
}

// isNews reports whether the record with that key is one that Newer is about.
func isNews(key string) bool {
	return strings.HasPrefix(key, PostCollection+"/") || key == profileKey
}

// removes reports whether one of writes deletes a record that Newer is about.
func removes(writes []Write) bool {
	for i := range writes {
		if writes[i].Block == nil && isNews(writes[i].Key) {
			return true
		}
	}
	return false
}

// Own returns the record with that key (collection/rkey) of an account's repository.
// ErrNoRecord: there is none, or moderation took it down.
func (s *Service) Own(ctx context.Context, accountID int64, key string) (rec Record, err error) {
	err = s.Store.View(ctx, accountID, func(v View) (err error) {
		rec, err = shownRecord(v, key)
		return err
	})
	if errors.Is(err, ErrNoRepo) {
		err = ErrNoRecord
	}
	return rec, err
}

// revs holds, by account, the revision of the last commit that changed records. It is
// never older than the last such commit that was answered: raise is called before the
// answer, and a revision is filled in under the cache's lock on the account, by a read
// that begins after the last raise. It may be older than the repository's head, if a
// commit has left the records as they were. Account IDs are never used again, so those
// of deleted accounts do no harm until others take their place.
type revs struct {
	once sync.Once
	of   *otter.Cache[int64, syntax.TID]
}

func (r *revs) cache() *otter.Cache[int64, syntax.TID] {
	r.once.Do(func() { r.of = otter.Must(&otter.Options[int64, syntax.TID]{MaximumSize: keptRevs}) })
	return r.of
}

// raise notes a commit that changed records. It is called under the account's lock, so
// in the order of commits.
func (r *revs) raise(accountID int64, rev syntax.TID) { r.cache().Set(accountID, rev) }

// fill returns the account's revision, by read if it is not known. An account without a
// repository has none.
func (r *revs) fill(accountID int64, read func() (syntax.TID, error)) (syntax.TID, error) {
	var err error
	rev, _ := r.cache().ComputeIfAbsent(accountID, func() (rev syntax.TID, cancel bool) {
		rev, err = read()
		return rev, err != nil
	})
	if errors.Is(err, ErrNoRepo) {
		return "", nil
	}
	return rev, err
}
