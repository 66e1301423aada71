package session

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// diary is a session that forgets nothing: the naive form of the contract's table,
// with which the bounded one is compared.
type diary struct {
	head  int64
	moves []Mark // every rotation
}

// superseded returns when generation n < head-1 was superseded for good: when the
// head moved past its successor, which was then first presented.
func (d *diary) superseded(n int64) time.Time {
	i, _ := slices.BinarySearchFunc(d.moves, n+2, func(m Mark, g int64) int { return int(m.Generation - g) })
	return d.moves[i].Time
}

// rotateProperty plays random presentations and compares each outcome. Within
// an eighth after the window either answer is right; everything else is exact.
func rotateProperty(t *rapid.T) {
	const ms = time.Millisecond
	rules := Rules{
		ReuseWindow: rapid.SampledFrom([]time.Duration{0, ms, 3 * ms, 8 * ms, 100 * ms, 1500 * ms, time.Hour, day, 30 * day}).Draw(t, "window"),
		RefreshTTL:  90 * day,
		Policy:      rapid.SampledFrom([]Policy{PolicyReport, PolicyRevoke}).Draw(t, "policy"),
	}
	slot := rules.ReuseWindow / marksPerWindow
	// Steps from a fraction of an eighth up to several windows.
	pause := rapid.OneOf(
		rapid.Just(time.Duration(0)), rapid.Just(ms),
		rapid.Map(rapid.Int64Range(0, int64(slot)), func(n int64) time.Duration { return time.Duration(n) }),
		rapid.Map(rapid.Int64Range(0, int64(3*rules.ReuseWindow)), func(n int64) time.Duration { return time.Duration(n) }),
		rapid.Map(rapid.Int64Range(0, int64(2*rules.ReuseWindow)), func(n int64) time.Duration { return -time.Duration(n) }),
	)
	s, d := fresh(), diary{}
	now := midnight.Add(time.Duration(rapid.Int64Range(0, int64(day/ms)).Draw(t, "start")) * ms)
	s.RotatedAt = now
	for range rapid.IntRange(1, 300).Draw(t, "presentations") {
		now = now.Add(pause.Draw(t, "pause")).Truncate(ms)
		n := s.Head
		switch rapid.SampledFrom([]string{"head", "head", "head", "predecessor", "older", "ancient", "ahead"}).Draw(t, "which") {
		case "predecessor":
			n = max(s.Head-1, 0)
		case "older":
			n = rapid.Int64Range(max(s.Head-4, 0), max(s.Head-2, 0)).Draw(t, "n")
		case "ancient":
			n = rapid.Int64Range(max(s.Head-40, 0), s.Head).Draw(t, "n")
		case "ahead":
			n = s.Head + rapid.Int64Range(1, 30).Draw(t, "by")
		}
		r := rotate(s, Presentation{Generation: n, At: now, Network: "192.0.2.1", UserAgent: "phone"}, rules)
		clock := later(now, s.RotatedAt)

		allowed := []Outcome{Stale}
		switch {
		case n == d.head:
			allowed = []Outcome{Advance}
		case n > d.head:
			allowed = []Outcome{Ahead}
		case n == d.head-1:
			allowed = []Outcome{Repeat}
		default:
			switch age := clock.Sub(d.superseded(n)); {
			case age < rules.ReuseWindow:
				allowed = []Outcome{Converge}
			case age < rules.ReuseWindow+slot:
				allowed = []Outcome{Converge, Stale}
			}
		}
		if !slices.Contains(allowed, r.Outcome) {
			t.Fatalf("generation %d at %s, head %d: outcome %d, allowed %v\n%+v", n, clock, d.head, r.Outcome, allowed, s)
		}
		if r.Revoke != (r.Outcome == Stale && rules.Policy == PolicyRevoke) {
			t.Fatalf("outcome %d, policy %s: revoke %t", r.Outcome, rules.Policy, r.Revoke)
		}
		if r.Outcome == Advance || r.Outcome == Ahead {
			d.head = n + 1
			d.moves = append(d.moves, Mark{Time: clock, Generation: d.head})
		}
		s = r.Next
		checkState(t, s, d.head, rules)
	}
}

// checkState checks the invariants of a state.
func checkState(t *rapid.T, s State, head int64, rules Rules) {
	switch {
	case s.Head != head:
		t.Fatalf("head %d, want %d", s.Head, head)
	case len(s.Marks) > marksPerWindow:
		t.Fatalf("%d marks", len(s.Marks))
	case s.Floor > s.Head:
		t.Fatalf("floor %d above head %d", s.Floor, s.Head)
	case head > 0 && !s.Expires.Equal(s.RotatedAt.Add(rules.RefreshTTL)):
		t.Fatalf("rotated at %s, expires %s", s.RotatedAt, s.Expires)
	}
	last := Mark{Generation: s.Floor}
	for _, m := range append(slices.Clone(s.Marks), Mark{Time: s.RotatedAt, Generation: s.Head}) {
		if m.Time.Before(last.Time) || m.Generation < last.Generation {
			t.Fatalf("marks are out of order: %+v", s)
		}
		last = m
	}
}

func TestRotateAgainstDiary(t *testing.T) { rapid.Check(t, rotateProperty) }

// FuzzRotate is TestRotateAgainstDiary guided by coverage.
func FuzzRotate(f *testing.F) { f.Fuzz(rapid.MakeFuzz(rotateProperty)) }
