package dpop

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"time"
)

// MaxReplays is how many used proofs are remembered.
const MaxReplays = 2_000_000

// maxAhead is how many windows the memory may be ahead of the clock before that means
// that the clock was wrong, and not that it went back a little: an hour.
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

// NewReplays returns the memory of a server that starts without knowing what was used
// before: no nonce is alive that could have been used with the same secret. floor is that
// which the memory of the last start had, or 0.
//
// Nonces up to the start's own window die, since a proof may have been used in the minute of
// a crash. If the last start was in the same minute, its nonce was that of a later window,
// which dies too.
func NewReplays(now time.Time, floor int64) *Replays {
	r := &Replays{max: MaxReplays, sets: map[int64]map[used]struct{}{}, now: window(now)}
	r.floor = r.now
	if floor >= r.now && floor <= r.now+maxAhead {
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
	case r.now-w > maxAhead || r.floor-w > maxAhead: // the clock was wrong
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

// Floor returns the last window whose nonce is dead: what NewReplays wants to know at the
// next start, if the server does not stop cleanly.
func (r *Replays) Floor() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.floor
}

// The form of a saved memory: magic, floor, and for each window its number, how many
// proofs there are, and their hashes; numbers are 64 bits, big endian.
const magic = "nestbox dpop replays 1\n"

// Save returns the memory for LoadReplays, and ends it: no proof is accepted any more.
func (r *Replays) Save() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	out := make([]byte, 0, len(magic)+8+len(r.sets)*16+r.held*len(used{}))
	out = binary.BigEndian.AppendUint64(append(out, magic...), uint64(r.floor)) //nolint:gosec // read back as it is
	for w, set := range r.sets {
		out = binary.BigEndian.AppendUint64(out, uint64(w)) //nolint:gosec // read back as it is
		out = binary.BigEndian.AppendUint64(out, uint64(len(set)))
		for proof := range set {
			out = append(out, proof[:]...)
		}
	}
	return out
}

// ErrDamaged: the bytes are not a saved memory.
var ErrDamaged = errors.New("not a memory of DPoP proofs")

// LoadReplays returns the memory that a server saved at its stop: ErrDamaged.
func LoadReplays(saved []byte, now time.Time) (*Replays, error) {
	rest, ok := cut(saved, magic)
	if !ok || len(rest) < 8 {
		return nil, ErrDamaged
	}
	r := &Replays{max: MaxReplays, sets: map[int64]map[used]struct{}{}, now: window(now)}
	r.floor, rest = number(rest)
	for len(rest) > 0 {
		if len(rest) < 16 {
			return nil, ErrDamaged
		}
		var w, n int64
		w, rest = number(rest)
		n, rest = number(rest)
		if n < 0 || n > int64(len(rest)/len(used{})) || r.sets[w] != nil {
			return nil, ErrDamaged
		}
		set := make(map[used]struct{}, n)
		for chunk := range slices.Chunk(rest[:n*int64(len(used{}))], len(used{})) {
			set[used(chunk)] = struct{}{}
		}
		rest = rest[n*int64(len(used{})):]
		r.sets[w] = set
		r.held += len(set)
	}
	return r, nil
}

func cut(b []byte, prefix string) (rest []byte, ok bool) {
	if len(b) < len(prefix) || string(b[:len(prefix)]) != prefix {
		return nil, false
	}
	return b[len(prefix):], true
}

func number(b []byte) (n int64, rest []byte) {
	return int64(binary.BigEndian.Uint64(b)), b[8:] //nolint:gosec // as Save wrote it
}
