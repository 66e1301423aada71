package sqlite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/store/sqlite/groupcommit"
)

// logBounds are the sizes of the write-ahead log, in bytes, at which the server
// acts.
type logBounds struct {
	// copied: it is copied into the database file.
	copied int64
	// calm: no scan begins until the log has started over. It cannot start over
	// while any read that began before the copy still runs, so scans that overlap
	// would keep it growing for ever.
	calm int64
	// limit: reads that take long are ended, before the next transaction begins. So
	// the log holds at most this and one transaction, whatever this process reads.
	// A read of another program cannot be ended: see DB.room.
	limit int64
}

const (
	checkpointAt = 16 << 20
	calmAt       = 64 << 20
	// LogLimit bounds the log, apart from one transaction.
	LogLimit = 256 << 20
)

const (
	checkpointEvery = time.Second
	// calmEvery replaces checkpointEvery while scans wait.
	calmEvery = 100 * time.Millisecond
	// scrubEvery is how often deleted content is removed from the log, and
	// scrubPatience how long overlapping scans may delay that.
	scrubEvery    = 5 * time.Second
	scrubPatience = 2 * time.Second
	// truncateWait is how long the writer waits for short reads to end, limitTries
	// how many times in turn before it takes a reader for another program.
	truncateWait = 250 * time.Millisecond
	limitTries   = 8
	// scanPatience is how long scans wait for the scans before them.
	scanPatience = 5 * time.Minute
)

// Errors of reads and writes when the log is too long.
var (
	// errEnded: the read was ended so that the log could start over.
	errEnded = errors.New("the read was ended, because the write-ahead log had reached its limit: try again")
	// errLogFull: the log could not be copied into the database file any more.
	errLogFull = errors.New("the write-ahead log takes as much of the disk as is left, " +
		"and another program that reads the database keeps it from starting over: end that program")
)

// keeper keeps the write-ahead log short. It belongs to one goroutine.
//
// A passive checkpoint on conn copies all except what is written meanwhile; the
// log starts over only when nothing is left to copy and no connection reads from
// it. Under unbroken load that moment never comes by itself, so the small rest
// is then copied on the writer's connection, between two of its transactions.
type keeper struct {
	*DB

	conn *sqlite.Conn
	// scrubAt is when deleted content is next removed from the log, dirty the
	// time since when that has failed.
	scrubAt, dirty time.Time
	// vain is how many times in turn the log could not be emptied though no scan ran.
	vain int
}

func (db *DB) checkpointLoop(ctx context.Context, conn *sqlite.Conn) {
	k := &keeper{DB: db, conn: conn, scrubAt: time.Now().Add(scrubEvery)}
	timer := time.NewTimer(checkpointEvery)
	defer timer.Stop()
	for {
		next := checkpointEvery
		if db.tide.shut() {
			next = calmEvery
		}
		timer.Reset(next)
		select {
		case <-db.long:
			k.report(ctx, k.look(ctx))
		case <-timer.C:
			k.report(ctx, k.look(ctx))
		case <-ctx.Done():
			if f := db.following.Load(); f != nil {
				f.keepLast(conn)
			}
			if err := errors.Join(checkpoint(conn), conn.Close()); err != nil {
				db.log.LogAttrs(context.WithoutCancel(ctx), slog.LevelError, "last checkpoint failed", slog.String("cause", err.Error()))
			}
			return
		}
	}
}

func (k *keeper) report(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil && !errors.Is(err, groupcommit.ErrClosed) {
		k.log.LogAttrs(ctx, slog.LevelError, "checkpoint failed", slog.String("cause", err.Error()), slog.Int64("log_bytes", k.LogSize()))
	}
}

// look checks the log, and copies or empties it if needed.
func (k *keeper) look(ctx context.Context) error {
	now := time.Now()
	if k.heldNow() { // nothing can be done about the log, so scans need not wait
		k.started(ctx)
		return nil
	}
	if !k.deleted.Load() {
		k.dirty = time.Time{}
	}
	if now.After(k.scrubAt) && k.deleted.Load() {
		k.scrubAt = now.Add(scrubEvery)
		if err := k.Cut(ctx); err != nil { // most of it while writes go on
			return err
		}
		emptied, err := k.empty(ctx, 0)
		if err != nil {
			return err
		}
		if emptied {
			k.dirty = time.Time{}
		} else if k.dirty.IsZero() {
			k.dirty = now
		}
	}
	overdue := !k.dirty.IsZero() && now.Sub(k.dirty) >= scrubPatience
	switch size := k.LogSize(); {
	case k.tide.isForeign(now):
		return k.besideForeign(ctx)
	case size >= k.bounds.calm || overdue:
		return k.calm(ctx, size)
	case size >= k.bounds.copied:
		// Scans may still wait, if a transaction found the log at its limit and emptied it.
		k.started(ctx)
		if err := k.copyBeside(ctx, k.conn); err != nil {
			return err
		}
		return k.writer.Outside(ctx, k.copyRest)
	default:
		k.started(ctx)
		return nil
	}
}

// calm holds new scans back, and empties the log once the running ones have
// ended.
func (k *keeper) calm(ctx context.Context, size int64) error {
	now := time.Now()
	scans, since := k.tide.stop(now)
	if since.Equal(now) && size >= k.bounds.calm {
		k.log.LogAttrs(ctx, slog.LevelWarn, "write-ahead log is large: exports and searches wait until it has started over",
			slog.Int64("log_bytes", size), slog.Int("scans", scans))
	}
	if err := k.copyBeside(ctx, k.conn); err != nil {
		return err
	}
	switch {
	case size >= k.bounds.limit || now.Sub(since) >= scanPatience:
		k.endReads(ctx)
	case scans > 0:
		return nil // the next look
	}
	emptied, err := k.empty(ctx, truncateWait)
	if err != nil {
		return err
	}
	if emptied {
		k.emptied(ctx)
		return nil
	}
	// On a loaded machine a short read may take longer once.
	if k.vain++; k.vain >= limitTries {
		k.vain = 0
		k.foreign(ctx)
	}
	return nil
}

// besideForeign copies what it can while another program reads from the log, and empties the log once
// that has ended. Writes do not wait for it.
func (k *keeper) besideForeign(ctx context.Context) error {
	k.tide.release(time.Now()) // the writer may have found that program after calm held scans back
	if err := k.copyBeside(ctx, k.conn); err != nil {
		return err
	}
	emptied, err := k.empty(ctx, 0)
	if emptied {
		k.emptied(ctx)
	}
	return err
}

// emptied notes that the log is empty.
func (k *keeper) emptied(ctx context.Context) {
	k.dirty, k.vain = time.Time{}, 0
	k.started(ctx)
}

// copy makes a passive checkpoint, unless the file is held. SQLite makes one at a time, and
// does not wait for another one. Where the log is followed, copyBeside calls it.
func (db *DB) copy(c *sqlite.Conn) error {
	db.copying.Lock()
	defer db.copying.Unlock()
	if db.isHeld() {
		return nil
	}
	if db.following.Load() == nil {
		db.unfollowed.Store(true)
	}
	defer db.tookCopy(time.Now())
	return checkpoint(c)
}

// copyRest is copy on the writer's connection.
func (db *DB) copyRest(c *sqlite.Conn) error {
	db.copying.Lock()
	defer db.copying.Unlock()
	if db.isHeld() || !db.keepRest(c, false) {
		return nil
	}
	defer db.tookCopy(time.Now())
	return checkpoint(c)
}

// empty copies the whole log into the file and makes the log empty; emptied is
// false when somebody reads from it. It waits for readers for at most wait.
func (db *DB) empty(ctx context.Context, wait time.Duration) (emptied bool, err error) {
	err = db.writer.Outside(ctx, func(c *sqlite.Conn) error {
		emptied, err = db.truncate(c, wait)
		return err
	})
	return emptied, err
}

// truncate does what empty does, on the writer's connection.
func (db *DB) truncate(c *sqlite.Conn, wait time.Duration) (emptied bool, err error) {
	db.copying.Lock()
	defer db.copying.Unlock()
	if db.isHeld() || !db.keepRest(c, false) {
		return false, nil
	}
	defer db.tookCopy(time.Now())
	deleted := db.deleted.Swap(false) // whatever is deleted from here on needs another one
	c.SetBusyTimeout(wait)
	defer c.SetBusyTimeout(busyTimeout)
	err = query(c, "PRAGMA wal_checkpoint(TRUNCATE)", nil, func(r *sqlite.Stmt) error {
		emptied = r.ColumnInt(0) == 0
		return nil
	})
	if deleted && !emptied {
		db.deleted.Store(true)
	}
	return emptied, err
}

// tookCopy reports how long a checkpoint took that began at a time.
func (db *DB) tookCopy(began time.Time) {
	if db.copied != nil {
		db.copied(time.Since(began))
	}
}

// started lets scans begin again.
func (db *DB) started(ctx context.Context) {
	if waited := db.tide.start(time.Now()); waited > 0 {
		db.log.LogAttrs(ctx, slog.LevelInfo, "write-ahead log has started over", slog.Duration("waited", waited))
	}
}

// foreign notes that the log cannot start over though no scan runs: a program
// besides this one reads from it, such as a backup. Scans need not wait for it.
func (db *DB) foreign(ctx context.Context) {
	db.tide.foreign(time.Now())
	db.log.LogAttrs(ctx, slog.LevelWarn, "another program reads the database, so that the write-ahead log cannot start over",
		slog.Int64("log_bytes", db.LogSize()))
}

// endReads ends scans, and other reads that take long.
func (db *DB) endReads(ctx context.Context) {
	if n := db.tide.end(time.Now()); n > 0 {
		db.log.LogAttrs(ctx, slog.LevelWarn, "reads were ended so that the write-ahead log can start over",
			slog.Int("reads", n), slog.Int64("log_bytes", db.LogSize()))
	}
}

// room is called before each transaction, on the writer's connection. It ends
// reads and empties the log when that has reached its limit. When a backup, or another
// program, keeps it from starting over, writes go on as long as the disk has room for the
// log twice: it must fit into the database file in the end. After that they are
// refused until it ends. On a full disk nothing would end the refusal.
func (db *DB) room(c *sqlite.Conn) error {
	size := db.LogSize()
	if size < db.bounds.calm {
		return nil
	}
	foreign := db.tide.isForeign(time.Now())
	if !foreign && !db.tide.shut() {
		select {
		case db.long <- struct{}{}:
		default: // it checks anyway
		}
	}
	if size < db.bounds.limit {
		return nil
	}
	ctx := context.Background() // a log line belongs to no request
	if !foreign && !db.heldNow() {
		for range limitTries {
			db.endReads(ctx)
			emptied, err := db.truncate(c, truncateWait)
			if err != nil {
				return fmt.Errorf("empty the write-ahead log: %w", err)
			}
			if emptied {
				return nil // the keeper lets scans begin
			}
		}
		db.foreign(ctx)
	}
	if db.free == nil {
		return nil
	}
	free, err := db.free()
	if err != nil {
		return fmt.Errorf("look for free space for the write-ahead log: %w", err)
	}
	if free < size {
		return errLogFull
	}
	return nil
}

// checkpoint copies the part of the log that no reader still needs in the
// file's older state.
func checkpoint(c *sqlite.Conn) error {
	return sqlitex.ExecuteTransient(c, "PRAGMA wal_checkpoint(PASSIVE)", nil)
}

// scrubSoon makes the keeper empty the log some time after the commit, since
// the log still holds the content that was overwritten.
func scrubSoon(tx *groupcommit.Tx, db *DB) {
	tx.AfterCommit(func() { db.deleted.Store(true) })
}

// LogSize returns the size of the write-ahead log, in bytes.
func (db *DB) LogSize() int64 { return walSize(db.path) }

func walSize(path string) int64 {
	fi, err := os.Stat(filepath.Clean(path) + "-wal")
	if err != nil {
		return 0
	}
	return fi.Size()
}
