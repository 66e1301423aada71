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
	browser := func(minute int, kind account.EntryKind, id int64) account.Entry {
		e := account.Entry{At: at(minute), Kind: kind, Browser: id, Reason: "password, on a page of this server"}
		if kind != account.EntrySignIn {
			e.Reason = "browser: Firefox on Linux"
		}
		return e
	}
	for name, c := range map[string]struct {
		trail []account.Entry // oldest first
		lives []int64         // sessions above zero, browsers below
		since int
		want  []string // session and cause, latest first
	}{
		"nothing":                  {},
		"lives":                    {trail: []account.Entry{in(1, 1, "password")}, lives: []int64{1}},
		"no cause is remembered":   {trail: []account.Entry{in(1, 1, "password"), entry(2, account.EntrySessionsCapped, 0, "")}},
		"to make room":             {trail: []account.Entry{in(1, 1, "password"), in(1, 2, "password"), entry(2, account.EntrySessionsCapped, 1, "")}, lives: []int64{2}, want: []string{"1 session-limit"}},
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
		"a browser's whole story":  {trail: []account.Entry{browser(1, account.EntrySignIn, 3), browser(2, account.EntrySignOut, 3)}, want: []string{"0/3 sign-out"}},
		"another browser":          {trail: []account.Entry{browser(1, account.EntrySignIn, 3), browser(2, account.EntrySignOut, 4)}, lives: []int64{-3}, want: []string{"0 sign-out"}},
		"a browser, everywhere":    {trail: []account.Entry{browser(1, account.EntrySignIn, 3), entry(2, account.EntryAllSignedOut, 0, "")}, want: []string{"0/3 all-signed-out"}},
		"everywhere but here":      {trail: []account.Entry{browser(1, account.EntrySignIn, 3), browser(1, account.EntrySignIn, 4), entry(2, account.EntryAllSignedOut, 0, "")}, lives: []int64{-3}, want: []string{"0/4 all-signed-out"}},
		"signed in there again":    {trail: []account.Entry{browser(1, account.EntrySignIn, 3), browser(2, account.EntrySignIn, 3)}, lives: []int64{-3}},
		"ended, and in again":      {trail: []account.Entry{browser(1, account.EntrySignIn, 3), entry(2, account.EntryPasswordChanged, 0, ""), browser(3, account.EntrySignIn, 3)}, lives: []int64{-3}, want: []string{"0/3 password-changed"}},
		"a browser unused":         {trail: []account.Entry{browser(1, account.EntrySignIn, 3)}},
		"two by one cause":         {trail: []account.Entry{in(1, 1, "password"), in(2, 2, "password"), entry(3, account.EntryAllSignedOut, 0, "")}, want: []string{"2 all-signed-out", "1 all-signed-out"}},
		"what no session is about": {trail: []account.Entry{entry(1, account.EntryHandleChanged, 0, ""), entry(2, account.EntryRefreshRefused, 7, "")}},
	} {
		trail := slices.Clone(c.trail)
		slices.Reverse(trail)
		var got []string
		for _, e := range EndedSessions(trail, alive(c.lives), at(c.since)) {
			of := fmt.Sprint(e.Opened.Session)
			if e.Opened.Browser != 0 {
				of += "/" + fmt.Sprint(e.Opened.Browser)
			}
			got = append(got, of+" "+string(e.Cause.Kind))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// alive returns what lives: sessions have numbers above zero, browsers below.
func alive(ids []int64) Alive {
	a := Alive{map[int64]bool{}, map[int64]bool{}}
	for _, id := range ids {
		if id > 0 {
			a.Sessions[id] = true
		} else {
			a.Browsers[-id] = true
		}
	}
	return a
}

// TestCauseOf: a refusal leads to what ended its session, and to nothing that came before.
func TestCauseOf(t *testing.T) {
	entry := func(kind account.EntryKind, id int64, reason string) account.Entry {
		return account.Entry{Kind: kind, Session: id, Reason: reason}
	}
	signIn := entry(account.EntrySignIn, 1, "password")
	refused := entry(account.EntryRefreshRefused, 1, "session was ended")
	for name, c := range map[string]struct {
		trail []account.Entry // oldest first; the last is asked about
		want  int             // its index there
	}{
		"revoked":                  {[]account.Entry{signIn, entry(account.EntrySessionRevoked, 1, ""), refused}, 1},
		"another's":                {[]account.Entry{signIn, entry(account.EntrySessionRevoked, 2, ""), refused}, -1},
		"everything":               {[]account.Entry{signIn, entry(account.EntryAllSignedOut, 0, ""), refused}, 1},
		"before it":                {[]account.Entry{entry(account.EntryAllSignedOut, 0, ""), signIn, refused}, -1},
		"its sign-in is forgotten": {[]account.Entry{entry(account.EntryPasswordChanged, 0, ""), refused}, 0},
		"an app password":          {[]account.Entry{entry(account.EntrySignIn, 1, `app password "a"`), entry(account.EntryAppPasswordRevoked, 0, `"a", 1 sessions ended`), refused}, 1},
		"reuse":                    {[]account.Entry{signIn, entry(account.EntrySuspectedReuse, 1, ""), refused}, 1},
		"of no session":            {[]account.Entry{entry(account.EntryAllSignedOut, 0, ""), entry(account.EntryRefreshRefused, 0, "token of another server")}, -1},
		"what is no refusal":       {[]account.Entry{entry(account.EntryAllSignedOut, 0, ""), entry(account.EntryHandleChanged, 0, "")}, -1},
	} {
		trail := slices.Clone(c.trail)
		slices.Reverse(trail)
		got := CauseOf(trail, 0, Alive{})
		if got >= 0 {
			got = len(trail) - 1 - got
		}
		if got != c.want {
			t.Errorf("%s: entry %d, want %d", name, got, c.want)
		}
	}
	signedIn := []account.Entry{entry(account.EntrySignOut, 1, ""), signIn}
	if got := CauseOf(signedIn, 1, Alive{}); got != 0 {
		t.Errorf("a sign-in leads to %d, want its sign-out", got)
	}
}
