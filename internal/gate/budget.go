package gate

import "sync"

// Budget is how many bytes of something are taken.
type Budget struct {
	mu    sync.Mutex
	taken int64
}

// Take takes n bytes if then no more than most are taken.
func (b *Budget) Take(n, most int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > most-b.taken {
		return false
	}
	b.taken += n
	return true
}

// TakeOfDisk is Take from a disk of which at least as much stays free as is taken:
// free returns what is free now, where what was taken is in use already.
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

// Give gives n bytes back that were taken.
func (b *Budget) Give(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.taken -= n
}

// Taken is how many bytes are taken.
func (b *Budget) Taken() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.taken
}
