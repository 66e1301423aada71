package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"nestbox/internal/pdstest"
)

// TestTapJump makes indigo's tap follow a server that loses what was written
// after its backup, and jumps: tap ends with what was restored, for accounts
// that write again and for those that do not, and follows them.
//
// Only changes and deletes are lost: tap does not notice missing records when
// it reads a repository again.
func TestTapJump(t *testing.T) {
	t.Parallel()
	binary := indigoBinary(t, "tap")
	plc := pdstest.Launch(t, "", "PDS_LOG_LEVEL=warn").Ready.PLC // of a server that does not stop
	dir := pdstest.TempDir(t)
	server := pdstest.Launch(t, dir, "PDS_LOG_LEVEL=warn", "PDS_DID_PLC_URL="+plc)
	address := freeAddress(t)
	tap := startProgram(t, binary, "run", "--full-network", "--disable-acks", "--bind", address, "--plc-url", plc,
		"--relay-url", server.Base, "--db-url", "sqlite://"+filepath.Join(t.TempDir(), "tap.db"))
	tap.await("connected to firehose")
	app := openTap(t, address)
	load := newMixedLoad(t, server)
	load.signUp(4)
	for _, m := range load.members {
		tap.awaitAbout(m.DID, "resync repo complete")
		for range 8 {
			load.edit(m, m.writers[0].create())
		}
	}
	app.await("before the backup", load.difference)

	backup := filepath.Join(pdstest.TempDir(t), "backup")
	server.Stop()
	if err := os.Remove(filepath.Join(dir, "control.sock")); err != nil { // not a file to copy
		t.Fatal(err)
	}
	if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	server.Restart()
	kept := map[*writer]map[string]cid.Cid{}
	for _, m := range load.members {
		w := m.writers[0]
		kept[w] = maps.Clone(w.records)
		load.change(m)
	}
	app.await("before it is lost", load.difference)

	server.Stop()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(backup)); err != nil {
		t.Fatal(err)
	}
	if _, err := pdstest.Run(t, "", "firehose", "jump", "--to", "1000000", "--dev", "--data", dir); err != nil {
		t.Fatal(err)
	}
	for w, records := range kept {
		w.records, w.rev = records, ""
	}
	server.Restart()
	app.await("after the jump", load.difference)
	for _, m := range load.members[:2] {
		load.change(m)
		load.edit(m, m.writers[0].create())
	}
	app.await("at the end", load.difference)
	for line := range strings.Lines(tap.complaints()) {
		if !strings.Contains(line, "firehose connection failed") && !strings.Contains(line, "dialing failed") {
			t.Errorf("tap complains: %s", line)
		}
	}
}

// edit is one write that must succeed.
func (l *mixedLoad) edit(m *member, changes ...edit) {
	l.t.Helper()
	if err := m.writers[0].write(l.t, changes); err != nil {
		l.t.Fatalf("%s: %v", m.Handle, err)
	}
}

// change deletes two records of an account's first writer and updates the others.
func (l *mixedLoad) change(m *member) {
	l.t.Helper()
	w := m.writers[0]
	var changes []edit
	for path := range maps.Keys(w.records) {
		collection, rkey, _ := strings.Cut(path, "/")
		c := edit{action: "delete", collection: collection, rkey: rkey}
		if len(changes) >= 2 {
			c.action, c.record = "update", w.record(collection)
			c.record["text"] = fmt.Sprint(c.record["text"], " again")
		}
		changes = append(changes, c)
	}
	l.edit(m, changes...)
}
