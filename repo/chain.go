package repo

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/ipfs/go-cid"

	"nestbox/repo/mst"
)

// Calls that write to one repository at the same time form a chain: each has its
// own commit and its own event, computed on the previous one, and the chain is stored
// in one transaction. Without that, each call would wait for the fsync of the
// previous one.
//
// A caller puts its call into the queue of the account and waits for the account's
// lock. The caller that gets the lock serves the whole queue, so most callers find
// their call answered when their turn comes.
//
// Invariants:
//   - A call is answered from what is durable: a refusal never follows from a call
//     of the chain that is not stored yet. A call that fails on such a state ends
//     the chain and is computed again on what was stored.
//   - A chain is stored as a whole, or not at all. If the store refuses it, each
//     call is made again by itself.
//   - A caller that leaves withdraws its call while it is queued. Once a chain has
//     it, the caller waits for the outcome.

const (
	// maxChain bounds the calls of a chain, maxChainOps their operations and
	// maxChainBytes the bytes of their records: other writers wait for the
	// transaction.
	maxChain      = 32
	maxChainOps   = 200
	maxChainBytes = 1 << 20
)

// errAbandoned: the goroutine that served a call ended before it was done.
var errAbandoned = errors.New("write was abandoned")

// call is one call that writes.
type call struct {
	ctx        context.Context //nolint:containedctx // the caller's, which waits
	ops        []op
	swapCommit cid.Cid
	pay        crowdPay

	// done is closed once made and err are the answer; stop ends the caller's
	// wait for the lock.
	done chan struct{}
	stop context.CancelFunc
	made *commitRef
	err  error
}

// answered reports whether the call has its answer.
func (c *call) answered() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// answer answers the call, unless it is answered. Only the holder of the account's
// lock calls it.
func (c *call) answer(made *commitRef, err error) {
	if c.answered() {
		return
	}
	c.made, c.err = made, err
	close(c.done)
	c.stop()
}

// calls are the queued calls, by account. The zero value is ready.
type calls struct {
	mu sync.Mutex
	of map[int64][]*call
}

func (q *calls) add(accountID int64, c *call) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.of == nil {
		q.of = map[int64][]*call{}
	}
	q.of[accountID] = append(q.of[accountID], c)
}

// withdraw removes a call and reports whether it was still queued.
func (q *calls) withdraw(accountID int64, c *call) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	queued := q.of[accountID]
	i := slices.Index(queued, c)
	if i < 0 {
		return false
	}
	q.put(accountID, slices.Delete(queued, i, i+1))
	return true
}

// take removes the calls of the next chain, the oldest first.
func (q *calls) take(accountID int64) []*call {
	q.mu.Lock()
	defer q.mu.Unlock()
	queued := q.of[accountID]
	n, ops, size := 0, 0, 0
	for n < min(len(queued), maxChain) {
		ops += len(queued[n].ops)
		for i := range queued[n].ops {
			size += len(queued[n].ops[i].block)
		}
		if n > 0 && (ops > maxChainOps || size > maxChainBytes) {
			break
		}
		n++
	}
	taken := slices.Clone(queued[:n])
	q.put(accountID, slices.Delete(queued, 0, n))
	return taken
}

func (q *calls) put(accountID int64, queued []*call) {
	if len(queued) == 0 {
		delete(q.of, accountID)
		return
	}
	q.of[accountID] = queued
}

// write makes one commit of ops, in their order, or returns nil if they change
// nothing. swapCommit, if defined, is the commit that the repository must be at. pay
// is charged for keys that crowd a node of the tree; its error is returned. Errors:
// *Refusal, ErrNoRepo, ErrInactive; any other is a dependency that failed.
func (s *Service) write(ctx context.Context, accountID int64, ops []op, swapCommit cid.Cid, pay crowdPay) (*commitRef, error) {
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	c := &call{ctx: ctx, ops: ops, swapCommit: swapCommit, pay: pay, done: make(chan struct{}), stop: stop}
	s.calls.add(accountID, c)
	unlock, err := s.lock(waiting, accountID)
	if err != nil {
		if s.calls.withdraw(accountID, c) {
			return nil, err
		}
		<-c.done
		return c.made, c.err
	}
	defer unlock()
	for !c.answered() {
		s.serve(ctx, accountID)
	}
	return c.made, c.err
}

// serve answers the calls of one chain.
func (s *Service) serve(ctx context.Context, accountID int64) {
	left := s.calls.take(accountID)
	defer func(all []*call) {
		for _, c := range all {
			c.answer(nil, errAbandoned)
		}
	}(left)
	// Other callers wait for it, so it must not end when the serving caller leaves.
	if len(left) > 1 {
		ctx = context.WithoutCancel(ctx)
	}
	key, err := s.Keys.SigningKey(ctx, accountID) // read under the lock: Resign may replace it
	if err != nil {
		for _, c := range left {
			c.answer(nil, err)
		}
		return
	}
	for len(left) > 1 {
		left = s.chain(ctx, accountID, key, left)
	}
	for _, c := range left {
		c.answer(s.alone(c, accountID, key))
	}
}

// link is a call of a chain. Its change is nil if the call changes nothing.
type link struct {
	call   *call
	change *Change
	more   int64 // by how much the number of records grows
}

// chain stores a chain of as many of the calls as go together, answers them, and
// returns the rest. It answers at least one.
func (s *Service) chain(ctx context.Context, accountID int64, key atcrypto.PrivateKey, all []*call) (rest []*call) {
	links, tree := s.links(ctx, accountID, key, all)
	rest = all[len(links):]
	if len(links) == 0 {
		all[0].answer(s.alone(all[0], accountID, key))
		return all[1:]
	}
	changes := make([]Change, 0, len(links))
	var last *call
	for _, l := range links {
		if l.change != nil {
			changes, last = append(changes, *l.change), l.call
		}
	}
	err := error(nil)
	if len(changes) > 0 {
		err = s.Store.CommitChain(ctx, changes)
	}
	switch {
	case err == nil && last != nil:
		next := changes[len(changes)-1].Next
		s.revs.raise(accountID, next.Rev)
		if len(last.ops) > 0 {
			s.recent.keep(accountID, next, tree, last.ops[len(last.ops)-1].key())
		}
	case errors.Is(err, ErrConflict) || errors.Is(err, ErrNoBlob):
		for _, l := range links {
			l.call.answer(s.alone(l.call, accountID, key))
		}
		return rest
	}
	for _, l := range links {
		switch {
		case err != nil:
			l.call.answer(nil, err)
		case l.change == nil:
			l.call.answer(nil, nil)
		default:
			s.Counts.wrote(l.change, l.more)
			l.call.answer(&commitRef{l.change.Next.CID.String(), l.change.Next.Rev}, nil)
		}
	}
	return rest
}

// links computes the changes of as many calls as it can, one on the other: none if
// the first one cannot be computed.
func (s *Service) links(ctx context.Context, accountID int64, key atcrypto.PrivateKey, all []*call) (links []link, tree *mst.Tree) {
	if k := s.recent.take(accountID); k != nil {
		if links = s.extend(k, k.tree, accountID, key, all); len(links) > 0 {
			return links, k.tree
		}
	}
	// A failure is met again, and answered, by the first call alone.
	_ = s.Store.View(ctx, accountID, func(v View) (err error) {
		h := v.Head()
		if tree, err = mst.Open(h.Root, h.NextNode, v.Node); err != nil {
			return err
		}
		links = s.extend(v, tree, accountID, key, all)
		return nil
	})
	return links, tree
}

// extend computes links on b and its tree until a call fails. A draft that failed
// may have left half of itself in the tree, so nothing follows it.
func (s *Service) extend(b base, tree *mst.Tree, accountID int64, key atcrypto.PrivateKey, all []*call) (links []link) {
	over := &overlay{base: b, head: b.Head()}
	for _, c := range all {
		d, err := newDraft(over, tree, c.ops, c.swapCommit)
		if err != nil {
			return links
		}
		if d == nil {
			links = append(links, link{call: c})
			continue
		}
		if c.ctx.Err() != nil || s.crowded(accountID, c, d) != nil {
			return links // its call gets the error when it is made alone
		}
		change, err := s.sign(accountID, *d, key, s.Now())
		if err != nil {
			return links
		}
		links = append(links, link{c, &change, d.more})
		over.head, over.writes = change.Next, append(over.writes, change.Writes...)
	}
	return links
}

// overlay is a base with changes that are not stored yet.
type overlay struct {
	base

	head   Head
	writes []Write
}

// Head implements base.
func (o *overlay) Head() Head { return o.head }

// BySubject implements base.
func (o *overlay) BySubject(collection, subject string, limit int) ([]string, error) {
	keys, err := o.base.BySubject(collection, subject, limit)
	if err != nil || len(o.writes) == 0 {
		return keys, err
	}
	for _, w := range o.writes {
		keys = slices.DeleteFunc(keys, func(key string) bool { return key == w.Key })
		if w.Block != nil && w.Subject == subject && strings.HasPrefix(w.Key, collection+"/") {
			keys = append(keys, w.Key)
		}
	}
	slices.Sort(keys)
	return keys[:min(len(keys), limit)], nil
}
