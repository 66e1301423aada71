//go:build reference

package e2e

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/internal/pdstest"
	"nestbox/takeover"
)

// serve starts Nestbox on what was taken over, at the old server's address.
func (s *switching) serve() {
	s.t.Helper()
	s.nestbox = pdstest.LaunchArgs(s.t, []string{"serve", "--env-file", s.envFile, "--listen", "127.0.0.1:" + s.old.port}, "PDS_LOG_LEVEL=warn")
	s.t.Cleanup(s.nestbox.Stop)
}

// take makes the last pass.
func (s *switching) take(flags ...string) *takeover.Report {
	s.t.Helper()
	report := s.pass(flags...)
	if !report.Done {
		s.t.Fatalf("take over: %+v", report)
	}
	return report
}

// pass makes a pass.
func (s *switching) pass(flags ...string) *takeover.Report {
	s.t.Helper()
	report := &takeover.Report{}
	out, err := s.run(flags...)
	if err == nil {
		err = json.Unmarshal([]byte(out), report)
	}
	if err != nil {
		s.t.Fatalf("takeover %v: %v\n%s", flags, err, out)
	}
	return report
}

// run runs nestbox takeover.
func (s *switching) run(flags ...string) (string, error) {
	s.t.Helper()
	return pdstest.Run(s.t, "", append([]string{"takeover", "--env-file", s.envFile, "--json"}, flags...)...)
}

// TestReferenceTakeOverKilled: a take-over that is killed at random moments ends like one that is
// not.
func TestReferenceTakeOverKilled(t *testing.T) {
	const kills = 20
	s := newSwitch(t, syscall.SIGTERM)
	before, stream := snapshot(t, s.old.Client, s.facts), frames(t, s.old.Base)
	s.old.stop(t, s.signal)
	files := sums(t, s.old.dir, filepath.Join(s.old.dir, "nestbox"))
	began := time.Now()
	elsewhere := filepath.Join(pdstest.TempDir(t), "whole")
	out, err := pdstest.Run(t, "", "takeover", "--env-file", s.envFile, "--to", elsewhere, "--json")
	whole := time.Since(began)
	var want takeover.Report
	if err == nil {
		err = json.Unmarshal([]byte(out), &want)
	}
	if err != nil {
		t.Fatal(err, out)
	}
	for range kills {
		cmd := exec.CommandContext(t.Context(), pdstest.Binary(t), "takeover", "--env-file", s.envFile)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(whole))
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed, or had ended
	}
	_, ended := os.Stat(filepath.Join(s.old.dir, "nestbox", "takeover.json"))
	got := s.take()
	if ended != nil && (got.Stored == nil || *got.Stored != *want.Stored) {
		t.Errorf("stored %+v, want %+v", got.Stored, want.Stored)
	}
	same(t, "files of the source", sums(t, s.old.dir, filepath.Join(s.old.dir, "nestbox")), files)
	out, err = pdstest.Run(t, "", "takeover", "--env-file", s.envFile, "--check", "--json")
	if err != nil {
		t.Errorf("check: %v\n%s", err, out)
	}
	s.serve()
	same(t, "what the server shows", snapshot(t, s.nestbox.Client, s.facts), before)
	s.compareStream(stream)
}

// TestReferenceTakeOverHeld: actors whose databases another process holds open have all that was
// written last in their logs. Nothing of it is lost.
func TestReferenceTakeOverHeld(t *testing.T) {
	s := newSwitch(t, syscall.SIGKILL)
	stores, err := filepath.Glob(filepath.Join(s.old.dir, "actors", "*", "did:*", "store.sqlite"))
	if err != nil || len(stores) < 5 {
		t.Fatal(stores, err)
	}
	for _, path := range stores { // what a program for backups does
		c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
		if err == nil {
			err = sqlitex.ExecuteTransient(c, "SELECT count(*) FROM repo_root", nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	for _, name := range []string{"alice", "grace", "frank"} {
		who := s.old.SignIn(t, name+".test", pdstest.Password)
		writePost(t, s.old.Client, pdstest.Bearer(who.AccessJwt), who.DID, newPost("only in the log"))
	}
	before, stream := snapshot(t, s.old.Client, s.facts), frames(t, s.old.Base)
	s.old.stop(t, s.signal)
	full := 0
	for _, path := range stores {
		if fi, err := os.Stat(path + "-wal"); err == nil && fi.Size() > 0 {
			full++
		}
	}
	if full < 3 {
		t.Fatalf("%d actors have something in their logs", full)
	}
	s.take()
	s.serve()
	same(t, "what the server shows", snapshot(t, s.nestbox.Client, s.facts), before)
	s.compareStream(stream)
}

// TestReferenceTakeOverAhead: a repository that is ahead of the event log, as after a crash, is
// announced by one #sync.
func TestReferenceTakeOverAhead(t *testing.T) {
	s := newSwitch(t, syscall.SIGTERM)
	alice := s.facts.sessions["alice"].DID
	s.old.stop(t, s.signal)
	c, err := sqlite.OpenConn(filepath.Join(s.old.dir, "sequencer.sqlite"), sqlite.OpenReadWrite)
	if err == nil {
		err = sqlitex.Execute(c, "DELETE FROM repo_seq WHERE seq = (SELECT max(seq) FROM repo_seq WHERE did = ? AND eventType = 'append')",
			&sqlitex.ExecOptions{Args: []any{alice}})
	}
	if err != nil || c.Close() != nil {
		t.Fatal(err)
	}
	report := s.take()
	if report.Events.Syncs != 1 || report.Events.Statuses != 0 {
		t.Errorf("events %+v", report.Events)
	}
	s.serve()
	syncs, last := 0, 0
	all := frames(t, s.nestbox.Base)
	for i, frame := range all {
		_, m, err := readFrame(frame)
		if err != nil {
			t.Fatal(err)
		}
		if sync, ok := m.(*comatproto.SyncSubscribeRepos_Sync); ok && sync.Seq > report.Events.Last {
			if sync.Did != alice || sync.Rev != revOf(t, s.nestbox.Client, alice) {
				t.Errorf("#sync of %s at %s", sync.Did, sync.Rev)
			}
			syncs, last = syncs+1, i
		}
	}
	if syncs != 1 || last != len(all)-1 {
		t.Errorf("%d of #sync, the last is frame %d of %d", syncs, last, len(all))
	}
}

// TestReferenceTakeOverRelay: indigo's relay that follows the old server accepts what is written
// after the switch, and complains of nothing.
func TestReferenceTakeOverRelay(t *testing.T) {
	binary := indigoBinary(t, "relay")
	s := newSwitch(t, syscall.SIGTERM)
	// It has seen events before: after the first one it would come back without a cursor, since
	// what it remembers is one event behind.
	seen := numberOf(t, frames(t, s.old.Base))
	relay := startRelay(t, binary, s.old.plc, mustParse(t, s.old.Base).Host, seen)
	arrives := func(uri string) {
		t.Helper()
		path := uri[strings.Index(uri, "/app.bsky.")+1:]
		if err := subscribe(t.Context(), relay.base, 0, func(frame []byte) bool {
			_, _, m := digest(t, frame)
			c, ok := m.(*comatproto.SyncSubscribeRepos_Commit)
			return !ok || len(c.Ops) != 1 || c.Ops[0].Path != path
		}); err != nil {
			t.Fatalf("%s did not come through: %v\n%s", uri, err, relay.complaints())
		}
	}
	who := s.old.SignIn(t, "alice.test", pdstest.Password)
	uri, _ := writePost(t, s.old.Client, pdstest.Bearer(who.AccessJwt), who.DID, newPost("before the switch"))
	arrives(uri)
	last := numberOf(t, frames(t, s.old.Base))
	s.old.stop(t, s.signal)
	s.take()
	s.serve()
	for range 3 {
		uri, _ = writePost(t, s.nestbox.Client, pdstest.Bearer(who.AccessJwt), who.DID, newPost("after the switch"))
	}
	arrives(uri)
	if got := numberOf(t, frames(t, s.nestbox.Base)); got != last+3 {
		t.Errorf("three writes lead from event %d to %d", last, got)
	}
	for line := range strings.Lines(relay.complaints()) {
		for _, word := range []string{"FutureCursor", "desync", "prevData", "future"} {
			if strings.Contains(line, word) {
				t.Errorf("the relay complains: %s", line)
			}
		}
	}
	relay.stop()
}
