package schema

import (
	"context"
	"errors"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Lexicon is a published document as it was found.
type Lexicon struct {
	NSID syntax.NSID
	// DID is whose repository it was in, CID the record's. Both are empty for a document
	// that came with this program.
	DID syntax.DID
	CID string
	// Document is JSON.
	Document []byte
	// FoundAt is when the network said last that this is the document, CheckedAt when
	// it was asked last, Failure what came of that; empty if the document was found.
	FoundAt, CheckedAt time.Time
	Failure            string
	// UsedAt is when somebody needed it last, about. Granted: a session was given what
	// it holds.
	UsedAt  time.Time
	Granted bool
}

// ErrUnknown: the store has no such Lexicon.
var ErrUnknown = errors.New("the Lexicon is not known")

// Store keeps permission sets. Each method is one transaction, and durable on return.
type Store interface {
	// Lexicon returns what is known of an NSID, or ErrUnknown.
	Lexicon(ctx context.Context, nsid syntax.NSID) (*Lexicon, error)
	// SaveLexicon stores a document that was found, in place of one that was known. Of
	// two, that with the later FoundAt stays. UsedAt never goes back, and what was
	// Granted stays so.
	SaveLexicon(ctx context.Context, l Lexicon) error
	// SaveFailure notes why a Lexicon that is known was not found at a time. One that is
	// not known, or was checked later, stays as it is.
	SaveFailure(ctx context.Context, nsid syntax.NSID, failure string, at time.Time) error
	// Use notes that Lexicons were needed at a time, and whether sessions were granted
	// what they hold. Those that are not known are left out.
	Use(ctx context.Context, nsids []syntax.NSID, granted bool, at time.Time) error
	// DueLexicons returns up to limit NSIDs of Lexicons that were granted and were last
	// checked before a time, the longest ago first.
	DueLexicons(ctx context.Context, checkedBefore time.Time, limit int) ([]syntax.NSID, error)
	// CollectLexicons deletes up to limit Lexicons, and returns how many: those that
	// were granted and last used before a time, and of the others those that were last
	// used before another one, and all but the most recently used keep.
	CollectLexicons(ctx context.Context, granted, others time.Time, keep, limit int) (int, error)
}
