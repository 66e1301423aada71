package mst

import (
	"fmt"

	"github.com/ipfs/go-cid"
)

// Walker goes through a tree in order.
type Walker struct {
	Load Loader
	// Node, if set, is called for each node before the nodes below it.
	Node func(l *Link, n *Node) error
	// Entry, if set, is called for each key, in ascending order.
	Entry func(key string, value cid.Cid) error

	last string
}

// Walk visits the tree below root, depth first: a node, the subtree left of its first
// key, the key, the subtree right of it, and so on. It holds one path in memory and
// stops at the first error. It checks order, layers and links, so a walk of foreign
// nodes takes time proportional to the number of keys.
func (w *Walker) Walk(root Link) error {
	n, err := w.Load(&root)
	if err != nil {
		return err
	}
	if err := n.placeRoot(); err != nil {
		return err
	}
	w.last = ""
	return w.walk(&root, n)
}

func (w *Walker) walk(l *Link, n *Node) error {
	if w.Node != nil {
		if err := w.Node(l, n); err != nil {
			return err
		}
	}
	if err := w.below(n, n.Left); err != nil {
		return err
	}
	for _, e := range n.Entries {
		if e.Key <= w.last {
			return broken("key %q does not follow %q", e.Key, w.last)
		}
		w.last = e.Key
		if w.Entry != nil {
			if err := w.Entry(e.Key, e.Value); err != nil {
				return err
			}
		}
		if err := w.below(n, e.Right); err != nil {
			return err
		}
	}
	return nil
}

// below walks a child. It recurses at most MaxLayer deep, since each child lies
// a layer below its parent.
func (w *Walker) below(n *Node, l *Link) error {
	if l == nil {
		return nil
	}
	c, err := child(l, n.layer-1, w.Load)
	if err != nil {
		return err
	}
	before := w.last
	if err := w.walk(l, c); err != nil {
		return err
	}
	if w.last == before {
		return broken("a subtree holds no key")
	}
	return nil
}

// Builder makes a tree from keys in ascending order.
type Builder struct {
	// NextID is the number of the next node; with 0 nodes get none.
	NextID int64
	// Emit is called for each node when it is complete, children before their
	// parent, the root last.
	Emit func(Changed) error

	levels []*Node
	last   string
}

// Add adds the next key.
func (b *Builder) Add(key string, value cid.Cid) error {
	if key <= b.last || len(key) > MaxKey {
		return fmt.Errorf("%w: key %q does not follow %q", ErrNode, key, b.last)
	}
	b.last = key
	layer := Layer(key)
	for len(b.levels) <= layer {
		b.levels = append(b.levels, nil)
	}
	left, err := b.complete(layer)
	if err != nil {
		return err
	}
	n := b.levels[layer]
	if n == nil {
		n = b.newNode(layer)
		b.levels[layer] = n
	}
	if left != nil {
		*n.slot(len(n.Entries)) = left
	}
	n.Entries = append(n.Entries, Entry{Key: key, Value: value})
	return nil
}

func (b *Builder) newNode(layer int) *Node {
	n := &Node{layer: layer, ID: b.NextID}
	if b.NextID > 0 {
		b.NextID++
	}
	return n
}

// complete emits the open nodes below layer and returns the link to them.
func (b *Builder) complete(layer int) (*Link, error) {
	var below *Link
	for i := range layer {
		n := b.levels[i]
		if n == nil && below == nil {
			continue
		}
		if n == nil {
			n = b.newNode(i)
		}
		if below != nil {
			*n.slot(len(n.Entries)) = below
		}
		b.levels[i] = nil
		l, err := b.emit(n)
		if err != nil {
			return nil, err
		}
		below = l
	}
	return below, nil
}

func (b *Builder) emit(n *Node) (*Link, error) {
	c := changed(n)
	return &Link{CID: c.CID, ID: n.ID}, b.Emit(c)
}

// Finish emits the rest, the root last, and returns the link to it.
func (b *Builder) Finish() (Link, error) {
	if len(b.levels) == 0 {
		l, err := b.emit(b.newNode(0))
		if err != nil {
			return Link{}, err
		}
		return *l, nil
	}
	l, err := b.complete(len(b.levels))
	if err != nil {
		return Link{}, err
	}
	return *l, nil
}
