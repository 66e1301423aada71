package takeover

import (
	"crypto/sha256"
	"slices"
	"strings"
	"testing"

	"nestbox/session"
)

// TestBack: which rows a session leaves for the old server.
func TestBack(t *testing.T) {
	t.Parallel()
	old := map[[sha256.Size]byte]RefreshToken{}
	for _, id := range []string{"a", "b", "c"} {
		old[session.TokenHash(id)] = RefreshToken{ID: id, Expires: noon.Add(-day)}
	}
	brought := func(id string, generation int64) BroughtToken { return BroughtToken{session.TokenHash(id), generation} }
	for _, c := range []struct {
		name string
		s    BackSession
		want string
	}{
		{"made here", BackSession{Head: 0, HeadID: "s.0"}, "s.0>"},
		{"refreshed here", BackSession{Head: 4, HeadID: "s.4", BeforeID: "s.3"}, "s.3>s.4 s.4>"},
		{
			"not used since",
			BackSession{Head: 2, HeadID: "s.2", BeforeID: "s.1", Tokens: []BroughtToken{brought("a", 0), brought("b", 1), brought("c", 2)}},
			"b>c c> s.1>c s.2>",
		},
		{
			"refreshed once",
			BackSession{Head: 3, HeadID: "s.3", BeforeID: "s.2", Tokens: []BroughtToken{brought("a", 0), brought("b", 1), brought("c", 2)}},
			"c>s.3 s.2>s.3 s.3>",
		},
		{"a token that is not in the source", BackSession{Head: 0, HeadID: "s.0", Tokens: []BroughtToken{brought("x", 0)}}, "s.0>"},
	} {
		c.s.Expires, c.s.AppPassword, c.s.OfApp = noon.Add(day), "phone", true
		var got []string
		for _, r := range c.s.back(old, noon) {
			got = append(got, r.ID+">"+r.Next)
			if !r.Expires.Equal(c.s.Expires) || r.AppPassword != "phone" || !r.OfApp {
				t.Errorf("%s: %+v", c.name, r)
			}
		}
		slices.Sort(got)
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%s: %q, want %q", c.name, text, c.want)
		}
	}
	ended := BackSession{HeadID: "s.0", Expires: noon}
	if rows := ended.back(old, noon); len(rows) != 0 {
		t.Errorf("expired: %v", rows)
	}
}
