package repo

import (
	"context"
	"slices"
	"sync"

	"nestbox/request"
)

// queueNetwork returns the network that a client's import counts for. It is empty
// for the operator and for clients that the operator exempted from limits.
func queueNetwork(c request.Client) string {
	if c.Unlimited {
		return ""
	}
	return c.Network().Widest()
}

// importQueue gives the slots of imports to networks in turn. A network has one
// slot at a time, however many imports of it wait, so that no network holds up all
// others. The zero value is ready.
type importQueue struct {
	mu      sync.Mutex
	running int
	waiting []*waiter // in the order in which they came
	// networks has those that hold a slot or wait for one.
	networks map[string]*queued
	// count counts networks that came and slots that were given back.
	count int64
}

// queued is what the queue knows of a network.
type queued struct {
	holds bool
	refs  int // imports that hold a slot or wait
	// since is the count at which the network came, or gave a slot back last.
	since int64
}

// waiter is an import that waits for a slot.
type waiter struct {
	network string
	ready   chan struct{} // closed when it has a slot
}

// take waits for one of n slots and returns the function that gives it back. An
// empty network is limited by the number of slots alone.
func (q *importQueue) take(ctx context.Context, n int, network string) (give func(), err error) {
	w := &waiter{network: network, ready: make(chan struct{})}
	q.mu.Lock()
	if q.networks == nil {
		q.networks = map[string]*queued{}
	}
	if q.networks[network] == nil {
		q.count++
		q.networks[network] = &queued{since: q.count}
	}
	q.networks[network].refs++
	q.waiting = append(q.waiting, w)
	q.next(n)
	q.mu.Unlock()
	give = func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.running--
		q.count++
		q.networks[network].holds, q.networks[network].since = false, q.count
		q.leave(network)
		q.next(n)
	}
	select {
	case <-w.ready:
		return give, nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-w.ready: // it got a slot meanwhile
		return give, nil
	default:
	}
	q.waiting = slices.DeleteFunc(q.waiting, func(other *waiter) bool { return other == w })
	q.leave(network)
	return nil, ctx.Err()
}

// leave forgets a network that neither holds nor waits for a slot.
func (q *importQueue) leave(network string) {
	if q.networks[network].refs--; q.networks[network].refs == 0 {
		delete(q.networks, network)
	}
}

// next gives free slots to imports that wait: first to the network that has had none
// for the longest time.
func (q *importQueue) next(n int) {
	for q.running < n {
		best := -1
		for i, w := range q.waiting {
			of := q.networks[w.network]
			if of.holds && w.network != "" {
				continue
			}
			if best < 0 || of.since < q.networks[q.waiting[best].network].since {
				best = i
			}
		}
		if best < 0 {
			return
		}
		w := q.waiting[best]
		q.waiting = slices.Delete(q.waiting, best, best+1)
		q.running++
		q.networks[w.network].holds = true
		close(w.ready)
	}
}
