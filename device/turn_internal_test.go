package device

import (
	"slices"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// jar is a browser as the table of turn needs it, and the secrets that were sent to it.
type jar struct {
	Browser

	sent []secret
}

func newJar() *jar {
	s := secret(random())
	return &jar{Browser{ID: 7, Secrets: []Secret{{Hash: s.hash()}}, RotatedAt: start}, []secret{s}}
}

// come lets a secret come and returns which one the answer carries: -1 for none.
func (j *jar) come(t *testing.T, which int, earns bool, at time.Time) (turned, int) {
	t.Helper()
	r := turn(j.Browser, arrival{secret: j.sent[which], earns: earns, salt: random(), at: at})
	if !r.known {
		return r, -1
	}
	if len(r.next.Secrets) > MaxSecrets || r.next.Secrets[0].Hash != j.sent[which].hash() {
		t.Fatalf("secret %d leaves %d secrets", which, len(r.next.Secrets))
	}
	j.Browser = r.next
	if r.send == nil {
		return r, -1
	}
	if i := slices.Index(j.sent, *r.send); i >= 0 {
		return r, i
	}
	j.sent = append(j.sent, *r.send)
	return r, len(j.sent) - 1
}

// TestTurn is the table of turn: what comes, after what was sent, and what is sent then.
func TestTurn(t *testing.T) {
	type step struct {
		which int
		earns bool
		after time.Duration // since the start
		send  int           // -1: nothing
	}
	const look, earn = false, true
	gone := -2
	for name, steps := range map[string][]step{
		"young":                         {{0, look, time.Hour, -1}},
		"old":                           {{0, look, SecretLife, 1}, {1, look, SecretLife, -1}, {0, look, SecretLife, gone}},
		"clock went back":               {{0, look, -SecretLife, 1}},
		"earned":                        {{0, earn, 0, 1}, {1, look, 0, -1}, {0, look, 0, gone}, {0, earn, 0, gone}},
		"answer to a look lost":         {{0, look, SecretLife, 1}, {0, look, SecretLife, 1}, {0, look, 9 * SecretLife, 1}, {1, look, SecretLife, -1}},
		"answer to a sign-in lost":      {{0, earn, 0, 1}, {0, look, 0, -1}, {0, look, 9 * SecretLife, -1}, {0, earn, 0, 2}, {1, look, 0, -1}},
		"a thief earns, then the owner": {{0, earn, 0, 1}, {0, earn, 0, 2}, {1, look, 0, -1}, {2, look, 0, -1}, {1, look, 0, gone}},
		"sign-in while a look is sent":  {{0, look, SecretLife, 1}, {0, earn, SecretLife, 2}, {1, look, SecretLife, -1}, {0, look, SecretLife, gone}, {2, look, SecretLife, -1}, {1, look, SecretLife, gone}},
		"lost sign-ins": {
			{0, earn, 0, 1},
			{0, earn, 0, 2},
			{0, earn, 0, 3},
			{0, earn, 0, 4},
			{0, earn, 0, 5},
			{0, earn, 0, 6},
			{0, earn, 0, 7},
			{0, earn, 0, 8},
			{0, earn, 0, 9},
			{1, look, 0, gone},
			{9, look, 0, -1},
			{0, look, 0, gone},
		},
		"many work":                     {{0, look, SecretLife, 1}, {0, earn, SecretLife, 2}, {0, earn, SecretLife, 3}, {0, look, SecretLife, -1}, {1, earn, SecretLife, 4}, {1, earn, SecretLife, 5}, {2, earn, SecretLife, 6}},
		"thief looks, then the owner's": {{0, look, SecretLife, 1}, {1, look, SecretLife, -1}, {0, look, SecretLife, gone}},
	} {
		j := newJar()
		for i, s := range steps {
			r, sent := j.come(t, s.which, s.earns, start.Add(s.after))
			if s.send == gone {
				if r.known {
					t.Errorf("%s, step %d: secret %d still works", name, i, s.which)
				}
				continue
			}
			if !r.known || sent != s.send {
				t.Errorf("%s, step %d: secret %d known %v, sends %d, want %d", name, i, s.which, r.known, sent, s.send)
			}
		}
	}
	if r := turn(newJar().Browser, arrival{secret: random(), earns: true, salt: random(), at: start}); r.known || r.changed || r.send != nil {
		t.Errorf("a secret of nobody: %+v", r)
	}
}

// TestShown: an earlier secret proves nothing that was earned since.
func TestShown(t *testing.T) {
	j := newJar()
	j.SignIns = []SignIn{{AccountID: 1}}
	j.come(t, 0, true, start) // signs the second account in
	j.SignIns = append(j.SignIns, SignIn{AccountID: 2, Generation: j.Generation})
	j.SignIns[0].StepUp = StepUp{At: start, Level: 2}
	earlier, _ := j.come(t, 0, false, start)
	if b := earlier.shown(); len(b.SignIns) != 1 || b.SignIns[0].AccountID != 1 || b.SignIns[0].StepUp != (StepUp{}) {
		t.Errorf("the earlier secret proves %+v", b.SignIns)
	}
	copied := *j
	copied.sent = slices.Clone(j.sent)
	if thief, _ := copied.come(t, 0, true, start); len(thief.next.SignIns) != 1 || thief.next.SignIns[0].StepUp != (StepUp{}) {
		t.Errorf("who earns with the earlier secret gets %+v", thief.next.SignIns)
	}
	newest, _ := j.come(t, 1, false, start)
	if b := newest.shown(); len(b.SignIns) != 2 || b.SignIns[0].StepUp.Level != 2 {
		t.Errorf("the newest secret proves %+v", b.SignIns)
	}
}

// TestCookie: only what was written is read.
func TestCookie(t *testing.T) {
	s := secret(random())
	value := formatCookie(35, s)
	if id, got, ok := parseCookie(value); !ok || id != 35 || got != s {
		t.Fatalf("%q: %d, %v", value, id, ok)
	}
	for _, bad := range []string{
		"", ".", "z", "z.", value + "=", value + "A", value[:len(value)-1], strings.ToUpper(value[:1]) + value[1:], "0" + value, "+" + value,
		"-" + value, " " + value, "0" + value[1:], strings.Replace(value, ".", "..", 1), strings.Repeat("z", 4000) + value[1:], value + "\n",
	} {
		if _, _, ok := parseCookie(bad); ok {
			t.Errorf("%.80q is read", bad)
		}
	}
}

func FuzzCookie(f *testing.F) {
	f.Add(formatCookie(1, secret{}))
	f.Add("z.AAAA")
	f.Fuzz(func(t *testing.T, value string) {
		if id, s, ok := parseCookie(value); ok && (formatCookie(id, s) != value || id < 1) {
			t.Errorf("%q is read as %d", value, id)
		}
	})
}

// TestLives is the table of what a sign-in is good for, and for how long.
func TestLives(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		name                               string
		in                                 SignIn
		live, look, authorize, proof, trst bool
	}{
		{"now", SignIn{At: start, UsedAt: start}, true, true, true, false, false},
		{"unused 2 h", SignIn{At: start.Add(-TabLife), UsedAt: start.Add(-TabLife)}, false, false, false, false, false},
		{"unused almost 2 h", SignIn{At: start.Add(-day), UsedAt: start.Add(1 - TabLife)}, true, true, true, false, false},
		{"remembered, unused 29 d", SignIn{At: start.Add(-29 * day), UsedAt: start.Add(-29 * day), Remember: true}, true, true, false, false, false},
		{"remembered, unused 30 d", SignIn{At: start.Add(-30 * day), UsedAt: start.Add(-30 * day), Remember: true}, false, false, false, false, false},
		{"remembered, 7 d ago", SignIn{At: start.Add(-7 * day), UsedAt: start, Remember: true}, true, true, false, false, false},
		{"remembered, 30 d ago, used", SignIn{At: start.Add(-30 * day), UsedAt: start, Remember: true}, true, false, false, false, false},
		{"stepped up", SignIn{At: start, UsedAt: start, StepUp: StepUp{At: start.Add(1 - StepUpLife), Level: 1}}, true, true, true, true, false},
		{"stepped up long ago", SignIn{At: start, UsedAt: start, StepUp: StepUp{At: start.Add(-StepUpLife), Level: 1}}, true, true, true, false, false},
		{"stepped up, signed out since", SignIn{At: start.Add(-day), UsedAt: start.Add(-TabLife), StepUp: StepUp{At: start, Level: 1}}, false, false, false, false, false},
		{"trusted", SignIn{UsedAt: start.Add(-day), TrustedUntil: start.Add(1)}, false, false, false, false, true},
		{"trusted until now", SignIn{UsedAt: start.Add(-day), TrustedUntil: start}, false, false, false, false, false},
		{"trusted by a clock that was ahead", SignIn{UsedAt: start.Add(-day), TrustedUntil: start.Add(31 * day)}, false, false, false, false, false},
		{"signed in by a clock that was ahead", SignIn{At: start.Add(40 * day), UsedAt: start.Add(40 * day), Remember: true}, false, false, false, false, false},
	} {
		got := []bool{c.in.Live(start), c.in.MayLook(start), c.in.MayAuthorize(start), c.in.Proof(start) != StepUp{}, c.in.Trusted(start)}
		if want := []bool{c.live, c.look, c.authorize, c.proof, c.trst}; !slices.Equal(got, want) {
			t.Errorf("%s: live, look, authorize, proof, trusted = %v, want %v", c.name, got, want)
		}
	}
}

// TestSwept: sign-ins go when they are over, unless they are trusted, and browsers when
// they have none and were not seen for long.
func TestSwept(t *testing.T) {
	over, trusted := SignIn{AccountID: 1, UsedAt: start.Add(-TabLife)}, SignIn{AccountID: 2, UsedAt: start.Add(-TabLife), TrustedUntil: start.Add(time.Hour)}
	live := SignIn{AccountID: 3, UsedAt: start}
	for _, c := range []struct {
		b             Browser
		left          int
		changed, gone bool
	}{
		{Browser{SeenAt: start, SignIns: []SignIn{over, trusted, live}}, 2, true, false},
		{Browser{SeenAt: start.Add(-EmptyLife), SignIns: []SignIn{trusted}}, 1, false, false},
		{Browser{SeenAt: start.Add(-EmptyLife), SignIns: []SignIn{over}}, 0, true, true},
		{Browser{SeenAt: start.Add(1 - EmptyLife), SignIns: []SignIn{over}}, 0, true, false},
		{Browser{SeenAt: start.Add(-EmptyLife)}, 0, false, true},
		{Browser{SeenAt: start}, 0, false, false},
	} {
		if next, changed, gone := Swept(c.b, start); len(next.SignIns) != c.left || changed != c.changed || gone != c.gone {
			t.Errorf("%+v: %d left, changed %v, gone %v", c.b, len(next.SignIns), changed, gone)
		}
	}
}

// TestMakeRoom: the longest unused give way, as few as needed.
func TestMakeRoom(t *testing.T) {
	held := []Held{{1, 1, start.Add(2)}, {2, 1, start}, {3, 1, start.Add(1)}}
	for limit, want := range map[int][]int64{5: nil, 4: nil, 3: {2}, 2: {2, 3}, 1: {2, 3, 1}, 0: {2, 3, 1}} {
		var got []int64
		for _, h := range MakeRoom(slices.Clone(held), limit) {
			got = append(got, h.Browser)
		}
		if !slices.Equal(got, want) {
			t.Errorf("limit %d ends %v, want %v", limit, got, want)
		}
	}
}
