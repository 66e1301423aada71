package admin

import (
	"context"
	"sync"
	"time"
)

// Examiner looks at something of the server in the background, and keeps what it found: no
// page waits for it. Its fields are set once; Run must run for it to look.
type Examiner[T any] struct {
	Look func(ctx context.Context) T
	Now  func() time.Time
	// Life is how long a look is good enough for a page.
	Life time.Duration

	mu      sync.Mutex
	found   T
	at      time.Time
	begun   time.Time
	looking bool
	asked   chan struct{}
}

// lookPause is the shortest pause between two looks.
const lookPause = time.Minute

// NewExaminer returns an Examiner that has not looked yet.
func NewExaminer[T any](look func(ctx context.Context) T, life time.Duration, now func() time.Time) *Examiner[T] {
	return &Examiner[T]{Look: look, Life: life, Now: now, asked: make(chan struct{}, 1)}
}

// Examined is the result of the last look.
type Examined[T any] struct {
	// At is zero if there was none yet. Looking: another is under way.
	At      time.Time
	Looking bool
	Found   T
}

// Last returns the result of the last look, and asks for another if that is old.
func (e *Examiner[T]) Last() Examined[T] {
	e.ask(e.Life)
	e.mu.Lock()
	defer e.mu.Unlock()
	return Examined[T]{At: e.at, Looking: e.looking, Found: e.found}
}

// Again asks for another look, unless one is under way or less than a minute old.
func (e *Examiner[T]) Again() { e.ask(lookPause) }

func (e *Examiner[T]) ask(pause time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.Now()
	if e.looking || !e.begun.IsZero() && now.Sub(e.begun).Abs() < pause {
		return
	}
	e.looking, e.begun = true, now
	e.asked <- struct{}{} // has room: looking was not set
}

// Run looks whenever it is asked to, until ctx ends.
func (e *Examiner[T]) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.asked:
		}
		found := e.Look(ctx)
		e.mu.Lock()
		if ctx.Err() == nil {
			e.found, e.at = found, e.Now().UTC()
		}
		e.looking = false
		e.mu.Unlock()
	}
}
