package repo_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/auth"
	"nestbox/ratelimit"
	"nestbox/repo"
	"nestbox/repo/mst"
	"nestbox/xrpc"
)

// send sends a file as the account's client does.
func (m mover) send(file []byte) error {
	m.w.t.Helper()
	_, err := m.w.ImportRepo(m.w.t.Context(), auth.FullCaller{Access: auth.Access{DID: m.did}},
		xrpc.Upload{ContentType: "application/vnd.ipld.car", Length: -1, Reader: bytes.NewReader(file)})
	return err
}

// wantStatus fails the test unless a client gets that status.
func wantStatus(t *testing.T, what string, err error, status int) {
	t.Helper()
	if err == nil || xrpc.AsError(t.Context(), err).Status != status {
		t.Errorf("%s: %v, want %d", what, err, status)
	}
}

// filling counts the parts of imports that are stored.
type filling struct {
	repo.Store

	parts int
}

func (f *filling) Fill(ctx context.Context, number int64, rev syntax.TID, nodes []mst.Changed, records []repo.Write) error {
	f.parts++
	return f.Store.Fill(ctx, number, rev, nodes, records)
}

// TestImportFreeDisk: a client's file, and what is stored of it, leave as much of the
// disk free as they take; a file that does not fit changes nothing. The operator's
// imports are not measured.
func TestImportFreeDisk(t *testing.T) {
	w := newWorld(t)
	alice := newMover(t, w)
	file := alice.file(t, posts(3000)).bytes()
	before := alice.head()
	store := &filling{Store: w.Store}
	w.Service.Store = store

	// The free space stays the same, though the file is written.
	w.Free = func() (int64, error) { return int64(len(file)), nil }
	wantStatus(t, "a file of more than half of what is free", alice.send(file), http.StatusServiceUnavailable)
	w.Free = func() (int64, error) {
		if store.parts > 0 {
			return 1000, nil
		}
		return 1 << 30, nil
	}
	wantStatus(t, "a disk that fills up", alice.send(file), http.StatusServiceUnavailable)
	if store.parts == 0 {
		t.Error("nothing was stored of it: this test cannot fail")
	}
	w.Free = func() (int64, error) { return 0, errors.New("no disk") }
	wantStatus(t, "a disk that cannot be asked", alice.send(file), http.StatusServiceUnavailable)
	if got := alice.head(); got.CID != before.CID {
		t.Errorf("the head went from %s to %s", before.CID, got.CID)
	}
	// The staged repository is dropped.
	for more := true; more; {
		var err error
		if more, err = w.Store.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}

	w.Free = func() (int64, error) { return 4 * int64(len(file)), nil }
	if err := alice.send(file); err != nil || alice.head().Records != 3000 {
		t.Errorf("with room enough: %v", err)
	}
	w.Free = func() (int64, error) { return 0, nil }
	alice.mustImport(alice.file(t, posts(10)).bytes())
}

// TestImportsAreCounted: what is verified and stored for a client in a day is
// limited.
func TestImportsAreCounted(t *testing.T) {
	w := newWorld(t)
	alice := newMover(t, w)
	w.Limits = ratelimit.New(100, w.clock.Now)
	all := ratelimit.Limit{Name: "imports", Points: 8 << 10, Window: 24 * time.Hour}
	if !w.Limits.TakeN(alice.did.String(), all.Points-1, all).Allowed {
		t.Fatal("there is such a limit no more")
	}
	if err := alice.send(alice.file(t, posts(30)).bytes()); err != nil {
		t.Errorf("the last point: %v", err)
	}
	head := alice.head()
	wantStatus(t, "none left", alice.send(alice.file(t, posts(31)).bytes()), http.StatusTooManyRequests)
	if alice.head().CID != head.CID {
		t.Error("what was refused was imported")
	}
	w.clock.Advance(24 * time.Hour)
	if err := alice.send(alice.file(t, posts(31)).bytes()); err != nil {
		t.Errorf("a day later: %v", err)
	}
}

// TestImportSameTree: a newer revision of the same tree is adopted, since others may
// have seen it.
func TestImportSameTree(t *testing.T) {
	w := newWorld(t)
	alice := newMover(t, w)
	was := alice.head()
	file := alice.file(t, posts(20))
	done := alice.mustImport(file.bytes())
	got := alice.head()
	if got.Root.CID != was.Root.CID {
		t.Fatal("the tree is another one")
	}
	if !done.Kept || got.CID != file.root || got.Rev <= was.Rev {
		t.Errorf("%+v, the head went from %s to %s", done, was.Rev, got.Rev)
	}
	alice.checkExport()
}
