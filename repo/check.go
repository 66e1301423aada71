package repo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
	"nestbox/lexicon"
	"nestbox/repo/mst"
)

// Rows are a repository as a store keeps it, with what the store derives from
// the records.
type Rows interface {
	Head() Head
	// Node is an mst.Loader. A node that is damaged is an error.
	Node(l *mst.Link) (*mst.Node, error)
	// EachNumber calls yield with the number of each node, ascending.
	EachNumber(yield func(id int64) error) error
	// EachRow calls yield for each record, by key, with what the store has
	// derived from it. A damaged CID is undefined. yield may keep only the record's key
	// and CID.
	EachRow(yield func(Record, Derived) error) error
}

// Checker checks a repository against itself, in the memory of one path of the
// tree and a few bytes a node.
type Checker struct {
	Lexicons *lexicon.Catalogue
	// Key verifies the account's commits; nil if it is not known.
	Key atcrypto.PublicKey
	// Report is called for each fault.
	Report func(fault string)
	// Odd, if set, is called for each record that could not be written here.
	Odd func(key string, why error)
	// Progress, if set, is called for every 100,000th record.
	Progress func(records int64)
}

// Checked is what a check found.
type Checked struct {
	Records int64
	// Odd is how many of them could not be written here: they came with an import,
	// and are kept as they are.
	Odd int64
	// Tree means that the nodes are exactly those of the commit's tree.
	Tree bool
	// Differ means that the tree and the records do not name the same records.
	Differ bool
}

// Check checks everything that a repository holds: its commit and the signature; the
// tree, walked from its root; that the tree names each record that is there, and no
// other; each record, and the blobs that it refers to; that the records alone make
// the tree that was signed. An error means that the check could not be done.
func (c *Checker) Check(ctx context.Context, rows Rows) (Checked, error) {
	head := rows.Head()
	data := head.Root.CID
	if commit := c.commit(head); commit != nil {
		data = commit.Data
	}
	records := c.records(ctx, rows)
	defer records.stop()
	tree, err := c.tree(rows, records)
	if err != nil {
		return Checked{}, err
	}
	out := Checked{Records: records.count, Odd: records.odd, Tree: tree && head.Root.CID.Equals(data)}
	out.Differ = records.differ
	if records.differ || records.unsorted {
		return out, nil // why the trees differ was reported
	}
	root, err := records.builder.Finish()
	if err != nil {
		return Checked{}, err
	}
	if !root.CID.Equals(data) {
		c.Report(fmt.Sprintf("its records make the tree %s, the commit has %s", root.CID, data))
	}
	return out, nil
}

// commit checks the head, and returns the commit if its block is the right one.
func (c *Checker) commit(head Head) *Commit {
	if id := dagcbor.CID(head.Commit); !id.Equals(head.CID) {
		c.Report(fmt.Sprintf("commit %s: its block is %s", head.CID, id))
		return nil
	}
	commit, err := DecodeCommit(head.Commit)
	if err != nil {
		c.Report(fmt.Sprintf("commit %s: %v", head.CID, err))
		return nil
	}
	if commit.DID != head.DID {
		c.Report(fmt.Sprintf("commit %s: it is of %s", head.CID, commit.DID))
	}
	if commit.Rev != head.Rev {
		c.Report(fmt.Sprintf("commit %s: its revision is %s, the repository's %s", head.CID, commit.Rev, head.Rev))
	}
	if !commit.Data.Equals(head.Root.CID) {
		c.Report(fmt.Sprintf("commit %s: its tree is %s, the repository's %s", head.CID, commit.Data, head.Root.CID))
	}
	if c.Key != nil {
		if err := commit.Verify(c.Key); err != nil {
			c.Report(fmt.Sprintf("commit %s: %v", head.CID, err))
		}
	}
	return commit
}

// tree walks the tree beside the records, and reports whether the nodes are exactly
// the tree's.
func (c *Checker) tree(rows Rows, records *recordRows) (sound bool, err error) {
	var numbers []uint32
	w := mst.Walker{
		Load: rows.Node,
		Node: func(l *mst.Link, _ *mst.Node) error {
			numbers = append(numbers, uint32(l.ID)) //nolint:gosec // a node was found by it
			return nil
		},
		Entry: records.match,
	}
	walk := w.Walk(rows.Head().Root)
	if walk != nil && records.err == nil {
		c.Report(fmt.Sprintf("tree: %v", walk))
	}
	for records.more { // those behind the last key of the tree
		if walk == nil {
			records.surplus()
		}
		records.advance()
	}
	if records.err != nil || walk != nil {
		return false, records.err
	}
	sound = true
	slices.Sort(numbers)
	err = rows.EachNumber(func(id int64) error {
		if _, ok := slices.BinarySearch(numbers, uint32(id)); !ok { //nolint:gosec // 32 bits, as above
			c.Report(fmt.Sprintf("node %d belongs to no tree", id))
			sound = false
		}
		return nil
	})
	return sound, err
}

// recordRows are the records, one after the other beside a walk of the tree.
type recordRows struct {
	checker *Checker
	builder mst.Builder
	next    func() (Record, Derived, bool)
	stop    func()
	ctx     context.Context //nolint:containedctx // for the time of one check

	now   Record // the key and the CID of the record to match
	more  bool
	count int64
	odd   int64
	forms recordChecker
	// differ: the tree and the records differ, and that was reported. unsorted: no tree
	// can be made of the records.
	differ, unsorted bool
	// err is why the check could not be done.
	err error
}

// errStop ends a loop over rows.
var errStop = errors.New("stop")

// records begins with the first one.
func (c *Checker) records(ctx context.Context, rows Rows) *recordRows {
	r := &recordRows{checker: c, ctx: ctx, builder: mst.Builder{Emit: func(mst.Changed) error { return nil }}}
	r.next, r.stop = iter.Pull2(func(yield func(Record, Derived) bool) {
		err := rows.EachRow(func(rec Record, kept Derived) error {
			if !yield(rec, kept) {
				return errStop
			}
			return nil
		})
		if !errors.Is(err, errStop) {
			r.err = err
		}
	})
	r.advance()
	return r
}

// advance checks the next record for itself and leaves it to be matched.
func (r *recordRows) advance() {
	rec, kept, more := r.next()
	if r.more = more && r.ctx.Err() == nil; !r.more {
		if r.err == nil {
			r.err = r.ctx.Err()
		}
		return
	}
	r.now = Record{Key: rec.Key, CID: rec.CID}
	if r.count++; r.count%importNews == 0 && r.checker.Progress != nil {
		r.checker.Progress(r.count)
	}
	r.compare(rec, kept)
	if r.unsorted || !rec.CID.Defined() {
		r.unsorted = true
	} else if err := r.builder.Add(rec.Key, rec.CID); err != nil {
		r.fault("%v", err)
		r.unsorted = true
	}
}

// compare compares what follows from the record with what the store has derived.
func (r *recordRows) compare(rec Record, kept Derived) {
	want, err := r.checker.derive(&r.forms, rec)
	if err != nil {
		r.fault("%v", err)
		return
	}
	if want.Odd != nil {
		r.odd++
		if r.checker.Odd != nil {
			r.checker.Odd(rec.Key, want.Odd)
		}
	}
	if !slices.Equal(want.Blobs, kept.Blobs) {
		r.fault("it refers to the blobs %q, the index says %q", want.Blobs, kept.Blobs)
	}
	if want.Subject != kept.Subject {
		r.fault("its subject is %q, the index says %q", want.Subject, kept.Subject)
	}
}

// fault reports what is wrong with the record.
func (r *recordRows) fault(format string, args ...any) {
	r.checker.Report(fmt.Sprintf("record %s: ", r.now.Key) + fmt.Sprintf(format, args...))
}

// surplus reports that the tree lacks the record.
func (r *recordRows) surplus() {
	r.fault("the tree does not have it")
	r.differ = true
}

// match compares the records with the tree's next key.
func (r *recordRows) match(key string, value cid.Cid) error {
	for r.more && r.now.Key < key {
		r.surplus()
		r.advance()
	}
	switch {
	case r.err != nil:
		return r.err
	case !r.more || r.now.Key > key:
		r.checker.Report(fmt.Sprintf("record %s: it is missing, the tree has %s", key, value))
		r.differ = true
		return nil
	case !r.now.CID.Equals(value):
		r.fault("the tree has %s, its row says %s", value, r.now.CID)
		r.differ = true
	}
	r.advance()
	return nil
}

// Derive returns what follows from a record. Its error names the fault of the record.
func (c *Checker) Derive(r Record) (Derived, error) { return c.derive(&recordChecker{}, r) }

// Deriver returns a Derive for many records of one repository, for one goroutine.
func (c *Checker) Deriver() func(Record) (Derived, error) {
	forms := &recordChecker{}
	return func(r Record) (Derived, error) { return c.derive(forms, r) }
}

func (c *Checker) derive(forms *recordChecker, r Record) (Derived, error) {
	if id := dagcbor.CID(r.Block); !id.Equals(r.CID) {
		return Derived{}, fmt.Errorf("its block is %s, its row says %s", id, r.CID)
	}
	if err := forms.key(r.Key); err != nil {
		return Derived{}, err
	}
	record, odd := decodeRecord(r.Block)
	blobs, subject, many := derive(c.Lexicons, forms.collection, record)
	out := Derived{Subject: subject}
	for _, id := range blobs {
		out.Blobs = append(out.Blobs, id.String())
	}
	slices.Sort(out.Blobs)
	if out.Odd = odd; odd == nil {
		out.Odd = many
	}
	return out, nil
}
