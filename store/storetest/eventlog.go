package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/dagcbor"
	"nestbox/firehose"
	stream "nestbox/firehose/event"
	"nestbox/repo"
	"nestbox/repo/car"
)

var eventlogTests = tests{
	"LogRead":  testLogRead,
	"LogWatch": testLogWatch,
	"LogPrune": testLogPrune,
}

// bounds are the log's.
func bounds(t *testing.T, s *Database) firehose.Bounds {
	t.Helper()
	b, err := s.Log.Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wantBounds(t *testing.T, s *Database, want firehose.Bounds) {
	t.Helper()
	got := bounds(t, s)
	if !got.OldestAt.Equal(want.OldestAt) {
		t.Errorf("oldest event is of %s, want %s", got.OldestAt, want.OldestAt)
	}
	got.OldestAt = want.OldestAt
	if got != want {
		t.Errorf("bounds %+v, want %+v", got, want)
	}
}

// story makes one account and n events that are all that the log holds, behind
// the number start: one a minute, from at(1) on, each later one with size bytes
// more than it needs.
func story(t *testing.T, s *Database, n, size int) (o *owner, start int64, changes []repo.Change) {
	t.Helper()
	o = &owner{Account: newAccount(t, s, "alice")}
	pruneAll(t, s, at(1000), 1<<40)
	start = bounds(t, s).Last
	first := o.first()
	if err := s.Repos.Begin(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	o.made(t, s, first)
	changes = append(changes, first)
	for i := range n - 1 {
		c := o.change(t, s, put(fmt.Sprintf("a.b.c/%03d", i), "x"))
		c.Event.Body = append(slices.Clip(c.Event.Body), make([]byte, size)...) // its content does not matter
		if err := s.Repos.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		o.made(t, s, c)
		changes = append(changes, c)
	}
	return o, start, changes
}

// sizeOf returns the bytes that the events of some changes take in the log.
func sizeOf(changes []repo.Change) (n int64) {
	for _, c := range changes {
		n += int64(len(c.Event.Body))
	}
	return n
}

func testLogRead(t *testing.T, s *Database) {
	t.Helper()
	wantBounds(t, s, firehose.Bounds{Oldest: 1})
	_, start, changes := story(t, s, 10, 1000)
	first, last := start+1, start+10
	wantBounds(t, s, firehose.Bounds{Oldest: first, Last: last, OldestAt: at(1), Bytes: sizeOf(changes)})
	logs(t, s, start, changes...)
	logs(t, s, start+7, changes[7:]...)
	logs(t, s, last)
	logs(t, s, last+5)
	for _, c := range []struct{ count, bytes, want int }{
		{4, 1 << 20, 4},
		{0, 1 << 20, 0},
		{100, 1, 1}, // the first, however large
		{100, len(changes[1].Event.Body), 1},
		{100, len(changes[1].Event.Body) + 1, 2},
	} {
		got, err := s.Log.Read(t.Context(), first, c.count, c.bytes)
		if err != nil || len(got) != c.want || len(got) > 0 && got[0].Seq != first+1 {
			t.Errorf("read %d events and %d bytes: %d events, %v; want %d", c.count, c.bytes, len(got), err, c.want)
		}
	}
	s.Reopen()
	logs(t, s, start, changes...)
}

// testLogWatch: the watcher gets all events, in order, before their writers are
// answered, and no other.
func testLogWatch(t *testing.T, s *Database) {
	t.Helper()
	var mu sync.Mutex
	var seen []firehose.Logged
	s.Log.Watch(func(ev firehose.Logged) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, ev)
	})
	told := func(of repo.Change) bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.ContainsFunc(seen, func(ev firehose.Logged) bool {
			return ev.Kind == of.Event.Kind && ev.DID == of.Event.DID && bytes.Equal(ev.Body, of.Event.Body) && ev.Split == of.Event.Split && ev.At.Equal(of.At)
		})
	}
	start := bounds(t, s).Last
	var owners []*owner
	for i := range 4 {
		owners = append(owners, newOwner(t, s, fmt.Sprintf("owner%d", i)))
	}
	var writers sync.WaitGroup
	for _, o := range owners {
		writers.Go(func() {
			for i := range 25 {
				stale := o.change(t, s, put("a.b.c/stale", "x"))
				c := o.commit(t, s, put(fmt.Sprintf("a.b.c/%d", i), "x"))
				if !told(c) {
					t.Errorf("no event came for %s before the writer was answered", c.Next.Rev)
				}
				if err := s.Repos.Commit(t.Context(), stale); !errors.Is(err, repo.ErrConflict) || told(stale) {
					t.Errorf("%v; told: %t", err, told(stale))
				}
			}
		})
	}
	writers.Wait()
	kept := logged(t, s, start)
	if len(seen) != len(kept) || len(kept) < 4+4*25 {
		t.Fatalf("told of %d events; %d in the log", len(seen), len(kept))
	}
	for i, ev := range seen {
		if ev.Seq != start+int64(i)+1 || ev.Seq != kept[i].Seq || !bytes.Equal(ev.Body, kept[i].Body) {
			t.Errorf("event %d is number %d, after %d; in the log %d", i, ev.Seq, start, kept[i].Seq)
		}
	}
}

// pruneAll calls Prune until there is nothing more to remove.
func pruneAll(t *testing.T, s *Database, keep time.Time, maxBytes int64) (removed int) {
	t.Helper()
	for {
		n, err := s.Log.Prune(t.Context(), keep, maxBytes)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return removed
		}
		removed += n
	}
}

func testLogPrune(t *testing.T, s *Database) {
	t.Helper()
	o, start, changes := story(t, s, 12, 1000)
	const plenty = 1 << 40
	if n := pruneAll(t, s, at(1), plenty); n != 0 {
		t.Errorf("nothing is older, and %d went", n)
	}
	if n := pruneAll(t, s, at(0), sizeOf(changes)); n != 0 {
		t.Errorf("it fits, and %d went", n)
	}
	if n := pruneAll(t, s, at(4), plenty); n != 3 {
		t.Errorf("removed %d by age, want 3", n)
	}
	start += 3
	changes = changes[3:]
	logs(t, s, start, changes...)
	wantBounds(t, s, firehose.Bounds{Oldest: start + 1, Last: start + 9, OldestAt: at(4), Bytes: sizeOf(changes)})
	if n := pruneAll(t, s, at(0), sizeOf(changes[4:])); n != 4 {
		t.Errorf("removed %d by size, want 4", n)
	}
	start += 4
	changes = changes[4:]
	logs(t, s, start, changes...)
	if n := pruneAll(t, s, at(0), sizeOf(changes)-1); n != 1 {
		t.Errorf("removed %d for a byte too many, want 1", n)
	}
	if n := pruneAll(t, s, at(100), plenty); n != 4 {
		t.Errorf("removed %d of the last four", n)
	}
	start += 5
	wantBounds(t, s, firehose.Bounds{Oldest: start + 1, Last: start})
	s.Reopen()
	wantBounds(t, s, firehose.Bounds{Oldest: start + 1, Last: start})
	c := o.commit(t, s, put("a.b.c/after", "x"))
	logs(t, s, start, c)
	if got := logged(t, s, 0); len(got) != 1 || got[0].Seq != start+1 {
		t.Errorf("after all went, the log is %+v", got)
	}
	wantBounds(t, s, firehose.Bounds{Oldest: start + 1, Last: start + 1, OldestAt: c.At, Bytes: sizeOf([]repo.Change{c})})
}

// Writer makes events of the log, for tests of its readers.
type Writer struct {
	t *testing.T
	s *Database
	o *owner
}

// NewWriter makes an account with a repository.
func NewWriter(t *testing.T, s *Database, name string) *Writer {
	t.Helper()
	return &Writer{t, s, newOwner(t, s, name)}
}

// Write makes an empty commit, whose event has about size bytes.
func (w *Writer) Write(size int) {
	w.t.Helper()
	c := w.o.change(w.t, w.s)
	filler := make([]byte, size)
	c.Event = stream.Commit{
		DID: c.Next.DID, Rev: c.Next.Rev, Commit: car.Block{CID: c.Next.CID, Data: c.Next.Commit}, Time: c.At,
		Blocks: []car.Block{{CID: dagcbor.CID(filler), Data: filler}},
	}.Event()
	if err := w.s.Repos.Commit(w.t.Context(), c); err != nil {
		w.t.Fatal(err)
	}
	w.o.made(w.t, w.s, c)
}

// DID is the account's.
func (w *Writer) DID() syntax.DID { return w.o.DID }

// Delete deletes the account.
func (w *Writer) Delete() {
	w.t.Helper()
	if err := w.s.Accounts.Delete(w.t.Context(), w.o.ID, at(len(w.o.revs))); err != nil {
		w.t.Fatal(err)
	}
}

// At returns the time of the event of an account's n-th commit, counted from 1.
func At(n int) time.Time { return at(n) }
