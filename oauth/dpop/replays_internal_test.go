package dpop

import (
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"testing"
	"time"
)

func proofOf(n int) used {
	var p used
	binary.BigEndian.PutUint64(p[:], uint64(n))
	return p
}

// TestBound: at the bound the oldest window goes, and its nonce with it, so that nothing of
// it can be used again; if that is the present window, a later one's nonce is given out.
func TestBound(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	r := NewReplays(now.Add(-time.Hour), 0)
	r.max = 4
	w := window(now)
	use := func(want error, window int64, n int) {
		t.Helper()
		if err := r.use(now, window, proofOf(n)); !errors.Is(err, want) {
			t.Errorf("proof %d in window %d: %v, want %v", n, window-w, err, want)
		}
	}
	use(nil, w-2, 1)
	use(nil, w-2, 2)
	use(nil, w, 3)
	use(nil, w, 4)
	use(errUsed, w-2, 1)
	use(nil, w, 5) // the window w-2 goes
	use(errDead, w-2, 1)
	if first, given, _ := r.windows(now); first != w-1 || given != w || r.Len() != 3 {
		t.Errorf("from %d, given out %d, %d known", first-w, given-w, r.Len())
	}
	use(nil, w, 6)
	use(errDead, w, 7) // now the present one goes
	first, given, last := r.windows(now)
	if first != w+1 || given != w+1 || last != w+1 || r.Len() != 0 {
		t.Errorf("from %d, given out %d, to %d, %d known", first-w, given-w, last-w, r.Len())
	}
	use(errDead, w, 3)
	use(nil, w+1, 3)
	for n := range 20 { // and so on
		_, given, _ := r.windows(now)
		if err := r.use(now, given, proofOf(100+n)); err != nil && !errors.Is(err, errDead) {
			t.Error(err)
		}
		if r.Len() > r.max {
			t.Fatalf("%d are known", r.Len())
		}
	}
}

// TestKept: a memory is the same after a stop, whatever it holds.
func TestKept(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	r := NewReplays(now.Add(-time.Hour), 0)
	for n := range 100 {
		if err := r.use(now, window(now)-int64(n%5), proofOf(n)); err != nil {
			t.Fatal(err)
		}
	}
	left := r.Save()
	again := LoadReplays(left, now)
	for n := range 100 {
		if err := again.use(now, window(now)-int64(n%5), proofOf(n)); !errors.Is(err, errUsed) {
			t.Fatalf("proof %d: %v", n, err)
		}
	}
	for cut := range len(left) { // whatever a damaged disk leaves of it
		r := LoadReplays(left[:cut], now)
		if first, _, _ := r.windows(now); first <= window(now) && !slices.Contains([]int{39, 39 + 16 + 320, 39 + 2*(16+320), 39 + 3*(16+320), 39 + 4*(16+320)}, cut) {
			t.Fatalf("%d bytes of %d: older nonces are alive", cut, len(left))
		}
	}
}

// TestMemory: what a proof costs in memory, so that the bound is one of bytes too.
func TestMemory(t *testing.T) {
	const proofs = 200_000
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	r := NewReplays(now.Add(-time.Hour), 0)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for n := range proofs {
		if err := r.use(now, window(now), proofOf(n)); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if each := int64(after.HeapAlloc-before.HeapAlloc) / proofs; each > 64 {
		t.Errorf("a proof takes %d bytes", each)
	}
	runtime.KeepAlive(r)
}
