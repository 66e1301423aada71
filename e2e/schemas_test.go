package e2e

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"nestbox/internal/pdstest"
)

// schemaFiles has the files of the data directory that all databases of testdata/schemas belong to.
const schemaFiles = "testdata/schemas/files.tar.gz"

func schemaDatabase(n int) string { return fmt.Sprintf("testdata/schemas/%04d.sqlite.gz", n) }

// unpack puts the files of an archive into a folder.
func unpack(t *testing.T, from, dir string) {
	t.Helper()
	f, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, filepath.Clean(h.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(r)
		if err == nil {
			err = os.WriteFile(path, raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// dataOf returns a data directory as the version with a schema left it.
func dataOf(t *testing.T, schema int) string {
	t.Helper()
	dir := filepath.Join(pdstest.TempDir(t), "data")
	unpack(t, schemaFiles, dir)
	f, err := os.Open(schemaDatabase(schema))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(zip)
	if err == nil {
		err = errors.Join(os.WriteFile(filepath.Join(dir, "nestbox.sqlite"), raw, 0o600), os.Chmod(dir, 0o700))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// released is the last schema of which testdata/schemas has a database. After a release, raise it to
// the newest one and run TestMakeSchemas.
const released = 34

// schemas returns the numbers of all schemas that there were.
func schemas(t *testing.T) (all []int) {
	t.Helper()
	scripts, err := filepath.Glob("../store/sqlite/migrations/*.sql")
	if err != nil || len(scripts) == 0 {
		t.Fatal(err)
	}
	for _, name := range scripts {
		n, err := strconv.Atoi(filepath.Base(name)[:4])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, n)
	}
	return all
}

// usable fails the test unless people can use their accounts in a data directory of testdata.
func usable(t *testing.T, p *pdstest.Process, schema int) {
	t.Helper()
	alice := p.SignIn(t, "alice.test", pdstest.Password)
	p.MustRefresh(t, alice.RefreshJwt)
	nsids := []string{"com.atproto.sync.getRepo?did=" + alice.DID, "com.atproto.sync.getLatestCommit?did=" + alice.DID}
	if schema > 1 { // there were no repositories yet
		nsids = append(nsids, "com.atproto.repo.getRecord?collection=com.example.note&rkey=note07&repo="+alice.DID)
	}
	for _, nsid := range nsids {
		if got := p.Do(t, pdstest.Request{NSID: nsid}); got.Status != http.StatusOK {
			t.Errorf("%s: %d %s", nsid, got.Status, got.Body)
		}
	}
	wrote := p.Do(t, pdstest.Request{
		Method: http.MethodPost, NSID: "com.atproto.repo.createRecord", Auth: pdstest.Bearer(alice.AccessJwt),
		Body: map[string]any{"repo": alice.DID, "collection": "com.example.note", "record": map[string]any{"$type": "com.example.note", "text": "after the upgrade"}},
	})
	if wrote.Status != http.StatusOK {
		t.Errorf("write: %d %s", wrote.Status, wrote.Body)
	}
}

// TestSchemas: a data directory of each schema that there ever was starts, is kept as it was,
// serves, and holds no fault afterwards (Launch verifies it).
func TestSchemas(t *testing.T) {
	t.Parallel()
	all := schemas(t)
	newest := all[len(all)-1]
	for _, n := range all {
		if n > released {
			continue
		}
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			t.Parallel()
			dir := dataOf(t, n)
			p := pdstest.Launch(t, dir)
			usable(t, p, n)
			kept := filepath.Join(dir, fmt.Sprintf("before-%d.sqlite", newest))
			if n == newest {
				return
			}
			if got := headerSchema(t, kept); got != n {
				t.Errorf("the copy that was kept has schema %d", got)
			}
			if fi, err := os.Stat(kept); err != nil || fi.Mode().Perm() != 0o600 {
				t.Errorf("the copy's mode: %v, %v", fi.Mode(), err)
			}
			p.AwaitLog("the database was kept as it is before the upgrade")
		})
	}
}

// headerSchema reads a database's schema from its file.
func headerSchema(t *testing.T, path string) int {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil || len(raw) < 100 {
		t.Fatal(len(raw), err)
	}
	return int(raw[60])<<24 | int(raw[61])<<16 | int(raw[62])<<8 | int(raw[63])
}

// TestUpgradeKilled: a server that is killed at any moment of an upgrade starts again, with what
// people had; the copy stays that of the beginning.
func TestUpgradeKilled(t *testing.T) {
	t.Parallel()
	const old = 1 // the most migrations
	dir := dataOf(t, old)
	seen := map[int]int{}
	for delay := time.Millisecond; delay < 250*time.Millisecond; delay += delay/4 + 2*time.Millisecond {
		cmd := exec.CommandContext(t.Context(), pdstest.Binary(t), "serve", "--dev", "--listen", "127.0.0.1:0", "--data", dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(delay)
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		seen[int(readDatabase(t, dir, "PRAGMA user_version;"))]++
	}
	t.Logf("killed so often at each schema: %v", seen)
	p := pdstest.Launch(t, dir)
	usable(t, p, old)
	newest := int(readDatabase(t, dir, "PRAGMA user_version;"))
	if got := headerSchema(t, filepath.Join(dir, fmt.Sprintf("before-%d.sqlite", newest))); got != old {
		t.Errorf("the copy that was kept has schema %d", got)
	}
	if parts, err := filepath.Glob(filepath.Join(dir, "*.part")); err != nil || len(parts) > 0 {
		t.Errorf("left behind: %q, %v", parts, err)
	}
}

// TestDowngrade: the way back from an upgrade, as the refusal names it. Nothing is lost on it: the
// newer database is kept, and can be put back.
func TestDowngrade(t *testing.T) {
	t.Parallel()
	const old = 28 // some schema before the newest
	dir := dataOf(t, old)
	p := pdstest.Launch(t, dir)
	usable(t, p, old)
	newest := int(readDatabase(t, dir, "PRAGMA user_version;"))
	last := readDatabase(t, dir, "SELECT seq FROM sqlite_sequence WHERE name = 'event';")
	run := func(code int, args ...string) pdstest.Result {
		t.Helper()
		r := pdstest.Exec(t, pdstest.Invocation{Args: append(args, "--dev", "--data", dir)})
		if r.Code != code {
			t.Errorf("%v: %+v", args, r)
		}
		return r
	}
	wantContains(t, run(1, "downgrade", "--to-copy").Stderr, fmt.Sprintf("served by process %d", p.PID()))
	p.Stop()

	// A binary that knows no later schema than the copy's refuses the database; this one refuses
	// one that is newer still, in the same words.
	alterDatabase(t, dir, "PRAGMA user_version = 1001; UPDATE standing SET min_reader = 1001;")
	kept := filepath.Join(dir, fmt.Sprintf("before-%d.sqlite", newest))
	wantContains(t, serveFails(t, nil, "--dev", "--listen", "127.0.0.1:0", "--data", dir),
		"newer nestbox", "schema 1001", kept, "nestbox downgrade --to-copy --copy "+kept)
	// One that lets it work is served as it is.
	alterDatabase(t, dir, fmt.Sprintf("UPDATE standing SET min_reader = %d;", newest))
	p.Restart()
	usable(t, p, old)
	p.Stop()
	if got := readDatabase(t, dir, "PRAGMA user_version;"); got != 1001 {
		t.Errorf("a newer schema became %d", got)
	}
	last = max(last, readDatabase(t, dir, "SELECT seq FROM sqlite_sequence WHERE name = 'event';"))

	out := run(0, "downgrade", "--to-copy").Stdout
	wantContains(t, out, fmt.Sprintf("(schema %d)", old), "newer-1001-", fmt.Sprintf("nestbox firehose jump --to %d", last))
	if got := headerSchema(t, filepath.Join(dir, "nestbox.sqlite")); got != old {
		t.Errorf("the database has schema %d", got)
	}
	newer, err := filepath.Glob(filepath.Join(dir, "newer-1001-*.sqlite"))
	if err != nil || len(newer) != 1 || headerSchema(t, newer[0]) != 1001 {
		t.Errorf("the newer database: %q, %v", newer, err)
	}
	wantContains(t, run(1, "downgrade", "--to-copy").Stderr, "no copy of the database")
	// The version of the copy is not at hand: this one goes on with it, and upgrades it again.
	p.Restart()
	usable(t, p, old)
}
