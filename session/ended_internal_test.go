package session

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"nestbox/account"
)

// TestEndedSessions is the table of what ended a session, as the trail tells it.
func TestEndedSessions(t *testing.T) {
	at := func(minute int) time.Time { return midnight.Add(time.Duration(minute) * time.Minute) }
	in := func(minute int, id int64, reason string) account.Entry {
		return account.Entry{At: at(minute), Kind: account.EntrySignIn, Session: id, Reason: reason}
	}
	entry := func(minute int, kind account.EntryKind, id int64, reason string) account.Entry {
		return account.Entry{At: at(minute), Kind: kind, Session: id, Reason: reason}
	}
	for name, c := range map[string]struct {
		trail []account.Entry // oldest first
		lives []int64
		since int
		want  []string // session and cause, latest first
	}{
		"nothing":                  {},
		"lives":                    {trail: []account.Entry{in(1, 1, "password")}, lives: []int64{1}},
		"no cause is remembered":   {trail: []account.Entry{in(1, 1, "password"), entry(2, account.EntrySessionsCapped, 0, "")}},
		"signed out":               {trail: []account.Entry{in(1, 1, "password"), entry(2, account.EntrySignOut, 1, "")}, want: []string{"1 sign-out"}},
		"another was signed out":   {trail: []account.Entry{in(1, 1, "password"), entry(2, account.EntrySignOut, 2, "")}},
		"revoked":                  {trail: []account.Entry{in(1, 1, "password"), entry(2, account.EntrySessionRevoked, 1, "")}, want: []string{"1 session-revoked"}},
		"before the sign-in":       {trail: []account.Entry{entry(1, account.EntryAllSignedOut, 0, ""), in(2, 1, "password")}},
		"the first that fits":      {trail: []account.Entry{in(1, 1, "password"), entry(2, account.EntryPasswordChanged, 0, ""), entry(3, account.EntryAllSignedOut, 0, "")}, want: []string{"1 password-changed"}},
		"survived a password":      {trail: []account.Entry{in(1, 1, "password"), entry(2, account.EntryPasswordChanged, 0, ""), in(3, 2, "password")}, lives: []int64{1, 2}},
		"all, the latest first":    {trail: []account.Entry{in(1, 1, "password"), entry(2, account.EntrySignOut, 1, ""), in(3, 2, "password"), entry(4, account.EntryTakedown, 0, "")}, want: []string{"2 takedown", "1 sign-out"}},
		"long ago":                 {trail: []account.Entry{in(1, 1, "password"), entry(2, account.EntrySignOut, 1, "")}, since: 3},
		"app password":             {trail: []account.Entry{in(1, 1, `app password "a \"b\""`), in(1, 2, `app password "other"`), entry(2, account.EntryAppPasswordRevoked, 0, `"a \"b\"", 1 sessions ended`)}, want: []string{"1 app-password-revoked"}},
		"app":                      {trail: []account.Entry{entry(1, account.EntryAppAuthorized, 1, "https://app.example/"), entry(2, account.EntryCodeReplayed, 1, "")}, want: []string{"1 code-replayed"}},
		"a browser's sign-out":     {trail: []account.Entry{entry(1, account.EntrySignIn, 0, "password, on a page"), entry(2, account.EntrySignOut, 0, "browser: Firefox on Linux")}, want: []string{"0 sign-out"}},
		"a browser, by its owner":  {trail: []account.Entry{entry(2, account.EntrySessionRevoked, 0, "browser: Firefox on Linux")}, want: []string{"0 session-revoked"}},
		"two by one cause":         {trail: []account.Entry{in(1, 1, "password"), in(2, 2, "password"), entry(3, account.EntryAllSignedOut, 0, "")}, want: []string{"2 all-signed-out", "1 all-signed-out"}},
		"what no session is about": {trail: []account.Entry{entry(1, account.EntryHandleChanged, 0, ""), entry(2, account.EntryRefreshRefused, 7, "")}},
	} {
		trail := slices.Clone(c.trail)
		slices.Reverse(trail)
		var got []string
		for _, e := range EndedSessions(trail, func(id int64) bool { return slices.Contains(c.lives, id) }, at(c.since)) {
			got = append(got, fmt.Sprintf("%d %s", e.Opened.Session, e.Cause.Kind))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
