// Package tally counts what happens by words of the program's own, for those who read the
// counts later. It owns no time and forgets nothing: a count only grows.
package tally

import (
	"maps"
	"sync"
)

// Words counts by a word. The words must be few: the program's own, never a client's. The zero
// value is ready; it is safe for concurrent use.
type Words struct {
	mu sync.Mutex
	n  map[string]uint64
}

// Add counts a word n times more.
func (w *Words) Add(word string, n uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.n == nil {
		w.n = map[string]uint64{}
	}
	w.n[word] += n
}

// Counts returns how often each word was counted that was counted at all.
func (w *Words) Counts() map[string]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.n)
}
