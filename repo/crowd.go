package repo

import (
	"sync"
	"time"

	"nestbox/auth"
	"nestbox/ratelimit"
	"nestbox/repo/car"
	"nestbox/repo/mst"
)

// The tree's shape follows from its keys, so a client that chooses keys by their
// hash, or deletes those between, makes nodes of any size. Later writes beside
// them must not pay for that: no update, no delete and, in itself, no create is
// refused for the shape of the tree. What is limited is by how much one credential
// makes the largest crowded node (mst.Node.Crowded) of a repository larger. An owner
// who posts beside a crowd that an app left pays next to nothing: keys by chance end
// such a node again and again, so that it seldom becomes larger than it was.
//
// The limit is also what an export can hold: no create makes a node larger than
// car.MaxBlock, which nobody could import.
//
// A large node costs what a large record does. An event whose blocks are too
// large becomes a sync event (event.MaxBlocks), as does one with a node that
// consumers cannot read; caches in memory leave such nodes out.

// crowdPay is charged for the bytes by which a largest node grows.
type crowdPay func(bytes int) error

// crowdADay is by how much one credential may make largest nodes grow, in bytes.
var crowdADay = ratelimit.Limit{Name: "repo-crowd-day", Points: 64 << 10, Window: 24 * time.Hour}

const (
	// entryBytes is what an entry takes in a node beside its key, in bytes.
	entryBytes = 96
	// maxReadable is the number of entries up to which indigo, the relay's
	// library, reads a node.
	maxReadable = 8192
)

// crowd is a crowded node in which keys were created: its size, and how much of it they
// take, in bytes. large: no export can hold it.
type crowd struct {
	size, added int
	large       bool
}

// crowding returns the crowded nodes in which keys were created.
func crowding(changed []mst.Changed, all []touched) (crowds []crowd) {
	for _, n := range changed {
		if !n.Crowded(n.Block) {
			continue
		}
		c := crowd{large: len(n.Block) > car.MaxBlock}
		for _, t := range all {
			if key := t.last.key(); !t.before.Defined() && n.Has(key) {
				c.added += len(key) + entryBytes
			}
		}
		if c.added == 0 {
			continue
		}
		for _, e := range n.Entries {
			c.size += len(e.Key) + entryBytes
		}
		crowds = append(crowds, c)
	}
	return crowds
}

// maxCrowded bounds the accounts whose largest node is remembered. Of one that is not, it
// counts as large as the node was before the write.
const maxCrowded = 10_000

// largestNodes are the sizes of the largest crowded nodes, by account. The zero value is ready.
type largestNodes struct {
	mu sync.Mutex
	of map[int64]int
}

// growth returns by how much a node is larger than the largest.
func (l *largestNodes) growth(accountID int64, c crowd) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if was, known := l.of[accountID]; known {
		return min(max(c.size-was, 0), c.added)
	}
	return c.added
}

// keep notes a node that is the largest.
func (l *largestNodes) keep(accountID int64, c crowd) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = map[int64]int{}
	}
	if _, known := l.of[accountID]; !known && len(l.of) >= maxCrowded {
		for other := range l.of {
			delete(l.of, other)
			break
		}
	}
	l.of[accountID] = max(l.of[accountID], c.size)
}

// crowded makes a call pay for what its draft does to crowded nodes, once.
func (s *Service) crowded(accountID int64, c *call, d *draft) error {
	for _, n := range d.crowds {
		bytes := s.largest.growth(accountID, n)
		if bytes == 0 {
			continue
		}
		if n.large {
			return refuse(nameInvalidRequest, "One node of the repository's tree is as large as it may be: use another record key")
		}
		if err := c.pay(bytes); err != nil {
			return err
		}
		s.largest.keep(accountID, n)
	}
	return nil
}

// crowdLimit charges crowdADay.
func (s *Service) crowdLimit(h auth.Holder) crowdPay {
	return func(bytes int) error {
		if s.Crowds == nil {
			return nil
		}
		if r := s.Crowds.TakeN(h.Key(), bytes, crowdADay); !r.Allowed {
			return &CrowdError{Wait: r.RetryAfter(s.Crowds.Now())}
		}
		return nil
	}
}

// CrowdError: the caller's keys crowd a part of the tree, more than is allowed
// until Wait has passed.
type CrowdError struct{ Wait time.Duration }

func (*CrowdError) Error() string {
	return "record keys crowd one node of the repository's tree: use keys that do not follow from each other's hash, such as TIDs, or wait"
}
