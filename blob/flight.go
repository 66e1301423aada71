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
	// accountsPart is what one account has of that at most: so many accounts that
	// send slowly take all of it.
	accountsPart = 8
	// busyFor is when a client should ask again that found no place.
	busyFor = 30 * time.Second
)

// ErrInFlight: uploads that are under way take as much of the disk as they may, those
// of the account or all of them.
var (
	errManyUploads = errors.New("account has as many uploads under way as it may")
	ErrInFlight    = errors.New("uploads in progress have reached the disk limit")
)

// flights are the uploads that are under way. The zero value is ready.
type flights struct {
	places gate.Places[int64] // by account
	disk   gate.Budgets[int64]
}

// flight is one of them.
type flight struct {
	flights *flights
	account int64
	place   *gate.Place[int64]
	bytes   int64
	bounds  flightBounds
}

// flightBounds are how many bytes of uploads may be on their way.
type flightBounds struct {
	all, ofAccount int64
	// free, where it is set, returns what is free of the disk: as much stays so as
	// they take.
	free func() (int64, error)
}

// begin takes a place for an upload of length bytes; below 0 it is not known. Bytes
// count once they have come: a client that announces much and sends little would
// keep others out.
func (f *flights) begin(accountID, length int64, bounds flightBounds) (*flight, error) {
	place, err := f.places.Try(gate.Room{}, gate.Share[int64]{Key: accountID, Most: maxUploads})
	if err != nil {
		return nil, errManyUploads
	}
	if length > f.disk.Left(accountID, bounds.ofAccount, bounds.all) {
		place.Leave()
		return nil, ErrInFlight
	}
	return &flight{flights: f, account: accountID, place: place, bounds: bounds}, nil
}

// grow counts n bytes more that came.
func (f *flight) grow(n int) error {
	ok, err := f.flights.disk.TakeOfDisk(f.account, int64(n), f.bounds.ofAccount, f.bounds.all, f.bounds.free)
	if err != nil {
		return err
	}
	if !ok {
		return ErrInFlight
	}
	f.bytes += int64(n)
	return nil
}

func (f *flight) end() {
	f.flights.disk.Give(f.account, f.bytes)
	f.place.Leave()
}
