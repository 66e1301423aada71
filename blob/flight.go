package blob

import (
	"errors"
	"sync"
	"time"
)

const (
	// maxUploads is how many uploads of one account are taken at once: more than
	// a post has pictures.
	maxUploads = 16
	// DefaultInFlight is what all uploads that are under way may take on disk
	// together, in bytes.
	DefaultInFlight = 4 << 30
	// busyFor is when a client should ask again that found no place.
	busyFor = 30 * time.Second
)

var (
	errManyUploads = errors.New("account has as many uploads under way as it may")
	errNoRoom      = errors.New("uploads that are under way take as much of the disk as they may")
)

// flights are the uploads that are under way. The zero value is ready.
type flights struct {
	mu    sync.Mutex
	bytes int64
	of    map[int64]int // by account
}

// flight is one of them.
type flight struct {
	all       *flights
	accountID int64
	bytes     int64
	limit     int64 // of all
}

// begin takes a place for an upload of length bytes; below 0 it is not known. All
// take limit bytes at most. What has not come yet takes no room, or those who
// announce much and send little would keep others out.
func (f *flights) begin(accountID, length, limit int64) (*flight, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.of[accountID] >= maxUploads:
		return nil, errManyUploads
	case f.bytes+max(length, 0) > limit:
		return nil, errNoRoom
	}
	if f.of == nil {
		f.of = map[int64]int{}
	}
	f.of[accountID]++
	return &flight{all: f, accountID: accountID, limit: limit}, nil
}

// grow counts n bytes more that came.
func (f *flight) grow(n int) error {
	f.all.mu.Lock()
	defer f.all.mu.Unlock()
	if f.all.bytes+int64(n) > f.limit {
		return errNoRoom
	}
	f.all.bytes += int64(n)
	f.bytes += int64(n)
	return nil
}

func (f *flight) end() {
	f.all.mu.Lock()
	defer f.all.mu.Unlock()
	f.all.bytes -= f.bytes
	if f.all.of[f.accountID]--; f.all.of[f.accountID] == 0 {
		delete(f.all.of, f.accountID)
	}
}
