package dpop

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"
)

// MaxReplays is how many used proofs are remembered.
const MaxReplays = 2_000_000

// maxAhead is by how many windows the latest one may be later than the clock: an hour. If it is
// by more, the clock was wrong, and did not just go back a little.
const maxAhead = 60

// used is what is remembered of a proof: a part of the hash of its key and its jti.
type used [16]byte

func hashOf(jkt, jti string) used {
	h := sha256.New()
	h.Write([]byte(jkt)) // of one length
	h.Write([]byte(jti))
	return used(h.Sum(nil)[:16])
}

// Replays remembers the proofs that were used, a set for each window whose nonce lives.
// It is safe for concurrent use.
type Replays struct {
	max int

	mu   sync.Mutex
	sets map[int64]map[used]struct{}
	held int
	// now is the latest window that was seen. floor is a window: its nonce and those before
	// are dead. Neither goes back while the clock is believed.
	now, floor int64
	closed     bool
}

// NewReplays returns the memory of a server that does not know what was used before. Each
// nonce dies that can have been used: those up to the start's own window, and, if the last
// start was in the same minute, the later one that it gave out. So many starts in a minute
// give out the nonces of as many minutes. floor is what the memory of the last start had, or 0.
// The clock must not have gone back between the two.
func NewReplays(now time.Time, floor int64) *Replays {
	w := window(now)
	r := &Replays{max: MaxReplays, sets: map[int64]map[used]struct{}{}, now: w, floor: w}
	if floor >= w {
		r.floor = floor + 1
	}
	return r
}

// live moves the memory on to the time now, and returns the windows whose nonces are
// alive, of which given is given out. r.mu is held.
func (r *Replays) live(now time.Time) (first, given, last int64) {
	w := window(now)
	switch {
	case w > r.now:
		r.now = w
	case r.now-w > maxAhead: // the clock was wrong
		r.now, r.floor = w, w
		clear(r.sets)
		r.held = 0
	}
	r.sink(r.now - windowsAfter - 1)
	given = max(r.now, r.floor+1)
	return r.floor + 1, given, max(r.now+windowsBefore, given)
}

// sink kills the nonces up to a window and forgets what was used with them.
func (r *Replays) sink(floor int64) {
	if floor <= r.floor {
		return
	}
	r.floor = floor
	for w, set := range r.sets {
		if w <= floor {
			r.held -= len(set)
			delete(r.sets, w)
		}
	}
}

// windows returns the windows whose nonces are alive, and the one that is given out.
func (r *Replays) windows(now time.Time) (first, given, last int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.live(now)
}

// Errors of use.
var (
	errUsed = errors.New("the proof was used")
	errDead = errors.New("the nonce is dead")
)

// use records a proof that came with the nonce of window w: errUsed, or errDead if that
// nonce has died meanwhile.
func (r *Replays) use(now time.Time, w int64, proof used) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if first, _, last := r.live(now); w < first || w > last || r.closed {
		return errDead
	}
	for _, set := range r.sets {
		if _, ok := set[proof]; ok {
			return errUsed
		}
	}
	if r.held >= r.max {
		r.sink(r.oldest())
		if w <= r.floor {
			return errDead
		}
	}
	set := r.sets[w]
	if set == nil {
		set = map[used]struct{}{}
		r.sets[w] = set
	}
	set[proof] = struct{}{}
	r.held++
	return nil
}

// oldest returns the oldest window with which something was used.
func (r *Replays) oldest() int64 {
	oldest, first := int64(0), true
	for w := range r.sets {
		if first || w < oldest {
			oldest, first = w, false
		}
	}
	return oldest
}

// Len returns how many proofs are remembered.
func (r *Replays) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held
}

// What a server leaves for the next one begins with one of two words, the floor and the latest
// window. A stopped one adds for each window its number, how many proofs there are, and their
// hashes. Numbers have 64 bits, big endian.
const (
	running = "nestbox dpop running 1\n"
	stopped = "nestbox dpop stopped 1\n"
)

// Running returns what a server leaves for the next one that does not stop cleanly. It is
// stored before the first check.
func (r *Replays) Running() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return appendNumber(appendNumber([]byte(running), r.floor), r.now)
}

// Save returns what a server leaves at a clean stop, and ends the memory: no proof is
// accepted any more.
func (r *Replays) Save() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	out := make([]byte, 0, len(stopped)+16+len(r.sets)*16+r.held*len(used{}))
	out = appendNumber(appendNumber(append(out, stopped...), r.floor), r.now)
	for w, set := range r.sets {
		out = appendNumber(appendNumber(out, w), int64(len(set)))
		for proof := range set {
			out = append(out, proof[:]...)
		}
	}
	return out
}

// LoadReplays returns the memory for a start, of what the last server left. Bytes that are
// damaged, or missing, are those of a server that did not stop cleanly.
func LoadReplays(left []byte, now time.Time) *Replays {
	if rest, ok := bytes.CutPrefix(left, []byte(stopped)); ok && len(rest) >= 16 {
		if r, ok := readStopped(rest); ok {
			return r
		}
	}
	if rest, ok := bytes.CutPrefix(left, []byte(running)); ok && len(rest) == 16 {
		floor, rest := number(rest)
		if latest, _ := number(rest); latest-window(now) <= maxAhead { // else its clock was wrong
			return NewReplays(now, floor)
		}
	}
	return NewReplays(now, 0)
}

func readStopped(rest []byte) (*Replays, bool) {
	r := &Replays{max: MaxReplays, sets: map[int64]map[used]struct{}{}}
	r.floor, rest = number(rest)
	r.now, rest = number(rest)
	for len(rest) > 0 {
		if len(rest) < 16 {
			return nil, false
		}
		var w, n int64
		w, rest = number(rest)
		n, rest = number(rest)
		if n < 0 || n > int64(len(rest)/len(used{})) || r.sets[w] != nil {
			return nil, false
		}
		set := make(map[used]struct{}, n)
		for chunk := range slices.Chunk(rest[:n*int64(len(used{}))], len(used{})) {
			set[used(chunk)] = struct{}{}
		}
		rest = rest[n*int64(len(used{})):]
		r.sets[w] = set
		r.held += len(set)
	}
	return r, true
}

func appendNumber(b []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(n)) //nolint:gosec // number reads it back as it was
}

func number(b []byte) (n int64, rest []byte) {
	return int64(binary.BigEndian.Uint64(b)), b[8:] //nolint:gosec // as appendNumber wrote it
}
