package sqlite

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/backup"
)

// errUnkept: see follower.advance.
var errUnkept = errors.New(
	"the write-ahead log has started over before all of it was kept: another program has copied it into the database")

const (
	// restMost is how many pages are kept while writes wait. If there are more, the log starts
	// over later.
	restMost = 1024
	// mostEmptied bounds how often the log may start over without a commit in between.
	mostEmptied = 1 << 20
)

// follower gives what is committed to a backup.Follower, in pieces. Nothing is done on the
// commit's path: pieces are read from the log. What starts the log over keeps the rest of it
// first.
//
// What is not an atomic or under a lock belongs to the holder of the writer's turn. While the
// file is held, a holder of aside reads log without the turn: no checkpoint takes pieces then.
type follower struct {
	db     *DB
	to     backup.Follower
	schema int
	// aside is locked by those that keep a piece, or copy the log, while writes go on.
	aside sync.Mutex
	// log is read from the last piece on; it is nil while nothing is followed.
	log   atomic.Pointer[walFile]
	last  [walHeaderSize]byte // of the newest log that has begun
	began bool                // it began since the last piece
	// version is another one once other connections than the writer's have committed something.
	version int
	chain   string
	index   int64 // of the last piece
	blobs   []backup.NewBlob

	pinning sync.Mutex
	pin     *inspection // a read on it keeps the log from starting over
	pinned  bool
}

// place returns where what was read ends.
func (w *walFile) place() backup.Place {
	return backup.Place{Header: slices.Clone(w.header[:]), End: w.end, Sum: w.sum}
}

// from returns a walFile of the same log that has read as much, and has no frames.
func (w *walFile) from() *walFile {
	next := *w
	next.frames = map[uint32]int64{}
	return &next
}

// isAt reports whether a place is behind a commit of the log that is there now, and moves
// there.
func (w *walFile) isAt(p backup.Place) bool {
	if len(p.Header) != walHeaderSize || p.End < walHeaderSize {
		return false
	}
	w.reset([walHeaderSize]byte(p.Header))
	file, err := os.Open(w.path)
	if err != nil {
		return false
	}
	defer file.Close() //nolint:errcheck // it was only read
	header := make([]byte, walHeaderSize)
	if _, err := io.ReadFull(file, header); err != nil || w.pageSize == 0 || string(header) != string(p.Header) {
		return false
	}
	if p.End > walHeaderSize {
		frame := make([]byte, frameHeaderSize)
		if _, err := file.ReadAt(frame, p.End-frameHeaderSize-w.pageSize); err != nil || string(frame[8:16]) != string(header[16:24]) {
			return false
		}
		number := func(n int) uint32 { return binary.BigEndian.Uint32(frame[4*n:]) }
		if w.pages = number(1); w.pages == 0 || p.Sum != [2]uint32{number(4), number(5)} {
			return false
		}
	}
	w.end, w.sum = p.End, p.Sum
	return true
}

// follows reports whether a log is one that the other became when it started over.
func follows(next, last [walHeaderSize]byte) bool {
	salt := func(h [walHeaderSize]byte) uint32 { return binary.BigEndian.Uint32(h[16:]) }
	steps := salt(next) - salt(last) // the salt is counted, also each time that an empty log is emptied
	return steps > 0 && steps < mostEmptied
}

// Follow implements backup.Followed.
func (db *DB) Follow(ctx context.Context, to backup.Follower, from *backup.Mark) (goesOn bool, err error) {
	pin, err := inspect(context.WithoutCancel(ctx), db.path)
	if err != nil {
		return false, err
	}
	f := &follower{db: db, to: to, pin: pin}
	err = db.writer.Outside(ctx, func(c *sqlite.Conn) error {
		if f.schema, err = pragmaInt(c, "user_version"); err != nil {
			return err
		}
		if f.version, err = pragmaInt(c, "data_version"); err != nil {
			return err
		}
		if from != nil {
			goesOn, err = f.resume(c, from)
		}
		if err == nil {
			db.following.Store(f)
		}
		return err
	})
	if err != nil {
		return false, errors.Join(fmt.Errorf("follow the write-ahead log: %w", err), pin.Close())
	}
	return goesOn, nil
}

// resume goes on where a mark is, if nothing was lost since.
func (f *follower) resume(c *sqlite.Conn, from *backup.Mark) (bool, error) {
	log := newWALFile(f.db.path + "-wal")
	switch {
	case from.Schema != f.schema || f.db.unfollowed.Load():
		return false, nil
	case from.Closed != nil:
		if f.db.found == nil || *f.db.found != *from.Closed {
			return false, nil
		}
	case len(from.Place.Header) != walHeaderSize:
		return false, nil
	case log.isAt(from.Place):
		f.last = log.header
	default:
		now := newWALFile(log.path)
		if err := now.advance(); err != nil {
			return false, err
		}
		if now.pageSize == 0 || !follows(now.header, [walHeaderSize]byte(from.Place.Header)) {
			return false, nil
		}
		log.reset(now.header)
		f.last = log.header
	}
	var err error
	f.blobs, err = f.to.Unsent(func(yield func(backup.NewBlob) error) error { return eachBlob(c, yield) })
	if err != nil {
		return false, fmt.Errorf("look for new blobs: %w", err)
	}
	f.chain, f.index = from.Chain, from.Segment
	f.log.Store(log)
	return true, nil
}

// eachBlob calls yield for the file of each blob, by key.
func eachBlob(c *sqlite.Conn, yield func(backup.NewBlob) error) error {
	return query(c, "SELECT file, size FROM blob ORDER BY file", nil,
		func(r *sqlite.Stmt) error { return yield(backup.NewBlob{Key: r.ColumnText(0), Size: r.ColumnInt64(1)}) })
}

// begin begins a chain at the end of what another reader of the log has read, unless one is
// followed, and returns the chain and its last piece. The caller has the writer's turn.
func (f *follower) begin(read *walFile) (chain string, index int64) {
	if f.log.Load() == nil {
		chain, err := f.to.Begin(backup.Mark{At: f.to.Now(), State: backup.State{Schema: f.schema}, Place: read.place()})
		if err != nil {
			f.to.End(err)
			return "", 0
		}
		f.chain, f.index, f.blobs, f.last = chain, 0, nil, read.header
		f.log.Store(read.from())
	}
	return f.chain, f.index
}

// advance reads what was committed: errUnkept.
func (f *follower) advance(log *walFile) error {
	before, unkept := log.header, len(log.frames) > 0
	if err := log.advance(); err != nil {
		return err
	}
	switch {
	case log.header == before:
		return nil
	case unkept:
		return errUnkept
	case log.pageSize == 0:
		return nil // it is empty, or its header is being written
	case f.last != [walHeaderSize]byte{} && !follows(log.header, f.last):
		return errUnkept
	}
	f.last, f.began = log.header, true
	return nil
}

// unseen reports whether the log has started over since the last call, and another program has
// committed something: it may have copied it into the database, and the log started over, before
// anything of it was read here. The caller has the writer's turn.
func (f *follower) unseen(c *sqlite.Conn) (bool, error) {
	version, err := pragmaInt(c, "data_version")
	if err != nil {
		return false, err
	}
	other, began := version != f.version, f.began
	f.version, f.began = version, false
	return other && began, nil
}

// take returns what was read and not kept, nil if that is nothing. The caller has the
// writer's turn.
func (f *follower) take(c *sqlite.Conn, log *walFile) (*backup.Piece, error) {
	if err := f.advance(log); err != nil {
		return nil, err
	}
	if unseen, err := f.unseen(c); err != nil || unseen {
		return nil, cmp.Or(err, errUnkept)
	}
	if len(log.frames) == 0 {
		return nil, nil //nolint:nilnil // nothing new is not an error
	}
	last, err := lastSeq(c)
	if err != nil {
		return nil, fmt.Errorf("read the last event: %w", err)
	}
	taken := *log
	log.frames = map[uint32]int64{}
	f.index++
	p := &backup.Piece{
		Mark: backup.Mark{
			At: f.to.Now(), Place: log.place(),
			State: backup.State{
				Schema: f.schema, LastEvent: last, PageSize: int(log.pageSize), PageCount: int(log.pages), Chain: f.chain, Segment: f.index,
			},
		},
		Blobs: f.blobs, Pages: taken.each,
	}
	f.blobs = nil
	return p, nil
}

// keep keeps a piece, if there is one.
func (f *follower) keep(p *backup.Piece, err error) {
	if err == nil && p != nil {
		err = f.to.Keep(*p)
	}
	if err != nil {
		f.log.Store(nil)
		f.to.End(err)
	}
}

// Cut implements backup.Followed.
func (db *DB) Cut(ctx context.Context) error {
	f := db.following.Load()
	if f == nil {
		return nil
	}
	f.aside.Lock()
	defer f.aside.Unlock()
	return f.cut(ctx)
}

// Unfollow implements backup.Followed.
func (db *DB) Unfollow(ctx context.Context, cause error) error {
	f := db.following.Load()
	if f == nil {
		return nil
	}
	f.aside.Lock()
	defer f.aside.Unlock()
	return db.writer.Outside(ctx, func(*sqlite.Conn) error {
		if f.log.Load() != nil {
			f.keep(nil, cause)
		}
		return nil
	})
}

// cut is DB.Cut for callers that have locked aside.
func (f *follower) cut(ctx context.Context) error {
	log := f.log.Load()
	if log == nil {
		return nil
	}
	f.db.copying.Lock()
	if f.db.closing.Load() {
		f.db.copying.Unlock()
		return errClosing
	}
	f.db.holds++
	f.db.copying.Unlock()
	defer func() {
		f.db.copying.Lock()
		defer f.db.copying.Unlock()
		f.db.holds--
	}()
	if err := f.advance(log); err != nil { // most of it while writes go on
		f.keep(nil, err)
		return nil
	}
	var piece *backup.Piece
	var failed error
	err := f.db.writer.Outside(ctx, func(c *sqlite.Conn) error {
		piece, failed = f.take(c, log)
		return nil
	})
	if err != nil {
		return err // it is kept later
	}
	f.keep(piece, failed)
	return nil
}

// keepRest keeps what is not kept yet, ahead of a checkpoint. It returns false if that would
// take long, unless it is forced to. The caller has the writer's turn, and has locked copying.
func (db *DB) keepRest(c *sqlite.Conn, force bool) bool {
	f := db.following.Load()
	if f == nil {
		db.unfollowed.Store(true)
		return true
	}
	if log := f.log.Load(); log != nil {
		if err := f.advance(log); err != nil {
			f.keep(nil, err)
		} else if len(log.frames) > restMost && !force && db.LogSize() < db.bounds.limit {
			return false
		} else {
			f.keep(f.take(c, log))
		}
	}
	f.unpin()
	return true
}

// copyBeside copies most of the log on a connection while writes go on, unless the file is
// held.
func (db *DB) copyBeside(ctx context.Context, c *sqlite.Conn) error {
	f := db.following.Load()
	if f == nil {
		return db.copy(c)
	}
	f.aside.Lock()
	defer f.aside.Unlock()
	return f.copyBeside(ctx, c)
}

// copyBeside is DB.copyBeside for callers that have locked aside. The log cannot start over
// before all of what is copied was kept.
func (f *follower) copyBeside(ctx context.Context, c *sqlite.Conn) error {
	if err := f.cut(ctx); err != nil {
		return err
	}
	if err := f.pinLog(); err != nil {
		return err
	}
	defer f.unpin()
	err := f.db.copy(c)
	return errors.Join(err, f.db.writer.Outside(context.WithoutCancel(ctx), func(c *sqlite.Conn) error {
		f.db.copying.Lock()
		defer f.db.copying.Unlock()
		f.db.keepRest(c, true)
		return nil
	}))
}

// pinLog keeps the log from starting over until unpin.
func (f *follower) pinLog() error {
	f.pinning.Lock()
	defer f.pinning.Unlock()
	if err := f.pin.begin(); err != nil {
		return err
	}
	f.pinned = true
	return nil
}

// unpin ends pinLog, if it was called.
func (f *follower) unpin() {
	f.pinning.Lock()
	defer f.pinning.Unlock()
	if !f.pinned {
		return
	}
	f.pinned = false
	if err := sqlitex.ExecuteTransient(f.pin.conn, "ROLLBACK", nil); err != nil {
		f.db.log.Error("write-ahead log is read on", "cause", err)
	}
}

// keepLast keeps what was committed last, when the writer has ended.
func (f *follower) keepLast(c *sqlite.Conn) {
	f.aside.Lock()
	defer f.aside.Unlock()
	if log := f.log.Load(); log != nil {
		f.keep(f.take(c, log))
	}
}

// closed tells the follower how the file is left, if all of it was kept.
func (f *follower) closed() {
	if f.log.Load() == nil || walSize(f.db.path) > 0 {
		return
	}
	if left := fileOf(f.db.path); left != nil {
		f.to.Closed(*left)
	}
}

// fileOf returns what identifies the state of a database's file that nobody has open, nil if
// there is none, or it has a log.
func fileOf(path string) *backup.FileState {
	fi, err := os.Stat(path)
	if err != nil || walSize(path) > 0 {
		return nil
	}
	return &backup.FileState{Size: fi.Size(), Changed: fi.ModTime().UnixNano()}
}

// noteBlob gives a blob's file to what follows the log, once it is committed.
func (db *DB) noteBlob(key string, size int64) {
	if f := db.following.Load(); f != nil && f.log.Load() != nil {
		f.blobs = append(f.blobs, backup.NewBlob{Key: key, Size: size})
	}
}
