package sqlite

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"
	"sync/atomic"

	"zombiezen.com/go/sqlite"

	"nestbox/backup"
)

// errClosing: the database is being closed, and its log copied into its file.
var errClosing = errors.New("the database is being closed")

// held implements backup.Held.
type held struct {
	db   *DB
	size int64
	once sync.Once
	// header is that of the log when the file was held; frames before from were in the file.
	// A log that was copied as a whole starts over at the next write, and no other log does
	// while the file is held: frames behind from stay where they are.
	header [walHeaderSize]byte
	from   int64
	log    *walFile
}

var (
	_ backup.Database = (*DB)(nil)
	_ backup.Held     = (*held)(nil)
	_ backup.Moment   = (*moment)(nil)
)

// Hold implements backup.Database. No checkpoint changes the file while it is held.
//
// The file is open as long as the database is. A process that closes any descriptor of a
// file loses all its locks on it (POSIX), and SQLite's are on this one.
func (db *DB) Hold(ctx context.Context) (backup.Held, error) {
	h := &held{db: db, log: newWALFile(db.path + "-wal")}
	f := db.following.Load()
	if f != nil { // no piece is read from the log while it is copied
		f.aside.Lock()
		defer f.aside.Unlock()
	}
	if err := db.beforeHold(ctx, f); err != nil {
		return nil, err
	}
	// On the writer's connection, so that the log does not change meanwhile.
	err := db.writer.Outside(ctx, func(c *sqlite.Conn) error {
		db.copying.Lock()
		defer db.copying.Unlock()
		if db.closing.Load() {
			return errClosing
		}
		db.keepRest(c, true)
		copied := int64(0)
		err := query(c, "PRAGMA wal_checkpoint(PASSIVE)", nil, func(r *sqlite.Stmt) error {
			copied = r.ColumnInt64(2)
			return nil
		})
		if err != nil {
			return fmt.Errorf("copy the write-ahead log: %w", err)
		}
		if err := h.log.advance(); err != nil {
			return err
		}
		fi, err := db.file.Stat()
		if err != nil {
			return fmt.Errorf("look at the database file: %w", err)
		}
		h.size, h.header = fi.Size(), h.log.header
		h.from = walHeaderSize + copied*(frameHeaderSize+h.log.pageSize)
		db.holds++
		return nil
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// beforeHold copies most of the log while writes go on.
func (db *DB) beforeHold(ctx context.Context, f *follower) error {
	conn, err := openConn(db.path, sqlite.OpenReadWrite)
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	conn.SetInterrupt(ctx.Done())
	if f != nil {
		return errors.Join(f.copyBeside(ctx, conn), conn.Close())
	}
	db.copying.Lock()
	defer db.copying.Unlock()
	if db.holds == 0 && !db.closing.Load() {
		err = checkpoint(conn)
	}
	return errors.Join(err, conn.Close())
}

// isHeld reports whether the file is held, so that no checkpoint may be made. The caller
// has locked copying.
func (db *DB) isHeld() bool { return db.holds > 0 }

// heldNow is isHeld for callers that have not locked copying.
func (db *DB) heldNow() bool {
	db.copying.Lock()
	defer db.copying.Unlock()
	return db.isHeld()
}

// Size implements backup.Held.
func (h *held) Size() int64 { return h.size }

// LogSize implements backup.Held.
func (h *held) LogSize() int64 { return h.db.LogSize() }

// ReadAt implements backup.Held.
func (h *held) ReadAt(p []byte, off int64) (int, error) {
	n, err := h.db.file.ReadAt(p, off)
	if h.db.closing.Load() {
		return 0, errClosing
	}
	return n, err
}

// Release implements backup.Held.
func (h *held) Release() {
	h.once.Do(func() {
		h.db.copying.Lock()
		defer h.db.copying.Unlock()
		h.db.holds--
	})
}

// moment implements backup.Moment.
type moment struct {
	backup.State

	held *held
	view *inspection
	// log has the frames that are not in the file.
	log    *walFile
	closed atomic.Bool
}

// Moment implements backup.Held.
func (h *held) Moment(ctx context.Context) (_ backup.Moment, err error) {
	if err := h.log.advance(); err != nil { // most of it while writes go on
		return nil, err
	}
	view, err := inspect(ctx, h.db.path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, view.Close())
		}
	}()
	m := &moment{held: h, view: view, log: h.log}
	err = h.db.writer.Outside(ctx, func(*sqlite.Conn) error {
		if err := h.log.advance(); err != nil {
			return err
		}
		if f := h.db.following.Load(); f != nil {
			m.Chain, m.Segment = f.begin(h.log)
		}
		return view.begin()
	})
	if err != nil {
		return nil, err
	}
	if h.log.header == h.header {
		maps.DeleteFunc(h.log.frames, func(_ uint32, at int64) bool { return at < h.from })
	}
	return m, m.look()
}

// look reads the state of the moment.
func (m *moment) look() (err error) {
	c := m.view.conn
	if m.LastEvent, err = lastSeq(c); err != nil {
		return fmt.Errorf("read the last event: %w", err)
	}
	if m.Schema, err = pragmaInt(c, "user_version"); err != nil {
		return err
	}
	if m.PageSize, err = pragmaInt(c, "page_size"); err != nil {
		return err
	}
	m.PageCount, err = pragmaInt(c, "page_count")
	return err
}

// Facts implements backup.Moment.
func (m *moment) Facts() backup.State { return m.State }

// Pages implements backup.Moment.
func (m *moment) Pages(yield func(page uint32, content []byte) error) error {
	err := m.log.each(yield)
	if m.held.db.closing.Load() {
		return errClosing
	}
	return err
}

// Blobs implements backup.Moment.
func (m *moment) Blobs(yield func(key string, size int64) error) error {
	return query(m.view.conn, "SELECT file, size FROM blob ORDER BY file", nil,
		func(r *sqlite.Stmt) error { return yield(r.ColumnText(0), r.ColumnInt64(1)) })
}

// Close implements backup.Moment.
func (m *moment) Close() error {
	if m.closed.Swap(true) {
		return nil
	}
	return m.view.Close()
}

// openFile opens the database file for Hold, to be closed after every connection.
func openFile(path string) (*os.File, error) {
	f, err := os.Open(path) //nolint:gosec // the operator's own data directory
	if err != nil {
		return nil, fmt.Errorf("open database file: %w", err)
	}
	return f, nil
}
