package session

import (
	"slices"
	"testing"
	"time"

	"nestbox/account"
)

func TestMakeRoom(t *testing.T) {
	at := time.UnixMilli
	held := []Held{
		{ID: 5, RotatedAt: at(50)},
		{ID: 1, RotatedAt: at(30)},
		{ID: 2, AppPasswordID: 9, RotatedAt: at(20)},
		{ID: 4, AppPasswordID: 9, RotatedAt: at(40)},
		{ID: 3, RotatedAt: at(30)},
		{ID: 6, AppPasswordID: 8, RotatedAt: at(10)},
	}
	for _, c := range []struct {
		name  string
		app   int64
		limit int
		want  []int64
	}{
		{"room", 0, 7, nil},
		{"one over, by password", 0, 6, []int64{1}},
		{"ties go by number", 0, 5, []int64{1, 3}},
		{"then those of app passwords", 0, 2, []int64{1, 3, 5, 6, 2}},
		{"one over, by the app password", 9, 6, []int64{2}},
		{"then any other", 9, 4, []int64{2, 4, 6}},
		{"an app password without sessions", 7, 6, []int64{6}},
		{"all", 0, 1, []int64{1, 3, 5, 6, 2, 4}},
		{"no limit can be under one", 0, 0, []int64{1, 3, 5, 6, 2, 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := New{AppPasswordID: c.app, Limit: c.limit, Entry: account.Entry{At: at(60), Kind: account.EntrySignIn, By: account.ActorOwner, Network: "192.0.2.1"}}
			end, e := MakeRoom(slices.Clone(held), n)
			if !slices.Equal(end, c.want) {
				t.Errorf("ends %v, want %v", end, c.want)
			}
			switch {
			case len(c.want) == 0 && e != account.Entry{}:
				t.Errorf("the trail says %+v", e)
			case len(c.want) > 0 && (e.Kind != account.EntrySessionsCapped || e.By != account.ActorServer || e.Network != "192.0.2.1" || e.Reason == ""):
				t.Errorf("the trail says %+v", e)
			}
		})
	}
	// Sessions of OAuth clients: a new one displaces its own client's first, the longest unused
	// by refreshes and calls alike.
	grants := []Held{
		{ID: 1, RotatedAt: at(1)},
		{ID: 2, ClientID: "c", RotatedAt: at(2), LastCallAt: at(90)},
		{ID: 3, ClientID: "c", RotatedAt: at(3)},
		{ID: 4, ClientID: "d", RotatedAt: at(4)},
	}
	n := New{Limit: 3, Grant: &Grant{Holder: Holder{ClientID: "c"}}}
	if end, _ := MakeRoom(slices.Clone(grants), n); !slices.Equal(end, []int64{3, 2}) {
		t.Errorf("an OAuth client: ends %v, want its own", end)
	}
	if end, _ := MakeRoom(slices.Clone(grants), New{Limit: 4}); !slices.Equal(end, []int64{1}) {
		t.Errorf("a password: ends %v, want one of a password", end)
	}
	if _, e := MakeRoom(slices.Clone(held), New{Limit: 6}); e.Session != 1 {
		t.Errorf("one that ends is named as %d, want 1", e.Session)
	}
	_, e := MakeRoom(slices.Clone(held), New{Limit: 5})
	if want := "2 sessions ended to keep within the limit of 5"; e.Reason != want || e.Session != 0 {
		t.Errorf("%q, want %q", e.Reason, want)
	}
}
