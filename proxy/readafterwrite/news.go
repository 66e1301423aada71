package readafterwrite

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	postCollection    = "app.bsky.feed.post"
	profileCollection = "app.bsky.actor.profile"
	feedCollection    = "app.bsky.feed.generator"
	listCollection    = "app.bsky.graph.list"
)

// Record is a record of the caller's repository.
type Record struct {
	Collection, RecordKey, CID string
	// Rev is the commit that wrote it; its time is shown as indexedAt.
	Rev syntax.TID
	// Value is the record as getRecord shows it.
	Value jsontext.Value
}

// News is what the caller's repository has that the service had not seen when it
// answered.
type News struct {
	// Posts are the new ones, at most the newest 100.
	Posts []Record
	// Profile is the profile as it is, new or not; nil if there is none.
	Profile *Record
	// ProfileNew: the profile was written since.
	ProfileNew bool
	// Deleted: a post or the profile was deleted since.
	Deleted bool
}

// Oldest returns when the oldest of the new records was written, or the zero time
// if there is only news of deletions.
func (n News) Oldest() time.Time {
	var revs []syntax.TID
	for _, p := range n.Posts {
		revs = append(revs, p.Rev)
	}
	if n.ProfileNew && n.Profile != nil {
		revs = append(revs, n.Profile.Rev)
	}
	if len(revs) == 0 {
		return time.Time{}
	}
	return slices.Min(revs).Time()
}

// inOrder returns the posts, oldest first. Posts of one commit are in the order of
// their keys, in which apps write a thread.
func (n News) inOrder() []Record {
	return slices.SortedStableFunc(slices.Values(n.Posts), func(a, b Record) int {
		return cmp.Or(cmp.Compare(a.Rev, b.Rev), cmp.Compare(a.RecordKey, b.RecordKey))
	})
}

// profileChanged reports whether the service shows an older profile.
func (n News) profileChanged() bool {
	if n.Profile == nil {
		return n.Deleted
	}
	return n.ProfileNew
}

// profileTooLarge reports whether the profile is larger than any app writes it. Then
// views keep what the service has of it.
func (n News) profileTooLarge() bool { return n.Profile != nil && len(n.Profile.Value) > maxProfile }

// Caller is the account that reads.
type Caller struct {
	DID syntax.DID
	// Handle is "handle.invalid" if the account's handle does not verify.
	Handle string
}

// Repository reads the caller's own records.
type Repository interface {
	// Record returns a record of the caller, and whether there is one. The key comes
	// from the service and can be any text.
	Record(ctx context.Context, collection, rkey string) (Record, bool, error)
}

// Upstream asks the service that answered, with a token of the caller.
type Upstream interface {
	// Get returns the JSON of an answer with status 200 to a query. Errors:
	// ErrMissing; any other answer or failure. Several calls run at once.
	Get(ctx context.Context, method string, query url.Values) ([]byte, error)
}

// ErrMissing: the service answers that it has no such record (status 400 or 404).
var ErrMissing = errors.New("the service has no such record")
