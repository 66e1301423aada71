package repo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"nestbox/internal/gate"
	"nestbox/request"
)

// imports are the imports under way, from the first byte of a file on.
type imports struct {
	// turns are the imports that are verified and stored. A network has one of them,
	// however many imports of it wait, so that no network holds up all others.
	turns gate.Places[string]

	mu  sync.Mutex
	now map[int64]bool // accounts
	// spooled is what the files that clients have sent take on disk, in bytes.
	spooled int64
	// uploads are those files while they take disk space.
	uploads map[*upload]bool
}

// begin admits one import of an account at a time.
func (i *imports) begin(accountID int64) (end func(), err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.now[accountID] {
		return nil, ErrImporting
	}
	if i.now == nil {
		i.now = map[int64]bool{}
	}
	i.now[accountID] = true
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		delete(i.now, accountID)
	}, nil
}

// queueNetwork returns the network that a client's import counts for. It is empty
// for the operator and for clients that the operator exempted from limits.
func queueNetwork(c request.Client) string {
	if c.Unlimited {
		return ""
	}
	return c.Network().Widest()
}

// turn waits until the import of a client network may be verified and stored. The
// network is empty for the operator.
func (i *imports) turn(ctx context.Context, network string) (give func(), err error) {
	waiting, cancel := context.WithTimeout(ctx, importPatience)
	defer cancel()
	var share []gate.Share[string]
	if network != "" {
		share = []gate.Share[string]{{Key: network, Most: 1}}
	}
	place, err := i.turns.Take(waiting, gate.Room{All: maxImports}, share...)
	if err != nil {
		return nil, fmt.Errorf("wait for other imports: %w", err)
	}
	return place.Leave, nil
}

// reserve takes n more bytes of the disk for u, up to limit in all, and to half of
// what is taken and free together. If there is no room, slow uploads give way. Errors:
// errSpoolFull, errCrowded.
func (i *imports) reserve(u *upload, n, limit, free int64) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if u.cut {
		return errCrowded
	}
	if u.waited > uploadPatience {
		u.slow = (u.size+n)/int64(u.waited/time.Second) < crowdedPace
	}
	for i.spooled+n > limit || n > (free-i.spooled)/2 {
		if !i.cutSlow(u) {
			return errSpoolFull
		}
	}
	if i.uploads == nil {
		i.uploads = map[*upload]bool{}
	}
	i.uploads[u] = true
	i.spooled += n
	u.taken += n
	return nil
}

// cutSlow takes the disk space of the largest upload other than u that comes at less
// than crowdedPace. It reports whether there was one. The upload ends at its
// next read, which comes soon: xrpc bounds how long a read takes.
func (i *imports) cutSlow(u *upload) bool {
	var largest *upload
	for other := range i.uploads {
		if other != u && other.slow && (largest == nil || other.taken > largest.taken) {
			largest = other
		}
	}
	if largest == nil {
		return false
	}
	largest.cut = true
	i.drop(largest)
	return true
}

// whole notes that u has come in full.
func (i *imports) whole(u *upload) {
	i.mu.Lock()
	defer i.mu.Unlock()
	u.slow = false
}

func (i *imports) release(u *upload) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.drop(u)
}

// drop gives back what u takes of the disk.
func (i *imports) drop(u *upload) {
	i.spooled -= u.taken
	u.taken = 0
	delete(i.uploads, u)
}
