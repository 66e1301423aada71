package moving

import (
	"errors"
	"testing"
	"time"

	"nestbox/account"
)

// TestPlaces: an account has one file that waits, the server so many; what is over gives way,
// and what waits too long is forgotten.
func TestPlaces(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	s := &Service{Now: func() time.Time { return now }}
	take := func(id int64, phase Phase) (*held, error) {
		h := &held{account: &account.Account{ID: id}, settled: make(chan struct{}), file: File{Phase: phase, Until: now.Add(keptFor)}}
		return h, s.place(h)
	}
	of := func(id int64) error {
		_, err := s.File(&account.Account{ID: id})
		return err
	}
	for id := range int64(maxHeld) {
		if _, err := take(id, Ready); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := take(99, Ready); !errors.Is(err, ErrFull) {
		t.Errorf("one more: %v", err)
	}
	first, err := take(0, Examining)
	if err != nil {
		t.Fatalf("in place of the own: %v", err)
	}
	if _, err := take(0, Ready); !errors.Is(err, ErrWorking) {
		t.Errorf("in place of one that is worked on: %v", err)
	}
	if err := s.Discard(first.account); !errors.Is(err, ErrWorking) {
		t.Errorf("discard one that is worked on: %v", err)
	}
	if h := s.held[1]; h != nil {
		h.file.Phase = Brought
	}
	if _, err := take(99, Ready); err != nil || !errors.Is(of(1), ErrNothing) || of(2) != nil {
		t.Errorf("in place of one that is over: %v, %v, %v", err, of(1), of(2))
	}
	now = now.Add(keptFor + time.Second)
	s.collect()
	if err := of(2); !errors.Is(err, ErrNothing) || of(0) != nil {
		t.Errorf("after an hour: %v, and one that is worked on: %v", err, of(0))
	}
	first.file.Phase = Failed
	if err := s.Discard(first.account); err != nil || !errors.Is(of(0), ErrNothing) {
		t.Errorf("discard: %v", err)
	}
	if err := s.Discard(first.account); err != nil {
		t.Errorf("discard nothing: %v", err)
	}
}
