package e2e

import (
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/ipfs/go-cid"

	"nestbox/internal/pdstest"
)

// TestTap makes indigo's tap follow the server under the mixed load, tracking
// the whole network: it reads half of the accounts with getRepo, with their
// earlier writes, and keeps all of them up to date by the stream alone. It
// passes to its application what the clients wrote.
//
// It reads while nobody writes: tap may lose a commit that arrives in that
// moment, and does not notice deletions when it reads again.
func TestTap(t *testing.T) {
	t.Parallel()
	binary := indigoBinary(t, "tap")
	server := pdstest.Launch(t, "", "PDS_LOG_LEVEL=warn")
	load := newMixedLoad(t, server)
	load.signUp(mixedAccounts / 2)
	load.write(load.members)
	address := freeAddress(t)
	tap := startProgram(t, binary, "run", "--full-network", "--disable-acks", "--bind", address, "--plc-url", server.Ready.PLC,
		"--relay-url", server.Base, "--db-url", "sqlite://"+filepath.Join(t.TempDir(), "tap.db"))
	tap.await("connected to firehose")
	app := openTap(t, address)

	load.signUp(mixedAccounts / 2)
	for _, m := range load.members {
		tap.awaitAbout(m.DID, "resync repo complete")
	}
	app.await("after it was read", load.difference)
	load.write(load.members)
	load.comeAndGo()
	app.await("at the end", load.difference)
	if complaints := tap.complaints(); complaints != "" {
		t.Errorf("tap complains:\n%s", complaints)
	}
}

// difference returns what an application of tap has otherwise than the clients.
func (l *mixedLoad) difference(got *tapApp) string {
	var b strings.Builder
	for _, m := range l.members {
		status := got.status[m.DID]
		if status == "active" {
			status = ""
		}
		if status != m.status {
			fmt.Fprintf(&b, "%s is %q, not %q\n", m.DID, status, m.status)
		}
		if m.status == "deleted" {
			continue
		}
		want := map[string]cid.Cid{}
		for _, w := range m.writers {
			maps.Copy(want, w.records)
		}
		if d := difference(want, got.records[m.DID]); d != "" {
			fmt.Fprintf(&b, "%s:\n%s", m.DID, d)
		}
	}
	return b.String()
}

// tapApp is an application behind tap.
type tapApp struct {
	t *testing.T

	mu      sync.Mutex
	moved   *sync.Cond // with each event, and with the end
	records map[string]map[string]cid.Cid
	status  map[string]string
	err     error // why the channel ended
}

// tapEvent is an event of tap.
type tapEvent struct {
	Record *struct {
		DID        string `json:"did"`
		Collection string `json:"collection"`
		RKey       string `json:"rkey"`
		Action     string `json:"action"`
		CID        string `json:"cid"`
	} `json:"record"`
	Identity *struct {
		DID    string `json:"did"`
		Status string `json:"status"`
	} `json:"identity"`
}

// openTap listens to tap until the end of the test.
func openTap(t *testing.T, address string) *tapApp {
	t.Helper()
	conn, resp, err := websocket.DefaultDialer.DialContext(t.Context(), "ws://"+address+"/channel", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close() // it has none
	app := &tapApp{t: t, records: map[string]map[string]cid.Cid{}, status: map[string]string{}}
	app.moved = sync.NewCond(&app.mu)
	done := make(chan struct{})
	t.Cleanup(func() { _ = conn.Close(); <-done })
	go func() {
		defer close(done)
		for {
			var e tapEvent
			err := conn.SetReadDeadline(time.Now().Add(streamPatience))
			if err == nil {
				err = conn.ReadJSON(&e)
			}
			if !app.take(e, err) {
				return
			}
		}
	}()
	return app
}

func (a *tapApp) take(e tapEvent, err error) (more bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.moved.Broadcast()
	switch {
	case err != nil:
		a.err = err
		return false
	case e.Identity != nil:
		a.status[e.Identity.DID] = e.Identity.Status
	case e.Record != nil:
		r := e.Record
		if a.records[r.DID] == nil {
			a.records[r.DID] = map[string]cid.Cid{}
		}
		path := r.Collection + "/" + r.RKey
		if r.Action == "delete" {
			delete(a.records[r.DID], path)
			break
		}
		id, err := cid.Decode(r.CID)
		if err != nil {
			a.err = err
			return false
		}
		a.records[r.DID][path] = id
	}
	return true
}

// await waits until nothing differs any more.
func (a *tapApp) await(when string, differs func(*tapApp) string) {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	for d := differs(a); d != ""; d = differs(a) {
		if a.err != nil {
			a.t.Fatalf("%s: %v\n%s", when, a.err, d)
		}
		a.moved.Wait()
	}
}
