// Package firehose owns the event log as the network sees it:
// com.atproto.sync.subscribeRepos, which replays the log from a cursor and goes on
// with new events, its retention, and the request to be crawled.
//
// Invariants: a subscriber gets every event of the log after its cursor, each
// once and in order, or the stream ends with an error; no subscriber holds up another
// one, or a writer, or uses more than a bounded amount of memory.
package firehose

import (
	"context"
	"errors"
	"time"

	"nestbox/firehose/event"
)

// Logged is an event of the log.
type Logged struct {
	// Seq is its number: one more than that of the previous event.
	Seq int64
	// At is when it was written, by the server's clock.
	At time.Time
	// Ends: the event, an account's deletion, is the last one of the account. Those
	// before it are Removed. Only Watch sets it.
	Ends bool

	event.Event
}

// Removed reports whether the event was of a deleted account, and must not be sent
// any more. Only its number remains, so that a gap is always a fault.
func (l *Logged) Removed() bool { return l.Kind == "" }

// Bounds describes what the log holds, and its last number.
type Bounds struct {
	// Oldest is the number of the oldest event kept, Last+1 if there is none; Last is
	// the last number given, 0 if there is none.
	Oldest, Last int64
	// OldestAt is when the oldest event was written; zero if none is kept.
	OldestAt time.Time
	// Bytes is the size of the events kept, and of those Removed since the oldest.
	Bytes int64
	// Announcing: not every account has been announced again since the last Jump.
	Announcing bool
}

// ErrBackwards: the log has given that number already.
var ErrBackwards = errors.New("the event log has given that number already")

// Log is the event log. Events enter it in the transactions of the changes that they
// announce, so it has no method to append.
type Log interface {
	// Bounds returns what the log holds.
	Bounds(ctx context.Context) (Bounds, error)
	// Read returns events with a number above after, in order: at most count
	// of them, and no more after their bodies have reached bytes.
	Read(ctx context.Context, after int64, count, bytes int) ([]Logged, error)
	// Watch makes the log call f for each event after its commit, whichever server of
	// the database made it, in the order of the numbers. With one server that is before
	// the writer gets its answer; with several servers an event may have no number yet
	// at that time. f must not block. It is set once, before the first write.
	Watch(f func(Logged))
	// Prune removes a bounded number of the oldest events: those before keep, and those
	// that take the log over maxBytes. It returns how many; if that is not 0, there may
	// be more.
	Prune(ctx context.Context, keep time.Time, maxBytes int64) (removed int, err error)
	// Forget removes a bounded number of the events of accounts that were deleted,
	// up to their deletions. Read shows them as Removed before that. It reports whether
	// there may be more.
	Forget(ctx context.Context) (more bool, err error)
	// Jump gives the next event a number above to, and drops the log. It is for
	// a server that was restored from a backup: other events must not reuse numbers
	// that the network has seen since. Every account must then be announced again:
	// Bounds.Announcing. ErrBackwards: to is below the last number.
	Jump(ctx context.Context, to int64) error
}
