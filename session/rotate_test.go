package session

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"nestbox/account"
)

// midnight is where the stories of these tests begin: the start of an eighth of
// every window that they use.
var midnight = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func at(d time.Duration) time.Time { return midnight.Add(d) }

const day = 24 * time.Hour

// defaults are the rules of a server that nobody has configured.
var defaults = Rules{ReuseWindow: day, RefreshTTL: 90 * day, Policy: PolicyReport}

// fresh returns a session that began at midnight.
func fresh() State {
	return State{
		ID: 7, Nonce: "nonce", CreatedAt: midnight, RotatedAt: midnight, Expires: at(90 * day),
		Network: "192.0.2.1", UserAgent: "phone",
	}
}

// show returns a presentation by the session's own client.
func show(n int64, after time.Duration) Presentation {
	return Presentation{Generation: n, At: at(after), Network: "192.0.2.1", UserAgent: "phone"}
}

// advanced returns the state of a fresh session whose head was presented at each of
// the times.
func advanced(t testing.TB, rules Rules, times ...time.Duration) State {
	t.Helper()
	s := fresh()
	for _, after := range times {
		r := rotate(s, show(s.Head, after), rules)
		if r.Outcome != Advance {
			t.Fatalf("the head %d presented at %s: outcome %d", s.Head, after, r.Outcome)
		}
		s = r.Next
	}
	return s
}

// TestRotateTable is the table of the session contract, "what a presented token of
// generation n gives, when the head is h", with its boundaries.
func TestRotateTable(t *testing.T) {
	window := func(d time.Duration) Rules { return Rules{ReuseWindow: d, RefreshTTL: 90 * day, Policy: PolicyReport} }
	revoke := Rules{ReuseWindow: day, RefreshTTL: 90 * day, Policy: PolicyRevoke}
	const ms = time.Millisecond
	hours := func(hs ...int) (ds []time.Duration) {
		for _, h := range hs {
			ds = append(ds, time.Duration(h)*time.Hour)
		}
		return ds
	}
	for _, c := range []struct {
		row, name string
		rules     Rules
		heads     []time.Duration // when the head was presented, in turn
		n         int64
		after     time.Duration
		outcome   Outcome
		head      int64 // afterwards
		entry     account.EntryKind
		revoked   bool
	}{
		{row: "n = h", name: "the first refresh", rules: defaults, n: 0, after: 1, outcome: Advance, head: 1},
		{row: "n = h", name: "the third", rules: defaults, heads: hours(1, 2), n: 2, after: 3 * time.Hour, outcome: Advance, head: 3},
		{row: "n = h", name: "in the same millisecond", rules: defaults, heads: hours(1), n: 1, after: time.Hour, outcome: Advance, head: 2},
		{row: "n = h", name: "after a long pause", rules: defaults, heads: hours(1), n: 1, after: 89 * day, outcome: Advance, head: 2},
		{row: "n = h", name: "no window", rules: window(0), heads: hours(1), n: 1, after: 2 * time.Hour, outcome: Advance, head: 2},

		{row: "n = h−1", name: "at once", rules: defaults, heads: hours(1), n: 0, after: time.Hour, outcome: Repeat, head: 1},
		{row: "n = h−1", name: "long after the window", rules: defaults, heads: hours(1), n: 0, after: 89 * day, outcome: Repeat, head: 1},
		{row: "n = h−1", name: "of a long session", rules: defaults, heads: hours(1, 2, 3, 50), n: 3, after: 80 * day, outcome: Repeat, head: 4},
		{row: "n = h−1", name: "no window", rules: window(0), heads: hours(1), n: 0, after: 80 * day, outcome: Repeat, head: 1},
		{row: "n = h−1", name: "policy revoke", rules: revoke, heads: hours(1), n: 0, after: 80 * day, outcome: Repeat, head: 1},

		{row: "n < h−1 within", name: "at once", rules: defaults, heads: hours(1, 2), n: 0, after: 2 * time.Hour, outcome: Converge, head: 2},
		{row: "n < h−1 within", name: "the last moment", rules: defaults, heads: hours(1, 2), n: 0, after: 26*time.Hour - ms, outcome: Converge, head: 2},
		{row: "n < h−1 within", name: "counted from the successor's first presentation, not from its making", rules: defaults, heads: hours(0, 20), n: 0, after: 43 * time.Hour, outcome: Converge, head: 2},
		{row: "n < h−1 within", name: "the head is far ahead", rules: defaults, heads: hours(1, 2, 3, 4, 5, 6), n: 0, after: 26*time.Hour - ms, outcome: Converge, head: 6},
		{row: "n < h−1 within", name: "another rotation in the same eighth", rules: defaults, heads: []time.Duration{0, time.Minute, 170 * time.Minute, 4 * time.Hour}, n: 0, after: day + time.Minute - ms, outcome: Converge, head: 4},
		{row: "n < h−1 within", name: "policy revoke", rules: revoke, heads: hours(1, 2), n: 0, after: 26*time.Hour - ms, outcome: Converge, head: 2},
		{row: "n < h−1 within", name: "tiny window", rules: window(8 * ms), heads: []time.Duration{0, 3 * ms}, n: 0, after: 11*ms - 1, outcome: Converge, head: 2},
		{row: "n < h−1 within", name: "the clock went back", rules: defaults, heads: hours(100, 101), n: 0, after: time.Hour, outcome: Converge, head: 2},

		{row: "n < h−1 later", name: "the first moment", rules: defaults, heads: hours(1, 2), n: 0, after: 26 * time.Hour, outcome: Stale, head: 2, entry: account.EntrySuspectedReuse},
		{row: "n < h−1 later", name: "an eighth later at the latest", rules: defaults, heads: []time.Duration{0, time.Minute, 170 * time.Minute, 4 * time.Hour}, n: 0, after: 27*time.Hour + time.Minute, outcome: Stale, head: 4, entry: account.EntrySuspectedReuse},
		{row: "n < h−1 later", name: "while a younger one is within", rules: defaults, heads: hours(1, 2, 20), n: 0, after: 27 * time.Hour, outcome: Stale, head: 3, entry: account.EntrySuspectedReuse},
		{row: "n < h−1 later", name: "and its mark is dropped", rules: defaults, heads: hours(1, 2, 20, 80, 81), n: 0, after: 82 * time.Hour, outcome: Stale, head: 5, entry: account.EntrySuspectedReuse},
		{row: "n < h−1 later", name: "no window", rules: window(0), heads: hours(1, 2), n: 0, after: 2 * time.Hour, outcome: Stale, head: 2, entry: account.EntrySuspectedReuse},
		{row: "n < h−1 later", name: "tiny window", rules: window(8 * ms), heads: []time.Duration{0, 3 * ms}, n: 0, after: 11 * ms, outcome: Stale, head: 2, entry: account.EntrySuspectedReuse},
		{row: "n < h−1 later", name: "policy revoke", rules: revoke, heads: hours(1, 2), n: 0, after: 26 * time.Hour, outcome: Stale, head: 2, entry: account.EntrySuspectedReuse, revoked: true},

		{row: "n > h", name: "by one", rules: defaults, heads: hours(1), n: 2, after: 2 * time.Hour, outcome: Ahead, head: 3, entry: account.EntrySessionAhead},
		{row: "n > h", name: "by many", rules: defaults, heads: hours(1), n: 5000, after: 2 * time.Hour, outcome: Ahead, head: 5001, entry: account.EntrySessionAhead},
		{row: "n > h", name: "policy revoke", rules: revoke, n: 1, after: 80 * day, outcome: Ahead, head: 2, entry: account.EntrySessionAhead},
	} {
		t.Run(c.row+"/"+c.name, func(t *testing.T) {
			was := advanced(t, c.rules, c.heads...)
			r := rotate(was, show(c.n, c.after), c.rules)
			if r.Outcome != c.outcome || r.Revoke != c.revoked {
				t.Fatalf("outcome %d, revoke %t, want %d, %t", r.Outcome, r.Revoke, c.outcome, c.revoked)
			}
			if r.Next.Head != c.head {
				t.Errorf("head is at %d, want %d", r.Next.Head, c.head)
			}
			switch {
			case c.entry == "" && len(r.Entries) > 0:
				t.Errorf("recorded %+v", r.Entries)
			case c.entry != "" && (len(r.Entries) == 0 || r.Entries[0].Kind != c.entry):
				t.Errorf("recorded %+v, want %s", r.Entries, c.entry)
			case c.revoked && (len(r.Entries) != 2 || r.Entries[1].Kind != account.EntrySessionRevoked || r.Entries[1].Reason != "refresh token reused"):
				t.Errorf("recorded %+v, want the end of the session as well", r.Entries)
			case !c.revoked && len(r.Entries) > 1:
				t.Errorf("recorded %+v, want one entry", r.Entries)
			}
			moved := c.outcome == Advance || c.outcome == Ahead
			if want := moved || c.entry != ""; r.Changed != want {
				t.Errorf("changed %t, want %t", r.Changed, want)
			}
			if moved {
				if want := later(at(c.after), was.RotatedAt); r.Next.RotatedAt != want || r.Next.Expires != want.Add(c.rules.RefreshTTL) {
					t.Errorf("rotated at %s, expires %s", r.Next.RotatedAt, r.Next.Expires)
				}
				return
			}
			// An answer without a rotation leaves everything but the flag.
			next := r.Next
			next.FlaggedAt = was.FlaggedAt
			if !sameState(next, was) {
				t.Errorf("state became %+v, was %+v", r.Next, was)
			}
		})
	}
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

func sameState(a, b State) bool {
	same := slices.Equal(a.Marks, b.Marks)
	a.Marks, b.Marks = nil, nil
	return same && reflect.DeepEqual(a, b)
}

// TestRotateAfterAhead follows a session whose database was restored: every
// client of it goes on, whichever of its tokens it has.
func TestRotateAfterAhead(t *testing.T) {
	restored := advanced(t, defaults, time.Hour, 2*time.Hour) // head 2; the clients were at 9 already
	r := rotate(restored, show(9, 30*time.Hour), defaults)
	if r.Outcome != Ahead || r.Next.Head != 10 {
		t.Fatalf("outcome %d, head %d", r.Outcome, r.Next.Head)
	}
	for n, want := range map[int64]Outcome{10: Advance, 9: Repeat, 8: Converge, 5: Converge, 2: Converge, 1: Converge, 0: Stale} {
		if got := rotate(r.Next, show(n, 31*time.Hour), defaults).Outcome; got != want {
			t.Errorf("generation %d afterwards: outcome %d, want %d", n, got, want)
		}
	}
}

// TestRotateClockGoingBack: a clock that jumps back makes no token older, and
// the times of a session never run backwards.
func TestRotateClockGoingBack(t *testing.T) {
	s := advanced(t, defaults, 10*time.Hour, 2*time.Hour, 11*time.Hour, time.Minute)
	if s.Head != 4 || s.RotatedAt != at(11*time.Hour) || s.Expires != at(11*time.Hour+90*day) {
		t.Errorf("state %+v", s)
	}
	for n := range int64(3) {
		if got := rotate(s, show(n, 0), defaults).Outcome; got != Converge {
			t.Errorf("generation %d: outcome %d", n, got)
		}
	}
	// Once the clock is right again, the window ends when it would have.
	if got := rotate(s, show(2, 35*time.Hour-1), defaults).Outcome; got != Converge {
		t.Errorf("before the window's end: outcome %d", got)
	}
	if got := rotate(s, show(2, 38*time.Hour), defaults).Outcome; got != Stale {
		t.Errorf("an eighth after the window's end: outcome %d", got)
	}
}

// TestRotateBurst refreshes without a pause, and for days: nobody is forgotten
// within the window, nobody is accepted an eighth after it, and the state does
// not grow.
func TestRotateBurst(t *testing.T) {
	for _, c := range []struct {
		name     string
		rotation int
		every    time.Duration
	}{
		{"500 in a second", 500, 2 * time.Millisecond},
		{"500 in two days", 500, 345600 * time.Millisecond},
		{"100,000 in a minute and a half", 100_000, time.Millisecond},
		{"100,000 in two days", 100_000, 1728 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := fresh()
			for i := range c.rotation {
				s = rotate(s, show(s.Head, time.Duration(i)*c.every), defaults).Next
				if len(s.Marks) > marksPerWindow {
					t.Fatalf("%d marks after rotation %d", len(s.Marks), i)
				}
			}
			if s.Head != int64(c.rotation) {
				t.Fatalf("head %d", s.Head)
			}
			for _, now := range []time.Duration{
				time.Duration(c.rotation) * c.every, // right after
				day - 1, day + time.Hour, 26 * time.Hour, 40 * time.Hour, 50 * time.Hour, 70 * time.Hour, 80 * time.Hour,
			} {
				if now < time.Duration(c.rotation-1)*c.every {
					continue // still in the burst
				}
				for n := int64(0); n < s.Head-1; n += max(1, s.Head/997) {
					// The head moved to n+2 at the presentation with index n+1.
					age := now - time.Duration(n+1)*c.every
					got := rotate(s, show(n, now), defaults).Outcome
					if age < day && got != Converge {
						t.Fatalf("generation %d, superseded %s ago: outcome %d", n, age, got)
					}
					if age >= day+day/8 && got != Stale {
						t.Fatalf("generation %d, superseded %s ago: outcome %d", n, age, got)
					}
				}
			}
		})
	}
}

// TestRotateSuspicions: what is recorded, with both sides of it.
func TestRotateSuspicions(t *testing.T) {
	old := advanced(t, defaults, time.Hour, 2*time.Hour, 3*time.Hour) // head 3, moved by the phone
	for _, c := range []struct {
		name               string
		n                  int64
		after              time.Duration
		network, userAgent string
		want               account.EntryKind
	}{
		{"reuse from where it is at home", 0, 50 * time.Hour, "192.0.2.1", "phone", account.EntrySuspectedReuse},
		{"reuse from elsewhere", 0, 50 * time.Hour, "198.51.100.9", "laptop", account.EntrySuspectedReuse},
		{"replay by the same client", 2, 4 * time.Hour, "192.0.2.1", "phone", ""},
		{"replay from another network", 2, 4 * time.Hour, "198.51.100.9", "phone", ""},
		{"replay with another user agent", 2, 4 * time.Hour, "192.0.2.1", "laptop", ""},
		{"replay with both different", 2, 4 * time.Hour, "198.51.100.9", "laptop", account.EntrySuspectedSharing},
		{"older one by the same client", 0, 4 * time.Hour, "192.0.2.1", "phone", ""},
		{"older one with both different", 0, 4 * time.Hour, "198.51.100.9", "laptop", account.EntrySuspectedSharing},
		{"the head from elsewhere", 3, 4 * time.Hour, "198.51.100.9", "laptop", ""},
		{"ahead from elsewhere", 9, 4 * time.Hour, "198.51.100.9", "laptop", account.EntrySessionAhead},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rotate(old, Presentation{Generation: c.n, At: at(c.after), Network: c.network, UserAgent: c.userAgent}, defaults)
			if c.want == "" {
				if len(r.Entries) > 0 {
					t.Errorf("recorded %+v", r.Entries)
				}
				return
			}
			if len(r.Entries) != 1 {
				t.Fatalf("recorded %+v, want one entry", r.Entries)
			}
			e := r.Entries[0]
			if e.Reason == "" {
				t.Error("no reason")
			}
			e.Reason = ""
			want := account.Entry{
				At: at(c.after), Kind: c.want, By: account.ActorServer, Session: old.ID,
				Network: c.network, UserAgent: c.userAgent, OtherNetwork: "192.0.2.1", OtherUserAgent: "phone",
			}
			if e != want {
				t.Errorf("recorded %+v\nwant     %+v", e, want)
			}
		})
	}
}

// TestRotateFlagsOnceAnHour: a client in a loop writes one line an hour, and
// between two of them changes nothing on disk.
func TestRotateFlagsOnceAnHour(t *testing.T) {
	for name, p := range map[string]Presentation{
		"reuse":   {Generation: 0, Network: "192.0.2.1", UserAgent: "phone"},
		"sharing": {Generation: 2, Network: "198.51.100.9", UserAgent: "laptop"},
	} {
		t.Run(name, func(t *testing.T) {
			s := advanced(t, defaults, time.Hour, 2*time.Hour, 3*time.Hour)
			var flagged []time.Duration
			for after := 50 * time.Hour; after < 53*time.Hour; after += 10 * time.Minute {
				p.At = at(after)
				r := rotate(s, p, defaults)
				if r.Changed != (len(r.Entries) > 0) {
					t.Fatalf("changed %t, entries %v", r.Changed, r.Entries)
				}
				if len(r.Entries) > 0 {
					flagged = append(flagged, after)
				}
				s = r.Next
			}
			if want := []time.Duration{50 * time.Hour, 51 * time.Hour, 52 * time.Hour}; !slices.Equal(flagged, want) {
				t.Errorf("flagged at %v, want %v", flagged, want)
			}
		})
	}
	// The revoke policy ends the session however recently it was flagged.
	s := advanced(t, defaults, time.Hour, 2*time.Hour)
	s.FlaggedAt = at(50 * time.Hour)
	r := rotate(s, show(0, 50*time.Hour+1), Rules{ReuseWindow: day, RefreshTTL: 90 * day, Policy: PolicyRevoke})
	if !r.Revoke || !r.Changed || len(r.Entries) != 2 {
		t.Errorf("after a flag: %+v", r)
	}
}

// BenchmarkRotate measures the decision alone, at the pace of an ordinary client
// and without a pause.
func BenchmarkRotate(b *testing.B) {
	for name, every := range map[string]time.Duration{"hourly": time.Hour, "burst": time.Millisecond} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			s := fresh()
			now := midnight
			for b.Loop() {
				now = now.Add(every)
				s = rotate(s, Presentation{Generation: s.Head, At: now, Network: "192.0.2.1", UserAgent: "phone"}, defaults).Next
			}
		})
	}
	b.Run("replay", func(b *testing.B) {
		b.ReportAllocs()
		s := advanced(b, defaults, time.Hour, 2*time.Hour, 3*time.Hour)
		for b.Loop() {
			rotate(s, show(0, 4*time.Hour), defaults)
		}
	})
}
