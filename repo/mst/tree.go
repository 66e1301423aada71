package mst

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
)

// Errors of Tree.
var (
	// ErrNotFound: the tree does not hold the key.
	ErrNotFound = errors.New("no such key")
	// ErrExists: the tree holds the key already.
	ErrExists = errors.New("key exists")
)

// Tree is a tree in which a few keys are changed. It is for one goroutine.
type Tree struct {
	root   *Node
	load   Loader
	nextID int64
	freed  []int64
	// top is the last known link to the root.
	top Link
}

// NewTree returns an empty tree. Nodes get numbers from nextID on; with 0 they get
// none.
func NewTree(nextID int64) *Tree {
	t := &Tree{nextID: nextID}
	t.root = t.newNode(0)
	return t
}

// Open returns the tree below root. Nodes that change get numbers from nextID on;
// with 0 they get none.
func Open(root Link, nextID int64, load Loader) (*Tree, error) {
	n, err := load(&root)
	if err != nil {
		return nil, err
	}
	if err := n.placeRoot(); err != nil {
		return nil, err
	}
	return &Tree{root: n, load: load, nextID: nextID, top: root}, nil
}

// LoadWith makes the tree load nodes with load from now on.
func (t *Tree) LoadWith(load Loader) { t.load = load }

func (t *Tree) newNode(layer int) *Node { return &Node{layer: layer, dirty: true} }

// free notes that a node's number is gone.
func (t *Tree) free(n *Node) {
	if n.ID > 0 {
		t.freed = append(t.freed, n.ID)
	}
}

// gap returns the place of key in a node: the index of the first entry that is not
// before it, and whether that is the key itself.
func (n *Node) gap(key string) (int, bool) {
	return slices.BinarySearchFunc(n.Entries, key, func(e Entry, key string) int {
		switch {
		case e.Key < key:
			return -1
		case e.Key > key:
			return 1
		default:
			return 0
		}
	})
}

// slot returns the link before the entry at index i.
func (n *Node) slot(i int) **Link {
	if i == 0 {
		return &n.Left
	}
	return &n.Entries[i-1].Right
}

// into loads the child in a slot for reading.
func (t *Tree) into(n *Node, l *Link) (*Node, error) {
	c, err := child(l, n.layer-1, t.load)
	if err != nil {
		return nil, err
	}
	l.node = c
	return c, nil
}

// Get returns the value of a key, or ErrNotFound.
func (t *Tree) Get(key string) (cid.Cid, error) {
	for n := t.root; ; {
		i, found := n.gap(key)
		if found {
			return n.Entries[i].Value, nil
		}
		l := *n.slot(i)
		if l == nil {
			return cid.Undef, ErrNotFound
		}
		var err error
		if n, err = t.into(n, l); err != nil {
			return cid.Undef, err
		}
	}
}

// Create adds a key, or returns ErrExists.
func (t *Tree) Create(key string, value cid.Cid) error {
	switch _, err := t.Get(key); {
	case err == nil:
		return ErrExists
	case !errors.Is(err, ErrNotFound):
		return err
	}
	if key == "" || len(key) > MaxKey {
		return fmt.Errorf("%w: key of %d bytes", ErrNode, len(key))
	}
	layer := Layer(key)
	if len(t.root.Entries) == 0 {
		t.root.layer = layer
	}
	if layer > t.root.layer {
		return t.grow(key, value, layer)
	}
	n := t.root
	for n.dirty = true; n.layer > layer; n.dirty = true {
		i, _ := n.gap(key)
		slot := n.slot(i)
		if *slot == nil {
			*slot = &Link{node: t.newNode(n.layer - 1)}
		}
		next, err := t.into(n, *slot)
		if err != nil {
			return err
		}
		n = next
	}
	i, _ := n.gap(key)
	left, right, err := t.split(n, *n.slot(i), key)
	if err != nil {
		return err
	}
	*n.slot(i) = left
	n.Entries = slices.Insert(n.Entries, i, Entry{Key: key, Value: value, Right: right})
	return nil
}

// grow puts a new root, which holds key alone, above the tree.
func (t *Tree) grow(key string, value cid.Cid, layer int) error {
	top := &Node{layer: t.root.layer + 1}
	left, right, err := t.split(top, &Link{CID: t.top.CID, ID: t.root.ID, node: t.root}, key)
	if err != nil {
		return err
	}
	raise := func(l *Link) *Link {
		for l != nil && l.node.layer < layer-1 {
			up := t.newNode(l.node.layer + 1)
			up.Left = l
			l = &Link{node: up}
		}
		return l
	}
	t.root = t.newNode(layer)
	t.root.Left = raise(left)
	t.root.Entries = []Entry{{Key: key, Value: value, Right: raise(right)}}
	return nil
}

// split divides the subtree that a link in n leads to into what lies before key
// and what lies behind it. The first part keeps the node if both exist.
func (t *Tree) split(n *Node, l *Link, key string) (left, right *Link, err error) {
	if l == nil {
		return nil, nil, nil
	}
	c, err := t.into(n, l)
	if err != nil {
		return nil, nil, err
	}
	i, _ := c.gap(key)
	below, above, err := t.split(c, *c.slot(i), key)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case i == len(c.Entries) && above == nil:
		return l, nil, nil // the whole subtree lies before
	case i == 0 && below == nil:
		return nil, l, nil // the whole subtree lies behind
	}
	rest := t.newNode(c.layer)
	rest.Left, rest.Entries = above, slices.Clone(c.Entries[i:])
	c.dirty = true
	c.Entries = c.Entries[:i:i]
	*c.slot(i) = below
	return l, &Link{node: rest}, nil
}

// Update replaces the value of a key and returns the old one, or ErrNotFound.
func (t *Tree) Update(key string, value cid.Cid) (cid.Cid, error) {
	if _, err := t.Get(key); err != nil {
		return cid.Undef, err
	}
	for n := t.root; ; {
		n.dirty = true
		i, found := n.gap(key)
		if found {
			was := n.Entries[i].Value
			n.Entries[i].Value = value
			return was, nil
		}
		n = (*n.slot(i)).node // loaded by Get
	}
}

// Delete removes a key and returns its value, or ErrNotFound.
func (t *Tree) Delete(key string) (cid.Cid, error) {
	was, err := t.Get(key)
	if err != nil {
		return cid.Undef, err
	}
	if err := t.remove(t.root, key); err != nil {
		return cid.Undef, err
	}
	for len(t.root.Entries) == 0 && t.root.Left != nil {
		next, err := t.into(t.root, t.root.Left)
		if err != nil {
			return cid.Undef, err
		}
		t.free(t.root)
		t.top, t.root = *t.root.Left, next
	}
	return was, nil
}

// remove takes key, which Get has found, out of the subtree of n.
func (t *Tree) remove(n *Node, key string) error {
	n.dirty = true
	i, found := n.gap(key)
	if found {
		merged, err := t.merge(n, *n.slot(i), n.Entries[i].Right)
		if err != nil {
			return err
		}
		n.Entries = slices.Delete(n.Entries, i, i+1)
		*n.slot(i) = merged
		return nil
	}
	slot := n.slot(i)
	c := (*slot).node
	if err := t.remove(c, key); err != nil {
		return err
	}
	if len(c.Entries) == 0 && c.Left == nil {
		t.free(c)
		*slot = nil
	}
	return nil
}

// merge joins two neighbouring subtrees below n.
func (t *Tree) merge(n *Node, left, right *Link) (*Link, error) {
	switch {
	case left == nil:
		return right, nil
	case right == nil:
		return left, nil
	}
	a, err := t.into(n, left)
	if err != nil {
		return nil, err
	}
	b, err := t.into(n, right)
	if err != nil {
		return nil, err
	}
	end := a.slot(len(a.Entries))
	if *end, err = t.merge(a, *end, b.Left); err != nil {
		return nil, err
	}
	a.dirty = true
	a.Entries = append(a.Entries, b.Entries...)
	t.free(b)
	return left, nil
}

// Changed is a node that Flush found changed.
type Changed struct {
	*Node

	// ID and Links are the numbers of the node and of its children, in order, in this
	// state of the tree: the Node changes with the tree.
	ID    int64
	Links []int64
	CID   cid.Cid
	Block []byte
}

// changed describes a node whose links are complete.
func changed(n *Node) Changed {
	block := n.Encode()
	c := Changed{Node: n, ID: n.ID, CID: dagcbor.CID(block), Block: block}
	if n.ID == 0 {
		return c
	}
	add := func(l *Link) {
		if l != nil {
			c.Links = append(c.Links, l.ID)
		}
	}
	add(n.Left)
	for i := range n.Entries {
		add(n.Entries[i].Right)
	}
	return c
}

// Diff is the sum of the changes since Open, or since the previous Flush.
type Diff struct {
	// Root leads to the root.
	Root Link
	// Changed are the nodes that are new or different, children first, with consecutive
	// new numbers: nodes that change together, mostly a path, are stored together, and
	// the next change of the path finds them in one place.
	Changed []Changed
	// Freed are the numbers of nodes that are gone, or have a new one.
	Freed []int64
	// NextID is the number that the next new node would get.
	NextID int64
}

// Flush computes the CIDs of the changed nodes.
func (t *Tree) Flush() Diff {
	var d Diff
	if t.root.dirty {
		t.top = t.flush(t.root, &d)
	}
	d.Root = Link{CID: t.top.CID, ID: t.top.ID}
	d.Freed, d.NextID, t.freed = t.freed, t.nextID, nil
	return d
}

// flush returns a link to n. Like its CID, a node's number changes with it.
func (t *Tree) flush(n *Node, d *Diff) Link {
	for _, l := range n.Children() {
		if l != nil && l.node != nil && l.node.dirty {
			*l = t.flush(l.node, d)
		}
	}
	n.dirty = false
	t.free(n)
	if n.ID = t.nextID; t.nextID > 0 {
		t.nextID++
	}
	c := changed(n)
	d.Changed = append(d.Changed, c)
	return Link{CID: c.CID, ID: n.ID, node: n}
}

// Proof calls visit, once each, for the nodes that prove what the tree holds of keys
// and that are needed to undo a change of them: for each key the path to its place,
// and if the tree holds it, the paths to its neighbours
// (https://atproto.com/specs/sync#commit-validation). The tree must be flushed.
func (t *Tree) Proof(keys []string, visit func(Changed)) error {
	seen := map[*Node]bool{}
	for _, key := range keys {
		err := t.around(key, func(n *Node) {
			if !seen[n] {
				seen[n] = true
				visit(changed(n))
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Trim forgets the nodes that were loaded or changed, except those that Proof visits
// for a key; forgotten nodes are loaded again when needed. It returns about how many
// bytes of memory the kept nodes take. The tree must be flushed.
func (t *Tree) Trim(key string) (size int, err error) {
	keep := map[*Node]bool{}
	if err := t.around(key, func(n *Node) { keep[n] = true }); err != nil {
		return 0, err
	}
	for n := range keep {
		size += n.memory()
		for _, l := range n.Children() {
			if l != nil && !keep[l.node] {
				l.node = nil
			}
		}
	}
	return size, nil
}

// around calls show for the nodes of the path to a key, and to its neighbours.
func (t *Tree) around(key string, show func(*Node)) error {
	for n := t.root; ; {
		show(n)
		i, found := n.gap(key)
		if found {
			return errors.Join(t.spine(n, *n.slot(i), true, show), t.spine(n, n.Entries[i].Right, false, show))
		}
		l := *n.slot(i)
		if l == nil {
			return nil
		}
		var err error
		if n, err = t.into(n, l); err != nil {
			return err
		}
	}
}

// spine calls show for the nodes along the last, or first, links of a subtree.
func (t *Tree) spine(n *Node, l *Link, last bool, show func(*Node)) error {
	for l != nil {
		c, err := t.into(n, l)
		if err != nil {
			return err
		}
		show(c)
		n, l = c, c.Left
		if last {
			l = *c.slot(len(c.Entries))
		}
	}
	return nil
}
