package e2e

import (
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"nestbox/internal/pdstest"
	"nestbox/plc/directory"
)

// The size of the load of TestKillRepositories.
const (
	killedRepos   = 20
	killedWriters = 2 // of each
	killedAtOnce  = 7 // that write in a round, besides those whose status changes
)

// TestKillRepositories kills the real binary again and again while accounts write,
// come and go, and a strict consumer, indigo's relay and its tap follow. No
// acknowledged write is missing or incomplete; no event that was seen is
// contradicted, none is missing, no rev goes back. At the end every consumer has
// what the server has of every repository, and indigo's programs found no fault
// except lost connections.
//
// NESTBOX_SOAK=2h makes it go on for that long, with stretches of load between
// the kills that are longer now and then.
func TestKillRepositories(t *testing.T) {
	k := newKilling(t)
	round := 0
	for after := range k.rounds() {
		k.choose(round)
		k.killUnder(after)
		k.restart()
		for _, m := range k.working {
			m.settle(k)
		}
		if t.Failed() {
			t.Fatalf("in round %d; the server says:\n%s", round, k.server.Log())
		}
		k.wait = k.judge.follow(k.server.Base)
		round++
	}
	k.end(round)
}

// killing is a server that is killed under load, and its consumers.
type killing struct {
	t      *testing.T
	dir    string
	plc    string
	gate   *gate
	server *pdstest.Process

	judge *follower
	wait  func() // for the end of the judge's stream
	relay *relay // nil where it is not built
	tap   *tap   // nil where it is not built

	members, working []*killedMember
}

func newKilling(t *testing.T) *killing {
	t.Helper()
	binaries := map[string]string{}
	for _, name := range []string{"relay", "tap"} {
		t.Run(name+" is built", func(t *testing.T) { binaries[name] = indigoBinary(t, name) })
	}
	k := &killing{t: t, dir: pdstest.TempDir(t), plc: startDirectory(t), gate: newGate(t)}
	k.restart()
	k.server.SignUp(t, "before")
	host, seen := mustParse(t, k.server.Base).Host, lastEvent(t, k.server)
	if binary := binaries["relay"]; binary != "" {
		r := startRelay(t, binary, k.plc, host, seen)
		k.relay = &r
	}
	if binary := binaries["tap"]; binary != "" {
		k.tap = startTap(t, binary, k.plc, k.server.Base)
	}
	k.judge = newFollower(t, k.plc)
	k.wait = k.judge.follow(k.server.Base)
	for i := range killedRepos {
		m := &killedMember{Session: k.server.SignUp(t, fmt.Sprintf("killed%d", i))}
		for clock := range uint(killedWriters) {
			w := newWriter(k.server.Client, m.Session, clock, rand.Uint64())
			w.profile = clock == 0
			m.writers = append(m.writers, w)
		}
		k.members = append(k.members, m)
		k.judge.await(func(j *judge) bool { return j.repos[m.DID] != nil })
	}
	k.members[0].role, k.members[1].role, k.members[2].role = flickers, isTakenDown, isDeleted
	if k.tap != nil {
		// tap may lose what is written while it reads a repository for the
		// first time: see TestTap.
		for _, m := range k.members {
			k.tap.awaitAbout(m.DID, "resync repo complete")
		}
	}
	return k
}

// startDirectory runs a PLC directory that is never killed.
func startDirectory(t *testing.T) string {
	t.Helper()
	d, err := directory.Open(filepath.Join(t.TempDir(), "plc"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(d.Handler())
	t.Cleanup(func() {
		s.Close()
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return s.URL
}

// rounds yields how long each is to go on until the server is killed.
func (k *killing) rounds() iter.Seq[time.Duration] {
	k.t.Helper()
	soak := time.Duration(0)
	if text := os.Getenv("NESTBOX_SOAK"); text != "" {
		var err error
		if soak, err = time.ParseDuration(text); err != nil {
			k.t.Fatalf("NESTBOX_SOAK: %v", err)
		}
	}
	end, n := time.Now().Add(soak), killRounds(k.t)
	return func(yield func(time.Duration) bool) {
		for i := 0; soak == 0 && i < n || soak != 0 && time.Now().Before(end); i++ {
			after := time.Duration(20+rand.IntN(180)) * time.Millisecond
			if soak != 0 && i%20 == 19 {
				after = time.Duration(rand.IntN(20_000)) * time.Millisecond
			}
			if !yield(after) {
				return
			}
		}
	}
}

// restart starts the server, and lets its consumers through to it.
func (k *killing) restart() {
	k.t.Helper()
	k.server = launchAt(k.t, k.dir, k.gate.backend, "PDS_DID_PLC_URL="+k.plc)
	k.server.HTTP.Transport = &http.Transport{MaxIdleConnsPerHost: 100, DialContext: k.gate.past}
	k.gate.swing(true)
	for _, m := range k.members {
		for _, w := range m.writers {
			w.c = k.server.Client
		}
	}
}

// choose picks the members that work in a round.
func (k *killing) choose(round int) {
	k.working = append(k.working[:0], k.members[0])
	if round%3 == 1 {
		k.working = append(k.working, k.members[1])
	}
	if m := k.members[2]; round%3 == 2 && m.status != "deleted" {
		m.due = round > 20
		k.working = append(k.working, m)
	}
	for _, i := range rand.Perm(killedRepos - 3)[:killedAtOnce] {
		k.working = append(k.working, k.members[i+3])
	}
}

// killUnder lets all members work until the server is killed.
func (k *killing) killUnder(after time.Duration) {
	k.t.Helper()
	var work sync.WaitGroup
	for _, m := range k.working {
		m.work(k, &work)
	}
	kill := time.NewTimer(after)
	<-kill.C
	k.gate.swing(false)
	k.server.Kill()
	work.Wait()
	k.wait()
}

// end makes every member write once more, and compares what each consumer has.
func (k *killing) end(rounds int) {
	t := k.t
	requests, pictures := 0, 0
	alive := slices.DeleteFunc(slices.Clone(k.members), func(m *killedMember) bool { return m.status == "deleted" })
	for _, m := range alive {
		for _, w := range m.writers {
			requests += w.acked
			pictures += w.checkPictures(t)
			if rounds > 40 && w.acked == 0 {
				t.Error("a writer never got an answer: it shows nothing")
			}
		}
		w := m.writers[0]
		if err := w.write(t, []edit{w.create()}); err != nil {
			t.Fatal(err)
		}
		k.judge.awaitRev(m.DID, w.rev)
		got, said := checkExport(t, k.server.Client, k.judge.judge, m.writers...), k.judge.judge.repos[m.DID]
		if got.commit != said.commit.String() || said.unknown {
			t.Errorf("%s is at %s, and the stream ended at %s", m.DID, got.commit, said.commit)
		}
		if d := difference(said.records, got.records); d != "" {
			t.Errorf("%s, and what the stream said of it:\n%s", m.DID, d)
		}
	}
	if rounds > 40 && len(alive) == len(k.members) {
		t.Error("no account was deleted")
	}
	k.judge.reread(k.server.Base)
	k.checkRelay(rounds)
	k.checkTap(rounds)
	j := k.judge.judge
	t.Logf("%d rounds, %d acknowledged writes, %d pictures, %d events: %v", rounds, requests, pictures, j.seq, j.kinds)
	k.server.Stop()
	k.wait()
	pdstest.Verify(t, k.dir)
}

// want is what must be in a repository.
func (m *killedMember) want() map[string]cid.Cid {
	want := map[string]cid.Cid{}
	for _, w := range m.writers {
		maps.Copy(want, w.records)
	}
	return want
}
