package sqlite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/account"
	"nestbox/backup"
	"nestbox/firehose"
	"nestbox/internal/gate"
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
	// Free returns what is free on the database's disk, in bytes. Without it
	// nothing bounds the log while another program reads the database.
	Free func() (int64, error)
	// Wrote, if set, is called with how long each write took: groupcommit.Options.Wrote.
	Wrote func(time.Duration)
	// Waited and Committed, if set, are those of groupcommit.Options; Copied, if set, is called
	// with how long each checkpoint took.
	Waited    func(time.Duration)
	Committed func(took time.Duration, group int)
	Copied    func(time.Duration)
	Log       *slog.Logger
	// Number, if set, is called with the number that an event is about to get, in the
	// transaction of its change: an error undoes that.
	Number func(seq int64) error
	// NoSafetyCopy: a database is migrated without a copy of it being kept.
	NoSafetyCopy bool

	// bounds replace those of the log, in tests.
	bounds logBounds
}

const (
	// readers is the size of the read pool; at most scanners of them run long
	// reads: exports, searches, counts. Replays of the event stream take two
	// more. So there is always one for sign-ins and other short reads.
	readers  = 6
	scanners = 2
	// busyTimeout is how long a connection waits for another's lock.
	busyTimeout = 10 * time.Second
	// cachedSessions and cachedAccounts bound the caches, in bytes: about 40,000
	// sessions, and 10,000 accounts with documents of the common size.
	cachedSessions = 32 << 20
	cachedAccounts = 24 << 20
)

// DB is the opened database. Stores returns every domain's Store on it.
type DB struct {
	path   string
	log    *slog.Logger
	writer *groupcommit.Writer
	reads  *sqlitex.Pool
	scans  gate.Places[int64] // of reads that take long, by account
	tide   *tide
	free   func() (int64, error)
	copied func(time.Duration)
	bounds logBounds
	// long wakes the keeper, copying is locked during checkpoints.
	long    chan struct{}
	copying sync.Mutex
	// file is read by those that hold it: see Hold. holds, under copying, is how many there
	// are: no checkpoint is made until they are gone, or until closing.
	file    *os.File
	holds   int
	closing atomic.Bool
	// following gets what is committed, nil if nothing does. unfollowed is set once a checkpoint
	// was made before that; found is how Open found the file, nil if it had a log.
	following  atomic.Pointer[follower]
	unfollowed atomic.Bool
	found      *backup.FileState

	sessions *otter.Cache[int64, *session.State]
	accounts *otter.Cache[string, *account.Account] // by DID

	// number, when set, may refuse the number of an event (Options.Number).
	number func(seq int64) error
	// watch, when set, receives each event of the log (EventLog.Watch).
	watch func(firehose.Logged)
	// mailed, when set, is called when the outbox got something (Outbox.Watch).
	mailed func()

	// deleted is set when deleted content may still be in the file, because
	// only the log overwrites it, or in older frames of the log.
	deleted atomic.Bool

	stop context.CancelFunc
	done sync.WaitGroup
}

// Open opens, or creates, the database file at path and brings its schema up to
// this binary's, after a copy of the file was kept: ErrNoRoom. A newer schema is refused with
// ErrNewerSchema, unless that lets this binary work on it; one that a take-over has yet to fill
// with ErrUnfinished.
func Open(ctx context.Context, path string, opts Options) (*DB, error) {
	found := fileOf(path)
	if err := ownFile(path); err != nil {
		return nil, err
	}
	if opts.bounds == (logBounds{}) {
		opts.bounds = logBounds{copied: checkpointAt, calm: calmAt, limit: LogLimit}
	}
	write, err := openConn(path, sqlite.OpenReadWrite, sqlite.OpenCreate)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	err = prepareWriter(ctx, write, path, opts)
	if err == nil {
		err = checkTakeover(write)
	}
	if err != nil {
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
		path: path, log: opts.Log, found: found, reads: reads, tide: newTide(), free: opts.Free, copied: opts.Copied, bounds: opts.bounds,
		number:   opts.Number,
		long:     make(chan struct{}, 1),
		sessions: otter.Must(&otter.Options[int64, *session.State]{MaximumWeight: cachedSessions, Weigher: sessionBytes}),
		accounts: otter.Must(&otter.Options[string, *account.Account]{MaximumWeight: cachedAccounts, Weigher: accountBytes}),
	}
	if db.file, err = openFile(path); err != nil {
		return nil, errors.Join(err, reads.Close(), write.Close(), checkpoints.Close())
	}
	db.writer = groupcommit.New(write, groupcommit.Options{
		Fatal: opts.Fatal, Commit: opts.Commit, Begin: db.room, Before: opts.Before,
		Wrote: opts.Wrote, Waited: opts.Waited, Committed: opts.Committed,
	})
	db.deleted.Store(true) // by a process that ended before it could do more
	ctx, db.stop = context.WithCancel(context.WithoutCancel(ctx))
	db.done.Go(func() { db.checkpointLoop(ctx, checkpoints) })
	return db, nil
}

// sessionBytes returns about how much of its cache a session takes.
func sessionBytes(_ int64, s *session.State) uint32 {
	const fixed, mark, grant = 500, 32, 400
	n := fixed + mark*cap(s.Marks) + len(s.Nonce) + len(s.AppPassword) + len(s.Network) + len(s.UserAgent)
	if g := s.Grant; g != nil {
		n += grant + 2*len(g.ClientID) + len(g.KID) + len(g.Requested) + len(g.Granted) + len(g.Effective) + len(g.Sets)
	}
	return uint32(n) //nolint:gosec // each is bounded
}

// accountBytes returns about how much of its cache an account takes.
func accountBytes(did string, a *account.Account) uint32 {
	const fixed = 900
	n := fixed + len(did) + len(a.DID) + len(a.Handle) + len(a.Email) +
		len(a.TakedownRef) + len(a.InvitedWith) + len(a.SigningKey) + cap(a.Document)
	return uint32(n) //nolint:gosec // each is bounded
}

// ownFile creates the database file for its owner alone, and closes an existing
// one (restored from a backup, say) to others: it holds password hashes and
// sealed keys.
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
func prepareWriter(ctx context.Context, c *sqlite.Conn, path string, opts Options) error {
	err := pragmas(c,
		"PRAGMA synchronous=FULL",
		// On macOS fsync leaves data in the disk's own cache; elsewhere this does nothing.
		"PRAGMA fullfsync=ON", "PRAGMA checkpoint_fullfsync=ON",
		"PRAGMA foreign_keys=ON",
		"PRAGMA wal_autocheckpoint=0",
		// A log that starts over is made so short that its length tells what is in it.
		fmt.Sprintf("PRAGMA journal_size_limit=%d", opts.bounds.copied-1),
		"PRAGMA cache_size=-16000",
		"PRAGMA temp_store=MEMORY",
		// Overwrite deleted content, so that nothing of a deleted account
		// remains on disk.
		"PRAGMA secure_delete=ON",
	)
	if err != nil {
		return err
	}
	return migrate(ctx, c, path, opts)
}

// pragmas runs pragmas one after the other; the error names the one that failed.
func pragmas(c *sqlite.Conn, all ...string) error {
	for _, pragma := range all {
		if err := sqlitex.ExecuteTransient(c, pragma, nil); err != nil {
			return fmt.Errorf("%s: %w", pragma, err)
		}
	}
	return nil
}

// Close finishes queued writes, copies the log into the file and closes it.
func (db *DB) Close() error {
	db.closing.Store(true)
	err := db.writer.Close()
	db.stop()
	db.done.Wait()
	db.sessions.StopAllGoroutines()
	db.accounts.StopAllGoroutines()
	f := db.following.Load()
	if f != nil {
		err = errors.Join(err, f.pin.Close())
	}
	err = errors.Join(err, db.reads.Close())
	if f != nil && err == nil {
		f.closed()
	}
	return errors.Join(err, db.file.Close())
}

// Ping reads from the database: the health check.
func (db *DB) Ping(ctx context.Context) error {
	return db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT id FROM account LIMIT 1", nil, nil)
	})
}

// LastWritten returns the newest time among the rows that a running server keeps
// writing: events, checks of identities, trails. It is zero when there are none.
func (db *DB) LastWritten(ctx context.Context) (at time.Time, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, `SELECT max(at) FROM (SELECT (SELECT at FROM event ORDER BY seq DESC LIMIT 1) AS at
			UNION ALL SELECT max(checked_at) FROM identity UNION ALL SELECT (SELECT at FROM trail ORDER BY id DESC LIMIT 1))`, nil,
			func(r *sqlite.Stmt) error { at = columnTime(r, 0); return nil })
	})
	return at, wrap(err, "look for what was written last")
}

// read runs fn on a pooled read-only connection, in one read transaction when
// it makes several statements that must agree.
func (db *DB) read(ctx context.Context, fn func(*sqlite.Conn) error) error {
	within, end := context.WithCancelCause(ctx)
	defer end(nil)
	err := db.readWithin(within, end, fn)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err() // SQLite calls it an interruption
	case within.Err() != nil:
		return context.Cause(within)
	default:
		return err
	}
}

func (db *DB) readWithin(ctx context.Context, end context.CancelCauseFunc, fn func(*sqlite.Conn) error) error {
	conn, err := db.reads.Take(ctx)
	if err != nil {
		return fmt.Errorf("take a read connection: %w", err)
	}
	defer db.reads.Put(conn)
	r := db.tide.begin(ctx, end)
	defer db.tide.done(r)
	return fn(conn)
}

// readTx is read in one transaction: every statement sees the same state.
func (db *DB) readTx(ctx context.Context, fn func(*sqlite.Conn) error) error {
	return db.read(ctx, func(c *sqlite.Conn) (err error) {
		defer sqlitex.Transaction(c)(&err)
		return fn(c)
	})
}

// takeScan waits for a place among the scans. All scans of one account share one place,
// so that no repository keeps the others waiting. Account 0 means no account.
func takeScan(ctx context.Context, scans *gate.Places[int64], accountID int64) (*gate.Place[int64], error) {
	var shares []gate.Share[int64]
	if accountID != 0 {
		shares = append(shares, gate.Share[int64]{Key: accountID, Most: 1})
	}
	return scans.Take(ctx, gate.Room{All: scanners}, shares...)
}

// scan runs fn, which reads much of an account (0: of several), once few other
// scans run and the log is short enough.
func (db *DB) scan(ctx context.Context, accountID int64, fn func(context.Context) error) error {
	place, err := takeScan(ctx, &db.scans, accountID)
	if err != nil {
		return err
	}
	defer place.Leave()
	within, err := db.tide.scan(ctx)
	if err != nil {
		return err
	}
	defer db.tide.scanned()
	return fn(within)
}

// scanRead is readTx for reads that take long.
func (db *DB) scanRead(ctx context.Context, accountID int64, fn func(*sqlite.Conn) error) error {
	return db.scan(ctx, accountID, func(ctx context.Context) error { return db.readTx(ctx, fn) })
}
