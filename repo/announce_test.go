package repo_test

import (
	"reflect"
	"testing"
	"time"

	"nestbox/dagcbor"
	"nestbox/firehose/event"
	"nestbox/repo"
	"nestbox/repo/car"
)

func TestAnnounceEvents(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_000)
	of := repo.AccountHead{DID: "did:plc:abc", Rev: "3kabcdefghi22"}
	suspended := of
	suspended.Status = "suspended"
	commit := []byte("a commit")
	renewed := &repo.Change{Event: event.Event{Kind: event.KindSync, DID: of.DID, Body: []byte("renewed")}}
	active := event.Account{DID: of.DID, Time: at}.Event()
	sync := event.Sync{DID: of.DID, Rev: of.Rev, Commit: car.Block{CID: dagcbor.CID(commit), Data: commit}, Time: at}.Event()
	for name, v := range map[string]struct{ got, want []event.Event }{
		"as it is":             {repo.AnnounceEvents(of, commit, nil, at), []event.Event{active, sync}},
		"renewed":              {repo.AnnounceEvents(of, commit, renewed, at), []event.Event{active, renewed.Event}},
		"without a repository": {repo.AnnounceEvents(of, nil, nil, at), []event.Event{active}},
		"suspended":            {repo.AnnounceEvents(suspended, commit, renewed, at), []event.Event{event.Account{DID: of.DID, Status: "suspended", Time: at}.Event()}},
		"a change, active":     {repo.ChangeEvents(true, renewed.Event), []event.Event{renewed.Event}},
		"a change, not active": {repo.ChangeEvents(false, renewed.Event), nil},
	} {
		if !reflect.DeepEqual(v.got, v.want) {
			t.Errorf("%s: %+v\nwant %+v", name, v.got, v.want)
		}
	}
}
