package account_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"nestbox/account"
	"nestbox/dagcbor"
	"nestbox/firehose/event"
	"nestbox/repo/car"
)

// TestStatusEvents: each change that the network can see is announced, and no other; an
// account that becomes active is followed by its identity and the state of its repository.
func TestStatusEvents(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_000)
	of := func(change func(*account.Account)) *account.Account {
		a := &account.Account{ID: 7, DID: "did:plc:abc", Handle: "alice.test"}
		if change != nil {
			change(a)
		}
		return a
	}
	active := of(nil)
	deactivated := of(func(a *account.Account) { a.DeactivatedAt = at })
	suspended := of(func(a *account.Account) { a.SuspendedAt = at })
	both := of(func(a *account.Account) { a.SuspendedAt, a.DeactivatedAt = at, at })
	down := of(func(a *account.Account) { a.TakenDownAt = at })
	unverified := of(func(a *account.Account) { a.HandleInvalid = true })
	commit := []byte("a commit")
	head := &account.Head{Rev: "3kabcdefghi22", Commit: car.Block{CID: dagcbor.CID(commit), Data: commit}}

	status := func(s string) event.Event {
		return event.Account{DID: "did:plc:abc", Status: s, Time: at}.Event()
	}
	identity := event.Identity{DID: "did:plc:abc", Handle: "alice.test", Time: at}.Event()
	invalid := event.Identity{DID: "did:plc:abc", Handle: "handle.invalid", Time: at}.Event()
	sync := event.Sync{DID: "did:plc:abc", Rev: head.Rev, Commit: head.Commit, Time: at}.Event()
	for name, c := range map[string]struct {
		was, now *account.Account
		head     *account.Head
		want     []event.Event
	}{
		"nothing":                              {active, active, head, nil},
		"deactivated":                          {active, deactivated, head, []event.Event{status("deactivated")}},
		"deactivated when suspended":           {suspended, both, head, nil},
		"suspended when deactivated":           {deactivated, both, head, []event.Event{status("suspended")}},
		"taken down when suspended":            {suspended, down, head, []event.Event{status("takendown")}},
		"suspension lifted, still deactivated": {both, deactivated, head, []event.Event{status("deactivated")}},
		"activated":                            {deactivated, active, head, []event.Event{status(""), identity, sync}},
		"takedown lifted":                      {down, active, head, []event.Event{status(""), identity, sync}},
		"activated without a repository":       {deactivated, active, nil, []event.Event{status(""), identity}},
		"activated with an unverified handle":  {deactivated, unverified, nil, []event.Event{status(""), invalid}},
		"reactivated while taken down":         {down, down, head, nil},
	} {
		if got := account.StatusEvents(c.was, c.now, c.head, at); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v\nwant %+v", name, got, c.want)
		}
	}
	if got := account.DeletedEvent("did:plc:abc", at); !reflect.DeepEqual(got, status("deleted")) {
		t.Errorf("deleted: %+v", got)
	}
}

// TestReappears: only takedowns and deactivations hide an account's handle.
func TestReappears(t *testing.T) {
	at := time.UnixMilli(1000)
	active, suspended := &account.Account{}, &account.Account{Measures: account.Measures{SuspendedAt: at}}
	down, deactivated := &account.Account{Measures: account.Measures{TakenDownAt: at}}, &account.Account{DeactivatedAt: at}
	for _, c := range []struct {
		was, now *account.Account
		want     bool
	}{
		{active, active, false},
		{suspended, active, false},
		{active, down, false},
		{down, deactivated, false},
		{down, active, true},
		{deactivated, active, true},
		{deactivated, suspended, true},
	} {
		if got := account.Reappears(c.was, c.now); got != c.want {
			t.Errorf("from %q to %q: %t", c.was.Status(), c.now.Status(), got)
		}
	}
}

func TestWithEmail(t *testing.T) {
	confirmed := time.UnixMilli(1000)
	trusted := account.Account{ID: 7, Email: "a@example.com", EmailConfirmedAt: confirmed, EmailFactor: true}
	plain := account.Account{ID: 7, Email: "a@example.com"}
	for name, c := range map[string]struct {
		from     account.Account
		change   account.EmailChange
		want     account.Account
		endCodes bool
		err      error
	}{
		"another address":                 {trusted, account.EmailChange{Email: "b@example.com"}, account.Account{ID: 7, Email: "b@example.com"}, true, nil},
		"another address and codes on":    {trusted, account.EmailChange{Email: "b@example.com", Factor: new(true)}, account.Account{}, false, account.ErrStatusConflict},
		"the same, written differently":   {trusted, account.EmailChange{Email: "A@Example.com"}, account.Account{ID: 7, Email: "A@Example.com", EmailConfirmedAt: confirmed, EmailFactor: true}, false, nil},
		"codes off, whatever the address": {trusted, account.EmailChange{Factor: new(false)}, account.Account{ID: 7, Email: "a@example.com", EmailConfirmedAt: confirmed}, false, nil},
		"codes off, another way to write": {trusted, account.EmailChange{Email: "A@example.com", Factor: new(false)}, account.Account{ID: 7, Email: "a@example.com", EmailConfirmedAt: confirmed}, false, nil},
		"codes off":                       {trusted, account.EmailChange{Email: "a@example.com", Factor: new(false)}, account.Account{ID: 7, Email: "a@example.com", EmailConfirmedAt: confirmed}, false, nil},
		"codes on":                        {account.Account{Email: "a@example.com", EmailConfirmedAt: confirmed}, account.EmailChange{Email: "a@example.com", Factor: new(true)}, account.Account{Email: "a@example.com", EmailConfirmedAt: confirmed, EmailFactor: true}, false, nil},
		"codes on, unconfirmed":           {plain, account.EmailChange{Email: "a@example.com", Factor: new(true)}, plain, false, nil},
		"only if unconfirmed, and it is":  {plain, account.EmailChange{Email: "b@example.com", Unconfirmed: true}, account.Account{ID: 7, Email: "b@example.com"}, true, nil},
		"only if unconfirmed, confirmed":  {trusted, account.EmailChange{Email: "b@example.com", Unconfirmed: true}, account.Account{}, false, account.ErrStatusConflict},
	} {
		from := c.from
		got, endCodes, err := from.WithEmail(c.change)
		if !reflect.DeepEqual(got, c.want) || endCodes != c.endCodes || !errors.Is(err, c.err) {
			t.Errorf("%s: %+v, ends codes: %t, %v; want %+v, %t, %v", name, got, endCodes, err, c.want, c.endCodes, c.err)
		}
		if !reflect.DeepEqual(from, c.from) {
			t.Errorf("%s: changed the account that it was asked about", name)
		}
	}
}

func TestEntryTexts(t *testing.T) {
	e := account.Entry{Kind: account.EntryPasswordChanged, Network: "192.0.2.1"}
	if got := e.Ending(3); got.Reason != "3 sessions ended" || got.Kind != e.Kind || got.Network != e.Network {
		t.Errorf("%+v", got)
	}
	if got := e.Revoking("my app", 2); got.Reason != `"my app", 2 sessions ended` || got.Network != e.Network {
		t.Errorf("%+v", got)
	}
}

func TestRoomForAppPassword(t *testing.T) {
	for have, want := range map[int]error{0: nil, account.MaxAppPasswords - 1: nil, account.MaxAppPasswords: account.ErrTooMany, account.MaxAppPasswords + 1: account.ErrTooMany} {
		if err := account.RoomForAppPassword(have); !errors.Is(err, want) {
			t.Errorf("%d: %v, want %v", have, err, want)
		}
	}
}
