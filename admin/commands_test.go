package admin_test

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/admin"
	"nestbox/auth"
	"nestbox/hosting"
	"nestbox/internal/pdstest"
	"nestbox/store/storetest"
)

// run runs a command that succeeds.
func run[R any](o *office, name string, args any) (result R) {
	o.t.Helper()
	if err := o.Run(o.t.Context(), name, args, &result); err != nil {
		o.t.Fatalf("%s %+v: %v", name, args, err)
	}
	return result
}

// TestNames: every command accepts arguments of its own form only, and a
// command on an account names one that it does not know.
func TestNames(t *testing.T) {
	o := newOffice(t)
	names := []string{
		"account.code", "account.codes", "account.create", "account.delete", "account.email", "account.factors", "account.handle", "account.info", "account.invites", "account.reset", "account.list", "account.mail", "account.notices", "account.password", "account.search", "account.signout", "account.suspend",
		"account.takedown", "account.unsuspend", "account.untakedown", "admin.add", "admin.list", "admin.remove", "audit", "client.end", "client.fetch", "client.list", "doctor", "takedown.list", "takedown.set", "firehose.disconnect", "firehose.jump", "firehose.status", "health", "mail.retry", "identity.repair", "identity.rotate", "identity.show", "invite.create", "invite.disable", "invite.list", "keys.list", "keys.retire", "keys.rotate", "mail.test", "relay.crawl", "relay.status", "repo.drop", "session.list", "session.revoke", "stats",
	}
	commands := (&admin.Service{}).Commands()
	if len(commands) != len(names) {
		t.Errorf("%d commands, want %d", len(commands), len(names))
	}
	for _, name := range names {
		command, ok := commands[name]
		if !ok {
			t.Errorf("no command %s", name)
			continue
		}
		if _, err := command(t.Context(), []byte("[")); err == nil || !strings.Contains(err.Error(), "read arguments") {
			t.Errorf("%s with damaged arguments: %v", name, err)
		}
		if (strings.HasPrefix(name, "account.") || strings.HasPrefix(name, "session.")) && !slices.Contains([]string{"account.create", "account.list", "account.search"}, name) {
			for _, who := range []string{"nobody.test", "nobody@example.com", ghost, "", "did:x"} {
				var result any
				if err := o.Run(t.Context(), name, map[string]string{"account": who}, &result); err == nil || err.Error() != fmt.Sprintf("%q: no such account", who) {
					t.Errorf("%s of %q: %v", name, who, err)
				}
			}
		}
	}
	var result any
	if err := o.Run(t.Context(), "account.nonsense", nil, &result); err == nil || !strings.Contains(err.Error(), "does not know the command") {
		t.Errorf("an unknown command: %v", err)
	}
}

func TestCreateAndList(t *testing.T) {
	o := newOffice(t, "PDS_INVITE_REQUIRED=false")
	made := run[admin.AccountLine](o, "account.create", admin.CreateArgs{Handle: "Bob.test", Email: "Bob@example.com", Password: pdstest.Password})
	want := admin.AccountLine{DID: made.DID, Handle: "bob.test", Email: "Bob@example.com", Status: "active", CreatedAt: "2026-03-01T12:00:00Z"}
	if made != want || !strings.HasPrefix(made.DID, "did:plc:") {
		t.Errorf("made %+v, want %+v", made, want)
	}
	o.SignIn(t, "bob.test", pdstest.Password)

	// The operator may give reserved names, needs no invite code, and may let
	// the server make the password.
	reserved := run[admin.AccountLine](o, "account.create", admin.CreateArgs{Handle: "support.test", Email: "support@example.com"})
	if !regexp.MustCompile(`^[a-z2-7]{24}$`).MatchString(reserved.Password) {
		t.Errorf("made up the password %q", reserved.Password)
	}
	o.SignIn(t, "support.test", reserved.Password)
	for _, c := range []struct {
		args admin.CreateArgs
		says string
	}{
		{admin.CreateArgs{Handle: "alice.test", Email: "x@example.com"}, "handle is taken"},
		{admin.CreateArgs{Handle: "carol.test", Email: "ALICE@example.com"}, "e-mail address is taken"},
		{admin.CreateArgs{Handle: "carol.test"}, "e-mail is required"},
		{admin.CreateArgs{Handle: "carol.example.com", Email: "x@example.com"}, "Not a supported handle domain"},
		{admin.CreateArgs{Handle: "carol.test", Email: "x@example.com", Password: "short"}, "too short"},
		{admin.CreateArgs{Handle: "carol.test", Email: "x@example.com", RecoveryKey: "x"}, "recovery key"},
	} {
		var result any
		if err := o.Run(t.Context(), "account.create", c.args, &result); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v, want %q", c.args, err, c.says)
		}
	}

	page := run[admin.AccountPage](o, "account.list", admin.ListArgs{})
	var handles []string
	for _, a := range page.Accounts {
		handles = append(handles, a.Handle+" "+a.Status+a.Password)
	}
	if want := []string{"alice.test active", "bob.test active", "support.test active"}; !slices.Equal(handles, want) || page.Next != 0 {
		t.Errorf("list %q, next %d", handles, page.Next)
	}
	if page := run[admin.AccountPage](o, "account.list", admin.ListArgs{After: 1 << 40}); len(page.Accounts) != 0 || page.Accounts == nil {
		t.Errorf("behind the end: %+v", page)
	}
}

// TestPages: a list of any length is read page by page, each account once.
func TestPages(t *testing.T) {
	db := storetest.Open(t)
	list := (&admin.Service{Accounts: db.Accounts}).Commands()["account.list"]
	total := 0
	for _, n := range []int{0, 1, 499, 500, 501} {
		var adding sync.WaitGroup
		for ; total < n; total++ {
			handle := syntax.Handle(fmt.Sprintf("a%d.test", total))
			adding.Go(func() {
				if _, err := storetest.AddAccount(t.Context(), db.Stores, hosting.Pending{Handle: handle, CreatedAt: time.Now()}); err != nil {
					t.Errorf("add %s: %v", handle, err)
				}
			})
		}
		adding.Wait()
		seen, after, pages := map[string]bool{}, int64(0), 0
		for {
			pages++
			got, err := list(t.Context(), []byte(fmt.Sprintf(`{"after":%d}`, after)))
			if err != nil {
				t.Fatal(err)
			}
			page, ok := got.(admin.AccountPage)
			if !ok {
				t.Fatalf("%T", got)
			}
			for _, a := range page.Accounts {
				if seen[a.DID] {
					t.Errorf("%d accounts: %s twice", n, a.Handle)
				}
				seen[a.DID] = true
			}
			if after = page.Next; after == 0 {
				break
			}
		}
		if len(seen) != n || pages != 1+n/500 {
			t.Errorf("%d of %d accounts on %d pages", len(seen), n, pages)
		}
	}
}

// TestMeasures: each measure shows in its answer, in the account's information,
// to the client, and in the trail, by the admin.
func TestMeasures(t *testing.T) {
	o := newOffice(t)
	const takendown, expired = `{"error":"AccountTakedown","message":"Account has been taken down"}`, `{"error":"ExpiredToken","message":"Token has expired"}`
	for i, c := range []struct {
		command, ref string
		status       string
		client       string // the answer of getSession
		kind         account.EntryKind
	}{
		{"account.suspend", "", "suspended", `"status":"suspended"`, account.EntrySuspended},
		{"account.unsuspend", "", "active", `"active":true`, account.EntrySuspensionLifted},
		{"account.suspend", "", "suspended", `"status":"suspended"`, account.EntrySuspended},
		{"account.takedown", "case 7", "takendown", takendown, account.EntryTakedown},
		{"account.untakedown", "", "suspended", expired, account.EntryTakedownLifted},
		{"account.unsuspend", "", "active", expired, account.EntrySuspensionLifted},
	} {
		o.clock.Advance(time.Minute)
		// An operator may name an account by handle or address.
		who := []string{"@Alice.test", "ALICE@example.com", o.alice.DID}[i%3]
		line := run[admin.AccountLine](o, c.command, admin.TakedownArgs{Account: who, Ref: c.ref})
		info := run[admin.AccountInfo](o, "account.info", admin.AccountArgs{Account: "alice.test"})
		if line.Status != c.status || info.AccountLine != line || info.TakedownRef != c.ref {
			t.Errorf("%s: %+v, info %+v", c.command, line, info)
		}
		if last := info.Trail[0]; last.Kind != string(c.kind) || last.By != "admin" || last.At != o.clock.Now().Format("2006-01-02T15:04:05.000Z") {
			t.Errorf("%s: the trail ends with %+v", c.command, last)
		}
		if a := o.GetSession(t, o.alice.AccessJwt); !strings.Contains(string(a.Body), c.client) {
			t.Errorf("%s: the client is told %s, want %s", c.command, a.Body, c.client)
		}
	}
	if s := o.SignIn(t, "alice.test", pdstest.Password); !*s.Active {
		t.Errorf("in the end: %+v", s)
	}
}

func TestPassword(t *testing.T) {
	o := newOffice(t)
	line := run[admin.AccountLine](o, "account.password", admin.PasswordArgs{Account: "alice.test", Password: "another-password"})
	if line.Password != "" || line.Handle != "alice.test" {
		t.Errorf("%+v", line)
	}
	o.Refresh(t, o.alice.RefreshJwt).WantError(t, http.StatusBadRequest, "ExpiredToken", "Token has been revoked")
	o.SignIn(t, "alice.test", "another-password")
	line = run[admin.AccountLine](o, "account.password", admin.PasswordArgs{Account: "alice.test"})
	o.SignIn(t, "alice.test", line.Password)
	var result any
	if err := o.Run(t.Context(), "account.password", admin.PasswordArgs{Account: "alice.test", Password: "short"}, &result); err == nil || !strings.Contains(err.Error(), "too short") {
		t.Errorf("a short password: %v", err)
	}
	o.SignIn(t, "alice.test", line.Password)
}

// TestSessions: what the lists show, what revoke ends, and that app passwords
// outlive a sign-out unless they are named.
func TestSessions(t *testing.T) {
	o := newOffice(t)
	var made struct{ Password string }
	o.Do(t, pdstest.Request{NSID: "com.atproto.server.createAppPassword", Auth: pdstest.Bearer(o.alice.AccessJwt), Body: object{"name": "phone"}}).Decode(t, &made)
	o.clock.Advance(time.Hour)
	app := o.MustRefresh(t, o.SignIn(t, "alice.test", made.Password).RefreshJwt)

	list := run[[]admin.SessionLine](o, "session.list", admin.AccountArgs{Account: "alice.test"})
	if len(list) != 2 {
		t.Fatalf("%+v", list)
	}
	slices.SortFunc(list, func(a, b admin.SessionLine) int { return int(a.ID - b.ID) })
	own, apps := list[0], list[1]
	if own.CreatedAt != "2026-03-01T12:00:00.000Z" || own.AppPassword != "" || own.Refreshes != 0 || own.ExpiresAt != "2026-05-30T12:00:00.000Z" ||
		apps.AppPassword != "phone" || apps.Refreshes != 1 || apps.LastUsedAt != "2026-03-01T13:00:00.000Z" ||
		!strings.HasPrefix(own.UserAgent, "Go-http-client") || own.Client == "" || own.Network != "127.0.0.1" {
		t.Errorf("sessions %+v", list)
	}
	info := run[admin.AccountInfo](o, "account.info", admin.AccountArgs{Account: "alice.test"})
	if len(info.Sessions) != 2 || !slices.Equal(info.AppPasswords, []string{"phone"}) || info.EmailConfirmed || len(info.Trail) == 0 {
		t.Errorf("info %+v", info)
	}

	run[admin.Done](o, "session.revoke", admin.SessionArgs{Account: "alice.test", ID: own.ID})
	o.GetSession(t, o.alice.AccessJwt).WantError(t, http.StatusBadRequest, "ExpiredToken", "Token has expired")
	if a := o.GetSession(t, app.AccessJwt); a.Status != http.StatusOK {
		t.Errorf("the app's session: %d %s", a.Status, a.Body)
	}
	bob := o.SignUp(t, "bob")
	bobs := run[[]admin.SessionLine](o, "session.list", admin.AccountArgs{Account: "bob.test"})
	var result any
	for _, id := range []int64{own.ID, bobs[0].ID, 0, -1, 1 << 40} {
		err := o.Run(t.Context(), "session.revoke", admin.SessionArgs{Account: "alice.test", ID: id}, &result)
		if err == nil || err.Error() != fmt.Sprintf("alice.test has no session %d", id) {
			t.Errorf("session %d: %v", id, err)
		}
	}
	if a := o.GetSession(t, bob.AccessJwt); a.Status != http.StatusOK {
		t.Errorf("bob: %d %s", a.Status, a.Body)
	}

	if n := run[admin.Ended](o, "account.signout", admin.SignOutArgs{Account: "alice.test"}); n.Sessions != 1 {
		t.Errorf("signed out of %d", n.Sessions)
	}
	o.Refresh(t, app.RefreshJwt).WantError(t, http.StatusBadRequest, "ExpiredToken", "Token has been revoked")
	o.SignIn(t, "alice.test", made.Password)
	if n := run[admin.Ended](o, "account.signout", admin.SignOutArgs{Account: "alice.test", AppPasswords: true}); n.Sessions != 1 {
		t.Errorf("signed out of %d", n.Sessions)
	}
	o.Do(t, pdstest.Request{NSID: "com.atproto.server.createSession", Body: object{"identifier": "alice.test", "password": made.Password}}).
		WantError(t, http.StatusUnauthorized, "AuthenticationRequired", "Invalid identifier or password")
	if n := run[admin.Ended](o, "account.signout", admin.SignOutArgs{Account: "alice.test"}); n.Sessions != 0 {
		t.Errorf("signed out of %d that were not there", n.Sessions)
	}
	o.SignIn(t, "alice.test", pdstest.Password)
}

func TestDelete(t *testing.T) {
	o := newOffice(t)
	run[admin.Done](o, "account.delete", admin.AccountArgs{Account: "alice.test"})
	o.Refresh(t, o.alice.RefreshJwt).WantError(t, http.StatusBadRequest, "ExpiredToken", "Token has been revoked")
	if page := run[admin.AccountPage](o, "account.list", admin.ListArgs{}); len(page.Accounts) != 0 {
		t.Errorf("left: %+v", page)
	}
}

// TestKeys: rotating signs nobody out, retiring ends the tokens that only that
// key signed.
func TestKeys(t *testing.T) {
	o := newOffice(t)
	before := run[[]admin.Key](o, "keys.list", admin.Done{})
	if len(before) != 2 || !before[0].Signing || before[0].Purpose != admin.PurposeSession {
		t.Fatalf("keys %+v", before)
	}
	o.clock.Advance(time.Hour)
	fresh := run[auth.KeyInfo](o, "keys.rotate", admin.Done{})
	after := run[[]admin.Key](o, "keys.list", admin.Done{})
	signing := 0
	for _, k := range after {
		if k.Signing && k.Purpose == admin.PurposeSession {
			signing++
		}
	}
	if rotation := after[len(after)-1]; rotation != before[1] || rotation.Purpose != admin.PurposePLC || !strings.HasPrefix(rotation.ID, "did:key:") {
		t.Errorf("the PLC rotation key is %+v, was %+v", rotation, before[1])
	}
	if len(after) != 3 || signing != 1 || !fresh.Signing || fresh.ID == before[0].ID {
		t.Errorf("made %+v; keys %+v", fresh, after)
	}
	if a := o.GetSession(t, o.alice.AccessJwt); a.Status != http.StatusOK {
		t.Errorf("after the rotation: %d %s", a.Status, a.Body)
	}
	refreshed := o.MustRefresh(t, o.alice.RefreshJwt)
	run[admin.Done](o, "keys.retire", admin.KeyArgs{ID: before[0].ID})
	o.Refresh(t, o.alice.RefreshJwt).WantError(t, http.StatusBadRequest, "InvalidToken", "Token could not be verified")
	o.MustRefresh(t, refreshed.RefreshJwt)
	var result any
	for _, id := range []string{fresh.ID, before[0].ID, ""} {
		if err := o.Run(t.Context(), "keys.retire", admin.KeyArgs{ID: id}, &result); err == nil {
			t.Errorf("key %q was retired", id)
		}
	}
}
