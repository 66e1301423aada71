package repo_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/account"
	"nestbox/dagcbor"
	"nestbox/firehose"
	"nestbox/firehose/event"
	"nestbox/repo"
	"nestbox/repo/car"
	"nestbox/repo/mst"
)

// mover is an account with some records, and the means to make files for it.
type mover struct {
	*person

	key atcrypto.PrivateKey
	rev syntax.TID
}

func newMover(t testing.TB, w *world) mover {
	t.Helper()
	w.TempDir = t.TempDir()
	p := w.person("alice")
	root, blocks := tree(t, posts(20))
	rev := repo.NextTID(w.Now(), 1, p.head().Rev)
	p.mustImport(pack(t, p.did, rev, w.keys[p.id], root, blocks).bytes())
	return mover{p, w.keys[p.id], rev}
}

// file returns a repository of the account, newer than its own.
func (m mover) file(t testing.TB, records map[string]car.Block) archive {
	t.Helper()
	root, blocks := tree(t, records)
	return pack(t, m.did, repo.NextTID(m.w.Now(), 1, m.rev), m.key, root, blocks)
}

// over returns a file whose commit is over the last of the blocks.
func (m mover) over(t testing.TB, blocks ...car.Block) archive {
	t.Helper()
	return pack(t, m.did, repo.NextTID(m.w.Now(), 1, m.rev), m.key, blocks[len(blocks)-1].CID, blocks)
}

// node returns a block of a tree as another server may write it.
func node(left any, entries ...any) car.Block {
	if entries == nil {
		entries = []any{}
	}
	return block(map[string]any{"e": entries, "l": left})
}

func entry(shared int, suffix string, value cid.Cid, right any) any {
	return map[string]any{"p": int64(shared), "k": []byte(suffix), "v": value, "t": right}
}

// hostile returns files that must not be imported, and a part of each error.
func hostile(t testing.TB, m mover) map[string]struct {
	file []byte
	want string
} {
	t.Helper()
	type bad = struct {
		file []byte
		want string
	}
	good := m.file(t, posts(50))
	record := block(map[string]any{"text": "x"})
	with := func(key string, b car.Block) []byte {
		records := posts(10)
		records[key] = b
		return m.file(t, records).bytes()
	}
	k0, k1 := "app.bsky.feed.post/0", "app.bsky.feed.post/1"
	commit := func(change func(map[string]any)) []byte {
		v, err := dagcbor.Decode(good.blocks[len(good.blocks)-1].Data)
		if err != nil {
			t.Fatal(err)
		}
		fields, _ := v.(map[string]any)
		change(fields)
		b := block(fields)
		return archive{b.CID, append(slices.Clone(good.blocks), b)}.bytes()
	}
	file := good.bytes()
	damaged := slices.Clone(file)
	damaged[len(damaged)/2] ^= 1
	noRoots := car.AppendBlock(car.AppendHeader(nil), record.CID, record.Data)
	out := map[string]bad{
		"nothing":            {nil, "it is empty"},
		"text":               {[]byte("hello, this is no CAR file at all"), "malformed CAR file"},
		"a header alone":     {car.AppendHeader(nil, good.root), "the commit: block " + good.root.String() + ": not in the file"},
		"no root":            {noRoots, "expected one root, the file has 0"},
		"two roots":          {append(car.AppendHeader(nil, good.root, record.CID), file...), "expected one root, the file has 2"},
		"cut off":            {file[:len(file)-1], "it is cut off"},
		"a byte more":        {append(slices.Clone(file), 0), "a part of 0 bytes"},
		"bytes more":         {append(slices.Clone(file), "trailing"...), "malformed CAR file"},
		"a byte damaged":     {damaged, "malformed CAR file"},
		"without the commit": {good.without(good.root).bytes(), "the commit: block"},
		"a record as root":   {archive{record.CID, []car.Block{record}}.bytes(), "the commit: malformed"},

		"of someone else":     {commit(func(c map[string]any) { c["did"] = "did:plc:bob" }), "it is the repository of did:plc:bob, not of did:plc:alice"},
		"of the future":       {commit(func(c map[string]any) { c["rev"] = "7zzzzzzzzzz22" }), "its revision 7zzzzzzzzzz22 lies in the future"},
		"of version 2":        {commit(func(c map[string]any) { c["version"] = int64(2) }), "version 2"},
		"a commit and more":   {commit(func(c map[string]any) { c["x"] = nil }), "7 fields"},
		"a tree that is none": {commit(func(c map[string]any) { c["data"] = record.CID }), "not in the file"},

		"a key without a slash":   {with("app.bsky.feed.post", record), `record "app.bsky.feed.post": malformed record: its key`},
		"no collection":           {with("/x", record), `record "/x": malformed record: its collection`},
		"a collection as no name": {with("post/1", record), `record "post/1": malformed record: its collection`},
		"a key with two slashes":  {with("app.bsky.feed.post/a/b", record), "malformed record: its key"},
		"a key of dots":           {with("app.bsky.feed.post/..", record), "malformed record: its key"},
		"a key with a space":      {with("app.bsky.feed.post/a b", record), "malformed record: its key"},
		"a key not UTF-8":         {with("app.bsky.feed.post/\xff", record), "malformed record: its key"},

		"keys descending":       {m.over(t, record, node(nil, entry(0, k1, record.CID, nil), entry(0, k0, record.CID, nil))).bytes(), "malformed tree node"},
		"a key twice":           {m.over(t, record, node(nil, entry(0, k0, record.CID, nil), entry(len(k0), "", record.CID, nil))).bytes(), "malformed tree node"},
		"a prefix beyond":       {m.over(t, record, node(nil, entry(99, k0, record.CID, nil))).bytes(), "malformed tree node"},
		"a node and more":       {m.over(t, block(map[string]any{"e": []any{}, "l": nil, "x": nil})).bytes(), "malformed tree node"},
		"a node that is a list": {m.over(t, block([]any{})).bytes(), "malformed data"},
	}
	// Nobody can make a block that links to itself: the closest is a node that is
	// linked from many places, as if it were below itself.
	below := node(nil, entry(0, k0, record.CID, nil))
	out["a node shared"] = bad{m.over(t, record, below, node(below.CID, entry(0, "app.bsky.feed.post/454397e440ec", record.CID, below.CID))).bytes(), "malformed tree node"}
	chain := []car.Block{record, below}
	for range 300 {
		chain = append(chain, node(chain[len(chain)-1].CID))
	}
	out["a chain of nodes"] = bad{m.over(t, chain...).bytes(), "malformed tree node"}
	for i, b := range good.blocks[:len(good.blocks)-1] {
		out[fmt.Sprintf("without block %d", i)] = bad{good.without(b.CID).bytes(), b.CID.String() + ": not in the file"}
	}
	return out
}

// TestImportRefuses: a faulty file changes nothing and leaves nothing, and the error
// names the fault.
func TestImportRefuses(t *testing.T) {
	w := newWorld(t)
	alice := newMover(t, w)
	head, records := alice.head(), alice.records()
	before := len(w.events(0))
	for name, c := range hostile(t, alice) {
		_, err := alice.imports(c.file)
		if !errors.Is(err, repo.ErrImport) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if got := alice.head(); got.CID != head.CID || got.Number != head.Number || !maps.Equal(alice.records(), records) {
		t.Errorf("the repository is at %+v, was at %+v", got, head)
	}
	if got := len(w.events(0)); got != before {
		t.Errorf("%d events, %d before", got, before)
	}
	alice.checkExport()
	// The good file is imported.
	alice.mustImport(alice.file(t, posts(50)).bytes())
	alice.checkExport()
}

// TestImportLimits: a file, or its room here, over the limit is refused; nothing of
// it is kept.
func TestImportLimits(t *testing.T) {
	w := newWorld(t)
	alice := newMover(t, w)
	file := alice.file(t, posts(50)).bytes()
	w.MaxImport = int64(len(file)) - 1
	if _, err := alice.imports(file); !errors.Is(err, repo.ErrTooLarge) {
		t.Errorf("a byte too many: %v", err)
	}
	endless := io.MultiReader(bytes.NewReader(file), strings.NewReader(strings.Repeat("x", 1<<20)))
	if _, err := w.Import(t.Context(), alice.account(), endless); !errors.Is(err, repo.ErrTooLarge) {
		t.Errorf("many bytes too many: %v", err)
	}
	if len(alice.records()) != 20 {
		t.Error("something of it is there")
	}
	w.MaxImport = int64(len(file))
	alice.mustImport(file)

	// One block is the record of many keys: little is sent, much would be kept.
	large := block(map[string]any{"x": strings.Repeat("x", 100_000)})
	records := map[string]car.Block{}
	for i := range 20 {
		records[fmt.Sprintf("com.example.note/%02d", i)] = large
	}
	root, blocks := tree(t, records)
	blocks = slices.DeleteFunc(blocks, func(b car.Block) bool { return b.CID == large.CID })
	bomb := pack(t, alice.did, repo.NextTID(w.Now(), 1, alice.head().Rev), alice.key, root, append(blocks, large)).bytes()
	w.MaxImport = 1_000_000
	if _, err := alice.imports(bomb); len(bomb) > 200_000 || !errors.Is(err, repo.ErrTooLarge) || !strings.Contains(err.Error(), "records take more than 1000000 bytes") {
		t.Errorf("%d bytes that become 2 MB: %v", len(bomb), err)
	}
	w.MaxImport = 3_000_000
	alice.mustImport(bomb)
	alice.checkExport()
}

// TestImportCommit: the file's commit stays if it is ours and newer; otherwise a
// commit of the same tree is made that comes after both.
func TestImportCommit(t *testing.T) {
	foreign, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key  atcrypto.PrivateKey // nil: ours
		rev  func(head syntax.TID, now time.Time) syntax.TID
		kept bool
	}{
		"ours and newer":  {nil, func(head syntax.TID, now time.Time) syntax.TID { return repo.NextTID(now, 1, head) }, true},
		"ours and next":   {nil, func(head syntax.TID, _ time.Time) syntax.TID { return repo.NextTID(head.Time(), 1, head) }, true},
		"ours and as old": {nil, func(head syntax.TID, _ time.Time) syntax.TID { return head }, false},
		"ours and older":  {nil, func(syntax.TID, time.Time) syntax.TID { return "3jzfcijpj2z2a" }, false},
		"of another key":  {foreign, func(head syntax.TID, now time.Time) syntax.TID { return repo.NextTID(now, 1, head) }, false},
		"ahead of us": {foreign, func(_ syntax.TID, now time.Time) syntax.TID {
			return syntax.NewTIDFromTime(now.Add(4*time.Minute), 1)
		}, false},
	} {
		w := newWorld(t)
		alice := newMover(t, w)
		head := alice.head()
		before := w.events(0)
		root, blocks := tree(t, posts(30))
		key := alice.key
		if c.key != nil {
			key = c.key
		}
		rev := c.rev(head.Rev, w.Now())
		file := pack(t, alice.did, rev, key, root, blocks)
		done := alice.mustImport(file.bytes())
		got := alice.head()
		if done.Kept != c.kept || (got.CID == file.root) != c.kept || got.CID != done.CID || got.Rev != done.Rev {
			t.Errorf("%s: %+v, the head is %+v", name, done, got)
		}
		if got.Root.CID != root || got.Rev <= head.Rev || got.Rev < rev || !c.kept && got.Rev == rev {
			t.Errorf("%s: revision %s after %s and %s", name, got.Rev, head.Rev, rev)
		}
		alice.checkExport()
		wantSync(t, w.events(int64(len(before))), alice.person)
		// The next write comes after both.
		alice.mustCreate("com.example.note", nil, `{}`)
		if next := alice.head().Rev; next <= got.Rev {
			t.Errorf("%s: revision %s after %s", name, next, got.Rev)
		}
	}
}

// wantSync fails the test unless there is one event, which names the repository's
// head.
func wantSync(t testing.TB, got []firehose.Logged, p *person) {
	t.Helper()
	head := p.head()
	if len(got) != 1 || got[0].Kind != event.KindSync || got[0].DID != p.did {
		t.Fatalf("events %+v, want one #sync", got)
	}
	want := event.Sync{DID: p.did, Rev: head.Rev, Commit: car.Block{CID: head.CID, Data: head.Commit}}.Event()
	// The time is the clock's; the rest is known.
	if !bytes.Contains(got[0].Body, head.Commit) || len(got[0].Body) != len(want.Body) {
		t.Errorf("event %q", got[0].Body)
	}
}

// TestImportAgain: a file that is imported twice, as after a break, changes
// nothing the second time.
func TestImportAgain(t *testing.T) {
	for _, key := range []string{"ours", "another's"} {
		w := newWorld(t)
		alice := newMover(t, w)
		file := alice.file(t, posts(30))
		if key != "ours" {
			foreign, err := atcrypto.GeneratePrivateKeyK256()
			if err != nil {
				t.Fatal(err)
			}
			root, blocks := tree(t, posts(30))
			file = pack(t, alice.did, alice.rev, foreign, root, blocks)
		}
		first := alice.mustImport(file.bytes())
		head, events := alice.head(), len(w.events(0))
		second := alice.mustImport(file.bytes())
		if second != first || alice.head().CID != head.CID || alice.head().Number != head.Number || len(w.events(0)) != events {
			t.Errorf("%s: first %+v, then %+v", key, first, second)
		}
	}
}

// TestImportIgnores: the order of blocks, copies of them and unlinked blocks do not
// matter, nor does how the bytes come in.
func TestImportIgnores(t *testing.T) {
	want := posts(30)
	for name, change := range map[string]func(archive) archive{
		"as it is":   func(a archive) archive { return a },
		"reversed":   func(a archive) archive { slices.Reverse(a.blocks); return a },
		"twice":      func(a archive) archive { return a.with(a.blocks...) },
		"more":       func(a archive) archive { return a.with(block("hello"), block(map[string]any{"other": "record"})) },
		"a blob":     func(a archive) archive { return a.with(blobBlock("a picture")) },
		"other tree": func(a archive) archive { _, blocks := tree(t, posts(10)); return a.with(blocks...) },
	} {
		w := newWorld(t)
		alice := newMover(t, w)
		file := change(alice.file(t, want)).bytes()
		done, err := w.Import(t.Context(), alice.account(), iotest.HalfReader(bytes.NewReader(file)))
		if err != nil || done.Records != 30 || len(alice.records()) != 30 {
			t.Errorf("%s: %+v, %v", name, done, err)
		}
		alice.checkExport()
	}
}

func blobBlock(text string) car.Block {
	return car.Block{CID: dagcbor.RawCID(sha256.Sum256([]byte(text))), Data: []byte(text)}
}

// TestImportStates: an account that is moving in is not active yet, and makes no
// event; an account that is gone, or has no repository, is not a fault of the file.
func TestImportStates(t *testing.T) {
	w := newWorld(t)
	alice := newMover(t, w)
	alice.status(account.StatusChange{Deactivated: new(true)})
	before := len(w.events(0))
	alice.mustImport(alice.file(t, posts(30)).bytes())
	if got := len(w.events(0)); got != before || len(alice.records()) != 30 {
		t.Errorf("%d events of an account that is not active, %d before", got, before)
	}

	bob := w.stranger("bob")
	root, blocks := tree(t, posts(5))
	file := pack(t, bob.did, repo.NextTID(w.Now(), 1, ""), w.keys[bob.id], root, blocks).bytes()
	if done := bob.mustImport(file); !done.Kept || len(bob.records()) != 5 {
		t.Errorf("into nothing: %+v", done)
	}
	if _, err := w.Import(t.Context(), repo.Account{ID: 1 << 40, DID: bob.did}, bytes.NewReader(file)); err == nil {
		t.Error("imported into no account")
	}
}

// TestImportOvertaken: what is written while a file comes in is not lost: the
// import is refused, and succeeds when it is repeated.
func TestImportOvertaken(t *testing.T) {
	w := newWorld(t)
	alice := newMover(t, w)
	file := alice.file(t, posts(30)).bytes()
	body := io.MultiReader(bytes.NewReader(file[:100]), readerFunc(func([]byte) (int, error) {
		alice.mustCreate("com.example.note", new("late"), `{}`)
		return 0, io.EOF
	}), bytes.NewReader(file[100:]))
	if _, err := w.Import(t.Context(), alice.account(), body); !errors.Is(err, repo.ErrConflict) {
		t.Errorf("an import that was overtaken: %v", err)
	}
	if got := alice.records(); len(got) != 21 || !got["com.example.note/late"].Defined() {
		t.Errorf("%d records", len(got))
	}
	alice.mustImport(file)
	if got := alice.records(); len(got) != 30 {
		t.Errorf("%d records", len(got))
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// TestImportOnce: an account has one import at a time, and one that fails, or
// whose client goes, makes room for the next.
func TestImportOnce(t *testing.T) {
	w := newWorld(t)
	alice := newMover(t, w)
	file := alice.file(t, posts(30)).bytes()
	gone := errors.New("gone")
	body := io.MultiReader(bytes.NewReader(file[:100]), readerFunc(func([]byte) (int, error) {
		if _, err := alice.imports(file); !errors.Is(err, repo.ErrImporting) {
			t.Errorf("a second import: %v", err)
		}
		return 0, gone
	}))
	if _, err := w.Import(t.Context(), alice.account(), body); !errors.Is(err, gone) {
		t.Errorf("a client that has gone: %v", err)
	}
	// Files that do not come hold up no other account.
	var held []*holder
	for _, name := range []string{"bob", "carol", "dan"} {
		h := &holder{}
		h.start(t.Context(), w.person(name))
		held = append(held, h)
	}
	alice.mustImport(file)
	for _, h := range held {
		h.end(t)
	}
}

// holder is an import whose body never arrives.
type holder struct {
	began, more chan struct{}
	done        chan error
}

func (h *holder) start(ctx context.Context, p *person) {
	h.began, h.more, h.done = make(chan struct{}), make(chan struct{}), make(chan error, 1)
	a := p.account() //nolint:contextcheck // the test's own
	go func() {
		_, err := p.w.Import(context.WithoutCancel(ctx), a, readerFunc(func([]byte) (int, error) {
			close(h.began)
			<-h.more
			return 0, io.ErrUnexpectedEOF
		}))
		h.done <- err
	}()
	<-h.began
}

func (h *holder) end(t *testing.T) {
	t.Helper()
	close(h.more)
	if err := <-h.done; err == nil {
		t.Error("an import without a body succeeded")
	}
}

// failing is the real store, with a fault at one step of an import.
type failing struct {
	repo.Store

	step string
	do   func() error // before the step
	then error        // after it
}

func (s *failing) at(step string, run func() error) error {
	if s.step != step {
		return run()
	}
	if s.do != nil {
		if err := s.do(); err != nil {
			return err
		}
	}
	return errors.Join(run(), s.then)
}

func (s *failing) Stage(ctx context.Context, accountID int64) (number int64, err error) {
	err = s.at("stage", func() error { number, err = s.Store.Stage(ctx, accountID); return err })
	return number, err
}

func (s *failing) Fill(ctx context.Context, number int64, rev syntax.TID, nodes []mst.Changed, records []repo.Write) error {
	return s.at("fill", func() error { return s.Store.Fill(ctx, number, rev, nodes, records) })
}

func (s *failing) Switch(ctx context.Context, accountID int64, was cid.Cid, next repo.Head, ev event.Event, at time.Time) error {
	return s.at("switch", func() error { return s.Store.Switch(ctx, accountID, was, next, ev, at) })
}

// TestImportBroken: an import that breaks off at any step has changed nothing,
// or everything; repeated it succeeds, and nothing is left of the first.
func TestImportBroken(t *testing.T) {
	disk := errors.New("disk on fire")
	for _, step := range []string{"stage", "fill", "switch"} {
		for name, saved := range map[string]bool{"not saved": false, "saved": true} {
			w := newWorld(t)
			alice := newMover(t, w)
			head := alice.head()
			file := alice.file(t, posts(1500)).bytes()
			store := &failing{Store: w.Store, step: step, then: disk}
			if !saved {
				store.do = func() error { return disk }
			}
			w.Store = store
			if _, err := alice.imports(file); !errors.Is(err, disk) {
				t.Errorf("%s, %s: %v", step, name, err)
			}
			switched := step == "switch" && saved
			if got := alice.head(); (got.CID != head.CID) != switched {
				t.Errorf("%s, %s: the head is %+v", step, name, got)
			}
			if got := len(alice.records()); got != 20 && !switched || got != 1500 && switched {
				t.Errorf("%s, %s: %d records", step, name, got)
			}
			store.step = ""
			alice.mustImport(file)
			if got := len(alice.records()); got != 1500 {
				t.Errorf("%s, %s, again: %d records", step, name, got)
			}
			alice.checkExport()
			for more := true; more; {
				var err error
				if more, err = w.Store.Sweep(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			alice.checkExport()
		}
	}
}

// TestImportLeft: a client that goes while its repository is being stored stops
// the import.
func TestImportLeft(t *testing.T) {
	w := newWorld(t)
	alice := newMover(t, w)
	head := alice.head()
	ctx, leave := context.WithCancel(t.Context())
	w.Store = &failing{Store: w.Store, step: "fill", do: func() error { leave(); return nil }}
	_, err := w.Import(ctx, alice.account(), bytes.NewReader(alice.file(t, posts(1500)).bytes()))
	if !errors.Is(err, context.Canceled) || alice.head().CID != head.CID {
		t.Errorf("%v, the head is %+v", err, alice.head())
	}
}
