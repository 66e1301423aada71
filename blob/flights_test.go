package blob

import (
	"errors"
	"testing"
)

// TestFlights: all uploads together have a bound, whatever their accounts, and an
// upload that has ended uses nothing.
func TestFlights(t *testing.T) {
	t.Parallel()
	var f flights
	bounds := flightBounds{all: 100, ofAccount: 60}
	begin := func(account, length int64) *flight {
		t.Helper()
		flight, err := f.begin(account, "", length, bounds)
		if err != nil {
			t.Fatal(err)
		}
		return flight
	}
	first, second, third := begin(1, -1), begin(2, 60), begin(3, -1)
	if err := errors.Join(first.grow(50), second.grow(50)); err != nil {
		t.Fatal(err)
	}
	if err := third.grow(1); !errors.Is(err, ErrInFlight) {
		t.Errorf("more than all may take: %v", err)
	}
	if _, err := f.begin(4, "", 1, bounds); !errors.Is(err, ErrInFlight) {
		t.Errorf("announced, more than all may take: %v", err)
	}
	first.end()
	if err := third.grow(50); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
	third.end()
	if err := second.grow(11); !errors.Is(err, ErrInFlight) {
		t.Errorf("more than its account may take: %v", err)
	}
	second.end()
	var held []*flight
	for { // an app has half of its account's places
		flight, err := f.begin(5, "app 1", -1, bounds)
		if err != nil {
			break
		}
		held = append(held, flight)
	}
	if len(held) != maxUploadsApp {
		t.Errorf("an app has %d uploads at once", len(held))
	}
	for range maxUploads - maxUploadsApp {
		held = append(held, begin(5, -1))
	}
	if _, err := f.begin(5, "", -1, bounds); !errors.Is(err, errManyUploads) {
		t.Errorf("more than an account may have: %v", err)
	}
	for _, flight := range held {
		flight.end()
	}
	if n := f.places.Held(); n != 0 || f.disk.Left(2, 60, 100) != 60 {
		t.Errorf("%d places are held, %d bytes are left", n, f.disk.Left(2, 60, 100))
	}
}
