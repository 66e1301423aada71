package groupcommit_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/store/sqlite/groupcommit"
)

// fixture is a writer on a table of numbers, with what happened to its commits.
type fixture struct {
	*groupcommit.Writer

	path    string
	commits atomic.Int64
	fatal   chan error
	// fail, when set, ends the transaction instead of COMMIT.
	fail func(*sqlite.Conn) error
}

func open(t *testing.T, o groupcommit.Options) *fixture {
	t.Helper()
	f := &fixture{path: filepath.Join(t.TempDir(), "db"), fatal: make(chan error, 10)}
	conn, err := sqlite.OpenConn(f.path, sqlite.OpenReadWrite|sqlite.OpenCreate|sqlite.OpenWAL)
	if err != nil {
		t.Fatal(err)
	}
	if err := sqlitex.ExecuteTransient(conn, "CREATE TABLE t (n INTEGER PRIMARY KEY, x TEXT) STRICT", nil); err != nil {
		t.Fatal(err)
	}
	o.Fatal = func(err error) { f.fatal <- err }
	o.Commit = func(c *sqlite.Conn) error {
		f.commits.Add(1)
		if f.fail != nil {
			return f.fail(c)
		}
		return sqlitex.ExecuteTransient(c, "COMMIT", nil)
	}
	f.Writer = groupcommit.New(conn, o)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func insert(n int) func(*groupcommit.Tx) error {
	return func(tx *groupcommit.Tx) error {
		return sqlitex.Execute(tx.Conn, "INSERT INTO t (n) VALUES (?)", &sqlitex.ExecOptions{Args: []any{n}})
	}
}

// rows returns the table's content, as another connection sees it.
func (f *fixture) rows(t *testing.T) []int {
	t.Helper()
	conn, err := sqlite.OpenConn(f.path, sqlite.OpenReadWrite|sqlite.OpenWAL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var out []int
	err = sqlitex.Execute(conn, "SELECT n FROM t ORDER BY n", &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
		out = append(out, s.ColumnInt(0))
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (f *fixture) want(t *testing.T, want ...int) {
	t.Helper()
	if got := f.rows(t); !slices.Equal(got, want) {
		t.Errorf("the table holds %d, want %d", got, want)
	}
}

// together runs closures in one batch: it blocks the writer until all of them
// wait.
func (f *fixture) together(t *testing.T, fns ...func(*groupcommit.Tx) error) []error {
	t.Helper()
	busy, free := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		_ = f.Outside(t.Context(), func(*sqlite.Conn) error { close(busy); <-free; return nil })
	})
	<-busy
	errs := make([]error, len(fns))
	for i, fn := range fns {
		queued := make(chan struct{})
		ctx := &watched{Context: t.Context(), asked: sync.OnceFunc(func() { close(queued) })}
		all.Go(func() { errs[i] = f.Do(ctx, fn) })
		<-queued
	}
	close(free)
	all.Wait()
	return errs
}

// watched is a context that reports when Do waits for the outcome: Do then
// calls Done a second time.
type watched struct {
	context.Context //nolint:containedctx // it is one

	n     atomic.Int64
	asked func()
}

func (w *watched) Done() <-chan struct{} {
	if w.n.Add(1) == 2 {
		w.asked()
	}
	return w.Context.Done()
}

// TestSharedCommit: those that wait share one commit, each in a savepoint of its
// own: one that fails, or panics, fails alone.
func TestSharedCommit(t *testing.T) {
	f := open(t, groupcommit.Options{})
	refused := errors.New("refused")
	fail := func(tx *groupcommit.Tx) error {
		if err := insert(2)(tx); err != nil {
			return err
		}
		return refused
	}
	again := insert(1)
	errs := f.together(t, insert(1), fail,
		func(tx *groupcommit.Tx) error { _ = insert(3)(tx); panic("oops") },
		insert(4), again, insert(5))
	if n := f.commits.Load(); n != 1 {
		t.Errorf("%d commits", n)
	}
	for i, err := range errs {
		good := i == 0 || i == 3 || i == 5
		if (err == nil) != good {
			t.Errorf("closure %d: %v", i, err)
		}
	}
	if !errors.Is(errs[1], refused) || !strings.Contains(fmt.Sprint(errs[2]), "oops") || sqlite.ErrCode(errs[4]) != sqlite.ResultConstraintPrimaryKey {
		t.Errorf("%v", errs)
	}
	f.want(t, 1, 4, 5)
}

func TestMaxBatch(t *testing.T) {
	f := open(t, groupcommit.Options{MaxBatch: 2})
	// The queue has MaxBatch places, so only so many can wait behind a busy writer.
	for _, err := range f.together(t, insert(1), insert(2)) {
		if err != nil {
			t.Error(err)
		}
	}
	if n := f.commits.Load(); n != 1 {
		t.Errorf("%d commits for 2 closures, 2 a batch", n)
	}
	var all sync.WaitGroup
	for n := range 20 {
		all.Go(func() {
			if err := f.Do(t.Context(), insert(100+n)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := f.commits.Load(); n < 11 {
		t.Errorf("%d commits for 22 closures, 2 a batch", n)
	}
}

// TestCommitFails: a COMMIT that certainly failed undoes the whole batch, and
// the writer goes on.
func TestCommitFails(t *testing.T) {
	f := open(t, groupcommit.Options{})
	hooks := 0
	for name, code := range map[string]sqlite.ResultCode{"busy": sqlite.ResultBusy, "full": sqlite.ResultFull} {
		f.fail = func(*sqlite.Conn) error { return code.ToError() }
		errs := f.together(t, insert(1), func(tx *groupcommit.Tx) error {
			tx.AfterCommit(func() { hooks++ })
			return insert(2)(tx)
		}, func(*groupcommit.Tx) error { return errors.New("found in what was then undone") })
		for _, err := range errs {
			if !errors.Is(err, groupcommit.ErrRolledBack) || sqlite.ErrCode(err) != code {
				t.Errorf("%s: %v", name, err)
			}
		}
		f.fail = nil
		f.want(t)
	}
	if hooks != 0 {
		t.Errorf("%d hooks ran for what was not committed", hooks)
	}
	if err := f.Do(t.Context(), insert(3)); err != nil {
		t.Error(err)
	}
	f.want(t, 3)
}

// TestOutcomeUnknown: after an I/O error the outcome is unknown. The writer
// returns that to every caller, calls Fatal once, and accepts no more work; the
// file has the whole batch or nothing.
func TestOutcomeUnknown(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(*sqlite.Conn) error
		want []int
	}{
		"not saved": {func(*sqlite.Conn) error { return sqlite.ResultIOErrFsync.ToError() }, nil},
		"saved": {func(c *sqlite.Conn) error {
			return errors.Join(sqlitex.ExecuteTransient(c, "COMMIT", nil), sqlite.ResultIOErrFsync.ToError())
		}, []int{1, 2}},
		"of another kind": {func(*sqlite.Conn) error { return errors.New("what?") }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t, groupcommit.Options{})
			f.fail = c.end
			hooks := 0
			hooked := func(tx *groupcommit.Tx) error { tx.AfterCommit(func() { hooks++ }); return insert(2)(tx) }
			for _, err := range f.together(t, insert(1), hooked) {
				if !errors.Is(err, groupcommit.ErrOutcomeUnknown) || len(f.fatal) != 1 {
					t.Errorf("%v; Fatal was told %d times", err, len(f.fatal))
				}
			}
			f.fail = nil
			for range 3 {
				if err := f.Do(t.Context(), insert(3)); !errors.Is(err, groupcommit.ErrOutcomeUnknown) {
					t.Errorf("afterwards: %v", err)
				}
			}
			if err := f.Outside(t.Context(), func(*sqlite.Conn) error { return nil }); !errors.Is(err, groupcommit.ErrOutcomeUnknown) {
				t.Errorf("afterwards, outside: %v", err)
			}
			if err := f.Close(); !errors.Is(err, groupcommit.ErrOutcomeUnknown) {
				t.Errorf("Close: %v", err)
			}
			if len(f.fatal) != 1 || hooks != 0 {
				t.Errorf("Fatal was called %d times, %d hooks ran", len(f.fatal), hooks)
			}
			f.want(t, c.want...)
		})
	}
}

// TestDiskFull: SQLite itself gives up the transaction; the closures before the
// one that did not fit are undone, and return an error.
func TestDiskFull(t *testing.T) {
	f := open(t, groupcommit.Options{})
	if err := f.Outside(t.Context(), func(c *sqlite.Conn) error {
		return sqlitex.ExecuteTransient(c, "PRAGMA max_page_count=20", nil)
	}); err != nil {
		t.Fatal(err)
	}
	huge := func(tx *groupcommit.Tx) error {
		return sqlitex.Execute(tx.Conn, "INSERT INTO t (n, x) VALUES (9, ?)", &sqlitex.ExecOptions{Args: []any{strings.Repeat("x", 1<<20)}})
	}
	errs := f.together(t, insert(1), huge)
	if sqlite.ErrCode(errs[1]).ToPrimary() != sqlite.ResultFull {
		t.Errorf("the one that did not fit: %v", errs[1])
	}
	if got := f.rows(t); (errs[0] == nil) != slices.Equal(got, []int{1}) {
		t.Errorf("the other one: %v, but the table holds %d", errs[0], got)
	}
	if err := f.Do(t.Context(), insert(2)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if len(f.fatal) != 0 {
		t.Errorf("a full disk is fatal: %v", <-f.fatal)
	}
}

// TestClosureEndsTransaction: a closure that commits or rolls back by itself
// does not affect others unnoticed.
func TestClosureEndsTransaction(t *testing.T) {
	f := open(t, groupcommit.Options{})
	errs := f.together(t, insert(1), func(tx *groupcommit.Tx) error { return sqlitex.ExecuteTransient(tx.Conn, "ROLLBACK", nil) })
	if errs[1] == nil || !errors.Is(errs[0], groupcommit.ErrRolledBack) {
		t.Errorf("%v", errs)
	}
	f.want(t)
	if err := f.Do(t.Context(), insert(2)); err != nil {
		t.Error(err)
	}
	f.want(t, 2)
}

// TestCancelled: a context that ends withdraws a closure that waits, and loses
// none that runs.
func TestCancelled(t *testing.T) {
	f := open(t, groupcommit.Options{})
	busy, free := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	running, cancelRunning := context.WithCancel(t.Context())
	all.Go(func() {
		err := f.Do(running, func(tx *groupcommit.Tx) error { close(busy); <-free; return insert(1)(tx) })
		if err != nil {
			t.Errorf("cancelled while it ran: %v; it is on disk", err)
		}
	})
	<-busy
	waiting, cancelWaiting := context.WithCancel(t.Context())
	queued := make(chan struct{})
	ctx := &watched{Context: waiting, asked: sync.OnceFunc(func() { close(queued) })}
	withdrawn := make(chan error)
	go func() { withdrawn <- f.Do(ctx, insert(2)) }()
	<-queued
	cancelWaiting()
	if err := <-withdrawn; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled while it waited: %v", err)
	}
	cancelRunning()
	close(free)
	all.Wait()
	if err := f.Do(waiting, insert(3)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
	if err := f.Do(t.Context(), insert(4)); err != nil {
		t.Error(err)
	}
	f.want(t, 1, 4)
}

// TestHooks run in the order of commits, before Do returns.
func TestHooks(t *testing.T) {
	f := open(t, groupcommit.Options{})
	var order []int
	var fns []func(*groupcommit.Tx) error
	for n := range 20 {
		fns = append(fns, func(tx *groupcommit.Tx) error {
			tx.AfterCommit(func() { order = append(order, n) })
			return insert(n)(tx)
		})
	}
	f.together(t, fns...)
	if !slices.IsSorted(order) || len(order) != 20 {
		t.Errorf("%d", order)
	}
	ran := false
	err := f.Do(t.Context(), func(tx *groupcommit.Tx) error { tx.AfterCommit(func() { ran = true }); return nil })
	if err != nil || !ran {
		t.Errorf("%v, the hook ran: %t", err, ran)
	}
}

// TestClose finishes what is queued and refuses the rest; no caller waits for
// ever.
func TestClose(t *testing.T) {
	f := open(t, groupcommit.Options{MaxBatch: 4})
	var all sync.WaitGroup
	var mu sync.Mutex
	acknowledged := []int{}
	for n := range 200 {
		all.Go(func() {
			err := f.Do(t.Context(), insert(n))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				acknowledged = append(acknowledged, n)
			case !errors.Is(err, groupcommit.ErrClosed):
				t.Error(err)
			}
		})
	}
	for range 2 {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	all.Wait()
	slices.Sort(acknowledged)
	f.want(t, acknowledged...)
	if err := f.Do(t.Context(), insert(1000)); !errors.Is(err, groupcommit.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestOutside runs between transactions, behind what came before it.
func TestOutside(t *testing.T) {
	f := open(t, groupcommit.Options{})
	var seen []int
	err := f.Do(t.Context(), insert(1))
	if err == nil {
		err = f.Outside(t.Context(), func(c *sqlite.Conn) error {
			if !c.AutocommitEnabled() {
				t.Error("a transaction is open")
			}
			seen = f.rows(t)
			return nil
		})
	}
	if err != nil || !slices.Equal(seen, []int{1}) {
		t.Errorf("%d, %v", seen, err)
	}
	if err := f.Outside(t.Context(), func(*sqlite.Conn) error { panic("oops") }); err == nil {
		t.Error("a panic was lost")
	}
	if err := f.Do(t.Context(), insert(2)); err != nil {
		t.Error(err)
	}
}
