package sqlite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/account"
	"nestbox/firehose"
	"nestbox/session"
	"nestbox/store/sqlite/groupcommit"
)

// Options of a DB; Log is required.
type Options struct {
	// Fatal is called when the outcome of a commit is unknown: it must end the
	// process, so that recovery decides.
	Fatal func(error)
	// Commit replaces the COMMIT of write transactions, in tests.
	Commit func(*sqlite.Conn) error
	// Before is called ahead of each write, outside of its transaction, in tests:
	// storetest.Interleave makes another write there.
	Before func()
	Log    *slog.Logger
}

const (
	// readers is how many read at once, scanners how many of them are at what
	// takes long: exports, searches, counts. Replays of the event stream take two
	// more. So there is always one for sign-ins and for other short reads.
	readers  = 6
	scanners = 2
	// checkpointAt is the size of the write-ahead log, in bytes, from which it
	// is copied into the database file.
	checkpointAt    = 16 << 20
	checkpointEvery = time.Second
	// scrubEvery is how often what was deleted is looked after, in seconds.
	scrubEvery = 5
	// busyTimeout is how long a connection waits for another's lock.
	busyTimeout = 10 * time.Second
	// cachedSessions and cachedAccounts bound the caches: about 500 bytes and
	// 1.5 KB an entry.
	cachedSessions = 40_000
	cachedAccounts = 10_000
)

// DB is the opened database. Accounts, Sessions, Hosting and Identity give the
// domains' Store interfaces on it.
type DB struct {
	path   string
	log    *slog.Logger
	writer *groupcommit.Writer
	reads  *sqlitex.Pool
	scans  *scans

	sessions *otter.Cache[int64, *session.State]
	accounts *otter.Cache[string, *account.Account] // by DID

	// watch, when set, is told of each event of the log (EventLog.Watch).
	watch func(firehose.Logged)
	// mailed, when set, is told that the outbox got something (Outbox.Watch).
	mailed func()

	// deleted: what somebody deleted may still be in the file, where it is
	// overwritten in the log alone, and in what the log held before.
	deleted atomic.Bool

	stop context.CancelFunc
	done sync.WaitGroup
}

// Open opens, or creates, the database file at path and brings its schema up to
// this binary's. A newer schema is refused with ErrNewerSchema.
func Open(ctx context.Context, path string, opts Options) (*DB, error) {
	if err := ownFile(path); err != nil {
		return nil, err
	}
	write, err := openConn(path, sqlite.OpenReadWrite, sqlite.OpenCreate)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	if err := prepareWriter(write); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), write.Close())
	}
	checkpoints, err := openConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), write.Close())
	}
	reads, err := sqlitex.NewPool(path, sqlitex.PoolOptions{
		Flags: sqlite.OpenReadWrite | sqlite.OpenWAL, PoolSize: readers,
		PrepareConn: func(c *sqlite.Conn) error {
			return sqlitex.ExecuteScript(c, "PRAGMA query_only=ON; PRAGMA cache_size=-2000;", nil)
		},
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), write.Close(), checkpoints.Close())
	}
	db := &DB{
		path: path, log: opts.Log, reads: reads, scans: newScans(),
		writer:   groupcommit.New(write, groupcommit.Options{Fatal: opts.Fatal, Commit: opts.Commit, Before: opts.Before}),
		sessions: otter.Must(&otter.Options[int64, *session.State]{MaximumSize: cachedSessions}),
		accounts: otter.Must(&otter.Options[string, *account.Account]{MaximumSize: cachedAccounts}),
	}
	db.deleted.Store(true) // by a process that ended before it could do more
	ctx, db.stop = context.WithCancel(context.WithoutCancel(ctx))
	db.done.Go(func() { db.checkpointLoop(ctx, checkpoints) })
	return db, nil
}

// ownFile creates the database file, or closes one that was restored from a
// backup, say, to all but its owner: it holds password hashes and sealed keys.
func ownFile(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the path is the operator's own data directory
	if err != nil {
		return fmt.Errorf("create database file: %w", err)
	}
	if err := f.Chmod(0o600); err != nil {
		return errors.Join(fmt.Errorf("close database file to others: %w", err), f.Close())
	}
	return f.Close()
}

func openConn(path string, flags ...sqlite.OpenFlags) (*sqlite.Conn, error) {
	var all sqlite.OpenFlags
	for _, f := range flags {
		all |= f
	}
	conn, err := sqlite.OpenConn(path, all|sqlite.OpenWAL)
	if err != nil {
		return nil, err
	}
	conn.SetBusyTimeout(busyTimeout)
	return conn, nil
}

// prepareWriter sets what SQLite forgets between connections and migrates. The
// writer never checkpoints by itself: that would put a stall under a commit.
func prepareWriter(c *sqlite.Conn) error {
	for _, pragma := range []string{
		"PRAGMA synchronous=FULL",
		// On macOS fsync leaves data in the disk's own cache; elsewhere this does nothing.
		"PRAGMA fullfsync=ON", "PRAGMA checkpoint_fullfsync=ON",
		"PRAGMA foreign_keys=ON",
		"PRAGMA wal_autocheckpoint=0",
		// A log that starts over is made so short that its length tells what is in it.
		fmt.Sprintf("PRAGMA journal_size_limit=%d", checkpointAt-1),
		"PRAGMA cache_size=-16000",
		"PRAGMA temp_store=MEMORY",
		// What is deleted is overwritten: who leaves leaves nothing behind.
		"PRAGMA secure_delete=ON",
	} {
		if err := sqlitex.ExecuteTransient(c, pragma, nil); err != nil {
			return fmt.Errorf("%s: %w", pragma, err)
		}
	}
	return migrate(c)
}

// Close finishes queued writes, copies the log into the file and closes it.
func (db *DB) Close() error {
	err := db.writer.Close()
	db.stop()
	db.done.Wait()
	db.sessions.StopAllGoroutines()
	db.accounts.StopAllGoroutines()
	return errors.Join(err, db.reads.Close())
}

// Ping reads from the database: the health check.
func (db *DB) Ping(ctx context.Context) error {
	return db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT id FROM account LIMIT 1", nil, nil)
	})
}

// checkpointLoop keeps the write-ahead log short. It owns conn.
//
// A passive checkpoint on this connection copies all but what is written
// meanwhile; the log starts over only when nothing is left to copy. Under
// unbroken load that moment never comes by itself, so the small rest is then
// copied on the writer's connection, between two of its transactions.
func (db *DB) checkpointLoop(ctx context.Context, conn *sqlite.Conn) {
	tick := time.NewTicker(checkpointEvery)
	defer tick.Stop()
	for ticks := 1; ; ticks++ {
		select {
		case <-tick.C:
			var err error
			switch {
			case ticks%scrubEvery == 0 && db.deleted.Swap(false):
				err = db.scrub(ctx, conn)
			case walSize(db.path) >= checkpointAt:
				if err = checkpoint(conn); err == nil {
					err = db.writer.Outside(ctx, checkpoint)
				}
			}
			if err != nil && ctx.Err() == nil && !errors.Is(err, groupcommit.ErrClosed) {
				db.log.LogAttrs(ctx, slog.LevelError, "checkpoint failed", slog.String("cause", err.Error()))
			}
		case <-ctx.Done():
			if err := errors.Join(checkpoint(conn), conn.Close()); err != nil {
				db.log.LogAttrs(context.WithoutCancel(ctx), slog.LevelError, "last checkpoint failed", slog.String("cause", err.Error()))
			}
			return
		}
	}
}

func checkpoint(c *sqlite.Conn) error {
	return sqlitex.ExecuteTransient(c, "PRAGMA wal_checkpoint(PASSIVE)", nil)
}

// scrub brings into the file that something was overwritten, and empties the log,
// which holds what was there before. Where somebody reads from the log, it is tried
// again.
func (db *DB) scrub(ctx context.Context, conn *sqlite.Conn) error {
	emptied := false
	err := checkpoint(conn)
	if err == nil {
		err = db.writer.Outside(ctx, func(c *sqlite.Conn) error {
			c.SetBusyTimeout(0) // nobody waits for readers
			defer c.SetBusyTimeout(busyTimeout)
			return query(c, "PRAGMA wal_checkpoint(TRUNCATE)", nil, func(r *sqlite.Stmt) error {
				emptied = r.ColumnInt(0) == 0
				return nil
			})
		})
	}
	if !emptied {
		db.deleted.Store(true)
	}
	return err
}

// scrubSoon has scrub called some time after the commit.
func scrubSoon(tx *groupcommit.Tx, db *DB) {
	tx.AfterCommit(func() { db.deleted.Store(true) })
}

func walSize(path string) int64 {
	fi, err := os.Stat(filepath.Clean(path) + "-wal")
	if err != nil {
		return 0
	}
	return fi.Size()
}

// read runs fn on a pooled read-only connection, in one read transaction when
// it makes several statements that must agree.
func (db *DB) read(ctx context.Context, fn func(*sqlite.Conn) error) error {
	conn, err := db.reads.Take(ctx)
	if err == nil {
		defer db.reads.Put(conn)
		err = fn(conn)
	} else {
		err = fmt.Errorf("take a read connection: %w", err)
	}
	if err != nil && ctx.Err() != nil {
		return ctx.Err() // SQLite calls it an interruption
	}
	return err
}

// readTx is read in one transaction: every statement sees the same state.
func (db *DB) readTx(ctx context.Context, fn func(*sqlite.Conn) error) error {
	return db.read(ctx, func(c *sqlite.Conn) (err error) {
		defer sqlitex.Transaction(c)(&err)
		return fn(c)
	})
}

// scans are the places of those that read much. An account's scans take one of
// them at a time, whoever asks, so that no repository keeps all others waiting.
type scans struct {
	free chan struct{} // a value for each scan under way
	mu   sync.Mutex
	of   map[int64]*turn
}

// turn is that of an account's scans.
type turn struct {
	taken chan struct{} // a value while one is under way
	refs  int           // guarded by scans
}

func newScans() *scans {
	return &scans{free: make(chan struct{}, scanners), of: map[int64]*turn{}}
}

// take waits for a place, and returns the function that gives it back. Account 0 is
// none.
func (s *scans) take(ctx context.Context, accountID int64) (give func(), err error) {
	leave := func() {}
	if accountID != 0 {
		if leave, err = s.takeTurn(ctx, accountID); err != nil {
			return nil, err
		}
	}
	select {
	case s.free <- struct{}{}:
		return func() { <-s.free; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

func (s *scans) takeTurn(ctx context.Context, accountID int64) (leave func(), err error) {
	s.mu.Lock()
	t := s.of[accountID]
	if t == nil {
		t = &turn{taken: make(chan struct{}, 1)}
		s.of[accountID] = t
	}
	t.refs++
	s.mu.Unlock()
	forget := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if t.refs--; t.refs == 0 {
			delete(s.of, accountID)
		}
	}
	select {
	case t.taken <- struct{}{}:
		return func() { <-t.taken; forget() }, nil
	case <-ctx.Done():
		forget()
		return nil, ctx.Err()
	}
}

// scan runs fn, which reads much of an account (0: of several), when few others do.
func (db *DB) scan(ctx context.Context, accountID int64, fn func() error) error {
	give, err := db.scans.take(ctx, accountID)
	if err != nil {
		return err
	}
	defer give()
	return fn()
}

// scanRead is readTx for what reads much.
func (db *DB) scanRead(ctx context.Context, accountID int64, fn func(*sqlite.Conn) error) error {
	return db.scan(ctx, accountID, func() error { return db.readTx(ctx, fn) })
}
