package directory_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	didplc "github.com/did-method-plc/go-didplc"

	"nestbox/plc"
	"nestbox/plc/directory"
)

const fileName = "operations.jsonl"

// export returns everything that a directory holds.
func export(t *testing.T, d *directory.Directory) string {
	t.Helper()
	return serve(t, d).get("/export").body
}

// filled returns a folder with a directory of two identities and one recovery.
func filled(t *testing.T) (folder string, ids []identity, last didplc.OpEnum) {
	t.Helper()
	folder = t.TempDir()
	d := open(t, folder, newClock())
	a, b := newIdentity(t, "alice.test"), newIdentity(t, "bob.test")
	last = move(t, a.genesis, "https://three.example.com", a.strong)
	for _, s := range []struct {
		did syntax.DID
		op  didplc.OpEnum
	}{
		{a.did, a.genesis},
		{b.did, b.genesis},
		{a.did, move(t, a.genesis, "https://two.example.com", a.weak)},
		{a.did, last},
	} {
		if err := d.Submit(s.did, s.op); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return folder, []identity{a, b}, last
}

func TestReopen(t *testing.T) {
	folder, ids, last := filled(t)
	c := newClock()
	before := export(t, open(t, folder, c))
	if n := strings.Count(before, "\n"); n != 4 || strings.Count(before, `"nullified":true`) != 1 {
		t.Fatalf("%d operations: %s", n, before)
	}
	d := open(t, folder, c)
	if err := d.Submit(ids[0].did, move(t, last, "https://four.example.com", ids[0].weak)); err != nil {
		t.Fatal(err)
	}
	after := export(t, d)
	if !strings.HasPrefix(after, before) || strings.Count(after, "\n") != 5 {
		t.Errorf("after one more:\n%s\nbefore:\n%s", after, before)
	}
	if again := export(t, open(t, folder, c)); again != after {
		t.Errorf("opened again:\n%s\nwant:\n%s", again, after)
	}
}

// TestTornLine cuts the file at every byte, as a crash can: the directory has the
// operations whose lines are whole, and goes on from there.
func TestTornLine(t *testing.T) {
	folder, _, _ := filled(t)
	whole, err := os.ReadFile(filepath.Join(folder, fileName))
	if err != nil {
		t.Fatal(err)
	}
	dir, c := t.TempDir(), newClock()
	path := filepath.Join(dir, fileName)
	newcomer := newIdentity(t, "carol.test")
	// Each byte of the last two lines, and a few of the first ones.
	cuts := []int{0, 1, len(whole) / 4, len(whole) / 2}
	for n := bytes.LastIndexByte(whole[:len(whole)-1], '\n') - 40; n <= len(whole); n += 7 {
		cuts = append(cuts, n)
	}
	for _, n := range append(cuts, len(whole)-1, len(whole)) {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := directory.Open(dir, c.Now)
		if err != nil {
			t.Fatalf("cut at %d: %v", n, err)
		}
		kept := whole[:bytes.LastIndexByte(whole[:n], '\n')+1]
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, kept) {
			t.Fatalf("cut at %d: %d bytes were kept (%v), want %d", n, len(now), err, len(kept))
		}
		if err := errors.Join(d.Submit(newcomer.did, newcomer.genesis), d.Close()); err != nil {
			t.Fatalf("cut at %d: %v", n, err)
		}
		again, err := directory.Open(dir, c.Now)
		if err != nil {
			t.Fatalf("cut at %d, opened again: %v", n, err)
		}
		if len(again.Log(newcomer.did)) != 1 {
			t.Fatalf("cut at %d: what was taken afterwards is lost", n)
		}
		_ = again.Close()
	}
}

// TestDamagedLine: a whole but wrong line does not come from a crash, and is not
// skipped.
func TestDamagedLine(t *testing.T) {
	folder, _, _ := filled(t)
	path := filepath.Join(folder, fileName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(whole), "\n")
	for name, c := range map[string]struct {
		text string
		says string
	}{
		"no JSON":                {lines[0] + "?" + lines[1] + lines[2], "line 2 is damaged"},
		"an empty line":          {lines[0] + "\n" + lines[1], "line 2 is damaged"},
		"cut in the middle":      {lines[0] + lines[1][:100] + "\n" + lines[2], "line 2 is damaged"},
		"no operation":           {lines[0] + `{"did":"did:plc:abc","operation":{},"createdAt":"2026-03-01T12:00:00Z"}` + "\n", "line 2: improper operation"},
		"one line is missing":    {lines[1] + lines[2], "line 2: operations not correctly ordered"},
		"a changed endpoint":     {strings.Replace(string(whole), "two.example", "evil.example", 1), "line 3: invalid signature"},
		"a changed time":         {lines[0] + lines[2] + strings.Replace(lines[3], "2026", "2027", 1), "line 3: recovery operation outside"},
		"the same line, twice":   {lines[0] + lines[0], "line 2: operations not correctly ordered"},
		"under another's DID":    {strings.Replace(lines[0], "did:plc:", "did:plc:a", 1), "line 1: hash of genesis"},
		"bytes that are no JSON": {lines[0] + "\x00\x00\x00\n", "line 2 is damaged"},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := directory.Open(folder, newClock().Now)
		if err == nil {
			_ = d.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %q and the file", name, err, c.says)
		}
		if now, rerr := os.ReadFile(path); rerr != nil || string(now) != c.text {
			t.Errorf("%s: the damaged file was changed", name)
		}
	}
}

func TestOpenFails(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(folder, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := directory.Open(folder, newClock().Now); err == nil {
		t.Error("a file was opened as the folder")
	}
	folder = t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, fileName), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := directory.Open(folder, newClock().Now); err == nil {
		t.Error("a folder was opened as the file")
	}
}

func TestClosed(t *testing.T) {
	d := open(t, t.TempDir(), newClock())
	id := newIdentity(t, "alice.test")
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	s := serve(t, d)
	s.post(id.did, id.genesis).want(t, "after Close", 500, jsonKind, message("Internal Server Error"))
	if len(d.Log(id.did)) != 0 {
		t.Error("an operation that was not stored is in the log")
	}
}

// TestConcurrency: of many operations that follow the same one, one is accepted;
// operations of other DIDs are not disturbed; the file holds the same.
func TestConcurrency(t *testing.T) {
	folder, c := t.TempDir(), newClock()
	d := open(t, folder, c)
	id := newIdentity(t, "alice.test")
	if err := d.Submit(id.did, id.genesis); err != nil {
		t.Fatal(err)
	}
	const n = 20
	var rivals []didplc.OpEnum
	var others []identity
	for i := range n {
		rivals = append(rivals, move(t, id.genesis, "https://"+string(rune('a'+i))+".example.com", id.weak))
		others = append(others, newIdentity(t, "bob.test"))
	}
	var won atomic.Int32
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			switch err := d.Submit(id.did, rivals[i]); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, plc.ErrSignature): // it does not undo what came first
				t.Errorf("a rival: %v", err)
			}
		})
		all.Go(func() {
			if err := d.Submit(others[i].did, others[i].genesis); err != nil {
				t.Errorf("another's genesis: %v", err)
			}
		})
		all.Go(func() {
			for _, e := range d.Log(id.did) {
				if e.Nullified {
					t.Error("nobody undid anything")
				}
			}
		})
	}
	all.Wait()
	if won.Load() != 1 || len(d.Log(id.did)) != 2 {
		t.Errorf("%d of %d rivals were taken", won.Load(), n)
	}
	before := export(t, d)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if after := export(t, open(t, folder, c)); after != before || strings.Count(after, "\n") != n+2 {
		t.Errorf("the file says\n%s\nand the server said\n%s", after, before)
	}
}
