// Package load records what the server does, for the admin page: by the minute for a day, and
// by the hour for 30 days.
//
// It owns counters and two rings of fixed size in memory, about 1.2 MB together; nothing is
// stored, so a restart begins with empty ones.
//
// Invariants:
//   - What records (Request, Count, Saved) takes no lock and allocates nothing: a few atomic
//     additions.
//   - A minute that was not recorded differs from one in which nothing happened.
//   - A clock that jumps loses nothing but what lies behind it: after a jump back, what was
//     recorded of times that are the future now is dropped; after one ahead, the minutes
//     between are unknown.
package load

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"nestbox/internal/pause"
	"nestbox/request"
)

// How much is kept.
const (
	KeptMinutes = 24 * 60
	KeptHours   = 30 * 24
)

// Kind is something that is counted.
type Kind int

// The kinds.
const (
	// RefreshMoved, RefreshRepeated and RefreshRefused are refreshes of sessions: those that
	// moved the session on, those that got the newest pair again, and those that were refused.
	RefreshMoved Kind = iota
	RefreshRepeated
	RefreshRefused
	// SignInFailed is a wrong password or a wrong second factor.
	SignInFailed
	// Write is a request that changed a repository.
	Write
	// Event is an event of the event stream.
	Event
	kinds
)

// Class is a class of HTTP statuses.
type Class int

// The classes.
const (
	Succeeded  Class = iota // 200 to 299
	Redirected              // 300 to 399
	Refused                 // 400 to 499
	Failed                  // 500 and above
	classes
)

// Gauges are what is looked up once a minute.
type Gauges struct {
	// Subscribers of the event stream; Memory is what the process has, in bytes.
	Subscribers int
	Memory      int64
	// CPU is the time that the process has used since its start, on all cores together.
	CPU time.Duration
}

// Slot is what happened in a minute, an hour, or several of them.
type Slot struct {
	// at is the number of the minute or the hour since 1970, plus 1; 0 for none.
	at       int64
	Requests [classes]uint32
	Counts   [kinds]uint32
	// Took is how long requests took, Saved how long writes waited for the database.
	Took, Saved Histogram
	// Subscribers and Memory are the most of the time.
	Subscribers uint32
	Memory      int64
	// CPU is what was used, in Covered: how much of the time was recorded.
	CPU, Covered time.Duration
}

// Known reports whether anything is known of the time.
func (s *Slot) Known() bool { return s.at != 0 }

// Add adds what happened in another slot.
func (s *Slot) Add(o *Slot) {
	if s.at == 0 {
		s.at = o.at
	}
	for i, n := range o.Requests {
		s.Requests[i] += n
	}
	for i, n := range o.Counts {
		s.Counts[i] += n
	}
	s.Took.add(&o.Took)
	s.Saved.add(&o.Saved)
	s.Subscribers, s.Memory = max(s.Subscribers, o.Subscribers), max(s.Memory, o.Memory)
	s.CPU += o.CPU
	s.Covered += o.Covered
}

// ring keeps the newest slots of one length.
type ring struct {
	slots []Slot
	span  time.Duration
	// now is the number of the newest, as in Slot.at.
	now int64
}

// number returns that of the slot in which a time lies.
func (r *ring) number(at time.Time) int64 {
	return max(at.Unix(), 0)/int64(r.span/time.Second) + 1
}

func (r *ring) slot(number int64) *Slot { return &r.slots[number%int64(len(r.slots))] }

// add adds what happened to the newest slot.
func (r *ring) add(s *Slot) {
	to := r.slot(r.now)
	to.Add(s)
	to.Covered = min(to.Covered, r.span) // the clock stood, or went back a little
}

// enter makes a number the newest.
func (r *ring) enter(number int64) {
	if number < r.now { // the clock went back
		for i := range r.slots {
			if r.slots[i].at > number {
				r.slots[i] = Slot{}
			}
		}
	}
	r.now = number
	if s := r.slot(number); s.at != number {
		*s = Slot{at: number}
	}
}

// stripes are the counters that requests share: one of several, so that cores seldom wait for
// each other's. There is a power of two of them.
const stripes = 8

type stripe struct {
	requests [classes]atomic.Uint32
	took     counters
	_        [64]byte // the next stripe is in another line of the cache
}

// padded is a counter with a line of the cache of its own.
type padded struct {
	atomic.Uint32

	_ [60]byte
}

// Recorder records. Its fields are set once; Run must run for it to keep anything.
type Recorder struct {
	Now func() time.Time
	// Look returns the present gauges.
	Look func() Gauges

	requests [stripes]stripe
	saved    counters
	counts   [kinds]padded

	mu            sync.Mutex
	minutes       ring
	hours         ring
	at            time.Time // when counters were last emptied
	cpu           time.Duration
	minute, empty Slot // minute is what settle gathers, so that it allocates nothing
}

// NewRecorder returns a Recorder that has recorded nothing.
func NewRecorder(now func() time.Time, look func() Gauges) *Recorder {
	r := &Recorder{
		Now: now, Look: look, minutes: ring{slots: make([]Slot, KeptMinutes), span: time.Minute},
		hours: ring{slots: make([]Slot, KeptHours), span: time.Hour}, at: now(), cpu: look().CPU,
	}
	r.minutes.enter(r.minutes.number(r.at))
	r.hours.enter(r.hours.number(r.at))
	return r
}

// marks are the kinds that request marks are counted as.
var marks = [...]struct {
	mark request.Mark
	kind Kind
}{
	{request.RefreshMoved, RefreshMoved},
	{request.RefreshRepeated, RefreshRepeated},
	{request.RefreshRefused, RefreshRefused},
	{request.SignInFailed, SignInFailed},
	{request.Written, Write},
}

// Request records a request that has ended. One that became a stream is none: its subscriber
// is counted as long as it lasts.
func (r *Recorder) Request(o request.Outcome) {
	if o.Status < 200 { //nolint:mnd // 101, an upgrade
		return
	}
	s := &r.requests[uint64(o.Took)%stripes] //nolint:gosec // its last digits are as good as random
	s.requests[min(Class(o.Status/100)-2, Failed)].Add(1)
	s.took.count(o.Took)
	if o.Marks == 0 {
		return
	}
	for _, m := range marks {
		if o.Marks&m.mark != 0 {
			r.Count(m.kind)
		}
	}
}

// Count counts something.
func (r *Recorder) Count(k Kind) { r.counts[k].Add(1) }

// Saved records how long a write waited until the database had it on the disk.
func (r *Recorder) Saved(took time.Duration) { r.saved.count(took) }

// lookEvery bounds how late the end of a minute is noticed after the clock was set.
const lookEvery = 10 * time.Second

// Run keeps what was recorded, until ctx ends.
func (r *Recorder) Run(ctx context.Context) {
	for {
		now := r.Now()
		wait := now.Truncate(time.Minute).Add(time.Minute).Sub(now)
		if !pause.For(ctx, min(max(wait, time.Millisecond), lookEvery)) {
			return
		}
		r.mu.Lock()
		r.settle()
		r.mu.Unlock()
	}
}

// settle moves what was counted into the rings, as what happened in the minute that was the
// present one until now.
func (r *Recorder) settle() {
	now := r.Now()
	s := &r.minute
	*s = r.empty
	for i := range r.requests {
		for class := range classes {
			s.Requests[class] += r.requests[i].requests[class].Swap(0)
		}
		r.requests[i].took.drain(&s.Took)
	}
	for k := range kinds {
		s.Counts[k] = r.counts[k].Swap(0)
	}
	r.saved.drain(&s.Saved)
	s.Covered = min(max(now.Sub(r.at), 0), time.Minute)
	if r.minutes.number(now) != r.minutes.now {
		g := r.Look()
		s.CPU, r.cpu = max(g.CPU-r.cpu, 0), g.CPU
		s.Subscribers, s.Memory = uint32(max(g.Subscribers, 0)), g.Memory //nolint:gosec // far below 2^32
	}
	r.at = now
	r.minutes.add(s)
	r.hours.add(s)
	if n := r.minutes.number(now); n != r.minutes.now {
		r.minutes.enter(n)
	}
	if n := r.hours.number(now); n != r.hours.now {
		r.hours.enter(n)
	}
}

// Minutes returns the last n whole groups of so many minutes, the oldest first, and when the
// first begins. What nothing is known of is not Known. A group begins at a multiple of its length.
func (r *Recorder) Minutes(n, group int) (from time.Time, slots []Slot) {
	return r.view(&r.minutes, n, group)
}

// Hours is Minutes for hours.
func (r *Recorder) Hours(n, group int) (from time.Time, slots []Slot) {
	return r.view(&r.hours, n, group)
}

func (r *Recorder) view(of *ring, n, group int) (from time.Time, slots []Slot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settle()
	slots = make([]Slot, n)
	end := (of.now - 1) / int64(group) * int64(group) // as numbers without the 1; the present group is not whole
	first := end - int64(n)*int64(group)
	for i := range n * group {
		number := first + int64(i) + 1
		if number <= of.now-int64(len(of.slots)) || number < 1 {
			continue
		}
		if s := of.slot(number); s.at == number {
			slots[i/group].Add(s)
		}
	}
	return time.Unix(first*int64(of.span/time.Second), 0).UTC(), slots
}
