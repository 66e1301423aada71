package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"nestbox/internal/pdstest"
)

// The size of the load of TestKillRepositories.
const (
	killedRepos   = 4
	killedWriters = 2 // of each
)

// TestKillRepositories kills the real binary again and again while accounts
// write, come and go, and a strict consumer follows. No acknowledged write is
// missing, none is half there; no event that was seen is contradicted, none is
// missing, no rev goes back.
func TestKillRepositories(t *testing.T) {
	dir := pdstest.TempDir(t)
	server := launchAt(t, dir, "127.0.0.1:0")
	address := mustParse(t, server.Base).Host
	f := newFollower(t, server.Ready.PLC)
	wait := f.follow(server.Base)
	var members []*killedMember
	for i := range killedRepos + 1 {
		s := server.SignUp(t, fmt.Sprintf("killed%d", i))
		m := &killedMember{Session: s, flickers: i == killedRepos}
		for clock := range uint(killedWriters) {
			m.writers = append(m.writers, newWriter(server.Client, s, clock, rand.Uint64()))
		}
		members = append(members, m)
		f.await(func(j *judge) bool { return j.repos[s.DID] != nil })
	}
	for round := range killRounds(t) {
		for _, m := range members {
			m.active = m.isActive(t, server.Client)
		}
		killUnder(t, server, members, time.Duration(20+rand.IntN(180))*time.Millisecond)
		wait()
		server = launchAt(t, dir, address)
		for _, m := range members {
			m.check(t, server.Client, f.judge)
		}
		if t.Failed() {
			t.Fatalf("in round %d; the server says:\n%s", round, server.Log())
		}
		wait = f.follow(server.Base)
	}
	requests := 0
	for _, m := range members {
		if !m.isActive(t, server.Client) {
			m.toggle(t, server.Client, false)
		}
		for _, w := range m.writers {
			requests += w.acked
			if w.acked == 0 {
				t.Error("a writer never got an answer: it shows nothing")
			}
		}
		w := m.writers[0]
		if err := w.write(t, []edit{w.create()}); err != nil {
			t.Fatal(err)
		}
		f.awaitRev(m.DID, w.rev)
		got, said := checkExport(t, server.Client, f.judge, m.writers...), f.judge.repos[m.DID]
		if got.commit != said.commit.String() || said.unknown {
			t.Errorf("%s is at %s, and the stream ended at %s", m.DID, got.commit, said.commit)
		}
		if d := difference(said.records, got.records); d != "" {
			t.Errorf("%s, and what the stream said of it:\n%s", m.DID, d)
		}
	}
	f.reread(server.Base)
	t.Logf("%d acknowledged writes, %d events: %v", requests, f.judge.seq, f.judge.kinds)
	server.Stop()
	wait()
	pdstest.Verify(t, dir)
}

// killedMember is an account whose server is killed.
type killedMember struct {
	pdstest.Session

	writers []*writer
	// flickers is set for one that is deactivated and activated all the time.
	flickers, active bool
	toggles          int
}

// killUnder lets everyone work until the server is killed.
func killUnder(t *testing.T, server *pdstest.Process, members []*killedMember, after time.Duration) {
	t.Helper()
	var working sync.WaitGroup
	for _, m := range members {
		for _, w := range m.writers {
			w.c = server.Client
			working.Go(func() { m.write(t, w) })
		}
		if m.flickers {
			working.Go(func() {
				for m.toggle(t, server.Client, m.active) {
					m.active = !m.active
				}
			})
		}
	}
	kill := time.NewTimer(after)
	<-kill.C
	server.Kill()
	working.Wait()
}

// write goes on until the server is gone.
func (m *killedMember) write(t *testing.T, w *writer) {
	for {
		err := w.step(t)
		switch {
		case err == nil:
		case w.asked != nil: // no answer
			return
		case !m.flickers || !strings.Contains(err.Error(), "AccountDeactivated"):
			t.Errorf("%s: %v", m.DID, err)
			return
		}
	}
}

// toggle deactivates an active account or activates another, and says whether
// it was answered.
func (m *killedMember) toggle(t *testing.T, c pdstest.Client, active bool) bool {
	r := pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.activateAccount", Auth: pdstest.Bearer(m.AccessJwt)}
	if active {
		r.NSID, r.Body = "com.atproto.server.deactivateAccount", map[string]string{}
	}
	a, err := c.Try(t, r)
	if err == nil && a.Status != http.StatusOK {
		t.Errorf("%s: %d %s", r.NSID, a.Status, a.Body)
	}
	m.toggles++
	return err == nil && a.Status == http.StatusOK
}

func (m *killedMember) isActive(t *testing.T, c pdstest.Client) bool {
	t.Helper()
	var status struct{ Active bool }
	c.Do(t, pdstest.Request{NSID: "com.atproto.sync.getRepoStatus?did=" + m.DID}).Decode(t, &status)
	return status.Active
}

// check compares an account with what its writers know, after a restart. One
// that is deactivated does not show its repository; it is checked another time.
func (m *killedMember) check(t *testing.T, c pdstest.Client, j *judge) {
	t.Helper()
	if m.isActive(t, c) {
		checkExport(t, c, j, m.writers...)
		return
	}
	if !m.toggle(t, c, false) {
		t.Errorf("%s cannot be activated", m.DID)
		return
	}
	checkExport(t, c, j, m.writers...)
}
