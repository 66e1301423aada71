package blob

import (
	"errors"
	"strconv"
	"time"

	"nestbox/internal/gate"
)

const (
	// maxUploads is how many uploads of one account may run at once: more than the
	// pictures of a post.
	maxUploads = 16
	// maxUploadsApp is how many of them one app may have.
	maxUploadsApp = maxUploads / 2
	// DefaultInFlight is how much of the disk all uploads that are under way may use
	// together, in bytes.
	DefaultInFlight = 4 << 30
	// accountsPart is the part of it that one account may use, as a divisor: so many
	// accounts that send slowly use all of it.
	accountsPart = 8
	// busyFor is after how long a client that found no place should try again.
	busyFor = 30 * time.Second
)

// ErrInFlight: uploads that are under way use as much of the disk as they may, those
// of the account or all of them.
var (
	errManyUploads = errors.New("account has as many uploads under way as it may")
	ErrInFlight    = errors.New("uploads in progress have reached the disk limit")
)

// flights are the uploads that are under way. The zero value is ready.
type flights struct {
	places gate.Places[string] // by account, and app
	disk   gate.Budgets[int64]
}

// flight is one upload that is under way.
type flight struct {
	flights *flights
	account int64
	place   *gate.Place[string]
	bytes   int64
	bounds  flightBounds
}

// flightBounds bound the bytes of uploads that are under way.
type flightBounds struct {
	all, ofAccount int64
	// free, if set, returns how much of the disk is free: uploads leave as much free as
	// they use.
	free func() (int64, error)
}

// begin takes a place for an upload of length bytes by an app, or by the account itself if
// via is empty; below 0 the length is not known. Bytes count once they arrive: otherwise a
// client that announces much and sends little would keep others out.
func (f *flights) begin(accountID int64, via string, length int64, bounds flightBounds) (*flight, error) {
	key := strconv.FormatInt(accountID, 10)
	shares := []gate.Share[string]{{Key: key, Most: maxUploads}}
	if via != "" {
		shares = append(shares, gate.Share[string]{Key: key + " " + via, Most: maxUploadsApp})
	}
	place, err := f.places.Try(gate.Room{}, shares...)
	if err != nil {
		return nil, errManyUploads
	}
	if length > f.disk.Left(accountID, bounds.ofAccount, bounds.all) {
		place.Leave()
		return nil, ErrInFlight
	}
	return &flight{flights: f, account: accountID, place: place, bounds: bounds}, nil
}

// grow counts n more bytes that arrived.
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
