package repo

import (
	"errors"
	"sync"

	"github.com/ipfs/go-cid"

	"nestbox/repo/mst"
)

// errForgotten: a write needs more of its repository than the previous write left in
// memory.
var errForgotten = errors.New("not kept in memory")

// remembered is what a write leaves to the next one of its account: the new head, and
// the part of the tree around the last key, some kilobytes. Most writes put a new
// record behind that key, and then read nothing from the store. It may be out of
// date: a change computed on it is made only if the store finds the repository still
// at that commit, and no other result of it counts.
type remembered struct {
	head Head
	tree *mst.Tree
}

// Head implements base.
func (k *remembered) Head() Head { return k.head }

// Node implements base.
func (*remembered) Node(*mst.Link) (*mst.Node, error) { return nil, errForgotten }

// BySubject implements base.
func (*remembered) BySubject(string, string, int) ([]string, error) { return nil, errForgotten }

// Blob implements base.
func (*remembered) Blob(cid.Cid) (BlobInfo, error) { return BlobInfo{}, errForgotten }

// maxRemembered is how many accounts are remembered, and maxRememberedSize how many
// bytes of one may be: a few kilobytes are usual.
const (
	maxRemembered     = 256
	maxRememberedSize = 64 << 10
)

// memory holds what is remembered, by account.
type memory struct {
	mu sync.Mutex
	of map[int64]*remembered
}

// take returns what is remembered of an account, nil if there is nothing, and forgets
// it.
func (m *memory) take(accountID int64) *remembered {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.of[accountID]
	delete(m.of, accountID)
	return k
}

// keep keeps the tree that a write of key ended with, unless it is too large. If
// there are too many, the account that the map yields first is forgotten.
func (m *memory) keep(accountID int64, head Head, tree *mst.Tree, key string) {
	if size, err := tree.Trim(key); err != nil || size > maxRememberedSize {
		return
	}
	k := &remembered{head, tree}
	tree.LoadWith(k.Node)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.of == nil {
		m.of = map[int64]*remembered{}
	}
	for other := range m.of {
		if len(m.of) < maxRemembered {
			break
		}
		delete(m.of, other)
	}
	m.of[accountID] = k
}
