package identity_test

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/identity"
)

// TestFreshShared: callers that want the newest answer share one question, which
// leaves after they came.
func TestFreshShared(t *testing.T) {
	n := newNetwork(t)
	n.documents[didA.String()] = document(didA, "old.example.com")
	hold := make(chan struct{})
	n.set(func() { n.hold = hold })
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := n.Fresh(t.Context(), didA); err != nil {
			t.Error(err)
		}
	})
	eventually(t, func() bool { return n.asked.Load() == 1 }) // and the directory has read the old document
	n.set(func() { n.documents[didA.String()] = document(didA, "new.example.com") })
	came := make(chan struct{}, 50)
	for range cap(came) {
		all.Go(func() {
			came <- struct{}{}
			if d, err := n.Fresh(t.Context(), didA); err != nil || d.Handle() != "new.example.com" {
				t.Errorf("%v, %v: the answer is from before the call", d, err)
			}
		})
	}
	for range cap(came) {
		<-came
	}
	if asked := n.asked.Load(); asked != 1 {
		t.Errorf("asked %d times at once", asked)
	}
	close(hold)
	all.Wait()
	// Those that came late may have had to wait for a third.
	if asked := n.asked.Load(); asked < 2 || asked > 10 {
		t.Errorf("asked %d times", asked)
	}
}

// TestBelieved: a stranger does not have an issuer asked about again within seconds.
func TestBelieved(t *testing.T) {
	n := newNetwork(t)
	tokens := n.ForTokens()
	for i, c := range []struct {
		after time.Duration
		asked int64
	}{{0, 1}, {4 * time.Second, 1}, {time.Second, 2}, {time.Second, 2}} {
		n.advance(c.after)
		if _, err := tokens.Fresh(t.Context(), didA); err == nil {
			t.Errorf("%d: %s has a document", i, didA)
		}
		if asked := n.asked.Load(); asked != c.asked {
			t.Errorf("%d: asked %d times, want %d", i, asked, c.asked)
		}
	}
	if _, _ = n.Fresh(t.Context(), didA); n.asked.Load() != 3 {
		t.Errorf("an owner: asked %d times", n.asked.Load())
	}
}

// TestLastShared is TestFreshShared for the newest operation.
func TestLastShared(t *testing.T) {
	var mu sync.Mutex
	asked, most, now := 0, 0, 0
	hold := make(chan struct{})
	d := listen(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		asked, now = asked+1, now+1
		most = max(most, now)
		mu.Unlock()
		<-hold
		w.WriteHeader(http.StatusNotFound)
		mu.Lock()
		now--
		mu.Unlock()
	}))
	t.Cleanup(d.Close)
	var all sync.WaitGroup
	ask := func() {
		all.Go(func() { _, _ = d.Last(t.Context(), didA) })
	}
	ask()
	eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return asked == 1 })
	for range 50 {
		ask()
	}
	close(hold)
	all.Wait()
	if most != 1 || asked < 2 {
		t.Errorf("asked %d times, %d at once", asked, most)
	}
	d.Close()
	if _, err := d.Last(t.Context(), syntax.DID("did:plc:x")); err == nil {
		t.Error("asked after the end")
	}
}

// TestAskedOnce: however the calls of many callers fall, the network is asked once about each
// key, also by one who looked just before the answer came and asks just after.
func TestAskedOnce(t *testing.T) {
	n := newNetwork(t)
	tokens := n.ForTokens()
	const keys, callers = 300, 8
	for i := range keys {
		did := syntax.DID(fmt.Sprintf("did:plc:%024d", i))
		var all sync.WaitGroup
		for of := range callers {
			all.Go(func() {
				ask := tokens.Fresh
				if of%2 == 0 {
					ask = tokens.DID
				}
				if _, err := ask(t.Context(), did); !errors.Is(err, identity.ErrNotRegistered) {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	if asked := n.asked.Load(); asked != keys {
		t.Errorf("asked %d times about %d", asked, keys)
	}
}
