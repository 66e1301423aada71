package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
	"nestbox/firehose/event"
	"nestbox/repo/car"
	"nestbox/repo/mst"
)

// Limits of writes.
const (
	// MaxWrites is how many writes one call may ask for.
	MaxWrites = 200
	// maxReplaced is how many records a record deletes that replaces others of its
	// subject: with itself they are the operations that one event may have. If there
	// are more, as after an import, the lowest keys go, which are the oldest; the rest
	// go when the next record is created.
	maxReplaced = event.MaxOps - 1
	// MaxRecord is the largest record, in bytes of its DAG-CBOR.
	MaxRecord = 1 << 20
	// maxAttempts bounds how often a change is computed on a repository that
	// others change meanwhile: an import, or another process.
	maxAttempts = 5
)

// Refusal: the request cannot be fulfilled, for the reason in Text, which the client
// gets. Name is the error's name in the Lexicon.
type Refusal struct{ Name, Text string }

func (r *Refusal) Error() string { return r.Text }

func refuse(name, format string, args ...any) error {
	return &Refusal{name, fmt.Sprintf(format, args...)}
}

// Names of refusals.
const (
	nameInvalidSwap     = "InvalidSwap"
	nameInvalidRequest  = "InvalidRequest"
	nameBlobNotFound    = "BlobNotFound"
	nameInvalidMimeType = "InvalidMimeType"
	nameInvalidSize     = "InvalidSize"
)

// action is what an op does. A put creates or updates; a put of what is there, and a
// removal of what is not there, change nothing.
type action int

const (
	actionCreate action = iota
	actionUpdate
	actionDelete
	actionPut
	actionRemove
)

// op is one prepared write: what can be checked without the repository has been
// checked.
type op struct {
	action           action
	collection, rkey string
	cid              cid.Cid
	block            []byte
	blobs            []blobUse
	// subject is the record's, as in Derived. replaces means that other records of the
	// collection with the same subject are deleted first.
	subject  string
	replaces bool
	// swap, if set, is the CID that the record must have; undefined: there must be no
	// record.
	swap *cid.Cid
	// status is what validation found, "" if it was not asked for.
	status string
}

// key returns the record's key in the tree.
func (o *op) key() string { return o.collection + "/" + o.rkey }

// uri returns the record's AT URI.
func (o *op) uri(did syntax.DID) string { return recordURI(did, o.key()) }

func recordURI(did syntax.DID, key string) string { return "at://" + did.String() + "/" + key }

// commitRef names the commit that a call made.
type commitRef struct {
	CID string     `json:"cid"`
	Rev syntax.TID `json:"rev"`
}

// alone makes a call's commit by itself. The caller holds the account's lock.
func (s *Service) alone(c *call, accountID int64, key atcrypto.PrivateKey) (*commitRef, error) {
	var last error
	for range maxAttempts {
		d, err := s.draft(c.ctx, accountID, c.ops, c.swapCommit)
		if err != nil || d == nil {
			return nil, err
		}
		if err := s.crowded(accountID, c, d); err != nil {
			return nil, err
		}
		// Sign outside of any transaction, so that accounts do not wait for each other.
		change, signErr := s.sign(accountID, *d, key, s.Now())
		if signErr != nil {
			return nil, signErr
		}
		switch err = s.Store.Commit(c.ctx, change); {
		case err == nil:
			s.Counts.wrote(&change, d.more)
			s.revs.raise(accountID, change.Next.Rev)
			if len(c.ops) > 0 {
				s.recent.keep(accountID, change.Next, d.tree, c.ops[len(c.ops)-1].key())
			}
			return &commitRef{change.Next.CID.String(), change.Next.Rev}, nil
		case !errors.Is(err, ErrConflict) && !errors.Is(err, ErrNoBlob):
			return nil, err
		}
		last = err // the next attempt names a blob that went meanwhile
	}
	return nil, fmt.Errorf("write to repository, %d times: %w", maxAttempts, last)
}

// draft computes the effect of ops on an account's repository: from what the last
// write left in memory, or from the store.
func (s *Service) draft(ctx context.Context, accountID int64, ops []op, swapCommit cid.Cid) (d *draft, err error) {
	if k := s.recent.take(accountID); k != nil {
		if d, err = newDraft(k, k.tree, ops, swapCommit); err == nil && d != nil {
			return d, nil
		}
	}
	err = s.Store.View(ctx, accountID, func(v View) (err error) {
		h := v.Head()
		tree, err := mst.Open(h.Root, h.NextNode, v.Node)
		if err != nil {
			return err
		}
		d, err = newDraft(v, tree, ops, swapCommit)
		return err
	})
	return d, err
}

// base is the state that a change is computed on.
type base interface {
	Head() Head
	Node(l *mst.Link) (*mst.Node, error)
	BySubject(collection, subject string, limit int) (keys []string, err error)
	Blob(id cid.Cid) (BlobInfo, error)
}

// draft is a change without its commit.
type draft struct {
	was Head
	// tree is flushed.
	tree   *mst.Tree
	diff   mst.Diff
	writes []Write
	ops    []event.Op
	// blocks are the covering proof and the records.
	blocks []car.Block
	// more is by how much the number of records grows.
	more int64
	// crowds are the crowded nodes in which keys were created.
	crowds []crowd
	// unreadable: a node of the proof has more entries than consumers read.
	unreadable bool
}

// newDraft computes the effect of ops on the repository in v and its tree, nil if
// they change nothing. An op sees what the ops before it did.
func newDraft(v base, tree *mst.Tree, ops []op, swapCommit cid.Cid) (_ *draft, err error) {
	d := &draft{was: v.Head(), tree: tree}
	if len(ops) == 1 {
		if idle, err := isIdle(tree, &ops[0]); err != nil || idle {
			return nil, err
		}
	}
	if swapCommit.Defined() && !swapCommit.Equals(d.was.CID) {
		return nil, refuse(nameInvalidSwap, "Commit was at %s", d.was.CID)
	}
	if ops, err = replacing(v, ops); err != nil {
		return nil, err
	}
	var all []touched
	at := make(map[string]int, len(ops))
	for i := range ops {
		o := &ops[i]
		if err := checkBlobs(v, o); err != nil {
			return nil, err
		}
		before, err := apply(tree, o, d.was.DID)
		if err != nil {
			return nil, err
		}
		if n, ok := at[o.key()]; ok {
			all[n].last = o
			continue
		}
		at[o.key()] = len(all)
		all = append(all, touched{before, o})
	}
	d.diff = tree.Flush()
	d.crowds = crowding(d.diff.Changed, all)
	return d, d.describe(v, all)
}

// replacing puts before ops the deletes of what they replace.
func replacing(v base, ops []op) ([]op, error) {
	var older []op
	for i := range ops {
		o := &ops[i]
		if !o.replaces || o.subject == "" {
			continue
		}
		keys, err := v.BySubject(o.collection, o.subject, maxReplaced)
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			older = append(older, op{action: actionDelete, collection: o.collection, rkey: key[len(o.collection)+1:]})
		}
	}
	if older == nil {
		return ops, nil
	}
	return append(older, ops...), nil
}

// touched is a key that ops changed: the old record, undefined if there was none, and
// the last op, which decides what is there now.
type touched struct {
	before cid.Cid
	last   *op
}

// isIdle reports whether an op alone would change nothing. As in the reference, this
// succeeds whatever the client wanted to swap.
func isIdle(tree *mst.Tree, o *op) (bool, error) {
	if o.action != actionPut && o.action != actionRemove {
		return false, nil
	}
	now, err := current(tree, o.key())
	return now.Equals(o.cid), err
}

// current returns a record's CID, undefined if there is none.
func current(tree *mst.Tree, key string) (cid.Cid, error) {
	id, err := tree.Get(key)
	if errors.Is(err, mst.ErrNotFound) {
		return cid.Undef, nil
	}
	return id, err
}

// apply makes the op's change to the tree and returns the old record.
func apply(tree *mst.Tree, o *op, did syntax.DID) (before cid.Cid, err error) {
	key := o.key()
	if before, err = current(tree, key); err != nil {
		return cid.Undef, err
	}
	if o.swap != nil && !o.swap.Equals(before) {
		if !before.Defined() {
			return cid.Undef, refuse(nameInvalidSwap, "Record was at null")
		}
		return cid.Undef, refuse(nameInvalidSwap, "Record was at %s", before)
	}
	switch exists := before.Defined(); {
	case o.action == actionCreate && exists:
		return cid.Undef, refuse(nameInvalidRequest, "Record already exists: %s", o.uri(did))
	case (o.action == actionUpdate || o.action == actionDelete) && !exists:
		return cid.Undef, refuse(nameInvalidRequest, "Could not locate record: %s", o.uri(did))
	case o.block == nil:
		_, err = tree.Delete(key)
	case exists:
		_, err = tree.Update(key, o.cid)
	default:
		err = tree.Create(key, o.cid)
	}
	return before, err
}

// describe fills in what follows from the keys that were changed: one op and one
// write for each, whatever happened to it in between, since consumers of the
// event demand that no path is in it twice.
func (d *draft) describe(v base, all []touched) error {
	var keys []string
	var records []car.Block
	created := int64(0)
	for _, t := range all {
		after := t.last
		if t.before.Equals(after.cid) {
			continue // it came and went, or is unchanged
		}
		e := event.Op{Action: event.ActionUpdate, Path: after.key(), CID: after.cid, Prev: t.before}
		w := Write{Key: e.Path, CID: after.cid, Block: after.block, Subject: after.subject}
		switch {
		case !t.before.Defined():
			e.Action = event.ActionCreate
			d.more++
			created++
		case after.block == nil:
			e.Action = event.ActionDelete
			d.more--
		}
		for _, b := range after.blobs {
			w.Blobs, w.Seen = append(w.Blobs, b.cid), append(w.Seen, b.seen)
		}
		if after.block != nil {
			records = append(records, car.Block{CID: after.cid, Data: after.block})
		}
		keys, d.ops, d.writes = append(keys, e.Path), append(d.ops, e), append(d.writes, w)
	}
	if len(keys) == 0 {
		// The root alone shows that nothing was changed.
		root, err := v.Node(&d.was.Root)
		if err != nil {
			return err
		}
		d.blocks = append(d.blocks, car.Block{CID: d.was.Root.CID, Data: root.Encode()})
	}
	err := d.tree.Proof(keys, func(n mst.Changed) {
		d.blocks = append(d.blocks, car.Block{CID: n.CID, Data: n.Block})
		d.unreadable = d.unreadable || len(n.Entries) > maxReadable
	})
	if err != nil {
		return err
	}
	if d.was.Records+d.more == created {
		deletesLast(d.ops)
	}
	sent := make(map[cid.Cid]bool, len(records))
	for _, b := range records {
		if !sent[b.CID] {
			sent[b.CID] = true
			d.blocks = append(d.blocks, b)
		}
	}
	return nil
}

// deletesLast orders the ops of an event after which nothing is left but what it
// created. Undone before the deletes are, such creates empty the tree, and indigo
// then computes another root. It puts deletes first itself, but its comparison
// (NormalizeOps) finds the way to that order only from this one.
func deletesLast(ops []event.Op) {
	slices.SortStableFunc(ops, func(a, b event.Op) int {
		last := func(o event.Op) int {
			if o.Action == event.ActionDelete {
				return 1
			}
			return 0
		}
		return last(a) - last(b)
	})
}

// sign makes a change of a draft: its commit and its event.
func (s *Service) sign(accountID int64, d draft, key atcrypto.PrivateKey, now time.Time) (Change, error) {
	rev, err := s.nextRev(now, d.was.Rev)
	if err != nil {
		return Change{}, err
	}
	c := Commit{DID: d.was.DID, Data: d.diff.Root.CID, Rev: rev}
	if err := c.Sign(key); err != nil {
		return Change{}, err
	}
	block := c.Encode()
	id := dagcbor.CID(block)
	said := event.Commit{
		DID: d.was.DID, Rev: c.Rev, Commit: car.Block{CID: id, Data: block},
		Since: d.was.Rev, PrevData: d.was.Root.CID, Blocks: d.blocks, Ops: d.ops, Time: now,
	}
	removed := d.was.Removed
	if removes(d.writes) {
		removed = rev
	}
	ev := said.Event()
	if d.unreadable {
		ev = said.Sync()
	}
	return Change{
		AccountID: accountID,
		Was:       d.was.CID,
		Next: Head{
			Number: d.was.Number, DID: d.was.DID, CID: id, Rev: c.Rev, Commit: block,
			Root: d.diff.Root, NextNode: d.diff.NextID, Records: d.was.Records + d.more,
			First: cmp.Or(d.was.First, rev), Removed: removed,
		},
		Nodes: d.diff.Changed, Freed: d.diff.Freed, Writes: d.writes,
		Event: ev, At: now,
	}, nil
}

// Genesis returns the first commit of an empty repository, and its event. The caller
// sets its AccountID.
func (s *Service) Genesis(did syntax.DID, key atcrypto.PrivateKey, now time.Time) (Change, error) {
	d := draft{was: Head{DID: did}, diff: mst.NewTree(1).Flush()}
	for _, n := range d.diff.Changed {
		d.blocks = append(d.blocks, car.Block{CID: n.CID, Data: n.Block})
	}
	return s.sign(0, d, key, now)
}

// backfillStep is how many accounts Backfill handles at once: their commits share
// fsyncs.
const backfillStep = 100

// Backfill makes the first repository of each account that has none because a version
// without repositories made it. A failure for one account does not stop the others;
// the first such failure is returned at the end.
func (s *Service) Backfill(ctx context.Context) error {
	var first error
	failed := 0
	for after := int64(0); ; {
		accounts, err := s.Store.Without(ctx, after, backfillStep)
		if err != nil {
			return err
		}
		if len(accounts) == 0 {
			break
		}
		results := make([]error, len(accounts))
		var all sync.WaitGroup
		for i, a := range accounts {
			after = a.AccountID
			all.Go(func() { results[i] = s.begin(ctx, a) })
		}
		all.Wait()
		for i, err := range results {
			if err == nil || errors.Is(err, ErrConflict) || errors.Is(err, ErrNoRepo) {
				continue // made, or gone, meanwhile
			}
			if failed++; first == nil {
				first = fmt.Errorf("make repository of %s: %w", accounts[i].DID, err)
			}
		}
	}
	if failed > 1 {
		return fmt.Errorf("%d accounts; the first: %w", failed, first)
	}
	return first
}

func (s *Service) begin(ctx context.Context, a AccountHead) error {
	key, err := s.Keys.SigningKey(ctx, a.AccountID)
	if err != nil {
		return err
	}
	c, err := s.Genesis(a.DID, key, s.Now())
	if err != nil {
		return err
	}
	c.AccountID = a.AccountID
	return s.Store.Begin(ctx, c)
}
