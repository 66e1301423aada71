package hosting_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	didplc "github.com/did-method-plc/go-didplc"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/identity"
	"nestbox/mail"
	"nestbox/plc"
)

// TestSetHandleMovedOut: an account whose DID names another host is not renamed; an
// admin can take the handle back, which is not announced.
func TestSetHandleMovedOut(t *testing.T) {
	p := newPlace(t)
	a := p.mustCreate("alice")
	p.submitChange(a, plc.Change{Services: map[string]didplc.OpService{"atproto_pds": {Type: "AtprotoPersonalDataServer", Endpoint: "https://elsewhere.example.com"}}})
	told := p.identities(a.DID)
	if err := p.SetHandle(t.Context(), a, "other.test", account.ActorOwner); !errors.Is(err, hosting.ErrMovedOut) {
		t.Errorf("the owner: %v", err)
	}
	if begun, err := p.Handles.HandleChanges(t.Context()); err != nil || len(begun) != 0 {
		t.Errorf("under way: %+v, %v", begun, err)
	}
	if err := p.SetHandle(t.Context(), a, "other.test", account.ActorAdmin); err != nil {
		t.Errorf("an admin: %v", err)
	}
	now, err := p.Accounts.ByDID(t.Context(), a.DID)
	if err != nil || now.Handle != "other.test" || !now.HandleInvalid {
		t.Errorf("%+v, %v", now, err)
	}
	if p.named(a.DID) != "alice.test" || p.identities(a.DID) != told {
		t.Errorf("the document names %s, %d events", p.named(a.DID), p.identities(a.DID)-told)
	}
	p.mustCreate("alice2")
	if err := p.SetHandle(t.Context(), p.mustCreate("bob"), "alice.test", account.ActorOwner); err != nil {
		t.Errorf("the handle is not free: %v", err)
	}
}

// webHost serves one did:web, unless it is down.
type webHost struct {
	did  syntax.DID
	doc  atomic.Value // string
	down atomic.Bool
}

func newWebHost(t *testing.T) *webHost {
	t.Helper()
	w := &webHost{}
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if w.down.Load() {
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = rw.Write([]byte(w.doc.Load().(string)))
	}))
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	w.did = syntax.DID("did:web:localhost%3A" + u.Port())
	return w
}

// says sets the handle and the host that the document names.
func (w *webHost) says(handle, host string) {
	w.doc.Store(`{"id":"` + w.did.String() + `","alsoKnownAs":["at://` + handle + `"],
		"service":[{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":"` + host + `"}]}`)
}

func (p *place) moveIn(did syntax.DID, handle string) *account.Account {
	p.t.Helper()
	p.Repos = p.repos()
	a, err := p.MoveIn(p.t.Context(), did, hosting.NewAccount{
		Handle: handle + ".test", Email: handle + "@example.com", Password: "correct-horse-battery", Owner: did,
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

// TestSetHandleWebDown: nothing is submitted for a did:web, so a host that is
// silent leaves nothing under way.
func TestSetHandleWebDown(t *testing.T) {
	p := newPlace(t)
	w := newWebHost(t)
	w.says("bob.test", p.URL)
	a := p.moveIn(w.did, "bob")
	w.down.Store(true)
	for _, handle := range []string{"bobby.test", "robert.test"} {
		if err := p.SetHandle(t.Context(), a, handle, account.ActorOwner); err == nil || errors.Is(err, account.ErrStatusConflict) {
			t.Errorf("%s: %v", handle, err)
		}
	}
	p.mustCreate("bobby") // nobody has the name

	// A process that died before it asked.
	c := hosting.HandleChange{AccountID: a.ID, Handle: "robert.test", By: account.ActorOwner, BegunAt: p.clock()}
	if err := p.Handles.BeginHandle(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	p.advance(time.Minute)
	if err := p.ResumeHandles(t.Context()); err != nil {
		t.Error(err)
	}
	if begun, err := p.Handles.HandleChanges(t.Context()); err != nil || len(begun) != 0 {
		t.Errorf("under way: %+v, %v", begun, err)
	}
	w.down.Store(false)
	w.says("robert.test", p.URL)
	if err := p.SetHandle(t.Context(), a, "robert.test", account.ActorOwner); err != nil {
		t.Error(err)
	}
}

// TestShownDocument: clients of an account that moves in are not sent to its old
// host.
func TestShownDocument(t *testing.T) {
	p := newPlace(t)
	w := newWebHost(t)
	w.says("bob.test", "https://old.example.com")
	a := p.moveIn(w.did, "bob")
	if doc := p.ShownDocument(a); doc != nil {
		t.Errorf("moving in: %s", doc)
	}
	w.says("bob.test", p.URL)
	d, err := p.Resolver.Fresh(t.Context(), w.did)
	if err == nil {
		err = p.Documents.SaveDocument(t.Context(), a.ID, d.Raw, false, p.clock())
	}
	if err == nil {
		a, err = p.Accounts.ByDID(t.Context(), a.DID)
	}
	if err != nil || string(p.ShownDocument(a)) != string(d.Raw) {
		t.Errorf("deactivated, and at home: %s, %v", p.ShownDocument(a), err)
	}
	alice := p.mustCreate("alice")
	if doc, err := identity.ParseDocument(alice.DID, p.ShownDocument(alice)); err != nil || doc.PDS() != p.URL {
		t.Errorf("made here: %+v, %v", doc, err)
	}
	alice.Document = nil
	if doc, err := identity.ParseDocument(alice.DID, p.ShownDocument(alice)); err != nil || doc.PDS() != p.URL {
		t.Errorf("never seen: %+v, %v", doc, err)
	}
}

// faster is a HandleStore on which somebody else finishes a change first.
type faster struct{ hosting.HandleStore }

func (f faster) FinishHandle(ctx context.Context, id int64, h syntax.Handle, doc []byte, e account.Entry, mails ...mail.Message) error {
	if err := f.HandleStore.FinishHandle(ctx, id, h, doc, e, mails...); err != nil {
		return err
	}
	return f.HandleStore.FinishHandle(ctx, id, h, doc, e, mails...)
}

// TestSetHandleFinished: it is not an error if Resume has finished the change
// meanwhile.
func TestSetHandleFinished(t *testing.T) {
	p := newPlace(t)
	a := p.mustCreate("alice")
	p.Handles = faster{p.Handles}
	if err := p.SetHandle(t.Context(), a, "alice2.test", account.ActorOwner); err != nil {
		t.Error(err)
	}
	p.wantHandle("finished by another", a.DID, "alice2.test")
}
