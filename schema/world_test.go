package schema_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
	"nestbox/identity"
	"nestbox/internal/dnstest"
	"nestbox/internal/safehttp"
	"nestbox/lexicon"
	"nestbox/ratelimit"
	"nestbox/repo"
	"nestbox/repo/car"
	"nestbox/repo/mst"
	"nestbox/schema"
	"nestbox/store/storetest"
)

// world is a network of one author of Lexicons, with a real name server, a real host
// and signed repositories, and a Service that looks into it.
type world struct {
	*storetest.World
	*author
	*schema.Service

	t       *testing.T
	options schema.Options
}

const (
	authorDID = syntax.DID("did:plc:authorauthorauthorauthor")
	ownDID    = syntax.DID("did:plc:ownownownownownownownown")
)

// author publishes Lexicons.
type author struct {
	t    *testing.T
	host *httptest.Server

	mu      sync.Mutex
	key     atcrypto.PrivateKey
	known   schema.Host // what is believed of the DID without a fresh look; the truth if empty
	records map[string]any
	own     map[syntax.NSID]schema.Record
	txt     map[string][]string
	failure error // of DNS
	failed  error // of the look into the DID's document
	// answer replaces the host's answer.
	answer http.HandlerFunc
	// silent makes the host wait until it is closed.
	silent  chan struct{}
	names   []string // that DNS was asked for
	queries []string // that the host was asked
	looks   int      // into the DID's document
}

func newWorld(t *testing.T) *world {
	t.Helper()
	a := &author{t: t, records: map[string]any{}, own: map[syntax.NSID]schema.Record{}, txt: map[string][]string{
		"_lexicon.b.a":      {"v=spf1", "did=" + authorDID.String()},
		"_lexicon.two.test": {"did=" + authorDID.String(), "did=" + ownDID.String()},
		"_lexicon.bad.test": {"did=example.com"},
		"_lexicon.own.test": {"did=" + ownDID.String()},
	}}
	a.rotate()
	a.host = httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(a.host.Close)
	client := safehttp.Client(safehttp.Options{AllowLoopback: true})
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	t.Cleanup(client.CloseIdleConnections)
	w := &world{World: storetest.NewWorld(t), author: a, t: t}
	w.options = schema.Options{
		Store: w.World.PermissionSets, DNS: identity.Nameservers([]string{dnstest.Nameserver(t, a.lookUp)}), Hosts: a, Own: a,
		Proven: proven, HTTP: client, Lexicons: lexicon.Known(), Now: w.Clock.Now, Log: slog.New(slog.DiscardHandler),
	}
	w.start()
	return w
}

// start starts the Service, as a new process does: it knows what is stored.
func (w *world) start() {
	if w.Service != nil {
		w.Service.Close()
	}
	s := schema.NewService(w.options)
	w.Service = s
	w.t.Cleanup(s.Close)
}

func proven(file []byte, did syntax.DID, signer, key string) (schema.Record, error) {
	r, err := repo.Proven(file, did, signer, key)
	return schema.Record{Block: r.Block, CID: r.CID.String()}, err
}

// rotate gives the author a new key.
func (a *author) rotate() {
	key, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		a.t.Fatal(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.key = key
}

// change changes the network.
func (a *author) change(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

// publish publishes a Lexicon, JSON, under an NSID.
func (a *author) publish(nsid, document string) {
	a.change(func() { a.records[nsid] = a.record(document) })
}

func (a *author) record(document string) any {
	var fields map[string]any
	if err := json.Unmarshal([]byte(document), &fields); err != nil {
		a.t.Fatalf("%s: %v", document, err)
	}
	if _, ok := fields["$type"]; !ok {
		fields["$type"] = schema.Collection
	}
	raw, err := json.Marshal(fields)
	if err != nil {
		a.t.Fatal(err)
	}
	v, err := dagcbor.FromJSON(raw)
	if err != nil {
		a.t.Fatal(err)
	}
	return v
}

// set is a permission set that grants writing to collections.
func set(nsid string, collections ...string) string {
	return fmt.Sprintf(`{"lexicon":1,"id":%q,"defs":{"main":{"type":"permission-set","title":"All","permissions":[
		{"type":"permission","resource":"repo","collection":[%s]}]}}}`, nsid, `"`+strings.Join(collections, `","`)+`"`)
}

func (a *author) lookUp(name string) ([]string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.names = append(a.names, name)
	if a.failure != nil {
		return nil, a.failure
	}
	if records := a.txt[strings.ToLower(name)]; records != nil {
		return records, nil
	}
	return nil, dnstest.ErrNoName
}

// Host implements schema.Hosts.
func (a *author) Host(_ context.Context, did syntax.DID, fresh bool) (schema.Host, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.looks++
	if a.failed != nil {
		return schema.Host{}, a.failed
	}
	if did != authorDID {
		return schema.Host{}, identity.ErrNotRegistered
	}
	if !fresh && a.known != (schema.Host{}) {
		return a.known, nil
	}
	return a.truth(), nil
}

func (a *author) truth() schema.Host {
	public, err := a.key.PublicKey()
	if err != nil {
		a.t.Error(err)
	}
	return schema.Host{URL: a.host.URL, Key: public.DIDKey()}
}

// LexiconRecord implements schema.Own.
func (a *author) LexiconRecord(_ context.Context, did syntax.DID, nsid syntax.NSID) (schema.Record, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if did != ownDID {
		return schema.Record{}, false, nil
	}
	r, ok := a.own[nsid]
	if !ok {
		return schema.Record{}, true, schema.ErrUnknown
	}
	return r, true, nil
}

// serve is com.atproto.sync.getRecord.
func (a *author) serve(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.queries = append(a.queries, r.URL.Path+"?"+r.URL.RawQuery)
	answer, silent := a.answer, a.silent
	a.mu.Unlock()
	if silent != nil {
		select {
		case <-silent:
		case <-r.Context().Done():
			return
		}
	}
	if answer != nil {
		answer(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/vnd.ipld.car")
	_, _ = w.Write(a.file(authorDID, a.signer()))
}

func (a *author) signer() atcrypto.PrivateKey {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.key
}

// file is the author's whole repository as a CAR file, said to be of a DID, and signed.
func (a *author) file(of syntax.DID, signer atcrypto.PrivateKey) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	var blocks []byte
	add := func(id cid.Cid, block []byte) { blocks = car.AppendBlock(blocks, id, block) }
	tree := mst.Builder{Emit: func(c mst.Changed) error { add(c.CID, c.Block); return nil }}
	for _, nsid := range slices.Sorted(maps.Keys(a.records)) {
		block, err := dagcbor.Encode(a.records[nsid])
		if err == nil {
			add(dagcbor.CID(block), block)
			err = tree.Add(schema.Collection+"/"+nsid, dagcbor.CID(block))
		}
		if err != nil {
			a.t.Error(err)
		}
	}
	root, err := tree.Finish()
	if err != nil {
		a.t.Error(err)
	}
	commit := repo.Commit{DID: of, Data: root.CID, Rev: "3l3qo2vuowo2b"}
	if err := commit.Sign(signer); err != nil {
		a.t.Error(err)
	}
	block := commit.Encode()
	head := car.AppendHeader(nil, dagcbor.CID(block))
	return append(car.AppendBlock(head, dagcbor.CID(block), block), blocks...)
}

// seen returns what the network was asked so far.
func (a *author) seen() (names, queries []string, looks int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.names), slices.Clone(a.queries), a.looks
}

// asked returns how often the host was asked.
func (a *author) asked() int {
	_, queries, _ := a.seen()
	return len(queries)
}

// eventually waits for what happens in the background.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it did not happen: %s", what)
		}
	}
}

// limited is a limiter as the server has it.
func (w *world) limited() *ratelimit.Limiter {
	return ratelimit.New(ratelimit.DefaultMaxBuckets, w.Clock.Now)
}
