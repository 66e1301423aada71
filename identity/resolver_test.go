package identity_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/auth"
	"nestbox/identity"
	"nestbox/internal/dnstest"
	"nestbox/request"
	"nestbox/xrpc"
)

const (
	didA = syntax.DID("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa")
	didB = syntax.DID("did:plc:bbbbbbbbbbbbbbbbbbbbbbbb")
)

// network is what a Resolver asks: a PLC directory, a DNS server and the web, on
// loopback, with a clock.
type network struct {
	*identity.Resolver

	t *testing.T

	mu        sync.Mutex
	now       time.Time
	documents map[string]string   // by DID
	txt       map[string][]string // by handle
	pages     map[string]string   // by host and path
	broken    map[string]bool     // "plc", "dns", "silence" (of the DNS), "web"
	hold      chan struct{}       // the directory's answers wait for it

	asked atomic.Int64 // questions to the directory
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{
		t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		documents: map[string]string{}, txt: map[string][]string{}, pages: map[string]string{}, broken: map[string]bool{},
	}
	web := httptest.NewServer(http.HandlerFunc(n.serveWeb))
	t.Cleanup(web.Close)
	base, err := url.Parse(web.URL)
	if err != nil {
		t.Fatal(err)
	}
	n.Resolver = identity.NewResolver(identity.ResolverOptions{
		Directory: listen(t, http.HandlerFunc(n.servePLC)),
		HTTP:      &http.Client{Transport: everywhere{base}},
		DNS:       n.serveDNS(), Now: n.clock,
		Local: func(_ context.Context, h syntax.Handle) (syntax.DID, bool, error) {
			if h == "alice.test" {
				return didA, true, nil
			}
			return "", strings.HasSuffix(h.String(), ".test"), nil
		},
	})
	t.Cleanup(n.Close)
	return n
}

// everywhere has one server answer for every host of the web.
type everywhere struct{ server *url.URL }

func (e everywhere) RoundTrip(r *http.Request) (*http.Response, error) {
	to := r.Clone(r.Context())
	to.Host, to.URL.Scheme, to.URL.Host = r.URL.Scheme+"."+r.URL.Host, e.server.Scheme, e.server.Host
	return http.DefaultTransport.RoundTrip(to)
}

func (n *network) clock() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.now
}

// set changes the network while it is asked.
func (n *network) set(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

func (n *network) advance(d time.Duration) { n.set(func() { n.now = n.now.Add(d) }) }

func (n *network) servePLC(w http.ResponseWriter, r *http.Request) {
	n.asked.Add(1)
	n.mu.Lock()
	doc, ok := n.documents[strings.TrimPrefix(r.URL.Path, "/")]
	broken, hold := n.broken["plc"], n.hold
	n.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	}
	switch {
	case broken:
		w.WriteHeader(http.StatusServiceUnavailable)
	case !ok:
		w.WriteHeader(http.StatusNotFound)
	case doc == "":
		w.WriteHeader(http.StatusGone)
	default:
		_, _ = w.Write([]byte(doc))
	}
}

func (n *network) serveWeb(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	scheme, host, _ := strings.Cut(r.Host, ".")
	page, ok := n.pages[scheme+"://"+host+r.URL.Path]
	switch {
	case n.broken["web"]:
		w.WriteHeader(http.StatusBadGateway)
	case !ok:
		w.WriteHeader(http.StatusNotFound)
	default:
		_, _ = w.Write([]byte(page))
	}
}

// serveDNS is a resolver that asks a nameserver with the network's TXT records.
func (n *network) serveDNS() *net.Resolver {
	address := dnstest.Nameserver(n.t, func(name string) ([]string, error) {
		n.mu.Lock()
		defer n.mu.Unlock()
		records, ok := n.txt[strings.TrimPrefix(name, "_atproto.")]
		switch {
		case n.broken["dns"]:
			return nil, dnstest.ErrFails
		case n.broken["silence"]:
			return nil, dnstest.ErrSilent
		case !ok:
			return nil, dnstest.ErrNoName
		default:
			return records, nil
		}
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "udp", address)
		if err != nil {
			return nil, fmt.Errorf("reach the test's DNS server: %w", err)
		}
		return c, nil
	}}
}

// document is a DID document that names a handle.
func document(did syntax.DID, handle string) string {
	raw, err := json.Marshal(map[string]any{"id": did, "alsoKnownAs": []string{"https://x.example", "at://" + handle}})
	if err != nil {
		panic(err)
	}
	return string(raw)
}

func TestResolveDID(t *testing.T) {
	n := newNetwork(t)
	web := func(did, host string) {
		n.pages["https://"+host+"/.well-known/did.json"] = document(syntax.DID(did), "x.example.com")
	}
	n.documents[didA.String()] = document(didA, "alice.example.com")
	n.documents[didB.String()] = document(didA, "alice.example.com") // another's
	n.documents["did:plc:gone"] = ""
	n.documents["did:plc:garbage"] = "<html>"
	n.documents["did:plc:large"] = `{"id":"did:plc:large","x":"` + strings.Repeat("x", 1<<20) + `"}`
	web("did:web:example.com", "example.com")
	web("did:web:other.example.com", "example.org")
	n.pages["http://localhost:2583/.well-known/did.json"] = document("did:web:localhost%3A2583", "x.example.com")
	for did, want := range map[syntax.DID]error{
		didA: nil, "did:web:example.com": nil, "did:web:localhost%3A2583": nil,
		"did:plc:none": identity.ErrNotRegistered, "did:plc:gone": identity.ErrDeactivated, "did:web:example.net": identity.ErrNotRegistered,
		"did:key:zQ3sh": identity.ErrUnsupported, "did:web:example.com:user": identity.ErrUnsupported, "did:web:example.com%3A8443": identity.ErrUnsupported,
		"did:web:127.0.0.1": identity.ErrUnsupported, "did:web:example.com%2Fx": identity.ErrUnsupported, "did:web:internal": identity.ErrUnsupported,
	} {
		for _, ask := range []func(context.Context, syntax.DID) (*identity.Document, error){n.DID, n.DID, n.Fresh} {
			d, err := ask(t.Context(), did)
			if !errors.Is(err, want) || err == nil && (d.ID != did || d.Handle() == "") {
				t.Errorf("%s: %+v, %v, want %v", did, d, err, want)
			}
		}
	}
	for _, did := range []syntax.DID{didB, "did:plc:garbage", "did:plc:large", "did:web:other.example.com"} {
		if _, err := n.DID(t.Context(), did); err == nil {
			t.Errorf("%s was taken", did)
		}
	}
}

// TestStale: an answer is given for a day, and after an hour renewed behind it.
func TestStale(t *testing.T) {
	n := newNetwork(t)
	n.documents[didA.String()] = document(didA, "one.example.com")
	get := func() syntax.Handle {
		t.Helper()
		d, err := n.DID(t.Context(), didA)
		if err != nil {
			t.Fatal(err)
		}
		return d.Handle()
	}
	get()
	n.set(func() { n.documents[didA.String()] = document(didA, "two.example.com") })
	n.advance(59 * time.Minute)
	if h, asked := get(), n.asked.Load(); h != "one.example.com" || asked != 1 {
		t.Errorf("after 59 minutes: %s, asked %d times", h, asked)
	}
	// Nobody waits for the renewal, however slow it is, and there is one.
	hold := make(chan struct{})
	n.set(func() { n.hold = hold })
	n.advance(time.Minute)
	for range 5 {
		if h := get(); h != "one.example.com" {
			t.Errorf("while it is renewed: %s", h)
		}
	}
	n.set(func() { n.hold = nil })
	close(hold)
	eventually(t, func() bool { return get() == "two.example.com" })
	if asked := n.asked.Load(); asked != 2 {
		t.Errorf("asked %d times, want 2", asked)
	}
	// A directory that is down hurts nobody for a day.
	n.set(func() { n.broken["plc"] = true })
	n.advance(23 * time.Hour)
	if h := get(); h != "two.example.com" {
		t.Errorf("directory down: %s", h)
	}
	n.advance(time.Hour)
	if _, err := n.DID(t.Context(), didA); err == nil || errors.Is(err, identity.ErrNotRegistered) {
		t.Errorf("after a day: %v", err)
	}
	n.set(func() { n.broken["plc"] = false })
	if h := get(); h != "two.example.com" {
		t.Errorf("directory up again: %s", h)
	}
}

// eventually waits for what the background does.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(20 * time.Second); !ok(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it does not happen")
		}
	}
}

// TestNegative: that there is nothing is believed for a minute, and not beyond
// what Fresh finds.
func TestNegative(t *testing.T) {
	n := newNetwork(t)
	missing := func() {
		t.Helper()
		if _, err := n.DID(t.Context(), didA); !errors.Is(err, identity.ErrNotRegistered) {
			t.Fatal(err)
		}
	}
	missing()
	n.set(func() { n.documents[didA.String()] = document(didA, "one.example.com") })
	missing()
	if asked := n.asked.Load(); asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	n.advance(time.Minute)
	if _, err := n.DID(t.Context(), didA); err != nil {
		t.Error(err)
	}
	n.set(func() { delete(n.documents, didA.String()) })
	if _, err := n.Fresh(t.Context(), didA); !errors.Is(err, identity.ErrNotRegistered) {
		t.Error(err)
	}
	missing()
}

// TestOneQuestion: callers that ask at the same time share one question, and a
// caller that gives up does not end it for the others.
func TestOneQuestion(t *testing.T) {
	n := newNetwork(t)
	n.documents[didA.String()] = document(didA, "one.example.com")
	n.hold = make(chan struct{})
	hasty, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	errs := make(chan error, 20)
	for i := range 20 {
		ctx := t.Context()
		if i == 0 {
			ctx = hasty
		}
		all.Go(func() {
			_, err := n.DID(ctx, didA)
			errs <- err
		})
	}
	eventually(t, func() bool { return n.asked.Load() > 0 })
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("who gave up: %v", err)
	}
	close(n.hold)
	all.Wait()
	for range 19 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if asked := n.asked.Load(); asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

// TestRoom: unanswered questions of strangers take a part of their room for each
// network, and nothing of the room that proves callers. A caller that finds no room is
// asked to come again.
func TestRoom(t *testing.T) {
	n := newNetwork(t)
	s := &identity.Service{Resolver: n.Resolver}
	n.documents[didA.String()] = document(didA, "one.example.com")
	if _, err := n.DID(t.Context(), didA); err != nil {
		t.Fatal(err)
	}
	n.asked.Store(0)
	hold := make(chan struct{})
	n.set(func() { n.hold = hold })
	var all sync.WaitGroup
	defer all.Wait()
	defer close(hold)
	from := func(network byte) context.Context {
		return request.WithClient(t.Context(), request.Client{Addr: netip.AddrFrom4([4]byte{192, 0, 2, network})})
	}
	nobody := func(i int) identity.ResolveDIDParams {
		return identity.ResolveDIDParams{DID: fmt.Sprintf("did:plc:%024d", i)}
	}
	for i := range 16 {
		all.Go(func() { _, _ = s.ResolveDID(from(1), auth.Anyone{}, nobody(i)) })
	}
	arrived := func(questions int64) {
		t.Helper()
		eventually(t, func() bool { return n.asked.Load() == questions })
	}
	arrived(16)
	_, didErr := s.ResolveDID(from(1), auth.Anyone{}, nobody(99))
	_, handleErr := s.ResolveHandle(from(1), auth.Anyone{}, identity.ResolveHandleParams{Handle: "two.example.com"})
	// The document is known, and its handle is to be proven.
	_, identityErr := s.ResolveIdentity(from(1), auth.Anyone{}, identity.IdentifierParams{Identifier: didA.String()})
	for what, err := range map[string]error{"a DID": didErr, "a handle": handleErr, "an identity": identityErr} {
		e, ok := errors.AsType[*xrpc.Error](err)
		if !ok || e.Status != http.StatusServiceUnavailable || e.RetryAfter <= 0 || !errors.Is(err, identity.ErrBusy) {
			t.Errorf("%s: %v", what, err)
		}
	}
	all.Go(func() { _, _ = s.ResolveDID(from(2), auth.Anyone{}, nobody(16)) })
	arrived(17)
	all.Go(func() { _, _ = n.DID(from(1), syntax.DID(nobody(17).DID)) }) // of a token
	arrived(18)
}

// TestClose: what is being asked ends, and nobody hangs.
func TestClose(t *testing.T) {
	n := newNetwork(t)
	n.hold = make(chan struct{})
	defer close(n.hold)
	ended := make(chan error, 1)
	go func() {
		_, err := n.DID(t.Context(), didA)
		ended <- err
	}()
	eventually(t, func() bool { return n.asked.Load() > 0 })
	n.Close()
	if err := <-ended; err == nil {
		t.Error("an answer after the end")
	}
	if _, err := n.DID(t.Context(), didB); err == nil {
		t.Error("asked after the end")
	}
}

func TestResolveHandleOfOthers(t *testing.T) {
	n := newNetwork(t)
	page := func(handle, body string) { n.pages["https://"+handle+"/.well-known/atproto-did"] = body }
	a, b := "did="+didA.String(), "did="+didB.String()
	n.txt["dns.example.com"] = []string{"v=spf1 -all", a}
	n.txt["parts.example.com"] = []string{"did=did:plc:aaaaaaaa~aaaaaaaaaaaaaaaa"}
	n.txt["twice.example.com"] = []string{a, a}
	n.txt["two.example.com"] = []string{a, b}
	n.txt["bad.example.com"] = []string{"did=nothing", "DID=" + didA.String()}
	page("web.example.com", didB.String()+" \r\n<html>")
	page("mark.example.com", "\xEF\xBB\xBF"+didB.String())
	page("html.example.com", "<html>did:plc:x</html>")
	page("long.example.com", didA.String()+"\n"+strings.Repeat("x", 4<<10))
	n.txt["both.example.com"], n.txt["conflict.example.com"], n.txt["two-web.example.com"] = []string{a}, []string{a}, []string{a, b}
	page("both.example.com", didA.String())
	page("conflict.example.com", didB.String())
	page("two-web.example.com", didA.String())
	for h, want := range map[syntax.Handle]any{
		"alice.test": didA, "ALICE.test": didA, "bob.test": identity.ErrHandleNotFound,
		"dns.example.com": didA, "DNS.Example.com": didA, "twice.example.com": didA, "web.example.com": didB, "both.example.com": didA,
		"mark.example.com": didB,
		"two.example.com":  identity.ErrHandleConflict, "conflict.example.com": identity.ErrHandleConflict, "two-web.example.com": identity.ErrHandleConflict,
		"bad.example.com": identity.ErrHandleNotFound, "html.example.com": identity.ErrHandleNotFound, "none.example.com": identity.ErrHandleNotFound,
		"handle.invalid": identity.ErrHandleNotFound, "a.local": identity.ErrHandleNotFound, "a.onion": identity.ErrHandleNotFound,
	} {
		for _, ask := range []func(context.Context, syntax.Handle) (syntax.DID, error){n.Handle, n.Handle, n.FreshHandle} {
			got, err := ask(t.Context(), h)
			if target, ok := want.(error); ok && !errors.Is(err, target) || !ok && (got != want || err != nil) {
				t.Errorf("%s: %s, %v, want %v", h, got, err, want)
			}
		}
	}
	// What cannot be asked is no answer, and is not remembered.
	n.set(func() { n.broken["dns"] = true })
	if _, err := n.Handle(t.Context(), "later.example.com"); err == nil || errors.Is(err, identity.ErrHandleNotFound) {
		t.Errorf("DNS down: %v", err)
	}
	if got, err := n.FreshHandle(t.Context(), "web.example.com"); got != didB || err != nil {
		t.Errorf("DNS down, the web answers: %s, %v", got, err)
	}
	n.set(func() { n.broken["dns"], n.txt["later.example.com"] = false, []string{b} })
	if got, err := n.Handle(t.Context(), "later.example.com"); got != didB || err != nil {
		t.Errorf("DNS up: %s, %v", got, err)
	}
	n.set(func() { n.broken["web"] = true })
	if _, err := n.Handle(t.Context(), "unknown.example.com"); err == nil || errors.Is(err, identity.ErrHandleNotFound) {
		t.Errorf("the web down: %v", err)
	}
}

func TestIdentity(t *testing.T) {
	n := newNetwork(t)
	n.documents[didA.String()] = document(didA, "Alice.example.com")
	n.documents[didB.String()] = document(didB, "alice.example.com")
	n.documents["did:plc:none"] = `{"id":"did:plc:none"}`
	n.documents["did:plc:odd"] = `{"id":"did:plc:odd","alsoKnownAs":["at://not a handle"]}`
	n.txt["alice.example.com"] = []string{"did=" + didA.String()}
	for did, want := range map[syntax.DID]syntax.Handle{
		didA: "alice.example.com", didB: syntax.HandleInvalid, "did:plc:none": syntax.HandleInvalid, "did:plc:odd": syntax.HandleInvalid,
	} {
		for _, fresh := range []bool{false, true} {
			if d, h, err := n.Identity(t.Context(), did, fresh); err != nil || h != want || d.ID != did {
				t.Errorf("%s: %s, %v, want %s", did, h, err, want)
			}
		}
	}
	if _, _, err := n.Identity(t.Context(), "did:plc:missing", false); !errors.Is(err, identity.ErrNotRegistered) {
		t.Error(err)
	}
}

// TestBackupNameservers: they are asked where the first one finds nothing.
func TestBackupNameservers(t *testing.T) {
	first, second := newNetwork(t), newNetwork(t)
	second.txt["a.example.com"] = []string{"did=" + didA.String()}
	r := identity.NewResolver(identity.ResolverOptions{
		HTTP: &http.Client{Transport: everywhere{&url.URL{Scheme: "http", Host: "127.0.0.1:1"}}}, DNS: first.serveDNS(), Backup: second.serveDNS(), Now: time.Now,
		Local: func(context.Context, syntax.Handle) (syntax.DID, bool, error) { return "", false, nil },
	})
	defer r.Close()
	if got, err := r.Handle(t.Context(), "a.example.com"); got != didA || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	first.set(func() { first.broken["dns"] = true })
	if got, err := r.FreshHandle(t.Context(), "a.example.com"); got != didA || err != nil {
		t.Errorf("first one down: %s, %v", got, err)
	}
	first.set(func() { first.broken["dns"], first.broken["silence"] = false, true })
	if got, err := r.FreshHandle(t.Context(), "a.example.com"); got != didA || err != nil {
		t.Errorf("first one silent: %s, %v", got, err)
	}
	if _, err := r.Handle(t.Context(), "b.example.com"); err == nil {
		t.Error("found from nowhere")
	}
}

func BenchmarkCachedDID(b *testing.B) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(document(didA, "a.example.com")))
	}))
	defer srv.Close()
	r := identity.NewResolver(identity.ResolverOptions{Directory: &identity.Directory{URL: srv.URL, Client: srv.Client()}, Now: time.Now})
	defer r.Close()
	for b.Loop() {
		if _, err := r.DID(b.Context(), didA); err != nil {
			b.Fatal(err)
		}
	}
}
