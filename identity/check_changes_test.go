package identity_test

import (
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/identity"
	"nestbox/store/storetest"
)

// checked is a Checker over a network and a real store.
type checked struct {
	*network
	*identity.Checker

	db *storetest.Database
}

func newChecked(t *testing.T) *checked {
	t.Helper()
	n := newNetwork(t)
	db := storetest.Open(t)
	return &checked{network: n, db: db, Checker: &identity.Checker{
		Store: db.Identity, Resolver: n.Resolver, Now: n.clock, Log: slog.New(slog.DiscardHandler),
	}}
}

// due are the DIDs that a round would ask for.
func (c *checked) due() []syntax.DID {
	c.t.Helper()
	subjects, err := c.Store.Due(c.t.Context(), c.clock().Add(-24*time.Hour), 1000)
	if err != nil {
		c.t.Fatal(err)
	}
	var out []syntax.DID
	for _, s := range subjects {
		out = append(out, s.DID)
	}
	slices.Sort(out)
	return out
}

func (c *checked) account(did syntax.DID) *account.Account {
	c.t.Helper()
	a, err := c.db.Accounts.ByDID(c.t.Context(), did)
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

// TestRoundWeb: hosts of did:web that are dead hold nobody up, and a PLC directory
// that is dead does not hold up did:web.
func TestRoundWeb(t *testing.T) {
	c := newChecked(t)
	var dead, alive, registered []syntax.DID
	for i := range 12 {
		n := strconv.Itoa(10 + i)
		dead = append(dead, syntax.DID("did:web:dead"+n+".example.com"))
		registered = append(registered, syntax.DID("did:plc:registered"+n))
		alive = append(alive, syntax.DID("did:web:alive"+n+".example.com"))
	}
	for _, did := range slices.Concat(dead, registered, alive) {
		host := did.Identifier()
		host, _, _ = strings.Cut(host, ".")
		hosted(t, c.db, did, syntax.Handle(host+".example.org"), host+"@example.com")
	}
	c.set(func() {
		for _, did := range registered {
			c.documents[did.String()] = document(did, "x.example.com")
		}
		for _, did := range alive {
			c.pages["https://"+did.Identifier()+"/.well-known/did.json"] = document(did, "x.example.com")
		}
		for _, did := range dead {
			c.pages["https://"+did.Identifier()+"/.well-known/did.json"] = "<html>"
		}
		c.broken["plc"] = true
	})
	c.advance(48 * time.Hour)
	for _, step := range []struct {
		what  string
		do    func()
		fails bool
		left  []syntax.DID
	}{
		{"no directory", func() {}, true, registered},
		{"a directory", func() { c.broken["plc"] = false }, false, nil},
	} {
		c.set(step.do)
		if err := c.Round(t.Context()); (err != nil) != step.fails {
			t.Errorf("%s: %v", step.what, err)
		}
		if left := c.due(); !slices.Equal(left, step.left) {
			t.Errorf("%s: due are %s, want %s", step.what, left, step.left)
		}
		c.advance(time.Hour)
	}
	c.advance(24 * time.Hour)
	if left := c.due(); len(left) != 36 {
		t.Errorf("a day later %d are due: %s", len(left), left)
	}
}

// TestCheckMeanwhile: what was asked for before an account changed is not stored
// over the change.
func TestCheckMeanwhile(t *testing.T) {
	const named, other = "carol.example.com", "carla.example.com"
	newest := []byte(document(didB, other))
	for what, change := range map[string]func(t *testing.T, c *checked, id int64) error{
		"the handle": func(t *testing.T, c *checked, id int64) error {
			t.Helper()
			if err := c.db.Handles.BeginHandle(t.Context(), hosting.HandleChange{AccountID: id, Handle: other, By: account.ActorOwner, BegunAt: c.clock()}); err != nil {
				return err
			}
			return c.db.Handles.FinishHandle(t.Context(), id, other, newest, account.Entry{At: c.clock(), Kind: account.EntryHandleChanged})
		},
		"the document": func(t *testing.T, c *checked, id int64) error {
			t.Helper()
			return c.Store.SaveDocument(t.Context(), id, newest, false, c.clock())
		},
		"a doubt": func(t *testing.T, c *checked, id int64) error {
			t.Helper()
			return c.Store.Doubt(t.Context(), id)
		},
		"taken down": func(t *testing.T, c *checked, id int64) error {
			t.Helper()
			return takedown(t, c.db, id, true)
		},
	} {
		t.Run(what, func(t *testing.T) {
			c := newChecked(t)
			id := hosted(t, c.db, didB, named, "x@example.com")
			c.set(func() { c.documents[didB.String()] = document(didB, "old.example.com") })
			c.advance(48 * time.Hour)
			subjects, err := c.Store.Due(t.Context(), c.clock(), 10)
			if err != nil || len(subjects) != 1 {
				t.Fatal(subjects, err)
			}
			if err := change(t, c, id); err != nil {
				t.Fatal(err)
			}
			before := c.account(didB)
			c.advance(time.Minute)
			if err := c.Check(t.Context(), subjects[0]); err != nil {
				t.Error(err)
			}
			after := c.account(didB)
			if string(after.Document) != string(before.Document) || after.HandleInvalid || !after.IdentityCheckedAt.Equal(before.IdentityCheckedAt) {
				t.Errorf("the document is %s, invalid %t, checked at %s", after.Document, after.HandleInvalid, after.IdentityCheckedAt)
			}
			// What is there now is checked by the next.
			if subjects, err = c.Store.Due(t.Context(), c.clock(), 10); err != nil || len(subjects) != 1 {
				t.Fatal(subjects, err)
			}
			if err := c.Check(t.Context(), subjects[0]); err != nil || !c.account(didB).HandleInvalid {
				t.Errorf("the next check: %v, invalid %t", err, c.account(didB).HandleInvalid)
			}
		})
	}
}

// TestCheckHidden: an account whose handle leads nowhere because it was taken down
// keeps what was found before, and is looked at once it is back.
func TestCheckHidden(t *testing.T) {
	c := newChecked(t)
	id := hosted(t, c.db, didB, "bob.test", "x@example.com") // leads nowhere, by the network's Local
	c.set(func() { c.documents[didB.String()] = document(didB, "bob.test") })
	for _, step := range []struct {
		down, due, invalid bool
	}{
		{true, true, false},
		{false, true, true},
		{true, false, true},
	} {
		if err := takedown(t, c.db, id, step.down); err != nil {
			t.Fatal(err)
		}
		if due := len(c.due()) == 1; due != step.due {
			t.Errorf("%+v: due %t", step, due)
		}
		c.advance(48 * time.Hour)
		if err := c.Round(t.Context()); err != nil {
			t.Error(err)
		}
		if a := c.account(didB); a.HandleInvalid != step.invalid || !a.IdentityCheckedAt.Equal(c.clock()) {
			t.Errorf("%+v: invalid %t, checked at %s", step, a.HandleInvalid, a.IdentityCheckedAt)
		}
	}
	c.set(func() { c.documents[didB.String()] = document(didB, "elsewhere.example.com") })
	c.advance(48 * time.Hour)
	if err := c.Round(t.Context()); err != nil || !c.account(didB).HandleInvalid {
		t.Errorf("another handle in the document of a hidden account: %v, %+v", err, c.account(didB))
	}
}

func takedown(t *testing.T, db *storetest.Database, id int64, applied bool) error {
	t.Helper()
	e := account.Entry{At: time.Unix(0, 0), Kind: account.EntryTakedown}
	_, err := db.Accounts.SetStatus(t.Context(), id, account.StatusChange{Takedown: &account.Applied{Applied: applied}}, e)
	return err
}
