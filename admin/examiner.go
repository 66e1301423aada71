package admin

import (
	"context"
	"sync"
	"time"
)

// Examiner looks at the server in the background, as nestbox doctor does, and keeps what it
// found. Its fields are set once; Run must run for it to look.
type Examiner struct {
	Look func(ctx context.Context) []Finding
	Now  func() time.Time

	mu      sync.Mutex
	found   []Finding
	at      time.Time
	begun   time.Time
	looking bool
	asked   chan struct{}
}

// The pauses between two looks: at least lookPause, and lookLife is how long a look is good
// enough for the first page.
const (
	lookPause = time.Minute
	lookLife  = 10 * time.Minute
)

// NewExaminer returns an Examiner that has not looked yet.
func NewExaminer(look func(ctx context.Context) []Finding, now func() time.Time) *Examiner {
	return &Examiner{Look: look, Now: now, asked: make(chan struct{}, 1)}
}

// Examined is the result of the last look.
type Examined struct {
	// At is zero if there was none yet. Looking: another is under way.
	At       time.Time
	Looking  bool
	Findings []Finding
}

// Last returns the result of the last look, and asks for another if that is old.
func (e *Examiner) Last() Examined {
	e.ask(lookLife)
	e.mu.Lock()
	defer e.mu.Unlock()
	return Examined{At: e.at, Looking: e.looking, Findings: e.found}
}

// Again asks for another look, unless one is under way or less than a minute old.
func (e *Examiner) Again() { e.ask(lookPause) }

func (e *Examiner) ask(pause time.Duration) {
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
func (e *Examiner) Run(ctx context.Context) {
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
