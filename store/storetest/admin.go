package storetest

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/account"
	"nestbox/admin"
	"nestbox/blob"
	"nestbox/mail"
	"nestbox/repo"
)

var adminTests = tests{
	"Audit":           testAudit,
	"Entrance":        testEntrance,
	"Presence":        testPresence,
	"PresenceEnds":    testPresenceEnds,
	"Browse":          testBrowse,
	"Usage":           testUsage,
	"Totals":          testTotals,
	"Collections":     testCollections,
	"ClientUse":       testClientUse,
	"Newest":          testNewest,
	"AuditEvents":     testAuditEvents,
	"Search":          testSearch,
	"SendMail":        testSendMail,
	"TakedownRecord":  testTakedownRecord,
	"TakedownBlob":    testTakedownBlob,
	"TakedownAccount": testTakedownAccount,
}

// did makes the action of an actor at a minute of the story.
func did(minute int, what string, about syntax.DID) admin.Action {
	return admin.Action{
		At: at(minute), Who: "did:plc:mod", What: what, DID: about, Subject: "a.b/c", Details: "ref " + what,
		Network: "192.0.2.9", UserAgent: "tool",
	}
}

// audit returns the whole log, the latest first, without IDs, which it checks.
func audit(t *testing.T, s *Database, f admin.AuditFilter) []admin.Action {
	t.Helper()
	if f.Before == 0 {
		f.Before = math.MaxInt64
	}
	if f.Limit == 0 {
		f.Limit = 1000
	}
	list, err := s.Admin.Audit(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	before := f.Before
	for i, a := range list {
		if a.ID >= before {
			t.Errorf("action %d is in the wrong place", a.ID)
		}
		before, list[i].ID = a.ID, 0
	}
	return list
}

// whats are what was done, the latest first.
func whats(list []admin.Action) (out []string) {
	for _, a := range list {
		out = append(out, a.What)
	}
	return out
}

func testAudit(t *testing.T, s *Database) {
	t.Helper()
	const alice, bob = syntax.DID("did:plc:alice"), syntax.DID("did:plc:bob")
	want := []admin.Action{did(3, "third", alice), did(2, "second", bob), did(1, "first", alice)}
	for _, a := range slices.Backward(want) {
		if err := s.Admin.Note(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	s.Reopen()
	if got := audit(t, s, admin.AuditFilter{}); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for what, c := range map[string]struct {
		f    admin.AuditFilter
		want []string
	}{
		"alice":           {admin.AuditFilter{DID: alice}, []string{"third", "first"}},
		"alice, later":    {admin.AuditFilter{DID: alice, Since: at(2)}, []string{"third"}},
		"since":           {admin.AuditFilter{Since: at(2)}, []string{"third", "second"}},
		"the latest":      {admin.AuditFilter{Limit: 1}, []string{"third"}},
		"somebody else":   {admin.AuditFilter{DID: "did:plc:carol"}, nil},
		"in days to come": {admin.AuditFilter{Since: at(4)}, nil},
	} {
		if got := whats(audit(t, s, c.f)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", what, got, c.want)
		}
	}
	list, err := s.Admin.Audit(t.Context(), admin.AuditFilter{Before: math.MaxInt64, Limit: 2})
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	if got := whats(audit(t, s, admin.AuditFilter{Before: list[1].ID})); !slices.Equal(got, []string{"first"}) {
		t.Errorf("the second page: %q", got)
	}
}

// testAuditEvents: an admin's action on an account is in the log as well as on
// the trail, other actions are not; it stays when the account is gone.
func testAuditEvents(t *testing.T, s *Database) {
	t.Helper()
	alice := newAccount(t, s, "alice") // by the admin, as event has it
	before := len(audit(t, s, admin.AuditFilter{}))
	e := entry(account.EntryTakedown)
	e.Who, e.Ref = "did:plc:mod", "case 7"
	if _, err := s.Accounts.SetStatus(t.Context(), alice.ID, account.StatusChange{Takedown: &account.Applied{Applied: true, Ref: "case 7"}}, e); err != nil {
		t.Fatal(err)
	}
	own := entry(account.EntrySignOut)
	own.By = account.ActorOwner
	if err := s.Accounts.AddEntry(t.Context(), alice.ID, own); err != nil {
		t.Fatal(err)
	}
	if err := s.Accounts.AddEntry(t.Context(), alice.ID+1, e); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("an event of nobody: %v", err)
	}
	if err := s.Accounts.Delete(t.Context(), alice.ID, at(2)); err != nil {
		t.Fatal(err)
	}
	s.Reopen()
	list := audit(t, s, admin.AuditFilter{DID: alice.DID})
	want := admin.Action{
		At: at(1), Who: "did:plc:mod", What: "takedown", DID: alice.DID, Details: `ref "case 7", 0 sessions ended`,
		Network: "192.0.2.1", UserAgent: "test",
	}
	if len(list) != before+1 || list[0] != want {
		t.Errorf("got  %+v\nwant %+v after %d others", list, want, before)
	}
}

func testSearch(t *testing.T, s *Database) {
	t.Helper()
	alice, bob, alicia := newAccount(t, s, "alice"), newAccount(t, s, "bob"), newAccount(t, s, "alicia")
	if _, err := s.Hosting.Reserve(t.Context(), pending("alina")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text  string
		after int64
		limit int
		want  []*account.Account
	}{
		{"ali", 0, 10, []*account.Account{alice, alicia}},
		{"ALI", 0, 1, []*account.Account{alice}},
		{"ali", alice.ID, 10, []*account.Account{alicia}},
		{"bob@EXAMPLE", 0, 10, []*account.Account{bob}},
		{"ob.test", 0, 10, []*account.Account{bob}},
		{"", 0, 10, []*account.Account{alice, bob, alicia}},
		{"%", 0, 10, nil},
		{"alina", 0, 10, nil},
		{"ali", 0, -1, nil},
	} {
		got, err := s.Admin.Search(t.Context(), c.text, c.after, c.limit)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q after %d: %+v, %v", c.text, c.after, got, err)
		}
	}
}

// testSendMail: the message and the log are one.
func testSendMail(t *testing.T, s *Database) {
	t.Helper()
	if err := s.Admin.SendMail(t.Context(), note("alice@example.com", "hello"), did(1, "mail", "did:plc:alice")); err != nil {
		t.Fatal(err)
	}
	long := note("alice@example.com", "long")
	long.Text = strings.Repeat("x", mail.MaxMessage)
	if err := s.Admin.SendMail(t.Context(), long, did(2, "too long", "did:plc:alice")); !errors.Is(err, mail.ErrTooLarge) {
		t.Errorf("a message that is too large: %v", err)
	}
	s.Reopen()
	if got := waiting(t, s, 9); !slices.Equal(got, []string{"hello"}) {
		t.Errorf("waiting: %q", got)
	}
	if got := whats(audit(t, s, admin.AuditFilter{})); !slices.Equal(got, []string{"mail"}) {
		t.Errorf("log: %q", got)
	}
}

// takedown takes down something of an account, or lifts that takedown.
func takedown(t *testing.T, s *Database, a *account.Account, minute int, subject string, applied bool, ref string) {
	t.Helper()
	if err := s.Admin.SetTakedown(t.Context(), a.DID, admin.Takedown{Subject: subject, CID: "cid of " + ref, Ref: ref}, applied, did(minute, fmt.Sprint("takedown ", applied), a.DID)); err != nil {
		t.Fatal(err)
	}
}

// wantContent compares what is known of a record or a blob; down of nil: it was
// not taken down.
func wantContent(t *testing.T, s *Database, a *account.Account, subject string, id cid.Cid, down *admin.Takedown) {
	t.Helper()
	got, err := s.Admin.Content(t.Context(), a.DID, subject)
	if want := (admin.Content{CID: id, Takedown: down}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %+v, %v; want %+v", subject, got, err, want)
	}
}

// shown returns the keys of the records of a collection that readers see.
func shown(t *testing.T, s *Database, o *owner, collection string) (keys []string) {
	t.Helper()
	o.view(t, s, func(v repo.View) {
		list, err := v.Records(repo.Range{Collection: collection, Ascending: true, Shown: true, Limit: 100})
		if err != nil {
			t.Error(err)
		}
		for _, r := range list {
			keys = append(keys, r.Key)
			if down, err := v.TakenDown(r.Key); err != nil || down {
				t.Errorf("%s is shown and taken down: %v", r.Key, err)
			}
		}
	})
	return keys
}

func testTakedownRecord(t *testing.T, s *Database) {
	t.Helper()
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	one := put("app.post/1", "one")
	alice.commit(t, s, one, put("app.post/2", "two"), put("app.post/3", "three"))
	bob.commit(t, s, one)

	takedown(t, s, alice.Account, 2, "app.post/1", true, "case 1")
	takedown(t, s, alice.Account, 3, "app.post/1", true, "case 2")
	down := &admin.Takedown{Subject: "app.post/1", CID: "cid of case 2", Ref: "case 2", At: at(2)}
	s.Reopen()
	wantContent(t, s, alice.Account, "app.post/1", one.CID, down)
	wantContent(t, s, alice.Account, "app.post/9", cid.Undef, nil)
	wantContent(t, s, bob.Account, "app.post/1", one.CID, nil)
	if got := shown(t, s, alice, "app.post"); !slices.Equal(got, []string{"app.post/2", "app.post/3"}) {
		t.Errorf("shown: %q", got)
	}
	if got := shown(t, s, bob, "app.post"); !slices.Equal(got, []string{"app.post/1"}) {
		t.Errorf("shown of bob's: %q", got)
	}
	alice.check(t, s) // the repository itself has it still

	// It stays down when the record is deleted and written again.
	alice.commit(t, s, repo.Write{Key: "app.post/1"})
	wantContent(t, s, alice.Account, "app.post/1", cid.Undef, down)
	again := put("app.post/1", "again")
	alice.commit(t, s, again)
	wantContent(t, s, alice.Account, "app.post/1", again.CID, down)
	if got := shown(t, s, alice, "app.post"); !slices.Equal(got, []string{"app.post/2", "app.post/3"}) {
		t.Errorf("shown when it came again: %q", got)
	}

	for range 2 { // lifting it again is not an error
		takedown(t, s, alice.Account, 4, "app.post/1", false, "")
	}
	wantContent(t, s, alice.Account, "app.post/1", again.CID, nil)
	if got := shown(t, s, alice, "app.post"); len(got) != 3 {
		t.Errorf("shown when it was lifted: %q", got)
	}
	if got := whats(audit(t, s, admin.AuditFilter{DID: alice.DID, Since: at(2)})); !slices.Equal(got, []string{"takedown false", "takedown false", "takedown true", "takedown true"}) {
		t.Errorf("log: %q", got)
	}
}

func testTakedownBlob(t *testing.T, s *Database) {
	t.Helper()
	alice, bob := newOwner(t, s, "alice"), newOwner(t, s, "bob")
	want := blobOf("pic")
	for _, o := range []*owner{alice, bob} {
		upload(t, s, o.ID, "pic", start)
		o.commit(t, s, put("app.post/1", "one", want.CID))
	}
	takedown(t, s, alice.Account, 2, want.CID.String(), true, "")
	s.Reopen()
	down := &admin.Takedown{Subject: want.CID.String(), CID: "cid of ", At: at(2)}
	wantContent(t, s, alice.Account, want.CID.String(), want.CID, down)
	noBlob(t, s, alice.Account, want.CID)
	if _, err := s.Blobs.Get(t.Context(), bob.ID, want.CID); err != nil {
		t.Errorf("bob's: %v", err)
	}
	alice.view(t, s, func(v repo.View) {
		if _, err := v.Blob(want.CID); !errors.Is(err, repo.ErrNoBlob) {
			t.Errorf("for a record: %v", err)
		}
	})
	if _, err := add(t, s, alice.ID, "again", "pic", 3, 0); !errors.Is(err, blob.ErrTakenDown) {
		t.Errorf("uploaded again: %v", err)
	}
	wantGarbage(t, s, "again")

	takedown(t, s, alice.Account, 4, want.CID.String(), false, "")
	wantContent(t, s, alice.Account, want.CID.String(), want.CID, nil)
	if _, err := s.Blobs.Get(t.Context(), alice.ID, want.CID); err != nil {
		t.Errorf("lifted: %v", err)
	}
	if _, err := add(t, s, alice.ID, "once-more", "pic", 5, 0); err != nil {
		t.Errorf("uploaded when it was lifted: %v", err)
	}
}

// testTakedownAccount: the list of an account's, which outlives the account.
func testTakedownAccount(t *testing.T, s *Database) {
	t.Helper()
	alice := newAccount(t, s, "alice")
	for _, subject := range []string{"b.c/2", "a.b/1", "c.d/3"} {
		takedown(t, s, alice, 2, subject, true, "ref")
	}
	for _, c := range []struct {
		after string
		limit int
		want  []string
	}{
		{"", 10, []string{"a.b/1", "b.c/2", "c.d/3"}},
		{"", 2, []string{"a.b/1", "b.c/2"}},
		{"b.c/2", 2, []string{"c.d/3"}},
		{"c.d/3", 2, nil},
		{"", -1, nil},
	} {
		list, err := s.Admin.Takedowns(t.Context(), alice.DID, c.after, c.limit)
		var got []string
		for _, d := range list {
			got = append(got, d.Subject)
			if d.Ref != "ref" || !d.At.Equal(at(2)) {
				t.Errorf("%+v", d)
			}
		}
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("after %q: %q, %v", c.after, got, err)
		}
	}
	if err := s.Accounts.Delete(t.Context(), alice.ID, at(3)); err != nil {
		t.Fatal(err)
	}
	if list, err := s.Admin.Takedowns(t.Context(), alice.DID, "", 10); err != nil || len(list) != 3 {
		t.Errorf("of an account that is gone: %+v, %v", list, err)
	}
	for _, subject := range []string{"b.c/2", "a.b/1", "c.d/3"} { // lifted by the DID
		takedown(t, s, alice, 4, subject, false, "")
	}
	if list, err := s.Admin.Takedowns(t.Context(), alice.DID, "", 10); err != nil || len(list) != 0 {
		t.Errorf("when all was lifted: %+v, %v", list, err)
	}
	before := len(audit(t, s, admin.AuditFilter{}))
	err := s.Admin.SetTakedown(t.Context(), alice.DID, admin.Takedown{Subject: "a.b/1"}, true, did(4, "too late", alice.DID))
	if !errors.Is(err, account.ErrNotFound) || len(audit(t, s, admin.AuditFilter{})) != before {
		t.Errorf("takedown of an account that is gone: %v", err)
	}
}
