package blob

import (
	"errors"
	"time"

	"nestbox/internal/gate"
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
	errNoRoom      = errors.New("uploads in progress have reached the disk limit")
)

// flights are the uploads that are under way. The zero value is ready.
type flights struct {
	places gate.Places[int64] // by account
	disk   gate.Budget
}

// flight is one of them.
type flight struct {
	disk  *gate.Budget
	place *gate.Place[int64]
	bytes int64
	limit int64 // of all
}

// begin takes a place for an upload of length bytes; below 0 it is not known. All
// take limit bytes at most. Bytes count once they have come: a client that announces
// much and sends little would keep others out.
func (f *flights) begin(accountID, length, limit int64) (*flight, error) {
	place, err := f.places.Try(gate.Room{}, gate.Share[int64]{Key: accountID, Most: maxUploads})
	if err != nil {
		return nil, errManyUploads
	}
	if length > limit-f.disk.Taken() {
		place.Leave()
		return nil, errNoRoom
	}
	return &flight{disk: &f.disk, place: place, limit: limit}, nil
}

// grow counts n bytes more that came.
func (f *flight) grow(n int) error {
	if !f.disk.Take(int64(n), f.limit) {
		return errNoRoom
	}
	f.bytes += int64(n)
	return nil
}

func (f *flight) end() {
	f.disk.Give(f.bytes)
	f.place.Leave()
}
