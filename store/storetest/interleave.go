package storetest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

// Changes are two changes of one world that may meet, and what they leave there.
type Changes struct {
	// One and Other make a change as a client or the operator would, by a service or a
	// handler, and return the answer: the error's name, for example, "" for success.
	One, Other func() string
	// State describes all that the changes can leave behind, except what differs by
	// chance between runs: tokens, numbers, times.
	State func() string
}

// Interleave holds two changes to the order of their transactions: whatever each read
// before it wrote, the end must be what one of the two serial orders leaves, with the
// answers of that order. It runs each change with the other one committed right before
// each of its writes in turn, behind everything that it read outside of the transaction.
//
// build makes a fresh world for each run. The database of that world must call before
// ahead of each write (sqlite.Options.Before).
func Interleave(t *testing.T, build func(t *testing.T, before func()) Changes) {
	t.Helper()
	for _, fault := range Interleavings(t, build) {
		t.Error(fault)
	}
}

// Interleavings is Interleave that returns the faults instead of reporting them.
func Interleavings(t *testing.T, build func(t *testing.T, before func()) Changes) (faults []string) {
	t.Helper()
	in := func(name string, run func(t *testing.T)) {
		if !t.Run(name, run) {
			t.Fatalf("%s: the run itself failed", name)
		}
	}
	var serial []end
	in("one, then the other", func(t *testing.T) {
		c := build(t, func() {})
		e := end{one: c.One(), other: c.Other()}
		e.state = c.State()
		serial = append(serial, e)
	})
	in("the other, then one", func(t *testing.T) {
		c := build(t, func() {})
		e := end{other: c.Other()}
		e.one = c.One()
		e.state = c.State()
		serial = append(serial, e)
	})
	for _, swapped := range []bool{false, true} {
		name := "the other before write %d of one"
		if swapped {
			name = "one before write %d of the other"
		}
		for n := 1; n <= maxWrites; n++ {
			name, met := fmt.Sprintf(name, n), false
			in(name, func(t *testing.T) {
				var got end
				if got, met = meet(t, build, n, swapped); met && !slices.Contains(serial, got) {
					faults = append(faults, fmt.Sprintf("%s:\n  got  %v\n  want %v\n  or   %v", name, got, serial[0], serial[1]))
				}
			})
			if !met {
				break
			}
		}
	}
	return faults
}

// maxWrites bounds the writes of one change at which another one is tried.
const maxWrites = 20

// patience is how long a change waits for the one that is to be committed ahead of its
// write. The other may itself be waiting, for a lock that the first holds: then the two
// cannot meet there, and go on in the order of that lock. The verdict holds either way.
const patience = 2 * time.Second

// end is what two changes leave, and their answers.
type end struct{ one, other, state string }

func (e end) String() string {
	return fmt.Sprintf("one answered %q, the other %q; left: %s", e.one, e.other, e.state)
}

// meet runs one change, or the other if swapped, with its counterpart ahead of write n.
// met is false if the change has made fewer writes.
func meet(t *testing.T, build func(t *testing.T, before func()) Changes, n int, swapped bool) (got end, met bool) {
	t.Helper()
	b := &between{at: n}
	c := build(t, b.write)
	first, second := c.One, c.Other
	if swapped {
		first, second = second, first
	}
	answer, ahead := b.run(first, second)
	if ahead == nil {
		return end{}, false
	}
	got = end{one: answer, other: *ahead, state: c.State()}
	if swapped {
		got.one, got.other = got.other, got.one
	}
	return got, true
}

// between runs a change ahead of the write of another one.
type between struct {
	mu    sync.Mutex
	armed bool
	at    int // how many writes remain, including the one at which it happens
	ahead func() string

	ran    bool
	done   chan struct{}
	answer string
}

// run runs change with ahead before its write, and returns their answers, nil for an ahead
// that did not run.
func (b *between) run(change, ahead func() string) (string, *string) {
	b.mu.Lock()
	b.armed, b.ahead, b.done = true, ahead, make(chan struct{})
	b.mu.Unlock()
	answer := change()
	b.mu.Lock()
	ran := b.ran
	b.armed = false
	b.mu.Unlock()
	if !ran {
		return answer, nil
	}
	<-b.done
	return answer, &b.answer
}

// write is called ahead of each write of the world.
func (b *between) write() {
	b.mu.Lock()
	if b.armed {
		b.at--
	}
	now := b.armed && b.at == 0
	if now {
		b.armed, b.ran = false, true
	}
	b.mu.Unlock()
	if !now {
		return
	}
	go func() {
		defer close(b.done)
		b.answer = b.ahead()
	}()
	select {
	case <-b.done:
	case <-time.After(patience):
	}
}
