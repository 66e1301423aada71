package account

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"

	"nestbox/request"
)

// full is a Hasher whose every place is taken, and how to free one.
func full(t *testing.T, parallel int) (h *Hasher, free func()) {
	t.Helper()
	h = NewHasher(parallel)
	for range parallel {
		var err error
		if free, err = h.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return h, free
}

// calls are the ways to compute a hash.
func calls(h *Hasher) map[string]func(context.Context) error {
	const stored = "$argon2id$v=19$m=8,t=1,p=1$MDEyMzQ1Njc$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	return map[string]func(context.Context) error{
		"Hash":        func(ctx context.Context) error { _, err := h.Hash(ctx, "password"); return err },
		"Verify":      func(ctx context.Context) error { _, _, err := h.Verify(ctx, stored, "password"); return err },
		"VerifyDummy": func(ctx context.Context) error { return h.VerifyDummy(ctx, "password") },
	}
}

// TestParallel: no more than so many compute at once, and each place comes back.
func TestParallel(t *testing.T) {
	for parallel, want := range map[int]int{-1: 1, 0: 1, 1: 1, 3: 3} {
		if got := NewHasher(parallel).parallel; got != want {
			t.Errorf("NewHasher(%d) has %d places, want %d", parallel, got, want)
		}
	}
	for name := range calls(nil) {
		synctest.Test(t, func(t *testing.T) {
			h, free := full(t, 2)
			done := make(chan error, 3)
			for range 3 {
				go func() { done <- calls(h)[name](t.Context()) }()
			}
			synctest.Wait()
			if len(done) != 0 || h.places.Waiting() != 3 {
				t.Errorf("%s: %d ended and %d wait while no place is free", name, len(done), h.places.Waiting())
			}
			free()
			for range 3 {
				if err := <-done; err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			if h.places.Held() != 1 || h.places.Waiting() != 0 {
				t.Errorf("%s: %d places are taken and %d wait in the end", name, h.places.Held(), h.places.Waiting())
			}
		})
	}
}

// TestBusy: the queue has an end, and a caller that comes then is refused at once.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := full(t, 1)
		ctx, leave := context.WithCancel(t.Context())
		var waiting sync.WaitGroup
		for range maxWaiting {
			waiting.Go(func() {
				if err := h.VerifyDummy(ctx, "password"); !errors.Is(err, context.Canceled) {
					t.Errorf("one that waits: %v", err)
				}
			})
		}
		synctest.Wait()
		for name, call := range calls(h) {
			if err := call(t.Context()); !errors.Is(err, ErrBusy) {
				t.Errorf("%s behind a full queue: %v", name, err)
			}
		}
		// A caller that leaves makes place.
		leave()
		waiting.Wait()
		if n := h.places.Waiting(); n != 0 {
			t.Errorf("%d still wait", n)
		}
		ctx, leave = context.WithCancel(t.Context())
		leave()
		for name, call := range calls(h) {
			if err := call(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("%s of someone who left: %v", name, err)
			}
		}
	})
}

// TestQueueOfNetworks: one customer, with however many networks, takes a part of the
// queue, strangers leave the last places to networks that were here before, and a
// network that waits for one hash does not wait for all of another's.
func TestQueueOfNetworks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, free := full(t, 1)
		waiting, leave := context.WithCancel(t.Context())
		wait := func(ctx context.Context, client request.Client) <-chan error {
			done := make(chan error, 1)
			go func() { done <- h.VerifyDummy(request.WithClient(ctx, client), "password") }()
			synctest.Wait()
			return done
		}
		for n := range 2 * maxWaiting {
			wait(waiting, request.Client{Addr: netip.MustParseAddr(fmt.Sprintf("2001:db8:1:%x::1", n/8))})
		}
		if n := h.places.Waiting(); n != maxWaiting/2 {
			t.Errorf("a /48 has %d of %d places in the queue", n, maxWaiting)
		}
		for n := range maxWaiting {
			wait(waiting, request.Client{Addr: netip.MustParseAddr("198.51.100.1"), UserAgent: fmt.Sprint(n)})
		}
		if n := h.places.Waiting(); n != maxWaiting/2+waitingOf {
			t.Errorf("an address has %d places in the queue", n-maxWaiting/2)
		}
		for n := range maxWaiting {
			wait(waiting, request.Client{Addr: netip.AddrFrom4([4]byte{203, 0, byte(n >> 8), byte(n)})})
		}
		if n := h.places.Waiting(); n != maxWaiting-keptWaiting {
			t.Errorf("strangers have %d of %d places in the queue", n, maxWaiting)
		}
		regular := wait(t.Context(), request.Client{Addr: netip.MustParseAddr("192.0.2.1"), Known: true})
		if n := h.places.Waiting(); n != maxWaiting-keptWaiting+1 {
			t.Error("a network that was here before does not wait")
		}
		leave()
		synctest.Wait()
		free()
		if err := <-regular; err != nil {
			t.Error(err)
		}
	})
}
