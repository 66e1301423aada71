package identity_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/identity"
	"nestbox/internal/pdstest"
	"nestbox/plc/directory"
	"nestbox/store/storetest"
)

// world is a PLC directory that can be down, a data directory, and an account
// in it whose mightiest rotation key its owner holds.
type world struct {
	t     *testing.T
	dir   string
	plc   *identity.Directory
	down  atomic.Bool
	owner atcrypto.PrivateKey
	made  pdstest.Session
	now   time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), now: time.Now()}
	d, err := directory.Open(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	behind := d.Handler()
	w.plc = listen(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if w.down.Load() {
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		behind.ServeHTTP(rw, r)
	}))
	if w.owner, err = atcrypto.GeneratePrivateKeyK256(); err != nil {
		t.Fatal(err)
	}
	pub, err := w.owner.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	w.serving(func(s *pdstest.InProcess) {
		a := s.Do(t, pdstest.Request{NSID: "com.atproto.server.createAccount", Body: map[string]string{
			"handle": "alice.test", "email": "alice@example.com", "password": pdstest.Password, "recoveryKey": pub.DIDKey(),
		}})
		a.Decode(t, &w.made)
		if w.made.DID == "" {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
	})
	return w
}

// serving runs a server on the data directory while do runs.
func (w *world) serving(do func(*pdstest.InProcess)) {
	w.t.Helper()
	s := pdstest.Start(w.t, pdstest.Options{Dir: w.dir, Settings: []string{"PDS_DID_PLC_URL=" + w.plc.URL}})
	defer s.Stop()
	do(s)
}

// round lets a day pass and checks what is due.
func (w *world) round() error {
	w.t.Helper()
	w.now = w.now.Add(25 * time.Hour)
	db := storetest.Open(w.t, storetest.Options{Dir: w.dir})
	defer db.Close()
	c := &identity.Checker{
		Store: db.Identity, Resolver: resolverOf(w.t, w.plc, db), Now: func() time.Time { return w.now }, Log: slog.New(slog.DiscardHandler),
	}
	return c.Round(w.t.Context())
}

// resolverOf asks a directory, and a database for handles below .test.
func resolverOf(t *testing.T, plc *identity.Directory, db *storetest.Database) *identity.Resolver {
	t.Helper()
	r := identity.NewResolver(identity.ResolverOptions{
		Directory: plc, DNS: noTXT{}, HTTP: http.DefaultClient, Now: time.Now,
		Local: func(ctx context.Context, h syntax.Handle) (syntax.DID, bool, error) {
			a, err := db.Accounts.ByHandle(ctx, h)
			ours := strings.HasSuffix(h.String(), ".test")
			if errors.Is(err, account.ErrNotFound) {
				return "", ours, nil
			}
			if err != nil {
				return "", ours, err
			}
			return a.DID, ours, nil
		},
	})
	t.Cleanup(r.Close)
	return r
}

// noTXT is a DNS without records.
type noTXT struct{}

// LookupTXT implements identity.TXTLookup.
func (noTXT) LookupTXT(_ context.Context, name string) ([]string, error) {
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

// claim makes the DID document name another handle.
func (w *world) claim(aliases ...string) {
	w.t.Helper()
	did := syntax.DID(w.made.DID)
	last, err := w.plc.Last(w.t.Context(), did)
	if err != nil {
		w.t.Fatal(err)
	}
	op := *last.Regular
	prev := op.CID().String()
	op.AlsoKnownAs, op.Prev = aliases, &prev
	if err := op.Sign(w.owner); err != nil {
		w.t.Fatal(err)
	}
	if err := w.plc.Submit(w.t.Context(), did, &op); err != nil {
		w.t.Fatal(err)
	}
}

// wantHandle looks at every answer that shows the handle.
func (w *world) wantHandle(what, handle, docSays string) {
	w.t.Helper()
	w.serving(func(s *pdstest.InProcess) {
		got := map[string]pdstest.Session{"createSession": s.SignIn(w.t, w.made.DID, pdstest.Password)}
		got["refreshSession"] = s.MustRefresh(w.t, got["createSession"].RefreshJwt)
		var session pdstest.Session
		s.GetSession(w.t, got["refreshSession"].AccessJwt).Decode(w.t, &session)
		got["getSession"] = session
		for name, g := range got {
			if g.Handle != handle || g.DID != w.made.DID || !strings.Contains(string(g.DIDDoc), docSays) {
				w.t.Errorf("%s: %s has handle %s and document %s; want %s and %s", what, name, g.Handle, g.DIDDoc, handle, docSays)
			}
		}
	})
}

func TestChecker(t *testing.T) {
	w := newWorld(t)
	w.wantHandle("as made", "alice.test", "at://alice.test")
	if err := w.round(); err != nil {
		t.Fatal(err)
	}
	w.wantHandle("checked", "alice.test", "at://alice.test")

	w.claim("at://alice.elsewhere.example")
	w.wantHandle("not looked at yet", "alice.test", "at://alice.test")
	w.down.Store(true)
	if err := w.round(); err == nil {
		t.Error("a round without a directory succeeded")
	}
	w.wantHandle("the directory is down", "alice.test", "at://alice.test")
	w.down.Store(false)
	if err := w.round(); err != nil {
		t.Fatal(err)
	}
	w.wantHandle("no longer claimed", "handle.invalid", "at://alice.elsewhere.example")
	w.down.Store(true)
	if err := w.round(); err == nil {
		t.Error("a round without a directory succeeded")
	}
	w.wantHandle("still down", "handle.invalid", "at://alice.elsewhere.example")
	w.down.Store(false)

	// Only the first at:// counts; its case does not.
	for _, c := range []struct {
		aliases []string
		handle  string
	}{
		{[]string{"at://other.example", "at://alice.test"}, "handle.invalid"},
		{[]string{"https://alice.example", "at://ALICE.test"}, "alice.test"},
		{[]string{}, "handle.invalid"},
		{[]string{"at://alice.test"}, "alice.test"},
	} {
		w.claim(c.aliases...)
		if err := w.round(); err != nil {
			t.Fatal(err)
		}
		w.wantHandle(strings.Join(c.aliases, " "), c.handle, w.made.DID)
	}

	last, err := w.plc.Last(t.Context(), syntax.DID(w.made.DID))
	if err != nil {
		t.Fatal(err)
	}
	tombstone(t, w.plc, person{did: syntax.DID(w.made.DID), key: w.owner}, last.Regular)
	if err := w.round(); err != nil {
		t.Fatal(err)
	}
	w.wantHandle("a tombstone", "handle.invalid", "at://alice.test") // the document as last seen
}

// TestDue: what was checked less than a day ago is left alone.
func TestDue(t *testing.T) {
	w := newWorld(t)
	asked := &atomic.Int32{}
	w.plc = listen(t, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		rw.WriteHeader(http.StatusNotFound)
	}))
	w.now = w.now.Add(-2 * time.Hour) // round adds 25
	if err := w.round(); err != nil || asked.Load() != 0 {
		t.Errorf("after 23 hours: asked %d times, %v", asked.Load(), err)
	}
	w.now = w.now.Add(2*time.Hour - 25*time.Hour)
	if err := w.round(); err != nil || asked.Load() != 1 {
		t.Errorf("after 25 hours: asked %d times, %v", asked.Load(), err)
	}
	w.now = w.now.Add(-24 * time.Hour)
	if err := w.round(); err != nil || asked.Load() != 1 {
		t.Errorf("an hour later: asked %d times, %v", asked.Load(), err)
	}
}

// dueNow is a Store that always has one account to check.
type dueNow struct {
	identity.Store

	asked chan time.Time
}

func (d dueNow) Due(_ context.Context, before time.Time, _ int) ([]identity.Subject, error) {
	d.asked <- before
	return nil, nil
}

// TestRun: rounds come every five minutes, about what is older than a day, and
// end with the context.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dueNow{asked: make(chan time.Time)}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		begin := time.Now()
		c := &identity.Checker{Store: store, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
		go func() { c.Run(ctx); close(ended) }()
		for n := 1; n <= 3; n++ {
			if got, want := <-store.asked, begin.Add(time.Duration(n)*5*time.Minute-24*time.Hour); !got.Equal(want) {
				t.Errorf("round %d is about what is older than %s, want %s", n, got, want)
			}
		}
		cancel()
		<-ended
	})
}

func TestPDSEndpoint(t *testing.T) {
	for doc, want := range map[string]string{
		`{"service":[{"id":"#atproto_pds","serviceEndpoint":"https://a.example"}]}`:                                                       "https://a.example",
		`{"service":[{"id":"did:plc:abc#atproto_pds","serviceEndpoint":"https://a.example"}]}`:                                            "https://a.example",
		`{"service":[{"id":"#other","serviceEndpoint":"https://b.example"},{"id":"#atproto_pds","serviceEndpoint":"https://a.example"}]}`: "https://a.example",
		`{"service":[]}`: "", `{}`: "", `[]`: "", ``: "", `{"service":[{"id":"#atproto_pds","serviceEndpoint":{}}]}`: "",
	} {
		if got := identity.PDSEndpoint([]byte(doc)); got != want {
			t.Errorf("%s: %q, want %q", doc, got, want)
		}
	}
}

// TestRoundPasses: accounts that the directory fails for are in nobody's way,
// and are asked for again a day later; one that answers nothing is not asked for
// everybody, and nothing counts as checked.
func TestRoundPasses(t *testing.T) {
	const accounts = 30
	db := storetest.Open(t)
	for i := range accounts {
		name := string(rune('a'+i/26)) + string(rune('a'+i%26))
		if _, err := storetest.AddAccount(t.Context(), db.Stores, hosting.Pending{Handle: syntax.Handle(name + ".test"), CreatedAt: time.Unix(int64(i), 0)}); err != nil {
			t.Fatal(err)
		}
	}
	var asked atomic.Int64
	var down atomic.Bool
	plc := listen(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		// Some accounts cannot be asked for, whatever the reason.
		if bad := strings.HasSuffix(r.URL.Path, "a") || strings.HasSuffix(r.URL.Path, "c"); down.Load() || bad {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = w.Write([]byte(`{"id":"` + strings.TrimPrefix(r.URL.Path, "/") + `","alsoKnownAs":[]}`))
	}))
	now := time.Unix(0, 0)
	c := &identity.Checker{Store: db.Identity, Resolver: resolverOf(t, plc, db), Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler)}
	for _, round := range []struct {
		name        string
		down        bool
		wait        time.Duration
		asked, left int
	}{
		{"a directory that is down", true, 48 * time.Hour, 10, accounts},
		{"one that fails for some", false, 0, accounts, 0},
		{"right after", false, time.Hour, 0, 0},
		{"a day later", false, 24 * time.Hour, accounts, 0},
	} {
		now = now.Add(round.wait)
		down.Store(round.down)
		asked.Store(0)
		if err := c.Round(t.Context()); (err != nil) != (round.asked > 0) {
			t.Errorf("%s: %v", round.name, err)
		}
		if n := int(asked.Load()); n != round.asked {
			t.Errorf("%s: asked for %d accounts, want %d", round.name, n, round.asked)
		}
		due, err := c.Store.Due(t.Context(), now.Add(-24*time.Hour), 1000)
		if err != nil || len(due) != round.left {
			t.Errorf("%s: %d are due, %v; want %d", round.name, len(due), err, round.left)
		}
	}
}

// TestCheckOwnDomain: a handle outside of the service's domains holds as long as it
// leads to its account; where nobody answers, what was found before holds.
func TestCheckOwnDomain(t *testing.T) {
	n := newNetwork(t)
	db := storetest.Open(t)
	const handle = "carol.example.com"
	id := hosted(t, db, didB, handle, "x@example.com")
	c := &identity.Checker{Store: db.Identity, Resolver: n.Resolver, Now: n.clock, Log: slog.New(slog.DiscardHandler)}
	n.documents[didB.String()] = document(didB, handle)
	for _, step := range []struct {
		what    string
		do      func()
		invalid bool
	}{
		{"not proven", func() {}, true},
		{"proven", func() { n.txt[handle] = []string{"did=" + didB.String()} }, false},
		{"nobody answers", func() { n.broken["dns"], n.broken["web"] = true, true }, false},
		{"it leads elsewhere", func() {
			n.broken["dns"], n.broken["web"] = false, false
			n.txt[handle] = []string{"did=" + didA.String()}
		}, true},
		{"nobody answers again", func() { n.broken["dns"], n.broken["web"] = true, true }, true},
		{"back", func() {
			n.broken["dns"], n.broken["web"] = false, false
			n.txt[handle] = []string{"did=" + didB.String()}
		}, false},
		{"two answers", func() { n.pages["https://"+handle+"/.well-known/atproto-did"] = didA.String() }, true},
	} {
		n.set(step.do)
		n.advance(48 * time.Hour)
		if err := c.Round(t.Context()); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		a, err := db.Accounts.ByDID(t.Context(), didB)
		if err != nil || a.ID != id || a.HandleInvalid != step.invalid {
			t.Errorf("%s: invalid %t, %v; want %t", step.what, a.HandleInvalid, err, step.invalid)
		}
	}
	// An account whose document may have changed unseen is due at once.
	if due, err := c.Store.Due(t.Context(), n.clock().Add(-time.Hour), 10); err != nil || len(due) != 0 {
		t.Errorf("%d are due, %v", len(due), err)
	}
	if err := c.Store.Doubt(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if due, err := c.Store.Due(t.Context(), n.clock().Add(-time.Hour), 10); err != nil || len(due) != 1 {
		t.Errorf("%d are due, %v, after a doubt", len(due), err)
	}
}

// hosted makes an account with a handle of any domain.
func hosted(t *testing.T, db *storetest.Database, did syntax.DID, handle syntax.Handle, email string) int64 {
	t.Helper()
	a, err := storetest.AddAccount(t.Context(), db.Stores, hosting.Pending{DID: did, Handle: handle, Email: email, CreatedAt: time.Unix(0, 0)})
	if err != nil {
		t.Fatal(err)
	}
	return a.ID
}

// TestCheckClock: while the clock cannot be trusted nothing is checked, since what is
// written by it would make it look right when the server starts.
func TestCheckClock(t *testing.T) {
	n := newNetwork(t)
	db := storetest.Open(t)
	hosted(t, db, didB, "bob.test", "x@example.com")
	n.documents[didB.String()] = document(didB, "bob.test")
	doubt := errors.New("the clock is ahead")
	c := &identity.Checker{Store: db.Identity, Resolver: n.Resolver, Now: n.clock, Doubt: func() error { return doubt }, Log: slog.New(slog.DiscardHandler)}
	n.advance(48 * time.Hour)
	for _, want := range []int{1, 0} {
		if err := c.Round(t.Context()); err != nil {
			t.Fatal(err)
		}
		if due, err := db.Identity.Due(t.Context(), n.clock().Add(-time.Hour), 10); err != nil || len(due) != want {
			t.Errorf("%d are due, %v, want %d", len(due), err, want)
		}
		doubt = nil
	}
}
