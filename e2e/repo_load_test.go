package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/bluesky-social/indigo/atproto/repo/mst"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"

	"nestbox/internal/pdstest"
)

// writer is a device of an account that writes records at its own paths, and
// knows what must be at each.
type writer struct {
	c          pdstest.Client
	did, token string
	name       string // in its paths and records
	clock      *syntax.TIDClock
	rng        *rand.Rand
	// records are the acknowledged ones; asked is what a request wants whose
	// answer is not there, an undefined CID for a delete.
	records, asked map[string]cid.Cid
	rev            string // of the last acknowledged commit
	n, acked       int
}

// newWriter makes one whose clock ID nobody else has in the account.
func newWriter(c pdstest.Client, s pdstest.Session, clockID uint, seed uint64) *writer {
	return &writer{
		c: c, did: s.DID, token: s.AccessJwt, name: strconv.FormatUint(uint64(clockID), 10), clock: syntax.NewTIDClock(clockID),
		rng: rand.New(rand.NewPCG(seed, uint64(clockID))), records: map[string]cid.Cid{},
	}
}

// edit is one write of a request; record is nil for a delete.
type edit struct {
	action, collection, rkey string
	record                   map[string]any
}

func (c edit) path() string { return c.collection + "/" + c.rkey }

// step makes one request with one write or several. An error is an answer that
// never came: what was asked for is either there, all of it, or not.
func (w *writer) step(t *testing.T) error {
	t.Helper()
	var changes []edit
	switch n := w.rng.IntN(10); {
	case n < 8:
		changes = w.plan(1)
	case n == 8:
		changes = w.plan(2 + w.rng.IntN(20))
	default:
		changes = w.plan(2 + w.rng.IntN(4))
	}
	return w.write(t, changes)
}

// plan is what to write next, each at another path.
func (w *writer) plan(n int) []edit {
	paths := slices.Sorted(maps.Keys(w.records))
	w.rng.Shuffle(len(paths), func(i, j int) { paths[i], paths[j] = paths[j], paths[i] })
	var changes []edit
	for i := range n {
		do := w.rng.IntN(10)
		if i >= len(paths) || do < 5 {
			changes = append(changes, w.create())
			continue
		}
		collection, rkey, _ := strings.Cut(paths[i], "/")
		c := edit{action: "delete", collection: collection, rkey: rkey}
		if do < 8 {
			c.action, c.record = "update", w.record(collection)
		}
		changes = append(changes, c)
	}
	return changes
}

func (w *writer) create() edit {
	c := edit{action: "create", collection: "app.bsky.feed.post", rkey: w.clock.Next().String()}
	if w.rng.IntN(4) == 0 {
		c.collection, c.rkey = "com.example.thing", fmt.Sprintf("%s.%x", w.name, w.rng.Uint64())
	}
	c.record = w.record(c.collection)
	return c
}

// record is one that was never written before; now and then it is large.
func (w *writer) record(collection string) map[string]any {
	w.n++
	r := map[string]any{
		"$type": collection, "text": fmt.Sprintf("%s.%d ✓", w.name, w.n),
		"createdAt": time.Now().UTC().Format(syntax.AtprotoDatetimeLayout),
	}
	if collection == "com.example.thing" && w.rng.IntN(20) == 0 {
		r["more"] = strings.Repeat("pad ", w.rng.IntN(30_000))
	}
	return r
}

// cidOf is a record's CID, by indigo.
func cidOf(t *testing.T, record map[string]any) cid.Cid {
	raw, err := atdata.MarshalCBOR(record)
	if err != nil {
		t.Errorf("record: %v", err)
		return cid.Undef
	}
	id, err := cid.NewPrefixV1(cid.DagCBOR, multihash.SHA2_256).Sum(raw)
	if err != nil {
		t.Errorf("record: %v", err)
	}
	return id
}

// write asks for changes and takes the answer.
func (w *writer) write(t *testing.T, changes []edit) error {
	t.Helper()
	w.asked = map[string]cid.Cid{}
	for _, c := range changes {
		w.asked[c.path()] = cid.Undef
		if c.record != nil {
			w.asked[c.path()] = cidOf(t, c.record)
		}
	}
	a, err := w.c.Try(t, w.request(changes))
	if err != nil {
		return err
	}
	if a.Status != http.StatusOK {
		w.asked = nil
		return fmt.Errorf("%d %s", a.Status, a.Body)
	}
	var out struct {
		CID     string
		Commit  struct{ CID, Rev string }
		Results []struct{ URI, CID string }
	}
	a.Decode(t, &out)
	if len(changes) == 1 && changes[0].record != nil {
		w.same(t, changes[0], out.CID)
	}
	if len(changes) > 1 {
		if len(out.Results) != len(changes) {
			t.Errorf("%d results of %d writes: %s", len(out.Results), len(changes), a.Body)
		}
		for i, r := range out.Results[:min(len(out.Results), len(changes))] {
			w.same(t, changes[i], r.CID)
		}
	}
	if out.Commit.Rev <= w.rev {
		t.Errorf("rev %q after %q: %s", out.Commit.Rev, w.rev, a.Body)
	}
	w.rev = out.Commit.Rev
	w.settle(true)
	return nil
}

func (w *writer) same(t *testing.T, c edit, id string) {
	t.Helper()
	if want := w.asked[c.path()]; want.Defined() && want.String() != id {
		t.Errorf("%s of %s: CID %s, want %s", c.action, c.path(), id, want)
	}
}

// settle says what became of what was asked for.
func (w *writer) settle(done bool) {
	for path, id := range w.asked {
		switch {
		case !done:
		case id.Defined():
			w.records[path] = id
		default:
			delete(w.records, path)
		}
	}
	if done {
		w.acked += len(w.asked)
	}
	w.asked = nil
}

func (w *writer) request(changes []edit) pdstest.Request {
	r := pdstest.Request{Auth: pdstest.Bearer(w.token)}
	if len(changes) > 1 {
		writes := make([]map[string]any, len(changes))
		for i, c := range changes {
			writes[i] = map[string]any{"$type": "com.atproto.repo.applyWrites#" + c.action, "collection": c.collection, "rkey": c.rkey}
			if c.record != nil {
				writes[i]["value"] = c.record
			}
		}
		r.NSID, r.Body = "com.atproto.repo.applyWrites", map[string]any{"repo": w.did, "writes": writes}
		return r
	}
	c := changes[0]
	body := map[string]any{"repo": w.did, "collection": c.collection, "rkey": c.rkey}
	if c.record != nil {
		body["record"] = c.record
	}
	r.NSID = map[string]string{
		"create": "com.atproto.repo.createRecord", "update": "com.atproto.repo.putRecord", "delete": "com.atproto.repo.deleteRecord",
	}[c.action]
	r.Body = body
	return r
}

// export is a repository as getRepo gives it, whole.
type export struct {
	commit, rev string
	records     map[string]cid.Cid
}

// checkExport reads an account's repository and compares it with what its
// writers were told, after settling what they were not.
func checkExport(t *testing.T, c pdstest.Client, j *judge, writers ...*writer) export {
	t.Helper()
	did := writers[0].did
	a := c.Do(t, pdstest.Request{NSID: "com.atproto.sync.getRepo?did=" + did})
	if a.Status != http.StatusOK {
		t.Fatalf("getRepo: %d %s", a.Status, a.Body)
	}
	commit, id, records, err := readExport(t.Context(), a.Body, j.repos[did].key)
	if err != nil {
		t.Fatalf("export of %s: %v", did, err)
	}
	want := map[string]cid.Cid{}
	for _, w := range writers {
		w.find(t, records)
		maps.Copy(want, w.records)
		if commit.Rev < w.rev {
			t.Errorf("%s is at %s, and %s was acknowledged", did, commit.Rev, w.rev)
		}
	}
	if !maps.Equal(records, want) {
		t.Errorf("%s has %d records, and its writers were told of %d:\n%s", did, len(records), len(want), difference(want, records))
	}
	tree, err := mst.LoadTreeFromMap(want)
	if err != nil {
		t.Fatal(err)
	}
	if root, err := tree.RootCID(); err != nil || *root != commit.Data {
		t.Errorf("tree %s of %s, indigo's of its records is %s (%v)", commit.Data, did, root, err)
	}
	return export{id.String(), commit.Rev, records}
}

// find settles a request that was not answered: all of it is there, or nothing.
func (w *writer) find(t *testing.T, records map[string]cid.Cid) {
	t.Helper()
	if w.asked == nil {
		return
	}
	done := 0
	for path, id := range w.asked {
		switch now := records[path]; now {
		case id:
			done++
		case w.records[path]:
		default:
			t.Errorf("%s is %s: neither %s as before nor %s as asked", path, now, w.records[path], id)
		}
	}
	if done != 0 && done != len(w.asked) {
		t.Errorf("%d of %d writes of one request were made", done, len(w.asked))
	}
	w.settle(done != 0)
}

// difference is what two repositories do not have in common.
func difference(want, got map[string]cid.Cid) string {
	var b strings.Builder
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if got[path] != want[path] {
			fmt.Fprintf(&b, "%s is %v, not %v\n", path, got[path], want[path])
		}
	}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[path]; !ok {
			fmt.Fprintf(&b, "%s is there: %v\n", path, got[path])
		}
	}
	return b.String()
}
