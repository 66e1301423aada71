// Package storetest tests what every store must do: the comments of the
// domains' Store interfaces, sentence by sentence. It knows no implementation,
// except in Open; each store runs the suite on itself.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/hosting"
	"nestbox/session"
)

// tests are tests of a store by name, each on an empty database.
type tests map[string]func(*testing.T, *Database)

// Run runs the whole suite on the store of that name.
func Run(t *testing.T, name string) {
	t.Helper()
	for _, group := range []tests{
		accountTests,
		adminTests,
		announceTests,
		blobTests,
		deviceTests,
		clientTests,
		departedTests,
		eventlogTests,
		factorsTests,
		hostingTests,
		jobTests,
		jumpTests,
		mailTests,
		measuresTests,
		moveinTests,
		oauthTests,
		permissionSetTests,
		prefsTests,
		repoTests,
		repoImportTests,
		repoLargeTests,
		repoNewsTests,
		repoSubjectTests,
		repoViewTests,
		sessionTests,
		statusTests,
	} {
		for what, test := range group {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				test(t, Open(t, Options{Store: name}))
			})
		}
	}
}

// start is when every story begins, in the precision that is stored.
var start = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// at is a time some minutes into the story.
func at(minutes int) time.Time { return start.Add(time.Duration(minutes) * time.Minute) }

// event is what a change notes.
func entry(kind account.EntryKind) account.Entry {
	return account.Entry{At: at(1), Kind: kind, By: account.ActorAdmin, Network: "192.0.2.1", UserAgent: "test"}
}

func pending(name string) hosting.Pending {
	return hosting.Pending{
		DID: syntax.DID("did:plc:" + fmt.Sprintf("%-24s", name)[:24]), Handle: syntax.Handle(name + ".test"), Email: name + "@Example.com",
		PasswordHash: "hash of " + name, SigningKey: "did:key:" + name, SigningKeySealed: []byte("sealed"),
		CreatedAt: start,
	}
}

// newAccount makes an account that exists.
func newAccount(t *testing.T, s *Database, name string) *account.Account {
	t.Helper()
	p := pending(name)
	id, err := s.Hosting.Reserve(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.Hosting.Activate(t.Context(), id, []byte(`{"id":"`+p.DID.String()+`"}`), nil, entry(account.EntrySignUp))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// newSession describes a session of an account under its present credentials.
func newSession(t *testing.T, s *Database, a *account.Account) session.New {
	t.Helper()
	cred, err := s.Accounts.Credentials(t.Context(), a.ID)
	if err != nil {
		t.Fatal(err)
	}
	return session.New{
		AccountID: a.ID, Scope: auth.ScopeAccess, Epoch: cred.Epoch, At: start, Expires: start.Add(90 * 24 * time.Hour),
		Nonce: "nonce", Network: "192.0.2.7", UserAgent: "a client", Limit: 200, Entry: entry(account.EntrySignIn),
	}
}

// signIn makes a session.
func signIn(t *testing.T, s *Database, a *account.Account) *session.State {
	t.Helper()
	return create(t, s, newSession(t, s, a))
}

func create(t *testing.T, s *Database, n session.New) *session.State {
	t.Helper()
	st, err := s.Sessions.Create(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// addAppPassword makes an app password and returns it as it is stored.
func addAppPassword(t *testing.T, s *Database, a *account.Account, name string) account.AppPassword {
	t.Helper()
	err := s.Accounts.AddAppPassword(t.Context(), a.ID, account.AppPassword{Name: name, Hash: "hash " + name, CreatedAt: start}, entry(account.EntryAppPasswordCreated))
	if err != nil {
		t.Fatal(err)
	}
	cred, err := s.Accounts.Credentials(t.Context(), a.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range cred.AppPasswords {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("app password %q is not there", name)
	return account.AppPassword{}
}

// signInWith makes a session of an app password.
func signInWith(t *testing.T, s *Database, a *account.Account, p account.AppPassword) *session.State {
	t.Helper()
	n := newSession(t, s, a)
	n.AppPasswordID, n.Scope = p.ID, auth.ScopeAppPass
	return create(t, s, n)
}

// forward is a rotation that moves the head forward.
func forward(st session.State) (session.Rotation, error) {
	next := st
	next.Head++
	next.RotatedAt = at(int(next.Head))
	next.Expires = next.RotatedAt.Add(90 * 24 * time.Hour)
	next.Marks = append(append([]session.Mark{}, st.Marks...), session.Mark{Time: st.RotatedAt, Generation: st.Head})
	if len(next.Marks) > 8 {
		next.Marks, next.Floor = next.Marks[1:], next.Marks[0].Generation
	}
	next.Network, next.UserAgent = "198.51.100.9", "moved on"
	return session.Rotation{Outcome: session.Advance, Next: next, Changed: true}, nil
}

// alive fails the test unless exactly the given sessions can be loaded: now, from
// whatever cache there is, and from the database itself, which it opens again.
func alive(t *testing.T, s *Database, want map[*session.State]bool) {
	t.Helper()
	check := func(when string) {
		t.Helper()
		for st, lives := range want {
			if _, err := s.Sessions.Load(t.Context(), st.ID); (err == nil) != lives || err != nil && !errors.Is(err, session.ErrUnknown) {
				t.Errorf("%s: session %d: %v; should live: %t", when, st.ID, err, lives)
			}
		}
	}
	check("now")
	s.Reopen()
	check("after a restart")
}

// kinds are the entries of an account's trail, newest first.
func kinds(t *testing.T, s *Database, a *account.Account) []account.EntryKind {
	t.Helper()
	trail, err := s.Accounts.Trail(context.WithoutCancel(t.Context()), a.ID, account.TrailLimit)
	if err != nil {
		t.Fatal(err)
	}
	var out []account.EntryKind
	for _, e := range trail {
		out = append(out, e.Kind)
	}
	return out
}
