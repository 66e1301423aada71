package sqlite

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/store/sqlite/groupcommit"
)

// boundTest is a database whose log has small bounds.
type boundTest struct {
	*DB

	free atomic.Int64
	// ended counts scans that were ended, done those that were not, foreign how often another
	// program was found to read.
	ended, done, foreign atomic.Int64
}

// Write implements io.Writer: it gets the lines of the log.
func (b *boundTest) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("another program reads the database")) {
		b.foreign.Add(1)
	}
	return len(line), nil
}

const (
	// boundRow is a row that is written, boundTx what its transaction may add to the
	// log.
	boundRow = 64 << 10
	boundTx  = 2 * boundRow
)

func openBound(t *testing.T) *boundTest {
	t.Helper()
	b := &boundTest{}
	b.free.Store(1 << 40)
	var err error
	b.DB, err = Open(t.Context(), filepath.Join(t.TempDir(), "nestbox.sqlite"), Options{
		Fatal: func(err error) { t.Error(err) }, Log: slog.New(slog.NewTextHandler(b, nil)),
		Free:   func() (int64, error) { return b.free.Load(), nil },
		bounds: logBounds{copied: 256 << 10, calm: 1 << 20, limit: 16 << 20},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *boundTest) write(ctx context.Context, text string) error {
	return b.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		_, err := change(tx.Conn, "INSERT INTO event (at, kind, did, split, total, body) VALUES (0, '', '', 0, 0, CAST(hex(zeroblob(?1)) || ?2 AS BLOB))",
			func(s *sqlite.Stmt) { s.BindInt64(1, boundRow/2); s.BindText(2, text) })
		return err
	})
}

// scan is a scan that takes as long as it may.
func (b *boundTest) scan(ctx context.Context, long time.Duration) error {
	err := b.scanRead(ctx, 0, func(c *sqlite.Conn) error {
		for began := time.Now(); long == 0 || time.Since(began) < long; {
			if err := query(c, "SELECT seq FROM event ORDER BY seq LIMIT 10", nil, nil); err != nil {
				return err
			}
			time.Sleep(time.Millisecond)
		}
		return nil
	})
	switch {
	case err == nil:
		b.done.Add(1)
	case errors.Is(err, errEnded):
		b.ended.Add(1)
	}
	return err
}

// during runs each function repeatedly while fn runs.
func during(t *testing.T, fn func(), also ...func(context.Context) error) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for _, f := range also {
		running.Go(func() {
			for ctx.Err() == nil {
				if err := f(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, errEnded) {
					t.Error(err)
					return
				}
			}
		})
	}
	fn()
	stop()
	running.Wait()
}

// fill writes so many bytes, and fails if the log is ever above its bound.
func (b *boundTest) fill(t *testing.T, size int) {
	t.Helper()
	bound := b.bounds.limit + boundTx
	for range size / boundRow {
		if err := b.write(t.Context(), "x"); err != nil {
			t.Error(err)
			return
		}
		if n := b.LogSize(); n > bound {
			t.Errorf("the log has %d bytes, its bound is %d", n, bound)
			return
		}
	}
}

// TestLogBound: the log stays within its bound while scans overlap, subscribers
// replay and people search.
func TestLogBound(t *testing.T) {
	t.Parallel()
	b := openBound(t)
	short := func(ctx context.Context) error { return b.scan(ctx, 30*time.Millisecond) }
	replay := func(ctx context.Context) error {
		_, err := EventLog{b.DB}.Read(ctx, 0, 20, 1<<20)
		return err
	}
	search := func(ctx context.Context) error {
		_, err := Admin{b.DB}.Search(ctx, "a", 0, 10)
		return err
	}
	during(t, func() { b.fill(t, 64<<20) }, short, short, short, short, replay, search) //nolint:gocritic // four at once
	if b.done.Load() == 0 {
		t.Error("no scan came to its end")
	}
	t.Logf("%d scans came to their end, %d were ended", b.done.Load(), b.ended.Load())
}

// TestLogBoundEndless: not even a scan without an end brings the log above its
// bound. Scans go on afterwards.
func TestLogBoundEndless(t *testing.T) {
	t.Parallel()
	b := openBound(t)
	endless := func(ctx context.Context) error { return b.scan(ctx, 0) }
	short := func(ctx context.Context) error { return b.scan(ctx, 10*time.Millisecond) }
	during(t, func() { b.fill(t, 48<<20) }, endless, short)
	if b.ended.Load() == 0 {
		t.Error("the endless scan was not ended")
	}
	if err := b.scan(t.Context(), time.Millisecond); err != nil {
		t.Error(err)
	}
}

// TestLogBoundQuiet: scans that wait begin once the log is short of the size at which
// they must wait, although no write follows and the log is too long to be left alone.
func TestLogBoundQuiet(t *testing.T) {
	t.Parallel()
	b := openBound(t)
	for b.LogSize() < b.bounds.copied {
		if err := b.write(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
	}
	b.deleted.Store(false)  // nothing else makes the keeper empty the log
	b.tide.stop(time.Now()) // as at the limit, before a transaction emptied the log
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	if err := b.scan(ctx, time.Millisecond); err != nil {
		t.Errorf("a scan beside a log of %d bytes: %v", b.LogSize(), err)
	}
}

// TestLogForeign: another program's read delays neither scans nor writes while the
// disk has room for the log twice. Then writes are refused, and go on once that
// program has ended.
func TestLogForeign(t *testing.T) {
	t.Parallel()
	b := openBound(t)
	if err := b.write(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	other, err := sqlite.OpenConn(b.path, sqlite.OpenReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	for _, sql := range []string{"BEGIN", "SELECT count(*) FROM event"} {
		if err := sqlitex.ExecuteTransient(other, sql, nil); err != nil {
			t.Fatal(err)
		}
	}
	short := func(ctx context.Context) error { return b.scan(ctx, time.Millisecond) }
	during(t, func() {
		for b.LogSize() < 2*b.bounds.limit {
			if err := b.write(t.Context(), "x"); err != nil {
				t.Error(err)
				return
			}
		}
	}, short)
	before := b.done.Load()
	if err := b.scan(t.Context(), time.Millisecond); err != nil || before == 0 {
		t.Errorf("scans wait for another program: %d, %v", before, err)
	}
	if n := b.foreign.Load(); n == 0 || n > 2 { // the writer and the keeper may find it at once
		t.Errorf("another program was found %d times: each time writes and scans wait", n)
	}
	b.free.Store(b.LogSize() - 1)
	if err := b.write(t.Context(), "x"); !errors.Is(err, errLogFull) {
		t.Fatalf("a write without room for the log in the file: %v", err)
	}
	if err := sqlitex.ExecuteTransient(other, "ROLLBACK", nil); err != nil {
		t.Fatal(err)
	}
	for until := time.Now().Add(20 * time.Second); ; {
		if err = b.write(t.Context(), "x"); err == nil {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("it is refused still: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestLogErased: what was deleted leaves file and log although scans overlap without
// a gap.
func TestLogErased(t *testing.T) {
	t.Parallel()
	b := openBound(t)
	const secret = "a secret that is to be gone"
	if err := b.write(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	holds := func() bool {
		for _, name := range []string{b.path, b.path + "-wal"} {
			data, err := os.ReadFile(name)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Error(err)
			}
			if bytes.Contains(data, []byte(secret)) {
				return true
			}
		}
		return false
	}
	if !holds() {
		t.Fatal("the secret is nowhere: this test cannot fail")
	}
	// Two run at a time and one waits: there is always one that began before another
	// ends.
	lasting := func(ms int) func(context.Context) error {
		return func(ctx context.Context) error { return b.scan(ctx, time.Duration(ms)*time.Millisecond) }
	}
	during(t, func() {
		err := b.writer.Do(t.Context(), func(tx *groupcommit.Tx) error {
			scrubSoon(tx, b.DB)
			_, err := change(tx.Conn, "DELETE FROM event", nil)
			return err
		})
		if err != nil {
			t.Error(err)
			return
		}
		for until := time.Now().Add(time.Minute); holds(); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(until) {
				t.Error("the secret is still there")
				return
			}
			if err := b.write(t.Context(), "x"); err != nil { // scans that begin now read from the log
				t.Error(err)
				return
			}
		}
	}, lasting(190), lasting(310), lasting(230))
}
