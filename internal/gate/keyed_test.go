package gate

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

// TestKeyed: one caller at a time has a key, other keys are free beside it, one that
// waits can leave, and nothing is kept of a free key.
func TestKeyed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k Keyed[string]
		lock := func(key string) func() {
			unlock, err := k.Lock(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			return unlock
		}
		first, other := lock("a"), lock("b")

		leaving, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := k.Lock(leaving, "a")
			left <- err
		}()
		in := 0
		for range 3 {
			go func() {
				unlock, err := k.Lock(t.Context(), "a")
				if err != nil {
					t.Error(err)
					return
				}
				in++ // the race detector sees two at once
				unlock()
			}()
		}
		synctest.Wait()
		if in != 0 {
			t.Fatal("two hold one key")
		}
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("one that left: %v", err)
		}
		if _, ok := k.TryLock("a"); ok || !k.Held("a") {
			t.Error("a key that is held was locked")
		}
		first()
		synctest.Wait()
		if in != 3 {
			t.Errorf("%d of 3 got the key", in)
		}
		other()
		if k.Len() != 0 {
			t.Errorf("%d keys are kept", k.Len())
		}
	})
}

// TestTryLock: it locks a free key, as Lock does.
func TestTryLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k Keyed[int]
		unlock, ok := k.TryLock(1)
		if !ok || !k.Held(1) || k.Held(2) {
			t.Fatal("a free key was not locked")
		}
		if _, ok := k.TryLock(1); ok {
			t.Error("locked twice")
		}
		got := make(chan func())
		go func() {
			next, err := k.Lock(t.Context(), 1)
			if err != nil {
				t.Error(err)
			}
			got <- next
		}()
		synctest.Wait()
		unlock()
		next := <-got
		if !k.Held(1) {
			t.Error("the next caller does not have the key")
		}
		next()
		if again, ok := k.TryLock(1); !ok {
			t.Error("a key that was given back cannot be locked")
		} else {
			again()
		}
		if k.Held(1) || k.Len() != 0 {
			t.Error("the key is kept")
		}
	})
}
