package repo

import (
	"time"

	"nestbox/auth"
	"nestbox/ratelimit"
	"nestbox/repo/mst"
)

// The tree's shape follows from its keys, so a client that chooses keys by their
// hash, or deletes those between, makes nodes of any size. Later writes beside
// them must not pay for that: no update, no delete and, in itself, no create is
// refused for the shape of the tree. What is limited is how much one credential
// adds to nodes that are crowded already (mst.Node.Crowded): hundreds of usual
// keys a day, so an owner who posts beside a crowd that an app left does not reach
// the limit.
//
// A large node costs what a large record does. An event whose blocks are too
// large becomes a sync event (event.MaxBlocks), as does one with a node that
// consumers cannot read; caches in memory leave such nodes out.

// crowdPay is charged for the bytes that new keys take in crowded nodes.
type crowdPay func(bytes int) error

// crowdADay is what one credential may add to crowded nodes, in bytes.
var crowdADay = ratelimit.Limit{Name: "repo-crowd-day", Points: 64 << 10, Window: 24 * time.Hour}

const (
	// entryBytes is what an entry takes in a node beside its key, in bytes.
	entryBytes = 96
	// maxReadable is the number of entries up to which indigo, the relay's
	// library, reads a node.
	maxReadable = 8192
)

// crowding returns what the keys that were created take in crowded nodes, in
// bytes.
func crowding(changed []mst.Changed, all []touched) (size int) {
	for _, n := range changed {
		if !n.Crowded(n.Block) {
			continue
		}
		for _, t := range all {
			if key := t.last.key(); !t.before.Defined() && n.Has(key) {
				size += len(key) + entryBytes
			}
		}
	}
	return size
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
