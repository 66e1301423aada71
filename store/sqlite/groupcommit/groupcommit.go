// Package groupcommit turns many small write transactions into few durable ones.
//
// A Writer owns one SQLite connection and one goroutine. Callers hand it
// closures; those that are waiting when the connection is free share one
// transaction, one COMMIT and so one fsync, each in a savepoint of its own. A
// caller that finds the connection free serves itself, and those that come
// meanwhile, on its own goroutine: this saves two switches of goroutines, much of
// the cost of a lone write.
//
// Invariants:
//   - Do returns nil only after the COMMIT that holds the closure's writes has
//     returned success.
//   - Do returns an error only when none of the closure's writes are kept, with
//     one exception: an error that wraps ErrOutcomeUnknown. Then the outcome is
//     unknown, the Writer has called Options.Fatal, and it accepts no more
//     work: the process must stop and let recovery decide.
//   - A closure that fails, or panics, undoes its own writes and nobody else's.
//   - After-commit hooks run one at a time, in commit order, before any Do of
//     their batch returns, and never for a write that was not committed.
package groupcommit

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"zombiezen.com/go/sqlite"
)

// Errors of Do.
var (
	// ErrClosed: the writer was closed before the closure ran.
	ErrClosed = errors.New("writer is closed")
	// ErrRolledBack: the closure ran, but the transaction that it shared was
	// rolled back; nothing of it is kept, and it may be tried again.
	ErrRolledBack = errors.New("transaction was rolled back")
	// ErrOutcomeUnknown: COMMIT failed in a way that leaves open whether the
	// writes will be there after a restart.
	ErrOutcomeUnknown = errors.New("outcome of the commit is unknown")
)

// DefaultMaxBatch bounds how many closures share one transaction, so that the
// first of them does not wait for an endless queue.
const DefaultMaxBatch = 256

// Callers that were answered together tend to return together. After a batch
// of gatherFrom or more, the next one waits until as many have come, for at most
// gatherFor: they share one commit then instead of two. Fewer callers would only
// wait.
const (
	gatherFrom = 8
	gatherStep = 250 * time.Microsecond
	gatherFor  = 4 * gatherStep
)

// Options of a Writer; the zero value is usable.
type Options struct {
	// MaxBatch bounds the closures of one transaction; 0 means DefaultMaxBatch.
	MaxBatch int
	// Fatal is called, once, by the serving goroutine when the outcome of a commit is
	// unknown. It should end the process. If it is nil, the Writer only refuses
	// further work.
	Fatal func(error)
	// Begin is called on the connection before each transaction begins; an error
	// refuses the closure that needed it, and those behind it try again.
	Begin func(*sqlite.Conn) error
	// Commit ends the open transaction; nil executes COMMIT. Tests inject
	// failures here: "failed, not saved" and "failed, but saved".
	Commit func(*sqlite.Conn) error
	// Before, if set, is called by Do ahead of everything else, on its caller's
	// goroutine, while the Writer may serve others. Tests make another write
	// here.
	Before func()
	// Wrote, if set, is called with how long each write that was kept took, from Do to the
	// end of its COMMIT. It must not block.
	Wrote func(time.Duration)
	// Waited, if set, is called with how long each closure waited until it ran, Committed with
	// how long each COMMIT of a transaction took and of how many closures it was. They must not
	// block.
	Waited    func(time.Duration)
	Committed func(took time.Duration, group int)
}

// Tx is one closure's view of the shared transaction.
type Tx struct {
	*sqlite.Conn
	hooks []func()
}

// AfterCommit registers f to run once the writes of this closure are durable,
// before Do returns. It must not block and must not call the Writer.
func (tx *Tx) AfterCommit(f func()) { tx.hooks = append(tx.hooks, f) }

// Writer is safe for concurrent use.
type Writer struct {
	opts  Options
	jobs  chan *job
	quit  chan struct{} // closed by Close: take nothing new
	done  chan struct{} // closed when the goroutine has ended
	close sync.Once

	// conn and last, the size of the batch before, belong to the holder of turn.
	turn sync.Mutex
	conn *sqlite.Conn
	last int
	// broken holds the error that stopped the writer for good, if any.
	broken atomic.Pointer[error]
	// since is when the closure that runs began, in nanoseconds after born; 0 while none runs.
	since atomic.Int64
	born  time.Time
}

// A job is claimed exactly once: by the writer (to run it) or by its caller
// (to withdraw it when the context ends first).
type job struct {
	fn      func(*Tx) error
	outside bool // run between transactions, on the bare connection
	claimed atomic.Bool
	result  chan error
	came    time.Time
	tx      Tx
	err     error
}

// New starts a writer on conn, which it owns from now on and closes in Close.
func New(conn *sqlite.Conn, opts Options) *Writer {
	if opts.MaxBatch <= 0 {
		opts.MaxBatch = DefaultMaxBatch
	}
	if opts.Commit == nil {
		opts.Commit = func(c *sqlite.Conn) error { return exec(c, "COMMIT") }
	}
	w := &Writer{
		opts: opts,
		jobs: make(chan *job, opts.MaxBatch),
		quit: make(chan struct{}),
		done: make(chan struct{}),
		conn: conn,
		born: time.Now(),
	}
	go w.run()
	return w
}

// Do runs fn inside a write transaction and returns once its writes are
// durable, or an error if they are not kept (but see ErrOutcomeUnknown).
//
// A context that ends while the closure still waits withdraws it. Once it runs,
// Do waits for the outcome whatever the context says: an answer that is on disk
// is never reported as lost.
func (w *Writer) Do(ctx context.Context, fn func(*Tx) error) error {
	if w.opts.Before != nil {
		w.opts.Before()
	}
	began := time.Now()
	err := w.submit(ctx, &job{fn: fn, result: make(chan error, 1), came: began})
	if err == nil && w.opts.Wrote != nil {
		w.opts.Wrote(time.Since(began))
	}
	return err
}

// Outside runs fn on the writer's connection between two transactions: for
// checkpoints and the like. The closure must leave no transaction open.
func (w *Writer) Outside(ctx context.Context, fn func(*sqlite.Conn) error) error {
	return w.submit(ctx, &job{
		fn:      func(tx *Tx) error { return fn(tx.Conn) },
		outside: true,
		result:  make(chan error, 1),
	})
}

func (w *Writer) submit(ctx context.Context, j *job) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-w.quit:
		return w.closedErr()
	default:
	}
	if w.serveAlone(j) {
		return <-j.result
	}
	select {
	case w.jobs <- j:
	case <-w.quit:
		return w.closedErr()
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-j.result:
		return err
	case <-ctx.Done():
		if j.claimed.CompareAndSwap(false, true) {
			return ctx.Err()
		}
		return w.await(j)
	case <-w.done:
		return w.await(j)
	}
}

// await returns the result of a job that the writer has claimed, or has
// drained, or will never see because its goroutine ended between the two.
func (w *Writer) await(j *job) error {
	select {
	case err := <-j.result:
		return err
	case <-w.done:
	}
	select {
	case err := <-j.result:
		return err
	default:
		return w.closedErr()
	}
}

func (w *Writer) closedErr() error {
	if p := w.broken.Load(); p != nil {
		return *p
	}
	return ErrClosed
}

// Running returns how long the closure that runs now has been running: 0 if none does, also
// while a COMMIT waits for the disk.
func (w *Writer) Running() time.Duration {
	began := w.since.Load()
	if began == 0 {
		return 0
	}
	return max(time.Since(w.born)-time.Duration(began), 0)
}

// Close refuses new work, finishes what is queued, and closes the connection.
func (w *Writer) Close() error {
	w.close.Do(func() { close(w.quit) })
	<-w.done
	if p := w.broken.Load(); p != nil {
		return *p
	}
	return nil
}

func (w *Writer) run() {
	defer close(w.done)
	for {
		select {
		case j := <-w.jobs:
			w.turn.Lock()
			w.gather()
			w.serve(j)
			w.turn.Unlock()
		case <-w.quit:
			w.turn.Lock()
			w.drain()
			_ = w.conn.Close() // every commit has been answered for; nothing is pending on it
			w.turn.Unlock()
			return
		}
	}
}

// serveAlone serves j on its caller's goroutine, unless others are there or are
// expected.
func (w *Writer) serveAlone(j *job) bool {
	if len(w.jobs) > 0 || !w.turn.TryLock() {
		return false
	}
	defer w.turn.Unlock()
	select {
	case <-w.quit:
		return false // and the connection may be closed
	default:
	}
	if w.last >= gatherFrom {
		return false
	}
	served := false
	defer func() {
		if !served {
			_ = w.fail(errors.New("closure ended its goroutine")) // in the middle of a transaction
		}
	}()
	w.serve(j)
	served = true
	return true
}

// gather waits for more closures before one is served.
func (w *Writer) gather() {
	if w.last < gatherFrom {
		return
	}
	for waited := time.Duration(0); waited < gatherFor && len(w.jobs)+1 < w.last; waited += gatherStep {
		time.Sleep(gatherStep)
	}
}

// drain serves what was queued before quit; a broken writer refuses it.
func (w *Writer) drain() {
	for {
		select {
		case j := <-w.jobs:
			if p := w.broken.Load(); p != nil {
				j.result <- *p
				continue
			}
			w.serve(j)
		default:
			return
		}
	}
}

// serve runs first and all jobs that wait behind it, up to MaxBatch, in one
// transaction. A job for Outside ends the batch and runs after its commit.
func (w *Writer) serve(first *job) {
	var batch []*job
	var outside *job
	for j := first; j != nil; {
		if !j.claimed.CompareAndSwap(false, true) {
			j = w.next(len(batch))
			continue
		}
		if j.outside {
			outside = j
			break
		}
		if len(batch) == 0 {
			if err := w.begin(); err != nil {
				j.result <- err
				return
			}
		}
		batch = append(batch, j)
		if w.opts.Waited != nil {
			w.opts.Waited(time.Since(j.came))
		}
		j.err = w.runOne(j)
		if p := w.broken.Load(); p != nil {
			w.finish(batch, *p)
			return
		}
		if w.conn.AutocommitEnabled() {
			// SQLite itself rolled the whole transaction back (disk full, I/O
			// error, …): the closures before this one are undone as well.
			w.finish(batch, fmt.Errorf("%w: %w", ErrRolledBack, j.err))
			return
		}
		j = w.next(len(batch))
	}
	w.last = len(batch)
	if len(batch) > 0 {
		w.commit(batch)
	}
	if outside != nil {
		if p := w.broken.Load(); p != nil {
			outside.result <- *p
			return
		}
		outside.result <- protect(outside.fn, &Tx{Conn: w.conn})
	}
}

func (w *Writer) begin() error {
	if w.opts.Begin != nil {
		if err := w.opts.Begin(w.conn); err != nil {
			return err
		}
	}
	if err := exec(w.conn, "BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	return nil
}

func (w *Writer) next(taken int) *job {
	if taken >= w.opts.MaxBatch {
		return nil
	}
	select {
	case j := <-w.jobs:
		return j
	default:
		return nil
	}
}

// runOne runs a closure in a savepoint, so that its failure undoes it alone.
func (w *Writer) runOne(j *job) error {
	if err := exec(w.conn, "SAVEPOINT one"); err != nil {
		return fmt.Errorf("savepoint: %w", err)
	}
	j.tx.Conn = w.conn
	w.since.Store(max(int64(time.Since(w.born)), 1))
	err := protect(j.fn, &j.tx)
	w.since.Store(0)
	if w.conn.AutocommitEnabled() {
		if err == nil {
			err = errors.New("closure ended the transaction")
		}
		return err
	}
	if err != nil {
		if rerr := exec(w.conn, "ROLLBACK TO one"); rerr != nil {
			w.rollback()
			return errors.Join(err, rerr)
		}
	}
	if rerr := exec(w.conn, "RELEASE one"); rerr != nil {
		w.rollback()
		return errors.Join(err, rerr)
	}
	return err
}

func protect(fn func(*Tx) error, tx *Tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("write closure panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return fn(tx)
}

// commit ends the batch's transaction and answers everyone in it.
func (w *Writer) commit(batch []*job) {
	began := time.Now()
	err := w.opts.Commit(w.conn)
	if w.opts.Committed != nil && err == nil {
		w.opts.Committed(time.Since(began), len(batch))
	}
	if err == nil {
		w.finish(batch, nil)
		return
	}
	if rollbackIsCertain(err) {
		w.rollback()
		if w.conn.AutocommitEnabled() {
			w.finish(batch, fmt.Errorf("%w: commit: %w", ErrRolledBack, err))
			return
		}
	}
	w.finish(batch, w.fail(err))
}

// fail stops the writer for good, calls Fatal, and returns the error that every
// caller gets from now on.
func (w *Writer) fail(cause error) error {
	err := fmt.Errorf("%w: %w", ErrOutcomeUnknown, cause)
	if !w.broken.CompareAndSwap(nil, &err) {
		return *w.broken.Load()
	}
	w.close.Do(func() { close(w.quit) })
	if w.opts.Fatal != nil {
		w.opts.Fatal(err)
	}
	return err
}

// finish answers a batch: nil means committed, and a closure that failed by
// itself gets its own error. In a batch that was not committed none gets its own
// error: a closure may have failed because of what another one of the batch
// wrote.
func (w *Writer) finish(batch []*job, err error) {
	if err == nil {
		for _, j := range batch {
			if j.err != nil {
				continue
			}
			for _, hook := range j.tx.hooks {
				hook()
			}
		}
	}
	for _, j := range batch {
		if err != nil {
			j.result <- err
			continue
		}
		j.result <- j.err
	}
}

func (w *Writer) rollback() {
	if w.conn.AutocommitEnabled() {
		return
	}
	if err := exec(w.conn, "ROLLBACK"); err != nil {
		_ = w.fail(fmt.Errorf("rollback: %w", err)) // the callers check broken
	}
}

// rollbackIsCertain reports whether a failed COMMIT left the transaction open,
// so that a ROLLBACK undoes it: the log could not be locked, or its frames did
// not fit on the disk. After any I/O error the commit frame may be in the log,
// and recovery may find it there.
func rollbackIsCertain(err error) bool {
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultBusy, sqlite.ResultLocked, sqlite.ResultFull, sqlite.ResultConstraint:
		return true
	default:
		return false
	}
}

// exec runs one statement without result from the connection's statement cache.
func exec(conn *sqlite.Conn, query string) error {
	stmt, err := conn.Prepare(query)
	if err != nil {
		return err
	}
	_, err = stmt.Step()
	return errors.Join(err, stmt.Reset())
}
