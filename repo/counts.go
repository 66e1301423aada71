package repo

import (
	"errors"

	"nestbox/internal/tally"
)

// Counts are what was done since the start.
type Counts struct {
	// Written counts commits that calls made (WordCommit), and their records by what became of
	// each: WordCreate, WordUpdate, WordDelete.
	Written tally.Words
	// Imported counts imports: WordDone, WordRefused, WordFailed.
	Imported tally.Words
}

// The words of Counts.
const (
	WordCommit = "commit"
	WordCreate = "create"
	WordUpdate = "update"
	WordDelete = "delete"

	WordDone    = "done"
	WordRefused = "refused" // the file, or what it would replace, does not allow it
	WordFailed  = "failed"
)

// wrote counts a change that was stored; more is by how much the number of records grew.
func (c *Counts) wrote(change *Change, more int64) {
	var deleted uint64
	for i := range change.Writes {
		if change.Writes[i].Block == nil {
			deleted++
		}
	}
	kept := uint64(len(change.Writes)) - deleted
	created := min(uint64(max(more+int64(deleted), 0)), kept) //nolint:gosec // a commit has few
	c.Written.Add(WordCommit, 1)
	for word, n := range map[string]uint64{WordCreate: created, WordUpdate: kept - created, WordDelete: deleted} {
		if n > 0 {
			c.Written.Add(word, n)
		}
	}
}

// imported counts an import.
func (c *Counts) imported(err error) {
	word := WordFailed
	switch {
	case err == nil:
		word = WordDone
	case errors.Is(err, ErrImport), errors.Is(err, ErrTooLarge), errors.Is(err, ErrConflict):
		word = WordRefused
	}
	c.Imported.Add(word, 1)
}
