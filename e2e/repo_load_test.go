package e2e

import (
	"encoding/json"
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
	// profile is set for the one writer of an account that writes its profile.
	profile bool
	// subjects are those of likes and the like, by path; a later one of the same
	// subject replaces them.
	subjects map[string]string
	// uploaded was acknowledged; pictures are the posts' that were to show one.
	uploaded []picture
	pictures map[string]picture
}

// picture is a blob, and the record that was to refer to it.
type picture struct {
	blob    any // as uploadBlob answered it
	cid     string
	content string
	record  cid.Cid
}

// refusal is an answer other than 200: the request was not carried out.
type refusal struct {
	status int
	body   string
}

func (r *refusal) Error() string { return fmt.Sprintf("%d %s", r.status, r.body) }

// newWriter makes a writer whose clock ID no other has in the account.
func newWriter(c pdstest.Client, s pdstest.Session, clockID uint, seed uint64) *writer {
	return &writer{
		c: c, did: s.DID, token: s.AccessJwt, name: strconv.FormatUint(uint64(clockID), 10), clock: syntax.NewTIDClock(clockID),
		rng: rand.New(rand.NewPCG(seed, uint64(clockID))), records: map[string]cid.Cid{},
		subjects: map[string]string{}, pictures: map[string]picture{},
	}
}

// maxKept is how many records a writer keeps before it makes room: checks of the
// whole stay fast, however long a test goes on.
const maxKept = 150

// edit is one write of a request; record is nil for a delete.
type edit struct {
	action, collection, rkey string
	record                   map[string]any
}

func (c edit) path() string { return c.collection + "/" + c.rkey }

// step makes one request with one write or several; for a picture it makes
// another before, which uploads it. An error other than a refusal is an answer
// that never came: the request was then carried out as a whole, or not at all.
func (w *writer) step(t *testing.T) error {
	t.Helper()
	var changes []edit
	switch n := w.rng.IntN(20); {
	case n < 11:
		changes = w.plan(1)
	case n == 11:
		changes = w.plan(2 + w.rng.IntN(20))
	case n == 12:
		changes = w.plan(2 + w.rng.IntN(4))
	case n < 16:
		changes = []edit{w.engage()}
	case n < 17 && w.profile:
		changes = []edit{{"update", "app.bsky.actor.profile", "self", w.record("app.bsky.actor.profile")}}
	default:
		if len(w.uploaded) == 0 {
			if err := w.upload(t); err != nil {
				return err
			}
		}
		changes = []edit{w.show(t)}
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
		if i >= len(paths) || do < 5 && len(paths) < maxKept {
			changes = append(changes, w.create())
			continue
		}
		collection, rkey, _ := strings.Cut(paths[i], "/")
		c := edit{action: "delete", collection: collection, rkey: rkey}
		if do < 8 && w.subjects[paths[i]] == "" {
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

// engage creates a record about one of a few subjects; often it replaces an
// older one.
func (w *writer) engage() edit {
	w.n++
	n := w.rng.IntN(4)
	c := edit{action: "create", collection: []string{"app.bsky.feed.like", "app.bsky.feed.repost", "app.bsky.graph.follow", "app.bsky.graph.block"}[n], rkey: w.clock.Next().String()}
	did := fmt.Sprintf("did:web:%c%s.example.com", 'a'+rune(w.rng.IntN(3)), w.name)
	c.record = map[string]any{"$type": c.collection, "subject": did, "createdAt": time.Now().UTC().Format(time.RFC3339Nano)}
	if n < 2 {
		c.record["subject"] = map[string]any{
			"uri": "at://" + did + "/app.bsky.feed.post/3jui7kd54zh2y", "cid": "bafyreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454",
		}
	}
	w.subjects[c.path()] = c.collection + " " + did
	return c
}

// upload uploads a new picture.
func (w *writer) upload(t *testing.T) error {
	t.Helper()
	w.n++
	p := picture{content: fmt.Sprintf("\x89PNG\r\n\x1a\n%s %s.%d %s", w.did, w.name, w.n, strings.Repeat("~", w.rng.IntN(4000)))}
	a, err := w.c.Try(t, pdstest.Request{
		NSID: "com.atproto.repo.uploadBlob", Auth: pdstest.Bearer(w.token), Body: p.content, Header: http.Header{"Content-Type": {"image/png"}},
	})
	if err != nil {
		return err
	}
	if a.Status != http.StatusOK {
		return &refusal{a.Status, string(a.Body)}
	}
	var out struct {
		Blob struct{ Ref map[string]string }
	}
	a.Decode(t, &out)
	var again struct{ Blob any }
	a.Decode(t, &again)
	p.blob, p.cid = again.Blob, out.Blob.Ref["$link"]
	want, err := cid.NewPrefixV1(cid.Raw, multihash.SHA2_256).Sum([]byte(p.content))
	if err != nil || want.String() != p.cid {
		t.Errorf("blob %s, want %s (%v)", p.cid, want, err)
	}
	w.uploaded = append(w.uploaded, p)
	return nil
}

// show creates a post with the picture that was uploaded last.
func (w *writer) show(t *testing.T) edit {
	t.Helper()
	p := w.uploaded[len(w.uploaded)-1]
	w.uploaded = w.uploaded[:len(w.uploaded)-1]
	c := edit{action: "create", collection: "app.bsky.feed.post", rkey: w.clock.Next().String(), record: w.record("app.bsky.feed.post")}
	c.record["embed"] = map[string]any{"$type": "app.bsky.embed.images", "images": []any{map[string]any{"alt": "a picture", "image": p.blob}}}
	p.record = cidOf(t, c.record)
	w.pictures[c.path()] = p
	return c
}

// checkPictures reads the pictures of all posts that show one.
func (w *writer) checkPictures(t *testing.T) (n int) {
	t.Helper()
	for path, p := range w.pictures {
		if w.records[path] != p.record {
			delete(w.pictures, path)
			continue
		}
		n++
		a := w.c.Do(t, pdstest.Request{NSID: "com.atproto.sync.getBlob?did=" + w.did + "&cid=" + p.cid})
		if a.Status != http.StatusOK || string(a.Body) != p.content {
			t.Errorf("picture %s of %s: %d, %d bytes of %d", p.cid, path, a.Status, len(a.Body), len(p.content))
		}
	}
	return n
}

// record is one that was never written before; now and then it is large.
func (w *writer) record(collection string) map[string]any {
	w.n++
	if collection == "app.bsky.actor.profile" {
		return map[string]any{"$type": collection, "displayName": fmt.Sprintf("%s.%d", w.name, w.n)}
	}
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
	text, err := json.Marshal(record)
	if err != nil {
		t.Errorf("record: %v", err)
		return cid.Undef
	}
	data, err := atdata.UnmarshalJSON(text) // links and blobs are more than maps there
	if err != nil {
		t.Errorf("record: %v", err)
		return cid.Undef
	}
	raw, err := atdata.MarshalCBOR(data)
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

// write requests changes and handles the answer.
func (w *writer) write(t *testing.T, changes []edit) error {
	t.Helper()
	w.asked = map[string]cid.Cid{}
	for _, c := range changes {
		w.asked[c.path()] = cid.Undef
		if c.record != nil {
			w.asked[c.path()] = cidOf(t, c.record)
		}
		if about := w.subjects[c.path()]; about != "" && c.record != nil {
			for path := range w.records {
				if w.subjects[path] == about {
					w.asked[path] = cid.Undef
				}
			}
		}
	}
	a, err := w.c.Try(t, w.request(changes))
	if err != nil {
		return err
	}
	if a.Status != http.StatusOK {
		w.asked = nil
		return &refusal{a.Status, string(a.Body)}
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

// settle notes the outcome of the last request: done, or not.
func (w *writer) settle(done bool) {
	for path, id := range w.asked {
		switch {
		case !done:
		case id.Defined():
			w.records[path] = id
		default:
			delete(w.records, path)
			delete(w.subjects, path)
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

// export is a whole repository, as getRepo returns it.
type export struct {
	commit, rev string
	records     map[string]cid.Cid
}

// checkExport reads an account's repository and compares it with the answers
// that its writers got, after settling unanswered requests.
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

// find settles an unanswered request: all of it is there, or nothing.
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
