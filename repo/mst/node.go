package mst

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
)

const (
	// MaxLayer is the highest layer that a key can have: every bit of its hash
	// is zero.
	MaxLayer = sha256.Size * 8 / 2
	// MaxKey is the longest key in bytes.
	MaxKey = 1024

	// crowdEntries and crowdBytes are the size from which a node is crowded, in
	// entries and in bytes of its block: see Crowded.
	crowdEntries = 256
	crowdBytes   = 128 << 10
	// entryMemory is about what an entry takes in memory beside its key, in bytes:
	// itself, its value's CID, a link and its CID.
	entryMemory = 150
)

// ErrNode: a node breaks the rules of the tree; the text names the rule.
var ErrNode = errors.New("malformed tree node")

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrNode, fmt.Sprintf(format, args...))
}

// Layer returns the layer of a key: the leading zeros of its SHA-256, counted in
// pairs of bits.
func Layer(key string) int {
	sum := sha256.Sum256([]byte(key))
	zeros := 0
	for _, b := range sum {
		zeros += bits.LeadingZeros8(b)
		if b != 0 {
			break
		}
	}
	return zeros / 2
}

// Link leads to a child.
type Link struct {
	CID cid.Cid
	// ID is the store's number of the child, 0 if nodes are found by CID.
	ID int64

	// node is the child once it is loaded; CID is stale while it is dirty.
	node *Node
}

// Entry is a key, its value, and the subtree between it and the next key.
type Entry struct {
	Key   string
	Value cid.Cid
	Right *Link
}

// Node is one node of the tree.
type Node struct {
	// ID is the store's number of the node; 0 if it has none, or none yet.
	ID int64
	// Left is the subtree before the first key.
	Left    *Link
	Entries []Entry

	layer int
	dirty bool
}

// Children returns the node's links in order, Left first; nil means no child.
func (n *Node) Children() []*Link {
	out := make([]*Link, 0, len(n.Entries)+1)
	out = append(out, n.Left)
	for _, e := range n.Entries {
		out = append(out, e.Right)
	}
	return out
}

// Crowded reports whether a node with that block is larger than chance makes it.
// Three of four keys lie on the lowest layer, by their hash, and a key of a higher
// one ends a node: 256 neighbours on one layer come up once in 10^32 nodes, and
// 128 KiB of the longest keys once in 10^17. A client that chooses keys by their
// hash, or deletes those between, makes nodes of any size.
func (n *Node) Crowded(block []byte) bool {
	return len(n.Entries) > crowdEntries || len(block) > crowdBytes
}

// Has reports whether the node itself holds a key.
func (n *Node) Has(key string) bool {
	_, found := n.gap(key)
	return found
}

// memory returns about how many bytes the node takes.
func (n *Node) memory() (size int) {
	for _, e := range n.Entries {
		size += len(e.Key) + entryMemory
	}
	return size
}

// Encode returns the node's block.
func (n *Node) Encode() []byte {
	dst := make([]byte, 0, 64+len(n.Entries)*112)
	dst = dagcbor.AppendMapHead(dst, 2)
	dst = dagcbor.AppendText(dst, "e")
	dst = dagcbor.AppendArrayHead(dst, len(n.Entries))
	last := ""
	for _, e := range n.Entries {
		shared := commonPrefix(last, e.Key)
		dst = dagcbor.AppendMapHead(dst, 4)
		dst = dagcbor.AppendText(dst, "k")
		dst = dagcbor.AppendBytes(dst, []byte(e.Key[shared:]))
		dst = dagcbor.AppendText(dst, "p")
		dst = dagcbor.AppendInt(dst, int64(shared))
		dst = dagcbor.AppendText(dst, "t")
		dst = appendLink(dst, e.Right)
		dst = dagcbor.AppendText(dst, "v")
		dst = dagcbor.AppendLink(dst, e.Value)
		last = e.Key
	}
	dst = dagcbor.AppendText(dst, "l")
	return appendLink(dst, n.Left)
}

func appendLink(dst []byte, l *Link) []byte {
	if l == nil {
		return dagcbor.AppendNull(dst)
	}
	return dagcbor.AppendLink(dst, l.CID)
}

func commonPrefix(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// Decode reads a node's block: keys complete, ascending and of one layer, links
// of the form that nodes and records have. Errors: ErrNode, dagcbor.ErrForm. A node
// that holds no key has no layer of its own: see place. Time is linear in the size of
// the block; memory too, except the part that a key shares with the previous one, up
// to MaxKey for each entry.
func Decode(block []byte) (*Node, error) {
	n, err := DecodeLoose(block)
	if err != nil {
		return nil, err
	}
	for _, e := range n.Entries {
		switch layer := Layer(e.Key); {
		case n.layer < 0:
			n.layer = layer
		case layer != n.layer:
			return nil, broken("key %q has layer %d in a node of layer %d", e.Key, layer, n.layer)
		}
	}
	return n, nil
}

func decodeEntry(r *dagcbor.Reader, last string) (Entry, error) {
	var e Entry
	if fields := r.Map(); r.Err() == nil && fields != 4 {
		return e, broken("%d fields in an entry", fields)
	}
	r.Field("k")
	suffix := r.Bytes()
	r.Field("p")
	shared := r.Int()
	if r.Err() == nil && (shared < 0 || shared > int64(len(last)) || int(shared)+len(suffix) > MaxKey) {
		return e, broken("a key shares %d bytes with one of %d", shared, len(last))
	}
	r.Field("t")
	e.Right = decodeLink(r)
	r.Field("v")
	e.Value = r.Link()
	if r.Err() != nil {
		return e, r.Err()
	}
	e.Key = last[:shared] + string(suffix)
	if e.Key == "" || strings.ContainsRune(e.Key, 0) {
		return e, broken("key %q", e.Key)
	}
	return e, nil
}

func decodeLink(r *dagcbor.Reader) *Link {
	if r.Null() {
		return nil
	}
	return &Link{CID: r.Link()}
}

// checkLinks returns ErrNode unless the node's links have the form of links to
// blocks.
func (n *Node) checkLinks() error {
	for _, l := range n.Children() {
		if l != nil && !dagcbor.IsBlockCID(l.CID) {
			return broken("link %s to no block of the tree", l.CID)
		}
		if l != nil && n.layer == 0 {
			return broken("a node of layer 0 has a child")
		}
	}
	for _, e := range n.Entries {
		if !dagcbor.IsBlockCID(e.Value) {
			return broken("value %s of %q is no record", e.Value, e.Key)
		}
	}
	return nil
}

// Loader returns the node that a link leads to, as Decode made it. If nodes have
// numbers, it sets the node's ID and those of its links.
type Loader func(l *Link) (*Node, error)

// child returns the node that l leads to and checks that it lies on the layer
// below parent's.
func child(l *Link, layer int, load Loader) (*Node, error) {
	if l.node != nil {
		return l.node, nil
	}
	n, err := load(l)
	if err != nil {
		return nil, err
	}
	if err := n.place(layer); err != nil {
		return nil, err
	}
	return n, nil
}

// place gives a node without keys the layer that its parent assigns, and checks that
// a node with keys has that layer.
func (n *Node) place(layer int) error {
	if len(n.Entries) == 0 {
		if n.Left == nil || layer == 0 {
			return broken("an empty node below the root")
		}
		n.layer = layer
	}
	if n.layer != layer {
		return broken("a node of layer %d where layer %d is due", n.layer, layer)
	}
	return nil
}

// placeRoot checks that a root holds a key, or nothing at all.
func (n *Node) placeRoot() error {
	if len(n.Entries) > 0 {
		return nil
	}
	if n.Left != nil {
		return broken("the root holds no key")
	}
	n.layer = 0
	return nil
}
