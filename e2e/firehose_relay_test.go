package e2e

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/internal/pdstest"
)

// TestRelay runs indigo's relay behind the server, with its strict checks, under
// the mixed load: it passes on every event, each account's in their order, and
// complains of none.
func TestRelay(t *testing.T) {
	t.Parallel()
	binary := indigoBinary(t, "relay")
	server := pdstest.Launch(t, "", "PDS_LOG_LEVEL=warn")
	server.SignUp(t, "before")
	seen := lastEvent(t, server)
	relay := startRelay(t, binary, server.Ready.PLC, mustParse(t, server.Base).Host, seen)

	load := newMixedLoad(t, server)
	load.signUp(mixedAccounts)
	load.write(load.members)
	load.comeAndGo()
	end := load.end()

	// For a deleted account the server sends only the deletion, and the relay
	// also the events that it got before.
	want, deleted, n := map[string][]string{}, map[string]string{}, 0
	if err := subscribe(t.Context(), server.Base, seen, func(frame []byte) bool {
		did, event, m := digest(t, frame)
		want[did] = append(want[did], event)
		n++
		if a, ok := m.(*comatproto.SyncSubscribeRepos_Account); ok && a.Status != nil && *a.Status == "deleted" {
			deleted[did] = event
		}
		c, ok := m.(*comatproto.SyncSubscribeRepos_Commit)
		return !ok || c.Repo != end.did || len(c.Ops) == 0
	}); err != nil {
		t.Fatal(err)
	}
	got, left, complaints := map[string][]string{}, n, ""
	if err := subscribe(t.Context(), relay.base, 0, func(frame []byte) bool {
		did, event, _ := digest(t, frame)
		if last, ok := deleted[did]; ok && event != last {
			return true
		}
		got[did] = append(got[did], event)
		if left--; left == 0 {
			complaints = relay.complaints() // before this subscriber leaves, which is one
		}
		return left > 0
	}); err != nil {
		complaints = relay.complaints()
		t.Errorf("%d of %d events did not come through: %v", left, n, err)
	}
	for did := range want {
		if len(got[did]) != len(want[did]) {
			t.Errorf("%s: %d events, %d came through", did, len(want[did]), len(got[did]))
		}
		for i := range min(len(want[did]), len(got[did])) {
			if got[did][i] != want[did][i] {
				t.Errorf("%s: event %d was %s, and came through as %s", did, i, want[did][i], got[did][i])
				break
			}
		}
	}
	if complaints != "" {
		t.Errorf("the relay complains:\n%s", complaints)
	}
	if len(deleted) == 0 {
		t.Error("no account was deleted")
	}
	t.Logf("%d events", n)
	relay.stop()
}

// relay is indigo's.
type relay struct {
	*program

	base, database string
}

// startRelay runs it behind a host of which it has seen the events up to one.
func startRelay(t *testing.T, binary, plc, host string, seen int64) relay {
	t.Helper()
	dir := t.TempDir()
	database := filepath.Join(dir, "relay.sqlite")
	serve := []string{
		binary, "--plc-host", plc, "serve", "--bind", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0",
		"--db-url", "sqlite://" + database, "--persist-dir", filepath.Join(dir, "persist"),
	}
	// Its requestCrawl accepts only hosts of the public internet, so the host
	// is put into the database that a first run makes.
	first := startProgram(t, serve...)
	first.await("startup complete")
	first.stop()
	addHost(t, database, host, seen)
	p := startProgram(t, serve...)
	return relay{p, fmt.Sprintf("http://%s", p.await("starting web server")["listen"]), database}
}

// lastEvent is the number of the newest event.
func lastEvent(t *testing.T, server *pdstest.Process) (seq int64) {
	t.Helper()
	if err := subscribe(t.Context(), server.Base, 0, func(frame []byte) bool {
		_, m, err := readFrame(frame)
		if err != nil {
			t.Error(err)
		}
		sync, ok := m.(*comatproto.SyncSubscribeRepos_Sync) // the last of a new account
		if ok {
			seq = sync.Seq
		}
		return !ok
	}); err != nil {
		t.Fatal(err)
	}
	return seq
}

// addHost makes the relay follow a server as a trusted one: another may send 50
// events a second.
func addHost(t *testing.T, path, hostname string, seen int64) {
	t.Helper()
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	err = sqlitex.Execute(c, `INSERT INTO host (created_at, updated_at, hostname, no_ssl, account_limit, trusted, status, last_seq)
		VALUES (datetime(), datetime(), ?, 1, 1000, 1, 'active', ?)`, &sqlitex.ExecOptions{Args: []any{hostname, seen}})
	if err := errors.Join(err, c.Close()); err != nil {
		t.Fatal(err)
	}
}

// digest is an event's content except its number, which each server sets itself,
// and the handle, which a relay that does not verify it leaves out.
func digest(t *testing.T, frame []byte) (did, event string, m message) {
	t.Helper()
	kind, m, err := readFrame(frame)
	if err != nil {
		t.Error(err)
		return "", "", nil
	}
	switch m := m.(type) {
	case *comatproto.SyncSubscribeRepos_Commit:
		did, m.Seq = m.Repo, 0
		kind += " " + m.Rev
	case *comatproto.SyncSubscribeRepos_Sync:
		did, m.Seq = m.Did, 0
	case *comatproto.SyncSubscribeRepos_Identity:
		did, m.Seq, m.Handle = m.Did, 0, nil
	case *comatproto.SyncSubscribeRepos_Account:
		did, m.Seq = m.Did, 0
	}
	var raw bytes.Buffer
	if err := m.MarshalCBOR(&raw); err != nil {
		t.Error(err)
	}
	return did, fmt.Sprintf("%s %x", kind, sha256.Sum256(raw.Bytes())), m
}
