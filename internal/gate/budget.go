package gate

import "sync"

// Budget counts how many bytes of something are taken.
type Budget struct {
	mu    sync.Mutex
	taken int64
}

// Take takes n bytes unless that would make more than most taken.
func (b *Budget) Take(n, most int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > most-b.taken {
		return false
	}
	b.taken += n
	return true
}

// TakeOfDisk is Take for a disk of which at least as much stays free as is taken:
// free returns what is free now; the bytes that were taken already occupy the
// disk.
func (b *Budget) TakeOfDisk(n, most int64, free func() (int64, error)) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if free != nil {
		left, err := free()
		if err != nil {
			return false, err
		}
		most = min(most, b.taken/2+left/2)
	}
	if n > most-b.taken {
		return false, nil
	}
	b.taken += n
	return true, nil
}

// Give gives back n bytes that were taken.
func (b *Budget) Give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.taken -= n
}

// Taken returns how many bytes are taken.
func (b *Budget) Taken() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.taken
}

// Budgets is a Budget of which no key may take more than its part.
type Budgets[K comparable] struct {
	mu  sync.Mutex
	of  map[K]int64
	all Budget
}

// TakeOfDisk is like Budget.TakeOfDisk, for a key that may take at most each.
func (b *Budgets[K]) TakeOfDisk(key K, n, each, most int64, free func() (int64, error)) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > each-b.of[key] {
		return false, nil
	}
	ok, err := b.all.TakeOfDisk(n, most, free)
	if ok {
		if b.of == nil {
			b.of = map[K]int64{}
		}
		b.of[key] += n
	}
	return ok, err
}

// Give gives back n bytes that were taken for a key.
func (b *Budgets[K]) Give(key K, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all.Give(n)
	if b.of[key] == n {
		delete(b.of, key)
	} else {
		b.of[key] -= n
	}
}

// Left returns how many bytes a key may still take.
func (b *Budgets[K]) Left(key K, each, most int64) int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return min(each-b.of[key], most-b.all.Taken())
}
