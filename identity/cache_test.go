package identity

import (
	"fmt"
	"net/netip"
	"testing"

	"nestbox/request"
)

// ask asks a question that lasts until the end, and reports whether there was a place.
func ask(w *work, p purpose, client request.Client, end <-chan struct{}) bool {
	leave, err := w.place(p, client)
	if err != nil {
		return false
	}
	go func() {
		defer leave()
		select {
		case <-end:
		case <-w.ctx.Done():
		}
	}()
	return true
}

// TestWork: each purpose has its room, each network a part of it, and what has ended
// takes none.
func TestWork(t *testing.T) {
	w := newWork(nil)
	end := make(chan struct{})
	defer w.close()
	start := func(p purpose, client request.Client) bool { return ask(w, p, client, end) }
	network := func(n int) request.Client {
		return request.Client{Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), Known: true}
	}
	around := func(n int) request.Client { // a network of one /48
		return request.Client{Addr: netip.MustParseAddr(fmt.Sprintf("2001:db8:1:%x::1", n)), Known: true}
	}
	for _, c := range []struct {
		why                    purpose
		all, ofNetwork, around int
	}{{forAnybody, 256, 16, 64}, {forProof, 256, 64, 128}, {forOwner, 256, 64, 128}, {forRenewal, 128, 128, 128}} {
		ofAround := 0
		for i := range 2 * c.all {
			if start(c.why, around(i)) {
				ofAround++
			}
		}
		if ofAround != c.around {
			t.Errorf("purpose %d: %d questions of one /48, want %d", c.why, ofAround, c.around)
		}
		for i := range c.all - ofAround {
			if !start(c.why, network(i/c.ofNetwork)) {
				t.Fatalf("purpose %d, network %d: question %d was refused", c.why, i/c.ofNetwork, i)
			}
			if i == c.ofNetwork-1 && c.ofNetwork < c.all-ofAround && start(c.why, network(0)) {
				t.Errorf("purpose %d: more than %d of one network", c.why, c.ofNetwork)
			}
		}
		for _, client := range []request.Client{network(200), {}} {
			if start(c.why, client) {
				t.Errorf("purpose %d: more than %d", c.why, c.all)
			}
		}
	}
	close(end)
	w.wg.Wait()
	for p := range w.running {
		if n := w.running[p].Held(); n != 0 {
			t.Errorf("purpose %d: %d are left", p, n)
		}
	}
	// What counts for no network has all of the room.
	end = make(chan struct{})
	defer close(end)
	for i := range 17 {
		if !start(forAnybody, request.Client{}) {
			t.Errorf("question %d of no network was refused", i)
		}
	}
}

// TestKeptQuestions: networks that were never here leave places to those that were.
func TestKeptQuestions(t *testing.T) {
	w := newWork(nil)
	end := make(chan struct{})
	defer w.close()
	defer close(end)
	start := func(client request.Client) bool { return ask(w, forProof, client, end) }
	client := request.Client{Addr: netip.MustParseAddr("192.0.2.0")}
	started := 0
	for range 1000 {
		client.Addr = client.Addr.Next()
		if start(client) {
			started++
		}
	}
	if started != 256-32 {
		t.Errorf("strangers have %d places", started)
	}
	client.Known = true
	if !start(client) {
		t.Error("there is no place for a network that was here before")
	}
}
