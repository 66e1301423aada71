package hosting_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/identity"
	"nestbox/repo"
)

// TestCreateFails: the directory fails in every way. If it certainly did not accept
// the operation, nothing is left behind; if nobody knows, Resume finds out. In the
// end there is an account if and only if its DID is registered.
func TestCreateFails(t *testing.T) {
	const undone, unsettled = "did not register", "did not confirm whether"
	for name, c := range map[string]struct {
		mode    mode
		says    string
		patient bool // the directory's client waits; else it gives up
		exists  bool // in the end
	}{
		"refused":                           {refuse, undone, true, false},
		"500":                               {fail, unsettled, true, false},
		"taken, then 504":                   {takeFail, unsettled, true, true},
		"taken, then the connection breaks": {takeBreak, unsettled, true, true},
		"taken, then silence":               {takeHang, unsettled, false, true},
		"silence":                           {hang, unsettled, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			code := p.newInvite(1)
			if !c.patient {
				p.Directory = &identity.Directory{URL: p.plc.URL, Client: &http.Client{Transport: impatient{p.plc.silent}}}
			}
			p.plc.set(c.mode)
			if a, err := p.create("alice", code); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("Create = %+v, %v; want %q", a, err, c.says)
			}
			p.Directory = &identity.Directory{URL: p.plc.URL, Client: &http.Client{Timeout: time.Minute}}
			p.plc.set(obey)
			if p.exists("alice") {
				t.Fatal("an account that may not be registered can be seen")
			}
			if c.says == undone {
				if len(p.pending()) != 0 || len(p.invited(code)) != 0 {
					t.Fatalf("left behind: %+v, invite code used %+v", p.pending(), p.invited(code))
				}
			} else {
				p.settle(code, c.exists)
			}
			// Either alice is there now, or her handle, e-mail and code are free.
			_, err := p.create("alice", code)
			if taken := errors.Is(err, account.ErrInviteUsed); taken != c.exists || !taken && err != nil {
				t.Errorf("signing up again: %v", err)
			}
			if !p.exists("alice") || len(p.invited(code)) != 1 || len(p.pending()) != 0 {
				t.Errorf("in the end: account %v, code used %+v, pending %+v", p.exists("alice"), p.invited(code), p.pending())
			}
		})
	}
}

// settle settles one sign-up: one that the directory has is finished at once; one that
// may still reach it is not undone.
func (p *place) settle(code string, exists bool) {
	t := p.t
	t.Helper()
	left := p.pending()
	if len(left) != 1 || len(p.invited(code)) != 1 {
		t.Fatalf("pending %+v, code used %+v", left, p.invited(code))
	}
	if _, err := p.create("alice", ""); !errors.Is(err, account.ErrHandleTaken) {
		t.Errorf("another sign-up meanwhile: %v", err)
	}
	p.plc.down.Store(true)
	p.advance(19 * time.Second)
	if err := p.Resume(t.Context()); err == nil || len(p.pending()) != 1 {
		t.Errorf("Resume without a directory: %v, pending %+v", err, p.pending())
	}
	p.plc.down.Store(false)
	p.restart()
	p.resume()
	if p.exists("alice") != exists || len(p.pending()) == 1 == exists {
		t.Errorf("in time for the directory to take it: account %v, pending %+v", p.exists("alice"), p.pending())
	}
	p.advance(time.Minute)
	p.resume()
	p.resume()
	if p.exists("alice") != exists || p.registered(left[0].DID) != exists || len(p.pending()) != 0 {
		t.Errorf("settled: account %v, registered %v, pending %+v; want %v", p.exists("alice"), p.registered(left[0].DID), p.pending(), exists)
	}
	if used := len(p.invited(code)) == 1; used != exists {
		t.Errorf("the invite code is used: %v", used)
	}
}

// impatient gives up a request when the directory is silent.
type impatient struct{ silent <-chan struct{} }

func (i impatient) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, giveUp := context.WithCancel(r.Context())
	go func() { <-i.silent; giveUp() }()
	return http.DefaultTransport.RoundTrip(r.WithContext(ctx))
}

func TestUnreachable(t *testing.T) {
	p := newPlace(t)
	p.plc.Close()
	if _, err := p.create("alice", ""); err == nil || !strings.Contains(err.Error(), "did not register") {
		t.Errorf("Create: %v", err)
	}
	if len(p.pending()) != 0 || p.exists("alice") {
		t.Errorf("left behind: %+v", p.pending())
	}
}

// TestLongOutage: while the directory cannot be asked, nothing is decided, however long
// that takes; afterwards a sign-up that it accepted is an account, and any other is
// undone.
func TestLongOutage(t *testing.T) {
	p := newPlace(t)
	p.plc.set(takeFail)
	if _, err := p.create("alice", ""); err == nil {
		t.Fatal("no error")
	}
	p.plc.set(fail)
	if _, err := p.create("bob", ""); err == nil {
		t.Fatal("no error")
	}
	p.plc.set(obey)
	p.plc.down.Store(true)
	for range 3 {
		p.advance(24 * time.Hour)
		if err := p.Resume(t.Context()); err == nil || len(p.pending()) != 2 {
			t.Errorf("without a directory: %v, pending %+v", err, p.pending())
		}
	}
	p.plc.down.Store(false)
	p.resume()
	if !p.exists("alice") || p.exists("bob") || len(p.pending()) != 0 {
		t.Errorf("alice %v, bob %v, pending %+v", p.exists("alice"), p.exists("bob"), p.pending())
	}
}

// TestClientLeaves: a client that goes away in the middle leaves a whole
// account behind.
func TestClientLeaves(t *testing.T) {
	p := newPlace(t)
	p.plc.set(takeLinger)
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		<-p.plc.arrived
		leave()
		close(p.plc.linger)
	}()
	a, err := p.Create(ctx, hosting.NewAccount{Handle: "alice.test", Email: "alice@example.com", Password: "correct-horse-battery"})
	if err != nil || !p.exists("alice") || !p.registered(a.DID) {
		t.Errorf("Create = %+v, %v; exists %v", a, err, p.exists("alice"))
	}
}

// TestYoungUntouched: while a sign-up waits for the directory, Resume leaves it
// alone, however long it has waited before for its password to be hashed.
func TestYoungUntouched(t *testing.T) {
	p := newPlace(t)
	var reserved, now time.Time
	p.Store = watched{p.Store, func(pending hosting.Pending) { reserved, now = pending.CreatedAt, p.clock() }}
	// Until then, each reading of the clock is a minute later.
	p.Now = func() time.Time {
		if reserved.IsZero() {
			p.advance(time.Minute)
		}
		return p.clock()
	}
	if _, err := p.create("alice", ""); err != nil {
		t.Fatal(err)
	}
	if !reserved.Equal(now) {
		t.Errorf("reserved at %s with the time %s", now, reserved)
	}
}

// watched is a Store that calls reserving before each reservation.
type watched struct {
	hosting.Store

	reserving func(hosting.Pending)
}

func (w watched) Reserve(ctx context.Context, p hosting.Pending) (int64, error) {
	w.reserving(p)
	return w.Store.Reserve(ctx, p)
}

// crash is a Store; its process dies at a step: before the step is done, or after
// it.
type crash struct {
	hosting.Store

	at    string
	saved bool
}

var errCrash = errors.New("crash")

func (c crash) step(name string, do func() error) error {
	if c.at != name {
		return do()
	}
	if c.saved {
		if err := do(); err != nil {
			return err
		}
	}
	return errCrash
}

func (c crash) Reserve(ctx context.Context, p hosting.Pending) (id int64, err error) {
	err = c.step("reserve", func() error { id, err = c.Store.Reserve(ctx, p); return err })
	return id, err
}

func (c crash) Activate(ctx context.Context, id int64, doc []byte, first *repo.Change, e account.Entry) (a *account.Account, err error) {
	err = c.step("activate", func() error { a, err = c.Store.Activate(ctx, id, doc, first, e); return err })
	return a, err
}

func (c crash) Abandon(ctx context.Context, id int64) error {
	return c.step("abandon", func() error { return c.Store.Abandon(ctx, id) })
}

// TestCrash: the process dies at each step of a sign-up. After the restart,
// Resume finishes or undoes it.
func TestCrash(t *testing.T) {
	for _, c := range []struct {
		at    string
		saved bool
		mode  mode
		exist bool
	}{
		{"reserve", false, obey, false},
		{"reserve", true, obey, false},
		{"activate", false, obey, true},
		{"activate", true, obey, true},
		{"abandon", false, refuse, false},
		{"abandon", true, refuse, false},
	} {
		name := c.at + ", not saved"
		if c.saved {
			name = c.at + ", saved"
		}
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			code := p.newInvite(1)
			p.Store = crash{p.Store, c.at, c.saved}
			p.plc.set(c.mode)
			if _, err := p.create("alice", code); !errors.Is(err, errCrash) {
				t.Fatalf("Create: %v", err)
			}
			left := p.pending()
			p.restart()
			p.plc.set(obey)
			p.advance(30 * time.Second)
			p.resume()
			// What did not reach the directory before the crash is not sent after it.
			for _, l := range left {
				if p.registered(l.DID) != c.exist {
					t.Errorf("the DID is registered: %v", !c.exist)
				}
			}
			if p.exists("alice") != c.exist || len(p.pending()) != 0 || (len(p.invited(code)) == 1) != c.exist {
				t.Errorf("account %v, pending %+v, code used %+v", p.exists("alice"), p.pending(), p.invited(code))
			}
			if !c.exist {
				if _, err := p.create("alice", code); err != nil {
					t.Errorf("signing up again: %v", err)
				}
			}
			a, err := p.Accounts.ByHandle(t.Context(), "alice.test")
			if err != nil || !p.registered(a.DID) || identity.PDSEndpoint(a.Document) != p.URL {
				t.Errorf("the account: %+v, %v", a, err)
			}
			if trail, err := p.Accounts.Trail(t.Context(), a.ID, 10); err != nil || len(trail) != 1 || trail[0].Kind != account.EntrySignUp {
				t.Errorf("the trail: %+v, %v", trail, err)
			}
		})
	}
}
