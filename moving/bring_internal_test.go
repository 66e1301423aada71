package moving

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"nestbox/account"
	"nestbox/repo"
)

// TestUploads: an upload that breaks off leaves the file that waited; one for which there is
// no room takes that of the file that has waited longest.
func TestUploads(t *testing.T) {
	t.Parallel()
	now := time.Now()
	clock := func() time.Time { return now }
	s := &Service{Now: clock, Repos: &repo.Service{Now: clock, Transfers: repo.Transfers{TempDir: t.TempDir(), MaxImport: 10}}}
	defer func() {
		for _, h := range s.held {
			h.release()
		}
	}()
	owner := func(id int64) *account.Account {
		return &account.Account{ID: id, DeactivatedAt: now}
	}
	send := func(id int64, r io.Reader) error {
		err := s.Accept(t.Context(), owner(id), r)
		if err == nil {
			(<-s.queue).file.Phase = Ready
		}
		now = now.Add(time.Minute)
		return err
	}
	of := func(id int64) File {
		f, err := s.File(owner(id))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	full := func() io.Reader { return strings.NewReader(strings.Repeat("x", 15)) }
	for _, id := range []int64{1, 2} {
		if err := send(id, full()); err != nil {
			t.Fatal(err)
		}
	}
	was := of(1)
	broken := errors.New("broken off")
	if err := send(1, io.MultiReader(strings.NewReader("xx"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("broken off: %v", err)
	}
	if f := of(1); was.ID == "" || f.ID != was.ID || f.Phase != Ready || s.held[1].received == nil {
		t.Errorf("after an upload that broke off: %+v, want %+v", f, was)
	}
	if err := send(3, full()); err != nil { // all may take 40 bytes
		t.Fatal(err)
	}
	if f := of(1); f.Phase != Failed || !errors.Is(f.Err, ErrGaveWay) || of(2).Phase != Ready {
		t.Errorf("without room: %+v, %+v", f, of(2))
	}
	if err := send(2, full()); err != nil { // its own gives way first
		t.Fatal(err)
	}
	if of(2).Phase != Ready || of(3).Phase != Ready {
		t.Errorf("in place of the own: %+v, %+v", of(2), of(3))
	}
}

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
	s.held[3].file.Until = now // it has waited longest
	if _, err := take(98, Examining); err != nil || s.held[3] != nil {
		t.Errorf("one more: %v", err)
	}
	if f, err := s.File(&account.Account{ID: 3}); err != nil || f.Phase != Failed || !errors.Is(f.Err, ErrGaveWay) {
		t.Errorf("the one that gave way: %+v, %v", f, err)
	}
	for _, h := range s.held {
		h.file.Phase = Bringing
	}
	if _, err := take(99, Ready); !errors.Is(err, ErrFull) {
		t.Errorf("while all are worked on: %v", err)
	}
	for _, h := range s.held {
		h.file.Phase = Ready
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
