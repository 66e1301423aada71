// Package firehose owns the event log as the network sees it:
// com.atproto.sync.subscribeRepos, which replays the log from a cursor and goes
// on with what is new, its retention, and the request to be crawled.
//
// Invariants: a subscriber gets every event of the log after its cursor, each
// once and in order, or the stream ends with an error; no subscriber holds up
// another one, or a writer, or holds more than a bounded memory.
package firehose

import (
	"context"
	"errors"
	"time"

	"nestbox/firehose/event"
)

// Logged is an event of the log.
type Logged struct {
	// Seq is its number: one more than that of the event before it.
	Seq int64
	// At is when it was written, by the server's clock.
	At time.Time
	// Ends: the event, an account's deletion, is the last that is told of the
	// account. Those before it are Removed. Watch alone says so.
	Ends bool

	event.Event
}

// Removed says that the event was of an account that is deleted, and is not to
// be told any more. Its number remains, so that a gap is always a fault; nothing
// else does.
func (l *Logged) Removed() bool { return l.Kind == "" }

// Bounds are what the log holds, and how far it is.
type Bounds struct {
	// Oldest is the number of the oldest event that is kept, Last+1 where none
	// is; Last that of the last one that was given, 0 where none was.
	Oldest, Last int64
	// OldestAt is when the oldest one was written; zero where none is kept.
	OldestAt time.Time
	// Bytes is the size of what is kept, and of what was Removed since the oldest.
	Bytes int64
	// Announcing: not every account has been announced again since the last Jump.
	Announcing bool
}

// ErrBackwards: the log has given that number already.
var ErrBackwards = errors.New("the event log has given that number already")

// Log is the event log. Events enter it in the transactions that make the
// changes which they tell of, so it has no method to append.
type Log interface {
	// Bounds returns what the log holds.
	Bounds(ctx context.Context) (Bounds, error)
	// Read returns events with a number above after, in order: at most count
	// of them, and no more after their bodies have reached bytes.
	Read(ctx context.Context, after int64, count, bytes int) ([]Logged, error)
	// Watch has f called for each event after its commit, in the order of the
	// numbers, before its writer is answered. f must not block. It is set once,
	// before the first write.
	Watch(f func(Logged))
	// Prune removes a bounded number of the oldest events: those before keep,
	// and those that take the log over maxBytes. It returns how many; one that
	// is not 0 may mean that there are more.
	Prune(ctx context.Context, keep time.Time, maxBytes int64) (removed int, err error)
	// Forget removes a bounded number of the events of accounts that were deleted,
	// up to their deletions. Read shows them as Removed before that. It returns
	// whether there may be more.
	Forget(ctx context.Context) (more bool, err error)
	// Jump gives the next event a number above to, and drops the log. It is for
	// a server that was restored from a backup: what the network has seen since
	// must not be contradicted by other events of the same numbers. Every
	// account is then to be told of anew: Bounds.Announcing. ErrBackwards where to is below
	// the last number.
	Jump(ctx context.Context, to int64) error
}
