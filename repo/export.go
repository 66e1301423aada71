package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
	"nestbox/internal/gate"
	"nestbox/repo/mst"
)

const (
	// maxArena bounds the tree nodes that an export keeps in memory, in bytes;
	// others are looked up, which takes longer.
	maxArena = 4 << 20
	// arenaRecords is the number of records up to which the nodes are likely to fit.
	arenaRecords = 30_000
)

// Transfers are the settings and the state of exports and imports.
type Transfers struct {
	// TempDir holds files while they are sent or received; empty means os.TempDir. A
	// large repository needs its size there.
	TempDir string
	// MaxImport bounds what an import reads and what it stores, in bytes; 0 means
	// DefaultMaxImport.
	MaxImport int64
	// ImportGrace is how long a client's import may take beside the time that
	// importPace gives its file; 0 means DefaultImportGrace.
	ImportGrace time.Duration
	// NoImports refuses importRepo.
	NoImports bool
	// MaxSpool bounds what the files being sent take in TempDir, in bytes; 0 means
	// DefaultMaxSpool. Free returns what is free there; if it is set, they also take at
	// most half of that.
	MaxSpool int64
	Free     func() (int64, error)

	places  gate.Places[string] // of downloads, by client network
	room    gate.Budget         // what the files that are being sent take on disk
	shelf   shelf
	scratch sync.Pool // of *exporter
	spools  sync.Pool // of *spool
	imports imports
	// received are the files of Receive, which wait for their owner.
	received imports
}

// errInconsistent: tree and records of a repository do not agree. The text names the
// place.
var errInconsistent = errors.New("repository is inconsistent")

// Export writes an account's repository to w as a CAR file
// (https://atproto.com/specs/repository#car-file-serialization), in the order of
// the section on streamable CAR files: the commit, then the tree depth first,
// each node before its children and records, in the order in which it lists them. A
// block that is twice in the tree is twice in the file. Export reads the repository
// before it writes, so w may be slow. It is for the operator: no limit of downloads
// applies. Errors: ErrNoRepo, those of w.
func (s *Service) Export(ctx context.Context, a Account, w io.Writer) error {
	file, err := s.export(ctx, a, "", false)
	if err != nil {
		return err
	}
	defer file.close()
	return file.send(w, func(int64) error { return ctx.Err() })
}

// export makes the CAR file: all of the repository, or, with since, what commits
// after that revision wrote. It always contains the commit. limited is as in spool.
func (s *Service) export(ctx context.Context, a Account, since syntax.TID, limited bool) (*spool, error) {
	out := s.newSpool(false)
	if limited {
		out = s.paidSpool(ctx)
	}
	return out.made(s.Store.Scan(ctx, a.ID, func(v View) error {
		e, ok := s.scratch.Get().(*exporter)
		if !ok {
			e = &exporter{nodes: map[int64]kept{}}
		}
		defer func() {
			e.reset()
			s.scratch.Put(e)
		}()
		e.view, e.since, e.out = v, since, out
		if err := e.run(); err != nil {
			return fmt.Errorf("export %s: %w", a.DID, err)
		}
		return nil
	}))
}

// exporter goes through the tree node by node and, in step with it, through the
// records by key, which is the tree's order.
type exporter struct {
	view  View
	since syntax.TID
	out   *spool

	// nodes are the nodes kept in arena and links; others are looked up.
	nodes map[int64]kept
	arena []byte
	links []int64
	// written has a bit for each node that since lets through.
	written []uint64

	path  [mst.MaxLayer + 1]level // the first depth levels are in use
	depth int
}

// kept is where a node is: its block in arena, its children's numbers in links.
type kept struct{ block, blockEnd, link, linkEnd int }

// level is a node on the path, and what of it is still to come. The next node at this
// level reuses its memory.
type level struct {
	slots []slot
	keys  []byte
	next  int
}

// slot is a record or a child of a node, in the order in which it lists them.
// Its bytes are part of the node's block and of its level's keys.
type slot struct {
	key   []byte // of a record
	id    []byte // CID
	child int64  // the number of a child; 0 for a record
}

// maxLevel is how many bytes of memory for keys a level keeps for the next export:
// larger memory is given up.
const maxLevel = 64 << 10

// reset forgets everything but the memory, and that too if nodes were large.
func (e *exporter) reset() {
	for i := range e.path {
		if l := &e.path[i]; cap(l.keys) > maxLevel {
			*l = level{}
		}
	}
	clear(e.nodes)
	e.view, e.out, e.since, e.depth = nil, nil, "", 0
	e.arena, e.links, e.written = e.arena[:0], e.links[:0], e.written[:0]
}

func (e *exporter) run() error {
	head := e.view.Head()
	e.out.header(head.CID)
	if err := e.out.block(head.CID, head.Commit); err != nil {
		return err
	}
	if e.since >= head.Rev {
		return nil
	}
	if e.since != "" || head.Records <= arenaRecords {
		if err := e.view.EachNode(e.since, e.keep); err != nil {
			return err
		}
	}
	if err := e.enter(slot{id: head.Root.CID.Bytes(), child: head.Root.ID}); err != nil {
		return err
	}
	if err := e.view.EachRecord(e.since, e.record); err != nil {
		return err
	}
	for {
		at, more, err := e.advance()
		if err != nil || !more {
			return err
		}
		if e.since == "" {
			return fmt.Errorf("%w: record %s is missing", errInconsistent, at.key)
		}
	}
}

// keep puts a node into the arena, as long as there is room.
func (e *exporter) keep(id int64, children []int64, block []byte) error {
	if e.since != "" {
		for int(id/64) >= len(e.written) {
			e.written = append(e.written, 0)
		}
		e.written[id/64] |= 1 << (id % 64)
	}
	if len(e.arena)+len(block) > maxArena {
		return nil
	}
	k := kept{block: len(e.arena), link: len(e.links)}
	e.arena, e.links = append(e.arena, block...), append(e.links, children...)
	k.blockEnd, k.linkEnd = len(e.arena), len(e.links)
	e.nodes[id] = k
	return nil
}

// record writes what comes before a record, and the record.
func (e *exporter) record(r Record) error {
	for {
		at, more, err := e.advance()
		switch {
		case err != nil:
			return err
		case !more || string(at.key) > r.Key:
			return fmt.Errorf("%w: the tree lacks record %s", errInconsistent, r.Key)
		case string(at.key) < r.Key && e.since == "":
			return fmt.Errorf("%w: record %s is missing", errInconsistent, at.key)
		case string(at.key) < r.Key:
			continue // written before since
		case string(at.id) != r.CID.KeyString():
			return fmt.Errorf("%w: record %s is %s, in the tree %x", errInconsistent, r.Key, r.CID, at.id)
		}
		return e.out.block(r.CID, r.Block)
	}
}

// advance writes nodes up to the next record of the tree, and returns its slot.
func (e *exporter) advance() (at slot, more bool, err error) {
	for e.depth > 0 {
		l := &e.path[e.depth-1]
		if l.next == len(l.slots) {
			e.depth--
			continue
		}
		at := l.slots[l.next]
		l.next++
		if at.child == 0 {
			return at, true, nil
		}
		if err := e.enter(at); err != nil {
			return slot{}, false, err
		}
	}
	return slot{}, false, nil
}

// enter writes a node and puts it on the path, unless it was not written after since:
// then nothing below it was, either.
func (e *exporter) enter(at slot) error {
	if e.since != "" && !e.wasWritten(at.child) {
		return nil
	}
	if e.depth == len(e.path) {
		return fmt.Errorf("%w: the tree is deeper than any tree", errInconsistent)
	}
	block, children, err := e.node(at)
	if err != nil {
		return err
	}
	l := &e.path[e.depth]
	e.depth++
	if err := l.read(block, children); err != nil {
		return fmt.Errorf("node %d: %w", at.child, err)
	}
	return e.out.rawBlock(at.id, block)
}

func (e *exporter) wasWritten(id int64) bool {
	return int(id/64) < len(e.written) && e.written[id/64]&(1<<(id%64)) != 0
}

// node returns a node's block and its children's numbers.
func (e *exporter) node(at slot) (block []byte, children []int64, err error) {
	if k, ok := e.nodes[at.child]; ok {
		return e.arena[k.block:k.blockEnd], e.links[k.link:k.linkEnd], nil
	}
	id, err := cid.Cast(at.id)
	if err != nil {
		return nil, nil, fmt.Errorf("node %d: %w", at.child, err)
	}
	n, err := e.view.Node(&mst.Link{CID: id, ID: at.child})
	if err != nil {
		return nil, nil, err
	}
	for _, l := range n.Children() {
		if l != nil {
			children = append(children, l.ID)
		}
	}
	return n.Encode(), children, nil
}

// read reads what a node lists, with the numbers of its children. The node was
// checked when it was written: mst.Decode would hash each key once more.
func (l *level) read(block []byte, children []int64) error {
	r := dagcbor.NewReader(block)
	// What lies left of the first key is listed first, and comes last in the block.
	slots, keys := l.slots[:0], l.keys[:0]
	slots = append(slots, slot{})
	var key []byte
	r.Map()
	r.Field("e")
	for range r.Array() {
		r.Map()
		r.Field("k")
		suffix := r.Bytes()
		r.Field("p")
		shared := r.Int()
		r.Field("t")
		right := slot{child: -1}
		if !r.Null() {
			right.id = r.LinkBytes()
		}
		r.Field("v")
		value := r.LinkBytes()
		if r.Err() != nil {
			return r.Err()
		}
		if shared < 0 || shared > int64(len(key)) {
			return fmt.Errorf("%w: a key shares %d bytes with one of %d", errInconsistent, shared, len(key))
		}
		at := len(keys)
		keys = append(append(keys, key[:shared]...), suffix...)
		key = keys[at:]
		slots = append(slots, slot{key: key, id: value})
		if right.id != nil {
			slots = append(slots, right)
		}
	}
	r.Field("l")
	l.next = 1
	if !r.Null() {
		slots[0] = slot{id: r.LinkBytes(), child: -1}
		l.next = 0
	}
	r.End()
	for i := l.next; i < len(slots); i++ {
		if slots[i].child == 0 {
			continue
		}
		if len(children) == 0 {
			return fmt.Errorf("%w: a child has no number", errInconsistent)
		}
		slots[i].child, children = children[0], children[1:]
	}
	l.slots, l.keys = slots, keys
	return r.Err()
}
