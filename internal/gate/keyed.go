package gate

import (
	"context"
	"sync"
)

// Keyed is a lock for each key.
type Keyed[K comparable] struct {
	mu   sync.Mutex
	held map[K]*turn
}

// turn is the lock of one key.
type turn struct {
	free chan struct{} // holds one value while nobody has the lock
	refs int           // callers that have the lock or wait for it; guarded by Keyed
}

// Lock waits until key is free or ctx ends. unlock lets the next caller in; it is
// called once.
func (k *Keyed[K]) Lock(ctx context.Context, key K) (unlock func(), err error) {
	k.mu.Lock()
	t := k.held[key]
	if t == nil {
		t = k.add(key)
		t.free <- struct{}{}
	}
	t.refs++
	k.mu.Unlock()
	select {
	case <-t.free:
		return k.unlocker(key, t), nil
	case <-ctx.Done():
		k.leave(key, t)
		return nil, ctx.Err()
	}
}

// TryLock locks key unless a caller has it or waits for it.
func (k *Keyed[K]) TryLock(key K) (unlock func(), ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held[key] != nil {
		return nil, false
	}
	t := k.add(key)
	t.refs++
	return k.unlocker(key, t), true
}

// Held reports whether a caller has key or waits for it.
func (k *Keyed[K]) Held(key K) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held[key] != nil
}

// Len returns how many keys are held.
func (k *Keyed[K]) Len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.held)
}

// add makes the turn of a key, which is taken. k.mu is held.
func (k *Keyed[K]) add(key K) *turn {
	if k.held == nil {
		k.held = map[K]*turn{}
	}
	t := &turn{free: make(chan struct{}, 1)}
	k.held[key] = t
	return t
}

func (k *Keyed[K]) unlocker(key K, t *turn) func() {
	return func() {
		t.free <- struct{}{}
		k.leave(key, t)
	}
}

func (k *Keyed[K]) leave(key K, t *turn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if t.refs--; t.refs == 0 {
		delete(k.held, key)
	}
}
