package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"zombiezen.com/go/sqlite"

	"nestbox/store/sqlite/groupcommit"
)

// Beat makes a small write and returns once it is on the disk: it shows that the database can be
// written.
func (db *DB) Beat(ctx context.Context, at time.Time) error {
	err := db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		n, err := change(tx.Conn, "UPDATE standing SET beat_at = ? WHERE id = 1", func(s *sqlite.Stmt) { bindTime(s, 1, at) })
		if err == nil && n != 1 {
			err = errors.New("its row is missing")
		}
		return err
	})
	return wrap(err, "write to show that the database can be written")
}

// Writing returns how long the write that is being computed now has taken, 0 if none is. The wait
// for the disk does not count.
func (db *DB) Writing() time.Duration { return db.writer.Running() }

// Sizes are those of the database's files.
type Sizes struct {
	// Main and Log are the sizes of the file and its write-ahead log, in bytes; Free is the number
	// of pages of the file that hold nothing.
	Main, Log, Free int64
}

// Sizes returns the sizes of the database's files.
func (db *DB) Sizes(ctx context.Context) (s Sizes, err error) {
	fi, err := os.Stat(db.path)
	if err != nil {
		return s, fmt.Errorf("look at the database file: %w", err)
	}
	s.Main, s.Log = fi.Size(), db.LogSize()
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "PRAGMA freelist_count", nil, func(r *sqlite.Stmt) error { s.Free = r.ColumnInt64(0); return nil })
	})
	return s, wrap(err, "count free pages")
}
