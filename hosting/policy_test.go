package hosting_test

import (
	"reflect"
	"testing"
	"time"

	"nestbox/account"
	"nestbox/dagcbor"
	"nestbox/firehose/event"
	"nestbox/hosting"
	"nestbox/repo"
	"nestbox/repo/car"
)

func TestEventsOfAccounts(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_000)
	active := &account.Account{DID: "did:plc:abc", Handle: "alice.test"}
	down := &account.Account{DID: "did:plc:abc", Handle: "alice.test", Measures: account.Measures{TakenDownAt: at}}
	commit := []byte("a commit")
	c := &repo.Change{
		Next:  repo.Head{DID: active.DID, Rev: "3kabcdefghi22", CID: dagcbor.CID(commit), Commit: commit},
		Event: event.Event{Kind: event.KindCommit, DID: active.DID, Body: []byte("the change's own")},
	}
	identity := event.Identity{DID: active.DID, Handle: "alice.test", Time: at}.Event()
	status := event.Account{DID: active.DID, Time: at}.Event()
	sync := event.Sync{DID: active.DID, Rev: c.Next.Rev, Commit: car.Block{CID: c.Next.CID, Data: commit}, Time: at}.Event()
	for name, v := range map[string]struct{ got, want []event.Event }{
		"born":                      {hosting.BirthEvents(active, c, at), []event.Event{identity, status, c.Event, sync}},
		"born without a repository": {hosting.BirthEvents(active, nil, at), []event.Event{identity, status}},
		"new key":                   {hosting.KeyEvents(active, c, at), []event.Event{identity, c.Event}},
		"new key, no repository":    {hosting.KeyEvents(active, nil, at), []event.Event{identity}},
		"new key, taken down":       {hosting.KeyEvents(down, c, at), nil},
	} {
		if !reflect.DeepEqual(v.got, v.want) {
			t.Errorf("%s: %+v\nwant %+v", name, v.got, v.want)
		}
	}
}

func TestRenamed(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_000)
	old := account.Account{ID: 7, DID: "did:plc:abc", Handle: "alice.test", Document: []byte("old"), HandleInvalid: true}
	a := old
	next, events := hosting.Renamed(&a, "new.test", []byte("new"), at)
	if want := (account.Account{ID: 7, DID: "did:plc:abc", Handle: "new.test", Document: []byte("new")}); !reflect.DeepEqual(next, want) {
		t.Errorf("%+v, want %+v", next, want)
	}
	if want := []event.Event{event.Identity{DID: old.DID, Handle: "new.test", Time: at}.Event()}; !reflect.DeepEqual(events, want) {
		t.Errorf("%+v, want %+v", events, want)
	}
	next, events = hosting.Renamed(&a, "new.test", nil, at)
	if want := (account.Account{ID: 7, DID: "did:plc:abc", Handle: "new.test", Document: []byte("old"), HandleInvalid: true}); !reflect.DeepEqual(next, want) || events != nil {
		t.Errorf("without a document: %+v, %+v; want %+v", next, events, want)
	}
	if !reflect.DeepEqual(a, old) {
		t.Error("changed the account that it was asked about")
	}
}

// TestDue: an account is due once its owner, who has deactivated it, wanted it deleted, and
// no moderator holds it.
func TestDue(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(5000)
	for name, c := range map[string]struct {
		a    account.Account
		want bool
	}{
		"active":         {account.Account{}, false},
		"deactivated":    {account.Account{DeactivatedAt: now}, false},
		"later":          {account.Account{DeactivatedAt: now, DeleteAfter: now.Add(1)}, false},
		"now":            {account.Account{DeactivatedAt: now, DeleteAfter: now}, true},
		"long ago":       {account.Account{DeactivatedAt: now, DeleteAfter: now.Add(-time.Hour)}, true},
		"active again":   {account.Account{DeleteAfter: now}, false},
		"taken down":     {account.Account{DeactivatedAt: now, DeleteAfter: now, Measures: account.Measures{TakenDownAt: now}}, false},
		"suspended":      {account.Account{DeactivatedAt: now, DeleteAfter: now, Measures: account.Measures{SuspendedAt: now}}, false},
		"earns no codes": {account.Account{DeactivatedAt: now, DeleteAfter: now, Measures: account.Measures{InvitesDisabled: true}}, true},
	} {
		if got := hosting.Due(&c.a, now); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
