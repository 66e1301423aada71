package admin

import (
	"testing"
	"time"

	"nestbox/session"
)

// TestLineOf: the session of an OAuth client has its client_id and scope, and is used by calls too.
func TestLineOf(t *testing.T) {
	t.Parallel()
	at := func(minutes int) time.Time {
		return time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC).Add(time.Duration(minutes) * time.Minute)
	}
	st := session.State{ID: 7, CreatedAt: at(0), RotatedAt: at(10), Expires: at(99), UserAgent: "app/1", Network: "192.0.2.1", Head: 3}
	want := SessionLine{
		ID: 7, CreatedAt: datetime(at(0)), LastUsedAt: datetime(at(10)), ExpiresAt: datetime(at(99)), Client: lineOf(&st).Client,
		UserAgent: "app/1", Network: "192.0.2.1", Refreshes: 3,
	}
	if got := lineOf(&st); got != want {
		t.Errorf("by password: %+v", got)
	}
	st.Grant = &session.Grant{Holder: session.Holder{ClientID: "https://app.example.com/c.json"}, Granted: "atproto include:a.b.c", Effective: "atproto repo:a.b.d", LastCallAt: at(5)}
	want.ClientID, want.Scope = "https://app.example.com/c.json", "atproto repo:a.b.d"
	if got := lineOf(&st); got != want {
		t.Errorf("by OAuth: %+v", got)
	}
	st.Grant.LastCallAt = at(20)
	want.LastUsedAt = datetime(at(20))
	if got := lineOf(&st); got != want {
		t.Errorf("that called since: %+v", got)
	}
}
