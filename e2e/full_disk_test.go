package e2e

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"nestbox/internal/pdstest"
	"nestbox/internal/smalldisk"
)

// TestFullDisk fills the disk with records while a strict consumer follows. A write
// is refused with a server's error, or is there as a whole; earlier content can be
// read; the server reports the fault. Once there is room it goes on, or starts
// again, with the same sessions.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]bool{"goes on": false, "starts again": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, resize := smalldisk.Mount(t, "24m")
			d := newFullDisk(t, pdstest.Launch(t, dir, "PDS_LOG_LEVEL=warn"))
			d.fill()
			d.fillWhole(dir)
			d.server.AwaitLog("database or disk is full")
			d.read()
			if restart {
				d.server.Stop()
				d.wait()
			}
			resize("64m")
			if restart {
				d.server.Restart()
				d.wait = d.f.follow(d.server.Base)
			}
			d.goOn()
		})
	}
}

// fullDisk is a server whose disk becomes full.
type fullDisk struct {
	t       *testing.T
	server  *pdstest.Process
	f       *follower
	wait    func()
	people  []pdstest.Session
	writers []*writer // two of each
	unsaved int       // refreshes
}

func newFullDisk(t *testing.T, server *pdstest.Process) *fullDisk {
	t.Helper()
	d := &fullDisk{t: t, server: server, f: newFollower(t, server.Ready.PLC)}
	d.wait = d.f.follow(server.Base)
	for i, name := range []string{"alice", "bob", "carol"} {
		s := server.SignUp(t, name)
		d.people = append(d.people, s)
		for clock := range uint(2) {
			d.writers = append(d.writers, newWriter(server.Client, s, clock, uint64(i)))
		}
		d.f.await(func(j *judge) bool { return j.repos[s.DID] != nil })
	}
	return d
}

// fill lets all write until each was refused some times.
func (d *fullDisk) fill() {
	const refusals = 10
	var writing sync.WaitGroup
	for _, w := range d.writers {
		writing.Go(func() {
			for refused := 0; refused < refusals; {
				if err := d.write(w); err != nil && !d.refused(err) {
					return
				} else if err != nil {
					refused++
				}
			}
		})
	}
	writing.Wait()
}

// write writes much, and now and then what others write, pictures too.
func (d *fullDisk) write(w *writer) error {
	changes := w.plan(1 + w.rng.IntN(3))
	for _, c := range changes {
		if c.record != nil && c.collection == "com.example.thing" {
			c.record["more"] = strings.Repeat("pad ", 20_000)
		}
	}
	if err := w.write(d.t, changes); err != nil || w.rng.IntN(4) != 0 {
		return err
	}
	return w.step(d.t)
}

// refused reports whether an error is the answer of a full disk. Any other
// error fails the test.
func (d *fullDisk) refused(err error) bool {
	var no *refusal
	if !errors.As(err, &no) {
		d.t.Errorf("no answer: %v", err)
		return false
	}
	if no.status != http.StatusServiceUnavailable || !strings.Contains(no.body, "ServiceUnavailable") {
		d.t.Errorf("refused with %v", no)
	}
	return true
}

// fillWhole fills the remaining room, so that not even a small write fits.
func (d *fullDisk) fillWhole(dir string) {
	d.t.Helper()
	f, err := os.Create(filepath.Join(dir, "of others"))
	if err != nil {
		d.t.Fatal(err)
	}
	for part := make([]byte, 4096); err == nil; {
		_, err = f.Write(part)
	}
	if err := f.Close(); err != nil {
		d.t.Error(err)
	}
	for _, w := range d.writers {
		if err := d.write(w); err != nil {
			d.refused(err)
		}
	}
}

// read reads earlier content, and refreshes sessions. A session that cannot be
// refreshed stays as it was.
func (d *fullDisk) read() {
	d.t.Helper()
	for i, p := range d.people {
		wantStatus(d.t, d.server.GetSession(d.t, p.AccessJwt), http.StatusOK)
		for path, id := range d.writers[2*i].records {
			collection, rkey, _ := strings.Cut(path, "/")
			a := d.server.Do(d.t, pdstest.Request{NSID: "com.atproto.repo.getRecord?repo=" + p.DID + "&collection=" + collection + "&rkey=" + rkey})
			if a.Status != http.StatusOK || !strings.Contains(string(a.Body), id.String()) {
				d.t.Errorf("%s of %s: %d %.200s", path, p.DID, a.Status, a.Body)
			}
		}
		switch a := d.server.Refresh(d.t, p.RefreshJwt); a.Status {
		case http.StatusOK:
			a.Decode(d.t, &d.people[i])
		case http.StatusServiceUnavailable:
			d.unsaved++
		default:
			d.t.Errorf("refresh on a full disk: %d %s", a.Status, a.Body)
		}
		// It needs room for a copy that does not change while it is sent.
		a := d.server.Do(d.t, pdstest.Request{NSID: "com.atproto.sync.getRepo?did=" + p.DID})
		if a.Status != http.StatusOK && a.Status != http.StatusServiceUnavailable {
			d.t.Errorf("getRepo on a full disk: %d %s", a.Status, a.Body)
		}
	}
}

// goOn makes all write again, and compares the content.
func (d *fullDisk) goOn() {
	t := d.t
	for i, p := range d.people {
		p = d.server.MustRefresh(t, p.RefreshJwt)
		writers := d.writers[2*i : 2*i+2]
		for _, w := range writers {
			w.c, w.token = d.server.Client, p.AccessJwt
			if err := d.write(w); err != nil {
				t.Errorf("there is room: %v", err)
			}
			if w.acked == 0 {
				t.Error("a writer wrote nothing: it shows nothing")
			}
			d.f.awaitRev(p.DID, w.rev)
			w.checkPictures(t)
		}
		got := checkExport(t, d.server.Client, d.f.judge, writers...)
		if said := d.f.judge.repos[p.DID]; said.commit.String() != got.commit {
			t.Errorf("%s is at %s, the stream ended at %s", p.DID, got.commit, said.commit)
		}
	}
	d.f.reread(d.server.Base)
	if t.Failed() {
		t.Logf("the server says:\n%s", d.server.Log())
	}
	t.Logf("%d events, %d refreshes were refused", d.f.judge.seq, d.unsaved)
}
