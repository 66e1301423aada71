package session_test

import (
	"context"
	"encoding/hex"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/crypto/scrypt"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/firehose/event"
	"nestbox/session"
)

// TestSignIn is the table of createSession, except for the bytes on the wire.
func TestSignIn(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.SignIns.Limits = nil
	alice := w.account("alice", cheapHash(password))
	w.account("short", cheapHash("abc")) // imported: today's rules would refuse it
	w.account("limit", cheapHash(strings.Repeat("é", account.MaxUsedPassword)))
	gone := w.account("gone", cheapHash(password))
	app := w.appPassword(alice, "phone", false)
	goneApp := w.appPassword(gone, "phone", false)
	w.takedown(gone, true)

	for _, c := range []struct {
		name, identifier, password string
		allowTakendown             bool
		want                       string
	}{
		{name: "handle", identifier: "alice.test", password: password, want: wireOK},
		{name: "handle, another case", identifier: "Alice.TEST", password: password, want: wireOK},
		{name: "handle with @", identifier: "@alice.test", password: password, want: wireOK},
		{name: "e-mail", identifier: "alice@example.com", password: password, want: wireOK},
		{name: "e-mail, another case", identifier: "ALICE@Example.com", password: password, want: wireOK},
		{name: "DID", identifier: "did:plc:alice", password: password, want: wireOK},
		{name: "DID, another case", identifier: "DID:PLC:Alice", password: password, want: wireOK},
		{name: "spaces around", identifier: "  alice.test \r\n", password: password, want: wireOK},
		{name: "tab and newline within", identifier: "ali\tce.te\nst", password: password, want: wireOK},
		{name: "NBSP", identifier: "alice.test\u00a0", password: password, want: wireOK},
		{name: "zero-width space", identifier: "\u200balice\u200b.test", password: password, want: wireOK},
		{name: "marks of direction", identifier: "\u202aalice.test\u202c\u200e", password: password, want: wireOK},
		{name: "byte order mark", identifier: "\ufeffalice.test", password: password, want: wireOK},
		{name: "soft hyphen", identifier: "al\u00adice.test", password: password, want: wireOK},
		{name: "invisible before @", identifier: "\u2060@\u2060alice.test", password: password, want: wireOK},
		{name: "app password", identifier: "alice.test", password: app, want: wireOK},
		{name: "app password in capitals, with blanks", identifier: "alice.test", password: strings.ToUpper(strings.ReplaceAll(app, "-", " ")), want: wireOK},
		{name: "app password without dashes", identifier: "alice.test", password: strings.ReplaceAll(app, "-", ""), want: wireOK},
		{name: "short imported password", identifier: "short.test", password: "abc", want: wireOK},
		{name: "512 characters of two bytes", identifier: "limit.test", password: strings.Repeat("é", 512), want: wireOK},
		{name: "takendown allowed, where there is none", identifier: "alice.test", password: password, allowTakendown: true, want: wireOK},

		{name: "wrong password", identifier: "alice.test", password: "wrong", want: wireWrong},
		{name: "another case of the password", identifier: "alice.test", password: strings.ToUpper(password), want: wireWrong},
		{name: "password and a space", identifier: "alice.test", password: password + " ", want: wireWrong},
		{name: "password and NUL", identifier: "alice.test", password: password + "\x00", want: wireWrong},
		{name: "NUL alone", identifier: "alice.test", password: "\x00", want: wireWrong},
		{name: "app password and NUL", identifier: "alice.test", password: app + "\x00", want: wireWrong},
		{name: "another account's app password", identifier: "short.test", password: app, want: wireWrong},
		{name: "empty password", identifier: "alice.test", password: "", want: wireWrong},
		{name: "unknown handle", identifier: "nobody.test", password: password, want: wireWrong},
		{name: "unknown e-mail", identifier: "nobody@example.com", password: password, want: wireWrong},
		{name: "unknown DID", identifier: "did:plc:nobody", password: password, want: wireWrong},
		{name: "no DID", identifier: "did:", password: password, want: wireWrong},
		{name: "no identifier", identifier: "", password: password, want: wireWrong},
		{name: "nothing visible", identifier: " \u200b@", password: password, want: wireWrong},
		{name: "endless identifier", identifier: strings.Repeat("a", 1<<20), password: password, want: wireWrong},
		{name: "not UTF-8", identifier: "alice.test\xff", password: password + "\xff", want: wireWrong},
		{name: "512 characters", identifier: "alice.test", password: strings.Repeat("x", 512), want: wireWrong},

		{name: "513 characters", identifier: "alice.test", password: strings.Repeat("x", 513), want: wireTooLong},
		{name: "513 characters of two bytes", identifier: "limit.test", password: strings.Repeat("é", 513), want: wireTooLong},
		{name: "513 characters, unknown identifier", identifier: "nobody.test", password: strings.Repeat("x", 513), want: wireTooLong},

		{name: "taken down", identifier: "gone.test", password: password, want: wireTakedown},
		{name: "taken down, wrong password", identifier: "gone.test", password: "wrong", want: wireWrong},
		{name: "taken down, app password", identifier: "gone.test", password: goneApp, want: wireWrong},
		{name: "taken down and allowed", identifier: "gone.test", password: password, allowTakendown: true, want: wireOK},
		{name: "taken down and allowed, wrong password", identifier: "gone.test", password: "wrong", allowTakendown: true, want: wireWrong},
		{name: "taken down and allowed, app password", identifier: "gone.test", password: goneApp, allowTakendown: true, want: wireWrong},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := w.CreateSession(t.Context(), auth.Anyone{}, session.CreateSessionInput{
				Identifier: c.identifier, Password: c.password, AllowTakenDown: c.allowTakendown,
			})
			if got := wire(err); got != c.want {
				t.Fatalf("got %q, want %q", got, c.want)
			}
			if err == nil && (w.token(out.RefreshJwt).DID != out.DID || w.access(out.AccessJwt).DID != out.DID) {
				t.Errorf("tokens are not %s's", out.DID)
			}
		})
	}
}

// TestScope: a session's scope comes from what opened it and stays through any
// number of refreshes.
func TestScope(t *testing.T) {
	w := newWorld(t, t.TempDir())
	a := w.account("alice", cheapHash(password))
	plain, privileged := w.appPassword(a, "plain", false), w.appPassword(a, "privileged", true)
	for _, c := range []struct {
		password string
		want     auth.Scope
	}{
		{password, auth.ScopeAccess},
		{plain, auth.ScopeAppPass},
		{privileged, auth.ScopeAppPassPrivileged},
	} {
		out, err := w.signIn(t.Context(), "alice.test", c.password)
		if err != nil {
			t.Fatal(err)
		}
		for generation := range 5 {
			if got := w.access(out.AccessJwt); got.Scope != c.want || got.SID != w.token(out.RefreshJwt).SID {
				t.Errorf("generation %d: %+v, want scope %s", generation, got, c.want)
			}
			out = w.mustRefresh(out.RefreshJwt)
		}
	}
}

// TestTakenDownScope: a sign-in to a taken-down account allows leaving and
// nothing else; once the takedown is lifted the session is an ordinary one.
func TestTakenDownScope(t *testing.T) {
	w := newWorld(t, t.TempDir())
	a := w.account("alice", cheapHash(password))
	w.takedown(a, true)
	out, err := w.CreateSession(t.Context(), auth.Anyone{}, session.CreateSessionInput{Identifier: "alice.test", Password: password, AllowTakenDown: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := w.access(out.AccessJwt).Scope; got != auth.ScopeTakenDown || out.Active || out.Status != account.TakenDown {
		t.Errorf("scope %s, active %t, status %q", got, out.Active, out.Status)
	}
	if st, err := w.Standing(t.Context(), w.access(out.AccessJwt)); err != nil || st.Status != event.StatusTakenDown || !st.Live {
		t.Errorf("standing %+v, %v", st, err)
	}
	if _, err := w.refresh(t.Context(), out.RefreshJwt); wire(err) != wireTakedown {
		t.Errorf("refresh: %s", wire(err))
	}
	w.takedown(a, false)
	again := w.mustRefresh(out.RefreshJwt)
	if got := w.access(again.AccessJwt).Scope; got != auth.ScopeAccess || !again.Active || again.Status != account.Active {
		t.Errorf("lifted: scope %s, active %t, status %q", got, again.Active, again.Status)
	}
}

// legacyHash returns a password hash as the reference stores it: salt:hash, by
// Node's scrypt with its default parameters.
func legacyHash(t *testing.T, password string) string {
	t.Helper()
	const salt = "8cd2a26a9e8d1a6a6b2a45e2ab1b9a3c"
	key, err := scrypt.Key([]byte(password), []byte(salt), 16384, 8, 1, 64)
	if err != nil {
		t.Fatal(err)
	}
	return salt + ":" + hex.EncodeToString(key)
}

// TestLegacyHash: the reference's hashes verify and are replaced at the first
// sign-in, which ends no session.
func TestLegacyHash(t *testing.T) {
	w := newWorld(t, t.TempDir())
	// Made by Node: crypto.scryptSync("old pass", salt, 64).
	const node = "00112233445566778899aabbccddeeff:1178df8c42d552c5c2251275ebb5434c78982945168c270a08a61a976ce32c60" +
		"a5dd77f2509ea2c5b37babd98b8ee303677ed7d89fe0fd87c38650f97fa4f11c"
	a := w.account("alice", node)
	early := w.mustBegin(a, "")
	stored := func() string {
		cred, err := w.Accounts.Credentials(t.Context(), a.ID)
		if err != nil {
			t.Fatal(err)
		}
		return cred.PasswordHash
	}
	for _, wrong := range []string{"old pas", "old pass\x00", "old pass\x00\x00", "Old pass"} {
		if _, err := w.signIn(t.Context(), "alice.test", wrong); wire(err) != wireWrong {
			t.Errorf("%q: %s", wrong, wire(err))
		}
	}
	if stored() != node {
		t.Fatal("a failed sign-in changed the hash")
	}
	if _, err := w.signIn(t.Context(), "alice.test", "old pass"); err != nil {
		t.Fatal(err)
	}
	better := stored()
	if !strings.HasPrefix(better, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatalf("not upgraded: %q", better)
	}
	if _, err := w.signIn(t.Context(), "alice.test", "old pass"); err != nil || stored() != better {
		t.Errorf("after the upgrade: %v, %q", err, stored())
	}
	if _, err := w.signIn(t.Context(), "alice.test", "old pass\x00"); wire(err) != wireWrong {
		t.Errorf("NUL after the upgrade: %s", wire(err))
	}
	w.mustRefresh(early.Refresh)
}

// TestLegacyAppPassword: an imported app password is refused with NUL behind
// it, which scrypt would not see.
func TestLegacyAppPassword(t *testing.T) {
	w := newWorld(t, t.TempDir())
	a := w.account("alice", cheapHash(password))
	w.storeAppPassword(a, "old phone", legacyHash(t, "aaaa-bbbb-cccc-dddd"), false)
	if _, err := w.signIn(t.Context(), "alice.test", "aaaa-bbbb-cccc-dddd\x00"); wire(err) != wireWrong {
		t.Errorf("with NUL: %s", wire(err))
	}
	out, err := w.signIn(t.Context(), "alice.test", "aaaa-bbbb-cccc-dddd")
	if err != nil || w.access(out.AccessJwt).Scope != auth.ScopeAppPass {
		t.Errorf("as it is: %v", err)
	}
}

// TestSameWork: the time that a refusal takes does not show its reason. A hash
// computation takes 19 MiB of memory, so the memory that a sign-in took counts them
// better than a stopwatch.
func TestSameWork(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.SignIns.Limits = nil
	hash, err := w.SignIns.Hasher.Hash(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	w.account("alice", hash)
	bob, gone := w.account("bob", hash), w.account("gone", hash)
	for _, name := range []string{"one", "two", "three"} {
		w.appPassword(bob, name, false)
	}
	goneApp := w.appPassword(gone, "phone", false)
	w.takedown(gone, true)
	for _, c := range []struct{ name, identifier, password, want string }{
		{"unknown identifier", "nobody.test", "wrong", wireWrong},
		{"no identifier", "", "wrong", wireWrong},
		{"wrong password", "alice.test", "wrong", wireWrong},
		{"wrong password, with app passwords", "bob.test", "wrong", wireWrong},
		{"wrong app password", "bob.test", "aaaa-bbbb-cccc-dddd", wireWrong},
		{"wrong app password, without any", "alice.test", "aaaa-bbbb-cccc-dddd", wireWrong},
		{"wrong app password, unknown identifier", "nobody.test", "aaaa-bbbb-cccc-dddd", wireWrong},
		{"NUL", "alice.test", password + "\x00", wireWrong},
		{"NUL, with app passwords", "bob.test", password + "\x00", wireWrong},
		{"NUL, unknown identifier", "nobody.test", password + "\x00", wireWrong},
		{"taken down, wrong password", "gone.test", "wrong", wireWrong},
		{"taken down, app password", "gone.test", goneApp, wireWrong},
		{"right password", "alice.test", password, wireOK},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got string
			n := computations(func() { _, err := w.signIn(t.Context(), c.identifier, c.password); got = wire(err) })
			if n != 1 || got != c.want {
				t.Errorf("%d hash computations, %q; want 1, %q", n, got, c.want)
			}
		})
	}
}

// computations returns how many argon2id hashes of today's cost fn computed.
func computations(fn func()) int {
	const each = 19 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return int((after.TotalAlloc - before.TotalAlloc + each/2) / each)
}

// hooked runs a function between two steps of a sign-in, on the real store.
type hooked struct {
	account.Store

	afterCredentials func()
}

func (h *hooked) Credentials(ctx context.Context, id int64) (account.Credentials, error) {
	cred, err := h.Store.Credentials(ctx, id)
	if f := h.afterCredentials; f != nil {
		h.afterCredentials = nil
		f()
	}
	return cred, err
}

// TestSignInOvertaken: a change between the check of the password and the start of
// the session counts.
func TestSignInOvertaken(t *testing.T) {
	for _, c := range []struct {
		name    string
		app     bool
		meddle  func(w *world, a *account.Account) error
		want    string
		allowed bool // taken down
	}{
		{name: "nothing happens", meddle: func(*world, *account.Account) error { return nil }, want: wireOK},
		{name: "another password", meddle: func(w *world, a *account.Account) error {
			return w.Accounts.SetPassword(w.t.Context(), a.ID, cheapHash("another password"), 0, w.entry(account.EntryPasswordChanged))
		}, want: wireWrong},
		{name: "the same password set again", meddle: func(w *world, a *account.Account) error {
			return w.Accounts.SetPassword(w.t.Context(), a.ID, cheapHash(password), 0, w.entry(account.EntryPasswordChanged))
		}, want: wireOK},
		{name: "another password, app password", app: true, meddle: func(w *world, a *account.Account) error {
			return w.Accounts.SetPassword(w.t.Context(), a.ID, cheapHash("another password"), 0, w.entry(account.EntryPasswordChanged))
		}, want: wireOK},
		{name: "app password revoked", app: true, meddle: func(w *world, a *account.Account) error {
			return w.Accounts.RevokeAppPassword(w.t.Context(), a.ID, "phone", w.entry(account.EntryAppPasswordRevoked))
		}, want: wireWrong},
		{name: "all signed out, app passwords too", app: true, meddle: func(w *world, a *account.Account) error {
			_, err := w.RevokeAll(w.t.Context(), a.DID, true, account.ActorAdmin)
			return err
		}, want: wireWrong},
		{name: "takedown", meddle: func(w *world, a *account.Account) error { w.takedown(a, true); return nil }, want: wireTakedown},
		{name: "takedown, app password", app: true, meddle: func(w *world, a *account.Account) error { w.takedown(a, true); return nil }, want: wireWrong},
		{name: "takedown, allowed", allowed: true, meddle: func(w *world, a *account.Account) error { w.takedown(a, true); return nil }, want: wireOK},
		{name: "deletion", meddle: func(w *world, a *account.Account) error { return w.Accounts.Delete(w.t.Context(), a.ID, w.Now()) }, want: wireWrong},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, t.TempDir())
			a := w.account("alice", cheapHash(password))
			with := password
			if c.app {
				with = w.appPassword(a, "phone", false)
			}
			var failed error
			w.SignIns.Accounts = &hooked{Store: w.Accounts, afterCredentials: func() { failed = c.meddle(w, a) }}
			out, err := w.CreateSession(t.Context(), auth.Anyone{}, session.CreateSessionInput{Identifier: "alice.test", Password: with, AllowTakenDown: c.allowed})
			if failed != nil {
				t.Fatal(failed)
			}
			if wire(err) != c.want {
				t.Fatalf("got %q, want %q", wire(err), c.want)
			}
			if n := len(w.sessions(a)); err == nil && n != 1 || err != nil && n != 0 {
				t.Errorf("%d sessions", n)
			}
			if err == nil && c.allowed && w.access(out.AccessJwt).Scope != auth.ScopeTakenDown {
				t.Errorf("scope %s", w.access(out.AccessJwt).Scope)
			}
		})
	}
}
