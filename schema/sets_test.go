package schema_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/dagcbor"
	"nestbox/internal/dnstest"
	"nestbox/oauth/scope"
	"nestbox/request"
	"nestbox/schema"
)

const all = syntax.NSID("a.b.authAll")

// grants returns what a scope that includes the set grants by sets.
func grants(t *testing.T, sets schema.Sets, nsid syntax.NSID) string {
	t.Helper()
	expanded, err := scope.Parse("include:" + nsid.String()).Expand(sets.Sets)
	if err != nil {
		t.Fatal(err)
	}
	return expanded.String()
}

func (w *world) get(ctx context.Context, nsid syntax.NSID) (string, error) {
	w.t.Helper()
	sets, err := w.PermissionSets(ctx, []syntax.NSID{nsid})
	if err != nil {
		return "", err
	}
	return grants(w.t, sets, nsid), nil
}

// is checks what a new request gets.
func (w *world) is(what string, nsid syntax.NSID, want string) {
	w.t.Helper()
	if got, err := w.get(w.t.Context(), nsid); err != nil || got != want {
		w.t.Errorf("%s: %q %v, want %q", what, got, err, want)
	}
}

// granted checks what a living session gets.
func (w *world) granted(what string, nsid syntax.NSID, want string) {
	w.t.Helper()
	sets, err := w.Granted(w.t.Context(), []syntax.NSID{nsid})
	if got := grants(w.t, sets, nsid); err != nil || got != want {
		w.t.Errorf("%s: a living session gets %q %v, want %q", what, got, err, want)
	}
}

func (w *world) failsWith(what string, nsid syntax.NSID, want string) {
	w.t.Helper()
	got, err := w.get(w.t.Context(), nsid)
	failed, ok := errors.AsType[*schema.UnresolvedError](err)
	if !ok || failed.NSID != nsid || !strings.Contains(err.Error(), want) {
		w.t.Errorf("%s: %q %v, want an UnresolvedError with %q", what, got, err, want)
		return
	}
	if !strings.HasPrefix(err.Error(), "Could not resolve Lexicon for NSID ("+nsid.String()+"): ") {
		w.t.Errorf("%s: %v", what, err)
	}
	if text := strings.ReplaceAll(err.Error(), w.host.URL, ""); strings.Contains(text, "127.0.0.1") {
		w.t.Errorf("%s: %q has an address of this server's network", what, text)
	}
	for _, r := range err.Error() {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			w.t.Errorf("%s: the text %q has %q", what, err, r)
		}
	}
}

// noted waits until it is stored that the network was asked now, in vain.
func (w *world) noted(why string) {
	w.t.Helper()
	eventually(w.t, "the failure is noted", func() bool {
		l, err := w.Store.Lexicon(w.t.Context(), all)
		return err == nil && l.CheckedAt.Equal(w.Clock.Now()) && l.Failure != "" && strings.Contains(l.Failure, why)
	})
}

func TestFind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish("a.b.authAll", set("a.b.authAll", "a.b.c", "a.x.c"))
	w.publish("a.b.authOther", set("a.b.authOther", "a.b.c"))
	w.publish("a.b.authAll2", set("a.b.authAll2", "a.b.c", "a.b.d"))
	w.is("all of it", "a.b.authAll2", "repo?collection=a.b.c&collection=a.b.d")
	w.is("one that reaches outside", all, "")
	w.is("again", "a.b.authAll2", "repo?collection=a.b.c&collection=a.b.d")
	names, queries, _ := w.seen()
	if want := []string{"_lexicon.b.a", "_lexicon.b.a"}; !slices.Equal(names, want) {
		t.Errorf("DNS was asked for %q, want %q and no other level", names, want)
	}
	const query = "/xrpc/com.atproto.sync.getRecord?collection=com.atproto.lexicon.schema&did=did%3Aplc%3Aauthorauthorauthorauthor&rkey="
	if want := []string{query + "a.b.authAll2", query + "a.b.authAll"}; !slices.Equal(queries, want) {
		t.Errorf("the host was asked %q, want %q", queries, want)
	}
	l, err := w.Store.Lexicon(t.Context(), "a.b.authAll2")
	if err != nil || l.DID != authorDID || l.CID == "" || !l.FoundAt.Equal(w.Clock.Now()) || l.Granted {
		t.Errorf("stored: %+v %v", l, err)
	}
}

// TestFindFails has each step that can fail, and what the client's author reads.
func TestFindFails(t *testing.T) {
	t.Parallel()
	status := func(code int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
		}
	}
	for name, c := range map[string]struct {
		nsid    syntax.NSID // all if empty
		arrange func(*author)
		want    string
	}{
		"no such name":           {"x.y.authAll", nil, "DNS: _lexicon.y.x has 0 TXT records with did=, not one"},
		"two records":            {"test.two.authAll", nil, "DNS: _lexicon.two.test has 2 TXT records with did=, not one"},
		"not a DID":              {"test.bad.authAll", nil, "DNS: the TXT record did= of _lexicon.bad.test is not a DID"},
		"no other level is used": {"a.b.c.authAll", nil, "DNS: _lexicon.c.b.a has 0 TXT records"},
		"DNS fails":              {"", func(a *author) { a.failure = dnstest.ErrFails }, "DNS: look up _lexicon.b.a: name does not resolve: its name servers fail"},
		"not published here":     {"test.own.authAll", nil, "record at://did:plc:ownownownownownownownown/com.atproto.lexicon.schema/test.own.authAll: the Lexicon is not known"},
		"no document of the DID": {"", func(a *author) {
			a.txt["_lexicon.b.a"] = []string{"did=did:plc:nobodynobodynobodynobody"}
		}, "DID document of did:plc:nobodynobodynobodynobody: the DID does not resolve"},
		"a host that is not public": {"", func(a *author) { a.known = schema.Host{URL: "https://10.0.0.1", Key: "k"} }, ""},
		"a host that refuses":       {"", func(a *author) { a.host.Close() }, ": connection failed: it was refused"},
		"a host that closes": {"", func(a *author) {
			a.answer = func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
		}, ": connection failed: the host closed it"},
		"the directory cannot be reached": {"", func(a *author) {
			a.failed = &url.Error{Op: "Get", URL: "http://10.0.0.7:2582", Err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}
		}, "DID document of did:plc:authorauthorauthorauthor: connection failed: it was refused"},
		"not found":       {"", func(a *author) { a.answer = status(404) }, "status 404 for at://did:plc:authorauthorauthorauthor/com.atproto.lexicon.schema/a.b.authAll: the Lexicon is not published"},
		"the host fails":  {"", func(a *author) { a.answer = status(500) }, "status 500"},
		"a redirect":      {"", func(a *author) { a.answer = status(302, "Location", a.host.URL) }, "status 302"},
		"an empty answer": {"", func(a *author) { a.answer = status(200) }, "proof of at://"},
		"too large": {"", func(a *author) {
			a.answer = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20+1)) }
		}, "the answer is too large"},
		"another repository": {"", func(a *author) {
			a.answer = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(a.file(ownDID, a.signer())) }
		}, "the commit is of another repository"},
		"another key": {"", func(a *author) {
			key, err := atcrypto.GeneratePrivateKeyP256()
			if err != nil {
				a.t.Fatal(err)
			}
			a.answer = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(a.file(authorDID, key)) }
		}, "not signed by the account's key"},
		"no record in the tree":  {"", func(a *author) { delete(a.records, "a.b.authAll"); a.records["a.b.x"] = map[string]any{} }, "proof of at://"},
		"a tree without records": {"", func(a *author) { clear(a.records) }, "proof of at://"},
		"of another name":        {"", func(a *author) { a.records["a.b.authAll"] = a.record(set("a.b.authOther")) }, "its id is another one"},
		"of another language":    {"", func(a *author) { a.records["a.b.authAll"] = a.record(`{"lexicon":2,"id":"a.b.authAll","defs":{}}`) }, "its lexicon is not 1"},
		"of another type": {"", func(a *author) {
			a.records["a.b.authAll"] = a.record(`{"$type":"a.b.c","lexicon":1,"id":"a.b.authAll","defs":{}}`)
		}, "its $type is not com.atproto.lexicon.schema"},
		"without definitions":  {"", func(a *author) { a.records["a.b.authAll"] = a.record(`{"lexicon":1,"id":"a.b.authAll"}`) }, "it has no defs"},
		"not an object":        {"", func(a *author) { a.records["a.b.authAll"] = []any{int64(1)} }, "it is not an object"},
		"not a permission set": {"", func(a *author) { a.records["a.b.authAll"] = a.record(recordSchema("a.b.authAll", `{}`)) }, "not a permission set: its type is 'record'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			nsid := all
			w.publish("a.b.authAll", set("a.b.authAll", "a.b.c"))
			if c.nsid != "" {
				nsid = c.nsid
			}
			if c.arrange != nil {
				w.change(func() { c.arrange(w.author) })
			}
			if c.want == "" {
				// The document may be old: the one that the network has is asked for.
				w.is("after a fresh look", nsid, "repo:a.b.c")
				return
			}
			w.failsWith("first", nsid, c.want)
			names, queries, _ := w.seen()
			w.failsWith("remembered", nsid, c.want)
			w.Clock.Advance(59 * time.Second)
			w.failsWith("still remembered", nsid, c.want)
			if n, q, _ := w.seen(); len(n) != len(names) || len(q) != len(queries) {
				t.Errorf("the network was asked again within a minute: %q, %q", n[len(names):], q[len(queries):])
			}
			w.Clock.Advance(time.Second)
			w.failsWith("after a minute", nsid, c.want)
			if n, q, _ := w.seen(); len(n) == len(names) && len(q) == len(queries) {
				t.Error("the network was not asked again after a minute")
			}
			if _, err := w.Store.Lexicon(t.Context(), nsid); !errors.Is(err, schema.ErrUnknown) {
				t.Errorf("what is of no use was stored: %v", err)
			}
		})
	}
}

// TestFreshKey: a key or host that is remembered from before does not stand in the way.
func TestFreshKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish("a.b.authAll", set("a.b.authAll", "a.b.c"))
	w.change(func() { w.known = w.truth() })
	w.rotate()
	w.is("after the key changed", all, "repo:a.b.c")
	if _, queries, looks := w.seen(); looks != 2 || len(queries) != 2 {
		t.Errorf("%d looks into the document, %d questions", looks, len(queries))
	}
}

func TestAuthority(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options.Authority = authorDID
	w.start()
	w.publish("x.y.authAll", set("x.y.authAll", "x.y.c"))
	w.is("of a domain without a record", "x.y.authAll", "repo:x.y.c")
	if names, _, _ := w.seen(); len(names) > 0 {
		t.Errorf("DNS was asked for %q", names)
	}
}

func TestOwnRepository(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	block, err := dagcbor.Encode(w.record(set("test.own.authAll", "test.own.c")))
	if err != nil {
		t.Fatal(err)
	}
	w.own["test.own.authAll"] = schema.Record{Block: block, CID: dagcbor.CID(block).String()}
	w.is("of a repository here", "test.own.authAll", "repo:test.own.c")
	if _, queries, looks := w.seen(); looks > 0 || len(queries) > 0 {
		t.Error("the network was asked for a repository of this server")
	}
}

func TestBackupNameserver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options.Backup = w.options.DNS
	w.options.DNS = txtFunc(func(context.Context, string) ([]string, error) { return nil, errors.New("refused") })
	w.start()
	w.publish("a.b.authAll", set("a.b.authAll", "a.b.c"))
	w.is("found by the backup", all, "repo:a.b.c")
}

type txtFunc func(context.Context, string) ([]string, error)

func (f txtFunc) LookupTXT(ctx context.Context, name string) ([]string, error) { return f(ctx, name) }

// TestKnown: nobody waits for a set that was found once, and it outlives the network.
func TestKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish("a.b.authAll", set("a.b.authAll", "a.b.c"))
	w.is("at first", all, "repo:a.b.c")
	w.granted("at first", all, "repo:a.b.c")
	w.Clock.Advance(59 * time.Minute)
	w.is("within the hour", all, "repo:a.b.c")
	if w.asked() != 1 {
		t.Fatalf("asked %d times", w.asked())
	}

	// It grows while the host is slow: nobody waits, and it is there when it is there.
	silent := make(chan struct{})
	w.change(func() { w.silent = silent })
	w.publish("a.b.authAll", set("a.b.authAll", "a.b.c", "a.b.d"))
	w.Clock.Advance(2 * time.Minute)
	w.is("after the hour", all, "repo:a.b.c")
	w.granted("after the hour", all, "repo:a.b.c")
	eventually(t, "the host is asked", func() bool { return w.asked() == 2 })
	w.granted("while the host is asked", all, "repo:a.b.c")
	close(silent)
	const grown = "repo?collection=a.b.c&collection=a.b.d"
	eventually(t, "the set grows", func() bool {
		got, err := w.get(t.Context(), all)
		return err == nil && got == grown
	})
	w.granted("after it grew", all, grown)
	before := w.asked()
	w.granted("again", all, grown)
	if w.asked() != before || before != 2 {
		t.Errorf("asked %d times, then %d", before, w.asked())
	}

	// The network is gone, and so is the process.
	w.change(func() { w.failure = dnstest.ErrFails })
	w.Clock.Advance(90*24*time.Hour - time.Second)
	w.is("for 90 days", all, grown)
	w.noted("DNS")
	w.Reopen()
	w.options.Store = w.World.PermissionSets
	w.start()
	w.is("after a restart", all, grown)
	w.Clock.Advance(time.Second)
	w.failsWith("a new request after 90 days", all, "DNS")
	w.granted("after 90 days", all, grown)
	w.Clock.Advance(365 * 24 * time.Hour)
	w.granted("after a year", all, grown)
	w.noted("DNS")

	w.change(func() { w.failure = nil })
	w.Clock.Advance(time.Minute)
	w.is("when the network is back", all, grown)
}

// TestKnownIsNotReplacedByWhatIsNone: an author that publishes something else under the
// name, or nothing, takes nothing from sessions.
func TestKnownIsNotReplacedByWhatIsNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish("a.b.authAll", set("a.b.authAll", "a.b.c"))
	w.is("at first", all, "repo:a.b.c")
	for i, other := range []string{recordSchema("a.b.authAll", `{}`), set("a.b.authOther", "a.b.d")} {
		w.publish("a.b.authAll", other)
		w.Clock.Advance(2 * time.Hour)
		w.is("afterwards", all, "repo:a.b.c")
		eventually(t, "it is looked at", func() bool { return w.asked() == i+2 })
		w.noted("")
		w.is("once it was looked at", all, "repo:a.b.c")
		w.granted("once it was looked at", all, "repo:a.b.c")
	}
}

// TestSharedFlight: callers that want the same ask once, and one that leaves does not
// end it for the others.
func TestSharedFlight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish("a.b.authAll", set("a.b.authAll", "a.b.c"))
	silent := make(chan struct{})
	w.change(func() { w.silent = silent })
	left, leave := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() { _, err := w.get(left, all); gone <- err }()
	eventually(t, "the host is asked", func() bool { return w.asked() == 1 })
	leave()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller that left: %v", err)
	}
	var callers sync.WaitGroup
	var calling atomic.Int32
	for range 50 {
		callers.Go(func() {
			calling.Add(1)
			w.is("shared", all, "repo:a.b.c")
		})
	}
	eventually(t, "all call", func() bool { return calling.Load() == 50 })
	time.Sleep(200 * time.Millisecond) // from the cache, where it is not, to the flight
	close(silent)
	callers.Wait()
	if w.asked() != 1 {
		t.Errorf("the host was asked %d times", w.asked())
	}
}

// TestLimits: one network cannot make this server ask for ever, and what is known costs
// it nothing.
func TestLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options.Limits = w.limited()
	w.start()
	w.publish("a.b.authAll", set("a.b.authAll", "a.b.c"))
	from := func(addr string) context.Context {
		return request.WithClient(t.Context(), request.Client{Addr: netip.MustParseAddr(addr)})
	}
	for i := range 60 {
		if _, err := w.get(from("192.0.2.1"), syntax.NSID(fmt.Sprintf("x.y.auth%c%c", 'a'+i/26, 'a'+i%26))); errors.Is(err, schema.ErrBusy) {
			t.Fatalf("look-up %d: %v", i, err)
		}
	}
	if _, err := w.get(from("192.0.2.1"), all); !errors.Is(err, schema.ErrBusy) {
		t.Errorf("look-up 61: %v, want ErrBusy", err)
	}
	if got, err := w.get(from("192.0.2.2"), all); err != nil || got != "repo:a.b.c" {
		t.Errorf("another network: %q %v", got, err)
	}
	if got, err := w.get(from("192.0.2.1"), all); err != nil || got != "repo:a.b.c" {
		t.Errorf("what is known: %q %v", got, err)
	}
}

// TestRoom: look-ups that hang take a bounded number of places, also from one network.
func TestRoom(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	silent := make(chan struct{})
	w.change(func() { w.silent = silent })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var waiting sync.WaitGroup
	refused := make(chan error, 200)
	for i := range 80 {
		ctx := request.WithClient(ctx, request.Client{Addr: netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", i%5))})
		waiting.Go(func() {
			_, err := w.get(ctx, syntax.NSID(fmt.Sprintf("a.b.auth%c%c", 'a'+i/26, 'a'+i%26)))
			if errors.Is(err, schema.ErrBusy) {
				refused <- err
			}
		})
	}
	eventually(t, "the rest is refused", func() bool { return len(refused) == 16 })
	cancel()
	waiting.Wait()
	close(silent)
}

func TestBuiltIn(t *testing.T) {
	t.Parallel()
	documents, err := schema.BuiltIn()
	if err != nil || len(documents) < 10 {
		t.Fatalf("%d documents, %v", len(documents), err)
	}
	for nsid, document := range documents {
		set, err := scope.ParsePermissionSet(nsid, document)
		if err != nil {
			t.Errorf("%s: %v", nsid, err)
			continue
		}
		sets := map[syntax.NSID]*scope.PermissionSet{nsid: set}
		expanded, err := scope.Parse("include:" + nsid.String() + "?aud=did:web:api.example%23svc").Expand(sets)
		if title, _ := set.Words("en"); err != nil || expanded.Len() == 0 || title == "" {
			t.Errorf("%s: %q, %q, %v", nsid, title, expanded, err)
		}
	}

	w := newWorld(t)
	w.options.BuiltIn = documents
	w.start()
	const nsid = "app.bsky.authManageProfile"
	const builtIn = "repo?collection=app.bsky.actor.profile&collection=app.bsky.actor.status&collection=app.bsky.notification.declaration"
	w.is("the network fails", nsid, builtIn)
	w.granted("the network fails, and a session goes on with what it had", nsid, "include:"+nsid)
	w.change(func() { w.txt["_lexicon.bsky.app"] = []string{"did=" + authorDID.String()} })
	w.publish(nsid, set(nsid, "app.bsky.actor.profile"))
	w.Clock.Advance(time.Minute)
	w.is("the network is there", nsid, "repo:app.bsky.actor.profile")
	w.granted("the network is there", nsid, "repo:app.bsky.actor.profile")
}

// TestSweep: what sessions use is looked at daily, what nobody uses goes.
func TestSweep(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish("a.b.authAll", set("a.b.authAll", "a.b.c"))
	w.publish("a.b.authAsked", set("a.b.authAsked", "a.b.c"))
	w.is("granted", all, "repo:a.b.c")
	w.granted("granted", all, "repo:a.b.c")
	w.is("asked for", "a.b.authAsked", "repo:a.b.c")
	sweep := func(after time.Duration, asked int, left ...syntax.NSID) {
		t.Helper()
		w.Clock.Advance(after)
		if err := w.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		var got []syntax.NSID
		for _, nsid := range []syntax.NSID{all, "a.b.authAsked"} {
			if _, err := w.Store.Lexicon(t.Context(), nsid); err == nil {
				got = append(got, nsid)
			}
		}
		if w.asked() != asked || !slices.Equal(got, left) {
			t.Errorf("after %s: asked %d times, want %d; %q are left, want %q", after, w.asked(), asked, got, left)
		}
	}
	sweep(23*time.Hour, 2, all, "a.b.authAsked")
	w.publish("a.b.authAll", set("a.b.authAll", "a.b.d"))
	sweep(2*time.Hour, 3, all, "a.b.authAsked")
	w.granted("looked at unused", all, "repo:a.b.d")
	sweep(89*24*time.Hour, 4, all)
	sweep(91*24*time.Hour, 5, all)
	sweep(2*24*time.Hour, 6)
}
