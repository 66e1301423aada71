package hosting_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/firehose/event"
	"nestbox/hosting"
	"nestbox/identity"
	"nestbox/mail"
	"nestbox/plc"
	"nestbox/xrpc"
)

// mustCreate signs somebody up.
func (p *place) mustCreate(name string) *account.Account {
	p.t.Helper()
	a, err := p.create(name, "")
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

// identities counts the events of an account's identity.
func (p *place) identities(did syntax.DID) int { return p.told(event.KindIdentity, did) }

// told counts an account's events of a kind.
func (p *place) told(kind event.Kind, did syntax.DID) (n int) {
	p.t.Helper()
	events, err := p.World.Log.Read(p.t.Context(), 0, 1000, 1<<20)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, e := range events {
		if e.Kind == kind && e.DID == did {
			n++
		}
	}
	return n
}

// named returns the handle that the directory has for a DID.
func (p *place) named(did syntax.DID) syntax.Handle {
	p.t.Helper()
	last, err := p.Directory.Last(p.t.Context(), did)
	if err != nil {
		p.t.Fatal(err)
	}
	d, _ := plc.DataOf(last)
	return d.Handle
}

// wantHandle fails the test unless account, directory and document agree on a
// handle, and nothing is under way.
func (p *place) wantHandle(what string, did syntax.DID, want syntax.Handle) {
	p.t.Helper()
	a, err := p.Accounts.ByDID(p.t.Context(), did)
	if err != nil {
		p.t.Fatalf("%s: %v", what, err)
	}
	d, err := identity.ParseDocument(did, a.Document)
	if err != nil {
		p.t.Fatalf("%s: %v", what, err)
	}
	if a.Handle != want || p.named(did) != want || d.Handle() != want {
		p.t.Errorf("%s: the account has %s, the directory %s, the document %s; want %s", what, a.Handle, p.named(did), d.Handle(), want)
	}
	left, err := p.Handles.HandleChanges(p.t.Context())
	if err != nil || len(left) != 0 {
		p.t.Errorf("%s: under way: %+v, %v", what, left, err)
	}
}

// resumeHandles settles what is under way, once it is no longer young.
func (p *place) resumeHandles() {
	p.t.Helper()
	p.advance(time.Minute)
	if err := p.ResumeHandles(p.t.Context()); err != nil {
		p.t.Errorf("ResumeHandles: %v", err)
	}
}

func TestSetHandle(t *testing.T) {
	p := newPlace(t)
	a := p.mustCreate("alice")
	if _, err := p.Resolver.DID(t.Context(), a.DID); err != nil {
		t.Fatal(err)
	}
	before := p.identities(a.DID)
	if err := p.SetHandle(t.Context(), a, "Alice2.test", account.ActorOwner); err != nil {
		t.Fatal(err)
	}
	p.wantHandle("another one", a.DID, "alice2.test")
	if d, err := p.Resolver.DID(t.Context(), a.DID); err != nil || d.Handle() != "alice2.test" {
		t.Errorf("what is known of the document: %+v, %v", d, err)
	}
	if n := p.identities(a.DID) - before; n != 1 {
		t.Errorf("%d events of the identity", n)
	}
	trail, err := p.Accounts.Trail(t.Context(), a.ID, 10)
	if err != nil || len(trail) != 2 || trail[0].Kind != account.EntryHandleChanged || trail[0].Reason != "alice2.test" {
		t.Errorf("the trail: %+v, %v", trail, err)
	}
	// The old one is free, the new one is not.
	if _, err := p.Create(t.Context(), hosting.NewAccount{Handle: "alice.test", Email: "other@example.com", Password: "correct-horse-battery"}); err != nil {
		t.Errorf("the old handle: %v", err)
	}
	if _, err := p.create("alice2", ""); !errors.Is(err, account.ErrHandleTaken) {
		t.Errorf("signing up with a handle that is taken: %v", err)
	}
	b := p.mustCreate("bob")
	if err := p.SetHandle(t.Context(), b, "alice2.test", account.ActorOwner); !errors.Is(err, account.ErrHandleTaken) {
		t.Errorf("another's handle: %v", err)
	}
	// The same again announces it once more.
	a, err = p.Accounts.ByDID(t.Context(), a.DID)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.SetHandle(t.Context(), a, "alice2.test", account.ActorOwner); err != nil || p.identities(a.DID)-before != 2 {
		t.Errorf("the same again: %v, %d events", err, p.identities(a.DID)-before)
	}
	for handle, want := range map[string]error{
		"www.test": account.ErrHandleReserved, "a.b.test": account.ErrHandleCharacters, "nonsense": account.ErrHandleForm, "": account.ErrHandleForm,
	} {
		if err := p.SetHandle(t.Context(), a, handle, account.ActorOwner); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", handle, err, want)
		}
	}
	if err := p.SetHandle(t.Context(), a, "www.test", account.ActorAdmin); err != nil {
		t.Errorf("a reserved one, by the operator: %v", err)
	}
	p.wantHandle("in the end", a.DID, "www.test")
}

// TestSetHandleOwnDomain: a handle of another domain is proven first.
func TestSetHandleOwnDomain(t *testing.T) {
	p := newPlace(t)
	a, b := p.mustCreate("alice"), p.mustCreate("bob")
	const handle = "alice.nestbox.invalid-tld-is-not-used.com"
	for what, records := range map[string][]string{
		"nothing": nil, "another's": {"did=" + b.DID.String()}, "two": {"did=" + a.DID.String(), "did=" + b.DID.String()},
	} {
		p.txt["_atproto."+handle] = records
		if err := p.SetHandle(t.Context(), a, handle, account.ActorOwner); err == nil {
			t.Errorf("proof is %s: taken", what)
		}
		p.wantHandle(what, a.DID, "alice.test")
	}
	p.txt["_atproto."+handle] = []string{"did=" + a.DID.String()}
	if err := p.SetHandle(t.Context(), a, handle, account.ActorOwner); err != nil {
		t.Fatal(err)
	}
	p.wantHandle("proven", a.DID, handle)

	// It leads to another account here now, but the first one still has it.
	p.txt["_atproto."+handle] = []string{"did=" + b.DID.String()}
	if err := p.SetHandle(t.Context(), b, handle, account.ActorOwner); !errors.Is(err, account.ErrHandleTaken) {
		t.Errorf("a domain that another account here has: %v", err)
	}
}

// crashHandles is a HandleStore; its process dies at a step: before the step is
// done, or after it.
type crashHandles struct {
	hosting.HandleStore
	crash
}

func (c crashHandles) BeginHandle(ctx context.Context, h hosting.HandleChange) error {
	return c.step("begin", func() error { return c.HandleStore.BeginHandle(ctx, h) })
}

func (c crashHandles) FinishHandle(ctx context.Context, id int64, h syntax.Handle, doc []byte, e account.Entry, mails ...mail.Message) error {
	return c.step("finish", func() error { return c.HandleStore.FinishHandle(ctx, id, h, doc, e, mails...) })
}

func (c crashHandles) DropHandle(ctx context.Context, id int64, h syntax.Handle) error {
	return c.step("drop", func() error { return c.HandleStore.DropHandle(ctx, id, h) })
}

// TestHandleCrash: the process dies at each step of a change. After the restart
// the change is finished or undone, and directory and database agree.
func TestHandleCrash(t *testing.T) {
	for _, c := range []struct {
		at    string
		saved bool
		mode  mode
		want  syntax.Handle
	}{
		{"begin", false, obey, "alice.test"},
		{"begin", true, obey, "alice.test"},
		{"finish", false, obey, "new.test"},
		{"finish", true, obey, "new.test"},
		{"drop", false, refuse, "alice.test"},
		{"drop", true, refuse, "alice.test"},
	} {
		t.Run(fmt.Sprintf("%s, saved %t", c.at, c.saved), func(t *testing.T) {
			p := newPlace(t)
			a := p.mustCreate("alice")
			before := p.identities(a.DID)
			p.plc.set(c.mode)
			p.Handles = crashHandles{p.Handles, crash{at: c.at, saved: c.saved}}
			if err := p.SetHandle(t.Context(), a, "new.test", account.ActorOwner); !errors.Is(err, errCrash) {
				t.Fatalf("SetHandle: %v", err)
			}
			p.restart()
			p.plc.set(obey)
			p.resumeHandles()
			p.wantHandle("after the restart", a.DID, c.want)
			changed := 0
			if c.want == "new.test" {
				changed = 1
			}
			if n := p.identities(a.DID) - before; n != changed {
				t.Errorf("%d events of the identity, want %d", n, changed)
			}
			// Whichever handle is not hers is free.
			free := map[syntax.Handle]string{"alice.test": "new", "new.test": "alice"}[c.want]
			if _, err := p.Create(t.Context(), hosting.NewAccount{Handle: free + ".test", Email: "other@example.com", Password: "correct-horse-battery"}); err != nil {
				t.Errorf("%s: %v", free, err)
			}
			again, err := p.Accounts.ByDID(t.Context(), a.DID)
			if err == nil {
				err = p.SetHandle(t.Context(), again, "third.test", account.ActorOwner)
			}
			if err != nil {
				t.Errorf("changing it again: %v", err)
			}
			p.wantHandle("in the end", a.DID, "third.test")
		})
	}
}

// TestHandleDirectory: the directory fails in every way. While nobody knows whether
// it accepted the operation, nobody else can take the new handle, and the account
// cannot change to a third.
func TestHandleDirectory(t *testing.T) {
	for name, c := range map[string]struct {
		mode    mode
		settled bool // at once
		status  int
		want    syntax.Handle
	}{
		"refused":                           {refuse, true, http.StatusBadRequest, "alice.test"},
		"429":                               {throttle, true, http.StatusServiceUnavailable, "alice.test"},
		"500":                               {fail, false, http.StatusServiceUnavailable, "alice.test"},
		"taken, then 504":                   {takeFail, false, http.StatusServiceUnavailable, "new.test"},
		"taken, then the connection breaks": {takeBreak, false, http.StatusServiceUnavailable, "new.test"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			a := p.mustCreate("alice")
			p.plc.set(c.mode)
			err := p.SetHandle(t.Context(), a, "new.test", account.ActorOwner)
			wire, ok := errors.AsType[*xrpc.Error](hosting.HandleError(err, "new.test"))
			if !ok || wire.Status != c.status || (wire.RetryAfter > 0) != (c.status == http.StatusServiceUnavailable) {
				t.Fatalf("%v, to the client %+v", err, wire)
			}
			p.plc.set(obey)
			if !c.settled {
				if err := p.SetHandle(t.Context(), a, "third.test", account.ActorOwner); !errors.Is(err, account.ErrStatusConflict) {
					t.Errorf("another change meanwhile: %v", err)
				}
				if _, err := p.create("new", ""); !errors.Is(err, account.ErrHandleTaken) {
					t.Errorf("signing up with the new handle meanwhile: %v", err)
				}
				p.plc.down.Store(true)
				if err := p.ResumeHandles(t.Context()); err == nil {
					t.Error("settled without a directory")
				}
				p.plc.down.Store(false)
				if err := p.ResumeHandles(t.Context()); err != nil {
					t.Error(err)
				}
				// A change that the directory has is finished at once; one that may still reach it
				// is not undone.
				if left, err := p.Handles.HandleChanges(t.Context()); err != nil || (len(left) == 1) != (c.want == "alice.test") {
					t.Errorf("right after: %+v, %v", left, err)
				}
			}
			p.resumeHandles()
			p.wantHandle("settled", a.DID, c.want)
		})
	}
}

// TestHandleUnreachable: nothing was sent, so nothing is left behind.
func TestHandleUnreachable(t *testing.T) {
	p := newPlace(t)
	a := p.mustCreate("alice")
	p.plc.down.Store(true)
	if err := p.SetHandle(t.Context(), a, "new.test", account.ActorOwner); err == nil {
		t.Fatal("no error")
	}
	p.plc.down.Store(false)
	p.wantHandle("unreachable", a.DID, "alice.test")
}

// TestHandleRace: of two accounts that want one handle, one gets it, and of two
// changes of one account, one is made.
func TestHandleRace(t *testing.T) {
	p := newPlace(t)
	people := []*account.Account{p.mustCreate("alice"), p.mustCreate("bob"), p.mustCreate("carol")}
	race := func(handles ...string) (won []int) {
		t.Helper()
		errs := make([]error, len(handles))
		var all sync.WaitGroup
		for i, h := range handles {
			all.Go(func() { errs[i] = p.SetHandle(t.Context(), people[i], h, account.ActorOwner) })
		}
		all.Wait()
		for i, err := range errs {
			switch {
			case err == nil:
				won = append(won, i)
			case !errors.Is(err, account.ErrHandleTaken) && !errors.Is(err, account.ErrStatusConflict):
				t.Errorf("%s: %v", people[i].DID, err)
			}
		}
		return won
	}
	if won := race("one.test", "one.test", "one.test"); len(won) != 1 {
		t.Errorf("%d have got one handle", len(won))
	} else {
		p.wantHandle("the winner", people[won[0]].DID, "one.test")
	}
	people[1], people[2] = people[0], people[0]
	won := race("two.test", "three.test", "four.test")
	if len(won) == 0 {
		t.Fatal("no change was made")
	}
	p.wantHandle("the last of them", people[0].DID, p.named(people[0].DID))
}

// TestHandleOfDeleted: a change of an account that is deleted meanwhile goes with it.
func TestHandleOfDeleted(t *testing.T) {
	p := newPlace(t)
	a := p.mustCreate("alice")
	p.plc.set(takeFail)
	if err := p.SetHandle(t.Context(), a, "new.test", account.ActorOwner); err == nil {
		t.Fatal("no error")
	}
	p.plc.set(obey)
	if err := p.Accounts.Delete(t.Context(), a.ID, p.clock()); err != nil {
		t.Fatal(err)
	}
	p.resumeHandles()
	if left, err := p.Handles.HandleChanges(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("left: %+v, %v", left, err)
	}
	p.mustCreate("new")
}

// TestHandleAtWork: Resume leaves alone what a request is working on, however late the
// clock says it is, and nothing else of the account is changed meanwhile.
func TestHandleAtWork(t *testing.T) {
	p := newPlace(t)
	a := p.mustCreate("alice")
	p.plc.set(takeLinger)
	done := make(chan error, 1)
	go func() { done <- p.SetHandle(t.Context(), a, "new.test", account.ActorOwner) }()
	for range 2 { // the sign-up's was the first
		<-p.plc.arrived
	}
	p.advance(time.Hour)
	if err := p.ResumeHandles(t.Context()); err != nil {
		t.Error(err)
	}
	if left, err := p.Handles.HandleChanges(t.Context()); err != nil || len(left) != 1 {
		t.Errorf("under way: %+v, %v", left, err)
	}
	if err := p.ChangeKey(t.Context(), a); !errors.Is(err, account.ErrStatusConflict) {
		t.Errorf("its key meanwhile: %v", err)
	}
	close(p.plc.linger)
	if err := <-done; err != nil {
		t.Error(err)
	}
	p.wantHandle("in the end", a.DID, "new.test")
}
