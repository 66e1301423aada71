package admin_test

import (
	"testing"
	"time"

	"nestbox/account"
	"nestbox/admin"
)

func TestEntryOf(t *testing.T) {
	at := time.UnixMilli(1000)
	e := account.Entry{At: at, Kind: account.EntryTakedown, By: account.ActorAdmin, Session: 3, Reason: "2 sessions ended", Network: "192.0.2.1", UserAgent: "a tool", Who: "did:web:mod.test", Ref: `case "7"`}
	got, ok := admin.OfEntry("did:plc:abc", e)
	want := admin.Action{At: at, Who: "did:web:mod.test", What: "takedown", DID: "did:plc:abc", Details: `ref "case \"7\"", 2 sessions ended`, Network: "192.0.2.1", UserAgent: "a tool"}
	if !ok || got != want {
		t.Errorf("%+v, %t; want %+v", got, ok, want)
	}
	e.Ref = ""
	if got, _ := admin.OfEntry("did:plc:abc", e); got.Details != "2 sessions ended" {
		t.Errorf("without a reference: %q", got.Details)
	}
	e.Note, e.Ref = "by phone", "8"
	if got, _ := admin.OfEntry("did:plc:abc", e); got.Details != `note "by phone", ref "8", 2 sessions ended` {
		t.Errorf("with a note: %q", got.Details)
	}
	for _, by := range []account.Actor{account.ActorOwner, account.ActorServer} {
		e.By = by
		if got, ok := admin.OfEntry("did:plc:abc", e); ok {
			t.Errorf("by %s: %+v", by, got)
		}
	}
}
