package e2e

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"nestbox/internal/pdstest"
)

// The size of the mixed load: requests are of each writer, each time that it
// writes.
const (
	mixedAccounts = 20
	mixedRequests = 12
)

// TestFirehose lets twenty accounts write, come and go, while a strict consumer
// follows from the first event: it ends with what the server has.
func TestFirehose(t *testing.T) {
	server := pdstest.Launch(t, "", "PDS_LOG_LEVEL=warn")
	f := newFollower(t, server.Ready.PLC)
	load := newMixedLoad(t, server)
	load.signUp(mixedAccounts / 2)
	f.follow(server.Base) // half of the accounts are replayed
	load.signUp(mixedAccounts / 2)
	load.write(load.members)
	load.comeAndGo()
	end := load.end()
	f.awaitRev(end.did, end.rev)

	f.mu.Lock()
	j := f.judge
	f.mu.Unlock()
	pictures := 0
	for i, m := range load.members {
		r := j.repos[m.DID]
		if r == nil || r.status != m.status {
			t.Fatalf("account %d is %q, and the stream said %+v", i, m.status, r)
		}
		if m.status != "" {
			continue
		}
		got := checkExport(t, server.Client, j, m.writers...)
		if got.commit != r.commit.String() || got.rev != r.rev || r.unknown {
			t.Errorf("account %d is at %s %s; the stream ended at %s %s", i, got.rev, got.commit, r.rev, r.commit)
		}
		if d := difference(r.records, got.records); d != "" {
			t.Errorf("account %d, and what the stream said of it:\n%s", i, d)
		}
		for _, w := range m.writers {
			pictures += w.checkPictures(t)
		}
	}
	f.reread(server.Base)
	for _, kind := range []string{"#commit", "#sync", "#identity", "#account", "create", "update", "delete"} {
		if j.kinds[kind] < 10 {
			t.Errorf("only %d of %s: the load shows little", j.kinds[kind], kind)
		}
	}
	if pictures < 10 {
		t.Errorf("only %d pictures: the load shows little", pictures)
	}
	t.Logf("%d events: %v; %d pictures", j.seq, j.kinds, pictures)
	if t.Failed() {
		t.Logf("the server's log:\n%s", server.Log())
	}
}

// member is an account of the mixed load.
type member struct {
	pdstest.Session

	writers []*writer
	status  string // what the stream must have shown last
}

// mixedLoad is what happens to the accounts of a server.
type mixedLoad struct {
	t       *testing.T
	server  *pdstest.Process
	members []*member
}

func newMixedLoad(t *testing.T, server *pdstest.Process) *mixedLoad {
	t.Helper()
	return &mixedLoad{t: t, server: server}
}

// signUp makes accounts, each with two writers.
func (l *mixedLoad) signUp(n int) {
	l.t.Helper()
	for range n {
		i := len(l.members)
		s := l.server.SignUp(l.t, fmt.Sprintf("member%d", i))
		l.members = append(l.members, &member{Session: s, writers: []*writer{
			newWriter(l.server.Client, s, 1, uint64(i)), newWriter(l.server.Client, s, 2, uint64(i)),
		}})
		l.members[i].writers[0].profile = true
	}
}

// write lets the writers of some accounts work at once.
func (l *mixedLoad) write(members []*member) {
	var working sync.WaitGroup
	for _, m := range members {
		for _, w := range m.writers {
			working.Go(func() {
				for range mixedRequests {
					if err := w.step(l.t); err != nil {
						l.t.Errorf("%s: %v", m.Handle, err)
					}
				}
			})
		}
	}
	working.Wait()
}

// comeAndGo deactivates, takes down and deletes two each of the first six
// accounts while the others write, but for a seventh that is deactivated and
// activated while it writes; then one of the two each is back and all write.
func (l *mixedLoad) comeAndGo() {
	l.t.Helper()
	var others sync.WaitGroup
	others.Go(func() { l.write(l.members[7:]) })
	others.Go(func() { l.flicker(l.members[6]) })
	for _, m := range l.members[:2] {
		l.activate(m, false)
	}
	for _, m := range l.members[2:4] {
		l.takedown(m, true)
	}
	for _, m := range l.members[4:6] {
		l.do(pdstest.Request{NSID: "com.atproto.admin.deleteAccount", Auth: adminAuth(), Body: map[string]string{"did": m.DID}})
		m.status = "deleted"
	}
	others.Wait()
	l.activate(l.members[0], true)
	l.takedown(l.members[2], false)
	l.write(slices.Concat(l.members[:1], l.members[2:3], l.members[6:]))
}

// flicker is deactivated and activated while it writes: refused writes are not
// made.
func (l *mixedLoad) flicker(m *member) {
	var writing sync.WaitGroup
	for _, w := range m.writers {
		writing.Go(func() {
			for range 3 * mixedRequests {
				if err := w.step(l.t); err != nil && !strings.Contains(err.Error(), "AccountDeactivated") {
					l.t.Errorf("%s: %v", m.Handle, err)
				}
			}
		})
	}
	for range 5 {
		l.activate(m, false)
		l.activate(m, true)
	}
	writing.Wait()
}

// end writes once into a new account and returns it: earlier writes come before
// it on the stream.
func (l *mixedLoad) end() *writer {
	l.t.Helper()
	w := newWriter(l.server.Client, l.server.SignUp(l.t, "sentinel"), 0, 0)
	if err := w.write(l.t, []edit{w.create()}); err != nil {
		l.t.Fatal(err)
	}
	return w
}

func (l *mixedLoad) do(r pdstest.Request) {
	l.t.Helper()
	if a := l.server.Do(l.t, r); a.Status != http.StatusOK {
		l.t.Errorf("%s: %d %s", r.NSID, a.Status, a.Body)
	}
}

func (l *mixedLoad) activate(m *member, active bool) {
	l.t.Helper()
	r := pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.activateAccount", Auth: pdstest.Bearer(m.AccessJwt)}
	m.status = ""
	if !active {
		r.NSID, r.Body, m.status = "com.atproto.server.deactivateAccount", map[string]string{}, "deactivated"
	}
	l.do(r)
}

// takedown applies or lifts a takedown; it ends the sessions.
func (l *mixedLoad) takedown(m *member, applied bool) {
	l.t.Helper()
	l.do(pdstest.Request{NSID: "com.atproto.admin.updateSubjectStatus", Auth: adminAuth(), Body: map[string]any{
		"subject":  map[string]string{"$type": "com.atproto.admin.defs#repoRef", "did": m.DID},
		"takedown": map[string]any{"applied": applied},
	}})
	m.status = "takendown"
	if applied {
		return
	}
	m.status = ""
	m.Session = l.server.SignIn(l.t, m.Handle, pdstest.Password)
	for _, w := range m.writers {
		w.token = m.AccessJwt
	}
}

// adminAuth is the operator of a development server.
func adminAuth() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:admin"))
}
