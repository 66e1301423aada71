package mst

import (
	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
)

// maxLooseDepth is how deep the nodes of a loose tree may be nested: twice what any
// tree in canonical form can be.
const maxLooseDepth = 2 * MaxLayer

// DecodeLoose is Decode for a node of a tree that need not be in canonical form:
// its keys ascend, but may be of any layer, and it may be of any size.
func DecodeLoose(block []byte) (*Node, error) {
	r := dagcbor.NewReader(block)
	n := &Node{layer: -1}
	if fields := r.Map(); r.Err() == nil && fields != 2 {
		return nil, broken("%d fields", fields)
	}
	r.Field("e")
	count := r.Array()
	n.Entries = make([]Entry, 0, min(count, 64))
	last := ""
	for i := range count {
		e, err := decodeEntry(r, last)
		if err != nil {
			return nil, err
		}
		if i > 0 && e.Key <= last {
			return nil, broken("key %q does not follow %q", e.Key, last)
		}
		n.Entries = append(n.Entries, e)
		last = e.Key
	}
	r.Field("l")
	n.Left = decodeLink(r)
	r.End()
	if err := r.Err(); err != nil {
		return nil, err
	}
	return n, n.checkLinks()
}

// LooseWalker goes through a tree that need not be in canonical form: a root without
// keys, empty nodes, keys in nodes of another layer. The keys it finds are those that
// a Builder makes the canonical tree of.
type LooseWalker struct {
	// Load returns the node of a CID, as DecodeLoose made it.
	Load func(id cid.Cid) (*Node, error)
	// Entry is called for each key, in ascending order.
	Entry func(key string, value cid.Cid) error
	// MaxNodes bounds the nodes that are visited: a node without keys may be linked
	// from any number of places.
	MaxNodes int
	// MaxMemory, if set, bounds what the nodes of one path take in memory, in bytes:
	// nodes may be large on purpose.
	MaxMemory int

	last  string
	nodes int
	held  int // bytes that the nodes on the path take
}

// Walk visits the tree below root and stops at the first error: ErrNode if keys do
// not ascend, or nodes are nested too deep or are too many.
func (w *LooseWalker) Walk(root cid.Cid) error {
	w.last, w.nodes, w.held = "", 0, 0
	return w.walk(root, 0)
}

func (w *LooseWalker) walk(id cid.Cid, depth int) error {
	if depth > maxLooseDepth {
		return broken("nodes are nested more than %d deep", maxLooseDepth)
	}
	if w.nodes++; w.nodes > w.MaxNodes {
		return broken("the tree links to nodes more than %d times", w.MaxNodes)
	}
	n, err := w.Load(id)
	if err != nil {
		return err
	}
	if w.MaxMemory > 0 {
		size := n.memory()
		if w.held += size; w.held > w.MaxMemory {
			return broken("the nodes above a key take more than %d bytes", w.MaxMemory)
		}
		defer func() { w.held -= size }()
	}
	if n.Left != nil {
		if err := w.walk(n.Left.CID, depth+1); err != nil {
			return err
		}
	}
	for _, e := range n.Entries {
		if e.Key <= w.last {
			return broken("key %q does not follow %q", e.Key, w.last)
		}
		w.last = e.Key
		if err := w.Entry(e.Key, e.Value); err != nil {
			return err
		}
		if e.Right != nil {
			if err := w.walk(e.Right.CID, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}
