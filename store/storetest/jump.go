package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"nestbox/account"
	"nestbox/firehose"
	stream "nestbox/firehose/event"
	"nestbox/repo"
	"nestbox/repo/car"
)

var jumpTests = tests{
	"LogBackwards":     testLogBackwards,
	"LogJump":          testLogJump,
	"LogJumpAgain":     testLogJumpAgain,
	"LogJumpMeanwhile": testLogJumpMeanwhile,
	"LogDeleted":       testLogDeleted,
}

// testLogBackwards: a jump that would give a number twice changes nothing.
func testLogBackwards(t *testing.T, s *Database) {
	t.Helper()
	_, start, changes := story(t, s, 5, 1000)
	last := bounds(t, s).Last
	for _, to := range []int64{last - 1, 0, -1} {
		if err := s.Log.Jump(t.Context(), to); !errors.Is(err, firehose.ErrBackwards) {
			t.Errorf("jump from %d to %d: %v", last, to, err)
		}
	}
	logs(t, s, start, changes...)
	if a, ok, err := s.Announcements.Unannounced(t.Context(), 10); ok || err != nil || bounds(t, s).Announcing {
		t.Errorf("to be announced without a jump: %+v, %t, %v", a, ok, err)
	}
	if err := s.Announcements.Announce(t.Context(), repo.Announcement{Last: true}, nil, at(0)); !errors.Is(err, repo.ErrConflict) || bounds(t, s).Last != last {
		t.Errorf("announced without a jump: %v", err)
	}
}

// Announce announces up to limit accounts with their repositories as they are,
// and reports whether there are more.
func Announce(ctx context.Context, s *Database, limit int, at time.Time) (more bool, err error) {
	a, ok, err := s.Announcements.Unannounced(ctx, limit)
	if err != nil || !ok {
		return false, err
	}
	return !a.Last, s.Announcements.Announce(ctx, a, nil, at)
}

// step checks what Unannounced returns now.
func step(t *testing.T, s *Database, limit int, after int64, last bool, want ...int64) repo.Announcement {
	t.Helper()
	a, ok, err := s.Announcements.Unannounced(t.Context(), limit)
	if err != nil || !ok {
		t.Fatalf("nothing is to be announced: %v", err)
	}
	var got []int64
	for _, of := range a.Accounts {
		got = append(got, of.AccountID)
	}
	if a.After != after || a.Last != last || !slices.Equal(got, want) {
		t.Fatalf("step %+v, want accounts %v after %d, last %t", a, want, after, last)
	}
	return a
}

// told fails the test unless exactly those events, in short form, follow a
// number.
func told(t *testing.T, s *Database, after int64, want ...string) {
	t.Helper()
	var got []string
	for _, e := range logged(t, s, after) {
		got = append(got, fmt.Sprint(e.Seq, e.Kind, e.DID))
	}
	if !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}

// testLogJump: numbers go on above the target, and every account is announced
// again, with the commits that were made for it, even with a restart in
// between.
func testLogJump(t *testing.T, s *Database) {
	t.Helper()
	alice, _, _ := story(t, s, 5, 1000)
	bob := newOwner(t, s, "bob")
	carol := newAccount(t, s, "carol") // has no repository
	dora := newOwner(t, s, "dora")
	setStatus(t, s, bob.Account, account.StatusChange{Suspended: new(true)})
	const to = 1_000_000
	if err := s.Log.Jump(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	s.Reopen()
	wantBounds(t, s, firehose.Bounds{Oldest: to + 1, Last: to, Announcing: true})

	a := step(t, s, 2, 0, false, alice.ID, bob.ID)
	t.Run("a step names accounts, what they are at, and their status", func(t *testing.T) {
		of := a.Accounts[0]
		if of.DID != alice.DID || !of.CID.Equals(alice.head.CID) || of.Rev != alice.head.Rev || of.Status != "" || a.Accounts[1].Status != "suspended" {
			t.Errorf("accounts %+v", a.Accounts)
		}
	})
	bobs := bob.change(t, s)
	t.Run("nothing of a step is kept if one of them wrote meanwhile", func(t *testing.T) {
		stale := alice.change(t, s)
		alice.commit(t, s, put("a.b.c/meanwhile", "x"))
		if err := s.Announcements.Announce(t.Context(), a, []repo.Change{bobs, stale}, at(50)); !errors.Is(err, repo.ErrConflict) {
			t.Errorf("announced over a write: %v", err)
		}
		bob.check(t, s)
		told(t, s, to, fmt.Sprint(to+1, stream.KindSync, alice.DID)) // her own: this suite's commits are #sync events
	})
	t.Run("a step is made once, with its commits", func(t *testing.T) {
		alices := alice.change(t, s)
		if err := s.Announcements.Announce(t.Context(), a, []repo.Change{alices, bobs}, at(50)); err != nil {
			t.Fatal(err)
		}
		s.Reopen()
		alice.made(t, s, alices)
		bob.made(t, s, bobs) // whose owner tells of it when it comes back
		alice.check(t, s)
		bob.check(t, s)
		got := logged(t, s, to+1)
		status := func(a *account.Account, status string) []byte {
			return stream.Account{DID: a.DID, Status: status, Time: at(50)}.Event().Body
		}
		if len(got) != 3 || !bytes.Equal(got[0].Body, status(alice.Account, "")) || !bytes.Equal(got[1].Body, alices.Event.Body) ||
			!bytes.Equal(got[2].Body, status(bob.Account, "suspended")) {
			t.Errorf("told of alice and bob: %+v", got)
		}
		// The same step again, as by another process: it was made.
		if err := s.Announcements.Announce(t.Context(), a, nil, at(51)); !errors.Is(err, repo.ErrConflict) {
			t.Errorf("a step was made twice: %v", err)
		}
	})
	t.Run("without a new commit the present one is announced, and nothing of an account that is gone", func(t *testing.T) {
		a := step(t, s, 3, bob.ID, true, carol.ID, dora.ID)
		if err := s.Accounts.Delete(t.Context(), carol.ID, at(51)); err != nil {
			t.Fatal(err)
		}
		if err := s.Announcements.Announce(t.Context(), a, nil, at(52)); err != nil {
			t.Fatal(err)
		}
		told(t, s, to+4, fmt.Sprint(to+5, stream.KindAccount, carol.DID), fmt.Sprint(to+6, stream.KindAccount, dora.DID), fmt.Sprint(to+7, stream.KindSync, dora.DID))
		sync := stream.Sync{DID: dora.DID, Rev: dora.head.Rev, Commit: car.Block{CID: dora.head.CID, Data: dora.head.Commit}, Time: at(52)}.Event()
		if got := logged(t, s, to+6); len(got) != 1 || !bytes.Equal(got[0].Body, sync.Body) {
			t.Errorf("told of dora: %+v", got)
		}
		if _, ok, err := s.Announcements.Unannounced(t.Context(), 10); ok || err != nil || bounds(t, s).Announcing {
			t.Errorf("there is still something to announce: %v", err)
		}
	})
}

// testLogJumpAgain: a jump to the present number is a jump, too: all is announced again.
func testLogJumpAgain(t *testing.T, s *Database) {
	t.Helper()
	alice, bob, carol := newOwner(t, s, "alice"), newOwner(t, s, "bob"), newOwner(t, s, "carol")
	for range 2 {
		to := bounds(t, s).Last
		if err := s.Log.Jump(t.Context(), to); err != nil {
			t.Fatal(err)
		}
		step(t, s, 3, 0, false, alice.ID, bob.ID, carol.ID)
		if more, err := Announce(t.Context(), s, 4, at(60)); more || err != nil {
			t.Errorf("one step for three accounts: more %t, %v", more, err)
		}
		if got := logged(t, s, 0); len(got) != 6 || got[0].Seq != to+1 {
			t.Errorf("after the jump to %d: %+v", to, got)
		}
	}
}

// testLogJumpMeanwhile: a jump while a step is made begins the announcement
// again.
func testLogJumpMeanwhile(t *testing.T, s *Database) {
	t.Helper()
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	if err := s.Log.Jump(t.Context(), 1000); err != nil {
		t.Fatal(err)
	}
	if more, err := Announce(t.Context(), s, 1, at(50)); !more || err != nil {
		t.Fatalf("%t, %v", more, err)
	}
	a := step(t, s, 1, alice.ID, false, bob.ID)
	if err := s.Log.Jump(t.Context(), 2000); err != nil {
		t.Fatal(err)
	}
	if err := s.Announcements.Announce(t.Context(), a, nil, at(51)); !errors.Is(err, repo.ErrConflict) {
		t.Errorf("a step from before the jump: %v", err)
	}
	step(t, s, 3, 0, true, alice.ID, bob.ID)
}

// testLogDeleted: once an account is deleted, its earlier events are not read
// any more, and are removed; the numbers remain.
func testLogDeleted(t *testing.T, s *Database) {
	t.Helper()
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	for i := range 3 {
		alice.commit(t, s, put(fmt.Sprintf("a.b.c/%d", i), "x"))
		bob.commit(t, s, put(fmt.Sprintf("a.b.c/%d", i), "x"))
	}
	before := logged(t, s, 0)
	t.Run("the deletion is the last event, and ends the account's", func(t *testing.T) {
		var told firehose.Logged
		s.Log.Watch(func(e firehose.Logged) { told = e })
		if err := s.Accounts.Delete(t.Context(), alice.ID, at(9)); err != nil {
			t.Fatal(err)
		}
		if !told.Ends || told.DID != alice.DID || told.Seq != int64(len(before))+1 {
			t.Errorf("told %+v", told)
		}
	})
	check := func(t *testing.T) {
		t.Helper()
		got := logged(t, s, 0)
		if len(got) != len(before)+1 {
			t.Fatalf("%d events, were %d", len(got), len(before))
		}
		for i, e := range got[:len(before)] {
			was := before[i]
			if was.DID == alice.DID {
				was.Event = stream.Event{}
			}
			if e.Seq != was.Seq || !e.At.Equal(was.At) || e.Kind != was.Kind || e.DID != was.DID || e.Split != was.Split || !bytes.Equal(e.Body, was.Body) {
				t.Errorf("event %+v, want %+v", e, was)
			}
			if e.Removed() != (before[i].DID == alice.DID) {
				t.Errorf("event %d is removed: %t", e.Seq, e.Removed())
			}
		}
		if e := got[len(before)]; e.DID != alice.DID || e.Kind != stream.KindAccount || e.Removed() {
			t.Errorf("the last is %+v", e)
		}
	}
	t.Run("its earlier events are not read once it is deleted", check)
	s.Reopen()
	t.Run("after a restart", check)
	for more := true; more; {
		var err error
		if more, err = s.Log.Forget(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("once they are removed", check)
	t.Run("they can be pruned", func(t *testing.T) {
		if n := pruneAll(t, s, at(100), 1<<40); n != len(before)+1 {
			t.Errorf("%d were pruned of %d", n, len(before)+1)
		}
	})
}
