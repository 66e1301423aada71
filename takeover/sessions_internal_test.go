package takeover

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"nestbox/auth"
	"nestbox/session"
)

const (
	hour = time.Hour
	day  = 24 * hour
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// row writes a refresh_token: "a>b phone +90d" is a with the successor b, of an app password,
// that expires in 90 days.
func row(t *testing.T, text string) RefreshToken {
	t.Helper()
	fields := strings.Fields(text)
	var r RefreshToken
	r.ID, r.Next, _ = strings.Cut(fields[0], ">")
	if len(fields) == 3 {
		r.AppPassword, r.OfApp = fields[1], true
	}
	last := fields[len(fields)-1]
	days, isDays := strings.CutSuffix(last, "d")
	if isDays {
		last = days + "h"
	}
	d, err := time.ParseDuration(last)
	if err != nil {
		t.Fatal(err)
	}
	if isDays {
		d *= 24
	}
	r.Expires = noon.Add(d)
	return r
}

// TestChains is section 3 of the contract: which sessions live on, and which generation each
// token is.
func TestChains(t *testing.T) {
	t.Parallel()
	apps := map[string]HeldAppPassword{"phone": {ID: 7}, "watch": {ID: 8, Privileged: true}}
	for _, c := range []struct {
		name   string
		rows   []string
		want   string // sessions, each with its tokens by generation
		counts SessionCounts
	}{
		{"never refreshed", []string{"a +89d"}, "access 0:a", SessionCounts{}},
		{"refreshed twice inside the grace", []string{"c +90d", "a>b +1h", "b>c +2h"}, "access 0:a 1:b 2:c", SessionCounts{}},
		{"the answer was lost three hours ago", []string{"a>b -1h", "b +90d"}, "access 0:a 1:b", SessionCounts{}},
		{"predecessor pruned", []string{"b>c -1h", "c +80d"}, "access 0:b 1:c", SessionCounts{}},
		{"app password", []string{"a>b phone -5h", "b phone +90d"}, "appPass 0:a 1:b", SessionCounts{}},
		{"privileged", []string{"a watch +1d"}, "appPassPrivileged 0:a", SessionCounts{}},
		{"signed out", []string{"a>gone +1h"}, "", SessionCounts{SignedOut: 1}},
		{"signed out later", []string{"a>b -1h", "b>gone +1h"}, "", SessionCounts{SignedOut: 1}},
		{"signed out with an older token", []string{"a>gone +1h", "c +90d"}, "access 0:c", SessionCounts{SignedOut: 1}},
		{"unused for too long", []string{"a -1s"}, "", SessionCounts{Expired: 1}},
		{"expires now", []string{"a>b -30d", "b +0s"}, "", SessionCounts{Expired: 1}},
		{"app password gone", []string{"a old +90d"}, "", SessionCounts{NoAppPassword: 1}},
		{"several", []string{"a +1d", "b>c +1h", "c +2d", "x>gone +1h"}, "access 0:a access 0:b 1:c", SessionCounts{SignedOut: 1}},
		{"a circle", []string{"a>b +1d", "b>a +1d", "c +1d"}, "access 0:c", SessionCounts{Damaged: 2}},
		{"its own successor", []string{"a>a +1d"}, "", SessionCounts{Damaged: 1}},
		{"into a circle", []string{"x>a +1d", "a>b +1d", "b>a +1d"}, "", SessionCounts{Damaged: 3}},
		{"two with one successor", []string{"a>c +1h", "b>c +1h", "c +90d"}, "access 0:a 0:b 1:c", SessionCounts{}},
		{
			"a revoked app password's token must not become the owner's",
			[]string{"a>b old +1h", "b +90d"},
			"access 0:b",
			SessionCounts{Damaged: 1},
		},
		{
			"nor what leads to it",
			[]string{"z>a +1h", "a>b phone +1h", "b +90d"},
			"access 0:b",
			SessionCounts{Damaged: 2},
		},
	} {
		var rows []RefreshToken
		for _, text := range c.rows {
			rows = append(rows, row(t, text))
		}
		chains, counts := chainsOf(rows, noon)
		var got []string
		for _, one := range chains {
			b, ok := one.session(Holder{AccountID: 3, AppPasswords: apps}, noon)
			if !ok {
				counts.NoAppPassword++
				continue
			}
			checkBrought(t, c.name, b)
			got = append(got, describe(b, rows))
		}
		slices.Sort(got)
		if text := strings.Join(got, " "); text != c.want || counts != c.counts {
			t.Errorf("%s: got %q, %+v\nwant %q, %+v", c.name, text, counts, c.want, c.counts)
		}
	}
}

func describe(b Brought, rows []RefreshToken) string {
	text := strings.TrimPrefix(string(b.State.Scope), "com.atproto.")
	var tokens []string
	for _, token := range b.Tokens {
		for _, r := range rows {
			if session.TokenHash(r.ID) == token.Hash {
				tokens = append(tokens, fmt.Sprintf("%d:%s", token.Generation, r.ID))
			}
		}
	}
	slices.Sort(tokens)
	return text + " " + strings.Join(tokens, " ")
}

// checkBrought checks what the store and the session table promise of a session.
func checkBrought(t interface{ Errorf(string, ...any) }, name string, b Brought) {
	st := b.State
	switch {
	case st.CreatedAt.IsZero() || st.CreatedAt.After(st.RotatedAt) || st.RotatedAt.After(noon) || !st.Expires.After(noon):
		t.Errorf("%s: made %s, rotated %s, expires %s", name, st.CreatedAt, st.RotatedAt, st.Expires)
	case st.Floor < 0 || st.Floor > st.Head || len(st.Marks) > 8:
		t.Errorf("%s: head %d, floor %d, marks %v", name, st.Head, st.Floor, st.Marks)
	case st.Network != "" || st.UserAgent != "" || st.Nonce == "" || st.AccountID != 3:
		t.Errorf("%s: %+v", name, st)
	}
	last := session.Mark{Generation: st.Floor}
	for _, m := range append(slices.Clone(st.Marks), session.Mark{Time: st.RotatedAt, Generation: st.Head}) {
		if m.Time.Before(last.Time) || m.Generation < last.Generation {
			t.Errorf("%s: marks out of order: %+v", name, st)
		}
		last = m
	}
}

// TestTimes: when each generation came to be is exact to the millisecond.
func TestTimes(t *testing.T) {
	t.Parallel()
	at := func(before time.Duration) time.Time { return noon.Add(-before) }
	rows := []RefreshToken{
		{ID: "a", Next: "b", Expires: at(5*hour + 7*time.Millisecond).Add(2 * hour)},
		{ID: "b", Next: "c", Expires: at(hour).Add(2 * hour)},
		{ID: "c", Expires: noon.Add(89 * day)},
	}
	chains, _ := chainsOf(rows, noon)
	b, ok := chains[0].session(Holder{AccountID: 3}, noon)
	want := session.State{
		Nonce: b.State.Nonce, AccountID: 3, Scope: auth.ScopeAccess, CreatedAt: at(5*hour + 7*time.Millisecond), Head: 2, RotatedAt: at(hour),
		Marks: []session.Mark{{Time: at(5*hour + 7*time.Millisecond), Generation: 1}}, Expires: noon.Add(89 * day),
	}
	if !ok || fmt.Sprintf("%+v", b.State) != fmt.Sprintf("%+v", want) {
		t.Errorf("got  %+v\nwant %+v", b.State, want)
	}
}

// TestChainsProperties: whatever rows there are, nothing that was signed out lives, and
// nothing that lives is lost.
func TestChainsProperties(t *testing.T) { t.Parallel(); rapid.Check(t, chainsProperty) }

// FuzzChains is TestChainsProperties guided by coverage.
func FuzzChains(f *testing.F) { f.Fuzz(rapid.MakeFuzz(chainsProperty)) }

func chainsProperty(t *rapid.T) {
	names := []string{"", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "gone", "\x00"}
	ids := rapid.SliceOfDistinct(rapid.SampledFrom(names[1:11]), rapid.ID[string]).Draw(t, "ids")
	var rows []RefreshToken
	byID := map[string]RefreshToken{}
	for _, id := range ids {
		r := RefreshToken{ID: id, Next: rapid.SampledFrom(names).Draw(t, "next")}
		if app := rapid.SampledFrom([]string{"-", "-", "-", "", "phone", "old"}).Draw(t, "app"); app != "-" {
			r.AppPassword, r.OfApp = app, true
		}
		if rapid.IntRange(0, 9).Draw(t, "readable") > 0 {
			r.Expires = noon.Add(time.Duration(rapid.Int64Range(-200, 200).Draw(t, "hours")) * hour)
		}
		rows = append(rows, r)
		byID[id] = r
	}
	holder := Holder{AccountID: 3, AppPasswords: map[string]HeldAppPassword{"phone": {ID: 7}}}
	// leads returns where a row's links end: at a live session of the same kind, if ok.
	leads := func(r RefreshToken) (end RefreshToken, ok bool) {
		if circles(byID, r, len(rows)) {
			return r, false
		}
		for end = r; ; {
			if end.OfApp != r.OfApp || end.AppPassword != r.AppPassword {
				return end, false
			}
			if end.Next == "" {
				return end, end.Expires.After(noon) && (!end.OfApp || end.AppPassword == "phone")
			}
			next, there := byID[end.Next]
			if !there {
				return end, false
			}
			end = next
		}
	}
	chains, counts := chainsOf(rows, noon)
	stands := map[[32]byte]string{} // the head that each token leads to
	n := 0
	for _, c := range chains {
		b, ok := c.session(holder, noon)
		if !ok {
			continue
		}
		n++
		checkBrought(t, c.head.ID, b)
		for _, token := range b.Tokens {
			if _, twice := stands[token.Hash]; twice || token.Generation < 0 || token.Generation > b.State.Head {
				t.Errorf("generation %d of %s, head %d, twice: %t", token.Generation, c.head.ID, b.State.Head, twice)
			}
			stands[token.Hash] = c.head.ID
		}
	}
	for _, r := range rows {
		end, ok := leads(r)
		if got, there := stands[session.TokenHash(r.ID)]; there != ok || ok && got != end.ID {
			t.Errorf("%+v leads to %q, want %t %+v; counts %+v", r, got, ok, end, counts)
		}
	}
}

// circles reports whether a row's links never end.
func circles(byID map[string]RefreshToken, r RefreshToken, steps int) bool {
	for range steps + 1 {
		next, there := byID[r.Next]
		if !there {
			return false
		}
		r = next
	}
	return true
}
