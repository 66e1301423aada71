//go:build reference

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipld/go-car"

	"nestbox/internal/pdstest"
)

// sums returns the SHA-256 of each file below a folder, but for what lies below skip.
func sums(t *testing.T, dir, skip string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path == skip {
				return filepath.SkipDir
			}
			return nil
		}
		raw, err := os.ReadFile(path)
		sum := sha256.Sum256(raw)
		all[strings.TrimPrefix(path, dir)] = hex.EncodeToString(sum[:])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// same fails the test for each key whose value differs.
func same(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if got[key] != want[key] {
			t.Errorf("%s, %s: got %.300s\nwant %.300s", what, key, got[key], want[key])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[key]; !ok {
			t.Errorf("%s, %s: is new", what, key)
		}
	}
}

// snapshot is what a server shows of everything in it, as text to be compared.
func snapshot(t *testing.T, c pdstest.Client, f *sourceFacts) map[string]string {
	t.Helper()
	all := map[string]string{}
	get := func(key, nsid string) []byte {
		a := c.Do(t, pdstest.Request{NSID: nsid})
		text := fmt.Sprintf("%d %s", a.Status, a.Body)
		if a.Status != http.StatusOK { // an error's message may be worded otherwise
			name, _ := a.Error(t)
			text = fmt.Sprintf("%d %s", a.Status, name)
		}
		all[key] = text
		return a.Body
	}
	all["listRepos"] = listRepos(t, c)
	for name, s := range f.sessions {
		raw := get(name+" getRepo", "com.atproto.sync.getRepo?did="+s.DID)
		if strings.HasPrefix(all[name+" getRepo"], "200") {
			all[name+" getRepo"] = blocksOf(t, raw)
		}
		if f.since[name] != revOf(t, c, s.DID) { // else the answer has the commit on purpose: docs/divergences.md
			raw := get(name+" getRepo since", "com.atproto.sync.getRepo?did="+s.DID+"&since="+f.since[name])
			if strings.HasPrefix(all[name+" getRepo since"], "200") {
				all[name+" getRepo since"] = blocksOf(t, raw)
			}
		}
		if a := c.Do(t, pdstest.Request{NSID: "com.atproto.repo.describeRepo?repo=" + s.DID}); a.Status == http.StatusOK {
			var d struct {
				Handle, DID string
				Collections []string
			}
			a.Decode(t, &d)
			slices.Sort(d.Collections)
			all[name+" describeRepo"] = fmt.Sprint(d)
		}
		for _, nsid := range []string{"com.atproto.sync.getLatestCommit", "com.atproto.sync.getRepoStatus"} {
			get(name+" "+nsid, nsid+"?did="+s.DID)
		}
		var blobs struct{ CIDs []string }
		if a := c.Do(t, pdstest.Request{NSID: "com.atproto.sync.listBlobs?did=" + s.DID}); a.Status == http.StatusOK {
			a.Decode(t, &blobs)
			slices.Sort(blobs.CIDs)
			all[name+" listBlobs"] = strings.Join(blobs.CIDs, " ")
		}
		var list struct{ Records []struct{ URI, CID string } }
		if a := c.Do(t, pdstest.Request{NSID: "com.atproto.repo.listRecords?limit=100&collection=app.bsky.feed.post&repo=" + s.DID}); a.Status == http.StatusOK {
			a.Decode(t, &list)
			all[name+" listRecords"] = fmt.Sprint(list.Records)
		}
	}
	return all
}

// listRepos returns the repositories that a server lists, in an order that is the same for the
// same set.
func listRepos(t *testing.T, c pdstest.Client) string {
	t.Helper()
	var list struct {
		Repos []struct {
			DID, Head, Rev, Status string
			Active                 bool
		}
	}
	c.Do(t, pdstest.Request{NSID: "com.atproto.sync.listRepos?limit=1000"}).Decode(t, &list)
	var lines []string
	for _, r := range list.Repos {
		lines = append(lines, fmt.Sprint(r))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// blocksOf returns the root and the blocks of a CAR file, in an order that is the same for
// the same set.
func blocksOf(t *testing.T, raw []byte) string {
	t.Helper()
	r, err := car.NewCarReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, b.Cid().String())
	}
	slices.Sort(ids)
	sum := sha256.Sum256([]byte(strings.Join(slices.Compact(ids), " ")))
	return fmt.Sprintf("root %s, %d blocks %x", r.Header.Roots, len(slices.Compact(ids)), sum)
}

// quiet is how long a stream is silent when all was read.
const quiet = 2 * time.Second

// frames returns the whole event stream of a server.
func frames(t *testing.T, base string) (all [][]byte) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	silence := time.AfterFunc(quiet, cancel)
	err := subscribe(ctx, base, 0, func(frame []byte) bool {
		silence.Reset(quiet)
		all = append(all, slices.Clone(frame))
		return true
	})
	if ctx.Err() == nil {
		t.Fatal(err)
	}
	return all
}
