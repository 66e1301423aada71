package verify

import (
	"context"
	"sync"

	"nestbox/store"
)

// crew are the workers of a verification, each with a view of the same state of the
// database. What they report comes out in the order in which the work was handed out.
type crew struct {
	cancel context.CancelCauseFunc
	free   chan store.Inspection
	work   sync.WaitGroup
	lines  lines
}

func newCrew(cancel context.CancelCauseFunc, views []store.Inspection) *crew {
	c := &crew{cancel: cancel, free: make(chan store.Inspection, len(views))}
	c.lines.more = sync.NewCond(&c.lines.mu)
	for _, view := range views {
		c.free <- view
	}
	return c
}

// do hands work to the next free worker. An error of the work ends the verification.
func (c *crew) do(ctx context.Context, work func(db store.Inspection, r *report) error) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case view := <-c.free:
		r := c.lines.add()
		c.work.Go(func() {
			defer func() { r.end(); c.free <- view }()
			if err := work(view, r); err != nil {
				c.cancel(err)
			}
		})
		return nil
	}
}

// maxHeld bounds the lines that wait for the work before theirs.
const maxHeld = 10_000

// lines puts the lines of reports in order.
type lines struct {
	mu    sync.Mutex
	more  *sync.Cond // the first report has changed
	first int        // the report that is not held back
	next  int
	held  map[int]*report
	count int // lines that are held back
}

// report is what one piece of work finds.
type report struct {
	of    *lines
	n     int
	lines []func()
	ended bool
}

func (l *lines) add() *report {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = map[int]*report{}
	}
	r := &report{of: l, n: l.next}
	l.held[r.n] = r
	l.next++
	return r
}

// say runs line once the work before this one has reported everything.
func (r *report) say(line func()) {
	l := r.of
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.first != r.n && l.count >= maxHeld {
		l.more.Wait()
	}
	if l.first == r.n {
		line()
		return
	}
	r.lines = append(r.lines, line)
	l.count++
}

func (r *report) end() {
	l := r.of
	l.mu.Lock()
	defer l.mu.Unlock()
	r.ended = true
	for first := l.held[l.first]; first != nil && first.ended; first = l.held[l.first] {
		first.print()
		delete(l.held, l.first)
		l.first++
	}
	if first := l.held[l.first]; first != nil {
		first.print()
	}
	l.more.Broadcast()
}

// print prints what was held back.
func (r *report) print() {
	for _, line := range r.lines {
		line()
	}
	r.of.count -= len(r.lines)
	r.lines = nil
}
