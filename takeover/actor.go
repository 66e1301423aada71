package takeover

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/ipfs/go-cid"

	"nestbox/admin"
	"nestbox/dagcbor"
	"nestbox/hosting"
	"nestbox/identity"
	"nestbox/lexicon"
	"nestbox/plc"
	"nestbox/repo"
	"nestbox/repo/mst"
)

// chunkBytes is how many bytes of records one Fill gets, about.
const chunkBytes = 4 << 20

// errProof: a repository is not what it says; the text gives the reason.
var errProof = errors.New("the repository is damaged")

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errProof, fmt.Sprintf(format, args...))
}

// derive returns what follows from a record.
type derive func(repo.Record) (repo.Derived, error)

// proof is the reading of one actor: what is read is proven before any of it is stored.
type proof struct {
	queued

	actor  Actor
	derive derive
	commit *repo.Commit
	head   repo.Head
	key    *atcrypto.PrivateKeyK256
	public string
	rows   []Record // by key
	nodes  []mst.Changed

	// What is worth a remark.
	odd    int64 // records that could not be written here
	lagged bool  // the table of records is not what the tree has
}

// prove reads and proves the repository, up to its records themselves. Errors: errProof, those
// of the actor.
func (p *proof) prove() error {
	raw, err := p.actor.Key()
	if err != nil {
		return err
	}
	if p.key, err = atcrypto.ParsePrivateBytesK256(raw); err != nil {
		return Keyless(p.row.DID, fmt.Sprintf("its signing key is not a K-256 key: %v", err))
	}
	root, err := p.actor.Root()
	if err != nil {
		return err
	}
	if err := p.said.check(root.Rev); err != nil {
		return err
	}
	if err := p.proveCommit(root); err != nil {
		return err
	}
	if p.rows, err = p.actor.Records(); err != nil {
		return err
	}
	tree, err := p.build()
	if err != nil || !tree.CID.Equals(p.commit.Data) {
		if err := p.walk(); err != nil {
			return err
		}
		if tree, err = p.build(); err != nil {
			return err
		}
		if !tree.CID.Equals(p.commit.Data) {
			return broken("its records make the tree %s, the commit names %s", tree.CID, p.commit.Data)
		}
		p.lagged = true
	}
	p.head = repo.Head{
		DID: p.row.DID, CID: dagcbor.CID(p.head.Commit), Rev: p.commit.Rev, Commit: p.head.Commit, Root: tree, NextNode: int64(len(p.nodes)) + 1,
		Records: int64(len(p.rows)), First: p.commit.Rev,
	}
	for _, row := range p.rows {
		p.head.First = min(p.head.First, p.revOf(row.Rev))
	}
	return nil
}

// proveCommit proves the latest commit: its hash, its account, its revision, its signature. One
// that came with an import is replaced.
func (p *proof) proveCommit(root Root) error {
	block, _, ok, err := p.actor.Block(root.CID)
	switch {
	case err != nil:
		return err
	case !ok:
		return broken("its latest commit %s is missing", root.CID)
	case !dagcbor.CID(block).Equals(root.CID):
		return broken("the block of its latest commit %s is another", root.CID)
	}
	if p.commit, err = repo.DecodeCommit(block); err != nil {
		return broken("its latest commit %s: %v", root.CID, err)
	}
	if p.commit.DID != p.row.DID {
		return broken("its latest commit is one of %s", p.commit.DID)
	}
	public, err := p.key.PublicKey()
	if err != nil {
		return broken("its signing key: %v", err)
	}
	p.public, p.head.Commit = public.DIDKey(), block
	if p.commit.Rev != root.Rev {
		return p.resign(root.Rev)
	}
	if err := p.commit.Verify(public); err != nil {
		return Keyless(p.row.DID, "its latest commit is not signed by the key in the actor's folder")
	}
	return nil
}

// resign makes a commit for a repository that was imported and not written since: importRepo of
// the reference keeps the commit, of the server that it came from and by that server's key, and
// gives the root another revision. Root and tree prove the content. The new commit is the same
// each time; the event log does not name it, so it is announced.
func (p *proof) resign(rev syntax.TID) error {
	if !isTID(rev.String()) || !isTID(p.commit.Rev.String()) {
		return broken("its latest commit is of revision %q, and its root of %q", p.commit.Rev, rev)
	}
	p.commit = &repo.Commit{
		DID: p.commit.DID, Data: p.commit.Data, Rev: syntax.NewTIDFromInteger(max(p.commit.Rev, rev).Integer() + 1),
	}
	if err := p.commit.Sign(p.key); err != nil {
		return err
	}
	p.head.Commit = p.commit.Encode()
	return nil
}

// build makes the tree of the rows.
func (p *proof) build() (mst.Link, error) {
	p.nodes = p.nodes[:0]
	b := mst.Builder{NextID: 1, Emit: func(n mst.Changed) error {
		p.nodes = append(p.nodes, n)
		return nil
	}}
	for _, row := range p.rows {
		if err := b.Add(row.Key, row.CID); err != nil {
			return mst.Link{}, broken("%v", err)
		}
	}
	return b.Finish()
}

// walk takes the rows from the tree that the commit names: the table of records may lag
// behind it, or be ahead. What is known of a row's takedown stays.
func (p *proof) walk() error {
	takenDown := map[string]Record{}
	for _, row := range p.rows {
		if row.TakenDown {
			takenDown[row.Key] = row
		}
	}
	p.rows = p.rows[:0]
	w := mst.Walker{
		Load: func(l *mst.Link) (*mst.Node, error) {
			block, _, ok, err := p.actor.Block(l.CID)
			switch {
			case err != nil:
				return nil, err
			case !ok:
				return nil, broken("block %s of its tree is missing", l.CID)
			case !dagcbor.CID(block).Equals(l.CID):
				return nil, broken("block %s of its tree is another", l.CID)
			}
			return mst.Decode(block)
		},
		Entry: func(key string, value cid.Cid) error {
			_, rev, ok, err := p.actor.Block(value)
			if err == nil && !ok {
				err = broken("record %s is missing", key)
			}
			p.rows = append(p.rows, Record{Key: key, CID: value, Rev: rev, TakenDown: takenDown[key].TakenDown, Takedown: takenDown[key].Takedown})
			return err
		},
	}
	err := w.Walk(mst.Link{CID: p.commit.Data})
	if errors.Is(err, mst.ErrNode) || errors.Is(err, dagcbor.ErrForm) {
		err = broken("its tree: %v", err)
	}
	return err
}

// revOf is a row's revision: one that cannot be counts as the commit's.
func (p *proof) revOf(rev syntax.TID) syntax.TID {
	if !isTID(rev.String()) || rev > p.commit.Rev {
		return p.commit.Rev
	}
	return rev
}

// CountRecords proves an actor's repository, and returns how many records its tree has.
func CountRecords(did syntax.DID, a Actor) (int64, error) {
	p := &proof{actor: a}
	p.row.DID, p.said.copies = did, &copies{force: true}
	err := p.prove()
	return p.head.Records, err
}

// isTID is syntax.ParseTID without its regular expression, which would take as long as all
// else that is done with a record.
func isTID(text string) bool {
	const size, first = 13, "234567abcdefghij"
	if len(text) != size || strings.IndexByte(first, text[0]) < 0 {
		return false
	}
	for i := range size {
		if c := text[i]; (c < '2' || c > '7') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// content calls fill with the nodes and the records, each of which it proves.
func (p *proof) content(fill func(Chunk) error) error {
	var c Chunk
	for _, n := range p.nodes {
		_, rev, _, err := p.actor.Block(n.CID)
		if err != nil {
			return err
		}
		c.Nodes = append(c.Nodes, NodeRow{n, p.revOf(rev)})
	}
	size := 0
	for _, row := range p.rows {
		block, _, ok, err := p.actor.Block(row.CID)
		if err != nil {
			return err
		}
		if !ok {
			return broken("record %s, %s, is missing", row.Key, row.CID)
		}
		rec := repo.Record{Key: row.Key, CID: row.CID, Rev: p.revOf(row.Rev), Block: block}
		derived, err := p.derive(rec)
		if err != nil {
			return broken("record %s: %v", row.Key, err)
		}
		if derived.Odd != nil {
			p.odd++
		}
		c.Records = append(c.Records, RecordRow{rec, derived})
		if size += len(block); size >= chunkBytes {
			if err := fill(c); err != nil {
				return err
			}
			c, size = Chunk{}, 0
		}
	}
	return fill(c)
}

// takedowns returns those of records and blobs.
func (p *proof) takedowns(blobs []BlobFile, now time.Time) (out []admin.Takedown) {
	add := func(subject, id string, down bool, ref string) {
		if down {
			at, name := takedownOf(ref, now)
			out = append(out, admin.Takedown{Subject: subject, CID: id, Ref: name, At: at})
		}
	}
	for _, row := range p.rows {
		add(row.Key, row.CID.String(), row.TakenDown, row.Takedown)
	}
	for _, b := range blobs {
		add(b.CID, b.CID, b.TakenDown, b.Takedown)
	}
	return out
}

// readings is how often an actor is read that the old server changes meanwhile.
const readings = 5

// actorOf takes one account's own part over. ErrNoActor, ErrMoved and errProof are the
// account's fault; everything else ends the take-over.
func (t *TakeOver) actorOf(ctx context.Context, q queued, w *work) error {
	for range readings {
		moved, err := t.readActor(ctx, q, w)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !moved && !errors.Is(err, ErrMoved) {
			return err
		}
	}
	return ErrMoved
}

// readActor reads an actor once. moved: the old server changed it meanwhile, and nothing was
// settled.
func (t *TakeOver) readActor(ctx context.Context, q queued, w *work) (moved bool, err error) {
	actor, err := t.Source.Actor(ctx, q.row.DID)
	if err != nil {
		return false, err
	}
	w.begin()
	p := &proof{queued: q, actor: actor, derive: w.derive}
	moved, err = t.take(ctx, p, w)
	if err != nil && !moved {
		moved, _ = actor.Moved() // if it is gone, err says so
	}
	if errors.Is(err, errProof) && !moved {
		if damaged := actor.Intact(); damaged != nil && ctx.Err() == nil {
			err = broken("its database is damaged: %v", damaged)
		}
	}
	if err = errors.Join(err, actor.Close()); err == nil && !moved {
		w.end(p)
	}
	return moved, err
}

// take proves an actor and stores it.
func (t *TakeOver) take(ctx context.Context, p *proof, w *work) (moved bool, err error) {
	if err := p.prove(); err != nil {
		return false, err
	}
	settled, err := t.settled(ctx, p, w)
	if err != nil {
		return false, err
	}
	if len(w.bad)+len(w.remarks) > 0 {
		settled.State.Changed = 0 // the next pass says it again, or finds the file
	}
	if t.Store == nil {
		return false, p.content(func(c Chunk) error { w.count(c); return ctx.Err() })
	}
	did := p.row.DID
	number, err := t.Store.Stage(ctx, did)
	if err != nil {
		return false, err
	}
	err = p.content(func(c Chunk) error { w.count(c); return t.Store.Fill(ctx, number, c) })
	if err == nil {
		moved, err = p.actor.Moved()
	}
	if moved || IsDamaged(err) {
		return moved, errors.Join(err, t.Store.Drop(ctx, did))
	}
	if err != nil {
		return false, err
	}
	return false, t.Store.Settle(ctx, number, settled)
}

// settled returns what belongs to an actor beside its nodes and records. Its blobs are
// brought.
func (t *TakeOver) settled(ctx context.Context, p *proof, w *work) (Settled, error) {
	now := t.Now().UTC().Truncate(time.Millisecond)
	out := Settled{
		DID: p.row.DID, Head: p.head, SigningKey: p.public, SealedKey: hosting.SealKey(t.Box, p.row.DID, p.key),
		State: settledState(p.actor.State(), now), Now: now,
	}
	document, err := plc.DocumentOf(p.row.DID, plc.Data{SigningKey: p.public, Handle: p.row.Handle, PDS: t.Settings.URL})
	if err != nil {
		return out, fmt.Errorf("make DID document of %s: %w", p.row.DID, err)
	}
	out.Document = document
	if d, err := identity.ParseDocument(p.row.DID, p.row.Document); err == nil && d.SigningKey() != p.public {
		w.remark("%s: its DID document names the signing key %s, its folder has %s; run nestbox identity repair %s after the take-over",
			p.row.DID, d.SigningKey(), p.public, p.row.DID)
	}
	values, err := p.actor.Preferences()
	if err != nil {
		return out, err
	}
	var odd int
	if out.Preferences, odd = preferencesOf(values); odd > 0 {
		w.remark("%s: %d preferences are not JSON objects, and are left out", p.row.DID, odd)
	}
	files, err := p.actor.Blobs()
	if err != nil {
		return out, err
	}
	out.Takedowns = p.takedowns(files, now)
	out.Blobs, err = t.bringBlobs(ctx, p.row.DID, files, w)
	return out, err
}

// racily is how long after its last change a database may change again without another time:
// file systems count in ticks.
const racily = 2 * time.Second

// settledState is the state that is remembered of an actor. One that changed just now is
// remembered as another, so that it is read again.
func settledState(s State, now time.Time) State {
	if now.UnixNano()-s.Changed < int64(racily) {
		s.Changed = 0
	}
	return s
}

func isObject(text string) bool {
	v := jsontext.Value(text)
	return v.IsValid() && v.Kind() == '{'
}

// newDerive returns what derives from records; it is for one goroutine.
func newDerive() derive {
	return (&repo.Checker{Lexicons: lexicon.Known()}).Deriver()
}

// keyOfFile names the file of a blob: the same each time that it is brought, so that a
// take-over which was killed leaves none behind.
func keyOfFile(did syntax.DID, id string) string { return fileKey(did.String() + " " + id) }
