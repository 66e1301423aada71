package sqlite

import (
	"context"
	"sync"
	"time"
)

const (
	// longRead is how long a read must have run before it may be ended; a scan
	// may be ended at any time.
	longRead = time.Second
	// foreignFor is how long scans go on after another program was found to read
	// the database.
	foreignFor = time.Minute
)

// tide knows the reads that are under way, and decides when a scan may begin.
type tide struct {
	mu    sync.Mutex
	reads map[*reading]struct{}
	scans int // that run
	// since is when scans began to wait, zero while they may begin. gate is closed
	// when they may again.
	since time.Time
	gate  chan struct{}
	// until is when scans stop being allowed in spite of another program's
	// reads.
	until time.Time
}

// reading is a read that is under way.
type reading struct {
	began time.Time
	scan  bool
	end   context.CancelCauseFunc
}

func newTide() *tide { return &tide{reads: map[*reading]struct{}{}} }

// scanning marks the context of a scan.
type scanning struct{}

// begin notes a read whose connection ends with the context that end cancels.
func (t *tide) begin(ctx context.Context, end context.CancelCauseFunc) *reading {
	r := &reading{began: time.Now(), scan: ctx.Value(scanning{}) != nil, end: end}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reads[r] = struct{}{}
	return r
}

func (t *tide) done(r *reading) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.reads, r)
}

// scan waits until a scan may begin, and returns its context.
func (t *tide) scan(ctx context.Context) (context.Context, error) {
	for {
		t.mu.Lock()
		if t.since.IsZero() {
			t.scans++
			t.mu.Unlock()
			return context.WithValue(ctx, scanning{}, true), nil
		}
		gate := t.gate
		t.mu.Unlock()
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (t *tide) scanned() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.scans--
}

// stop lets no scan begin. It returns how many run, and since when none may
// begin.
func (t *tide) stop(now time.Time) (scans int, since time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.since.IsZero() {
		t.since, t.gate = now, make(chan struct{})
	}
	return t.scans, t.since
}

// start lets scans begin, and returns how long they waited.
func (t *tide) start(now time.Time) (waited time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.until = time.Time{}
	return t.open(now)
}

// foreign lets scans begin although another program keeps the log from starting
// over.
func (t *tide) foreign(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.until = now.Add(foreignFor)
	t.open(now)
}

// release lets scans begin, and leaves what is known of another program.
func (t *tide) release(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open(now)
}

func (t *tide) open(now time.Time) (waited time.Duration) {
	if t.since.IsZero() {
		return 0
	}
	waited, t.since = now.Sub(t.since), time.Time{}
	close(t.gate)
	return waited
}

// shut reports whether scans wait.
func (t *tide) shut() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.since.IsZero()
}

func (t *tide) isForeign(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return now.Before(t.until)
}

// end ends scans and long reads, and returns how many.
func (t *tide) end(now time.Time) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for r := range t.reads {
		if r.scan || now.Sub(r.began) >= longRead {
			r.end(errEnded)
			n++
		}
	}
	return n
}
