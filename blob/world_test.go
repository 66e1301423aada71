package blob_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/account"
	"nestbox/blob"
	"nestbox/blob/disk"
	"nestbox/dagcbor"
	"nestbox/firehose/event"
	"nestbox/hosting"
	"nestbox/internal/durable"
	"nestbox/repo"
	"nestbox/repo/car"
	"nestbox/repo/mst"
	"nestbox/store/storetest"
)

// steps is a test's hook into the steps of the service: it is called with the name
// of each before it, and with "after" and the name after it. If it returns an
// error, so does the step.
type steps func(step string) error

func (s steps) before(step string) error {
	if s == nil {
		return nil
	}
	return s(step)
}

func (s steps) after(step string, err error) error {
	if err == nil && s != nil {
		err = s("after " + step)
	}
	return err
}

// watched is a real store with steps around its writes.
type watched struct {
	blob.Store
	w *world
}

func (s watched) Intend(ctx context.Context, key string, at time.Time) error {
	if err := s.w.steps.before("intend"); err != nil {
		return err
	}
	return s.w.steps.after("intend", s.Store.Intend(ctx, key, at))
}

func (s watched) Add(ctx context.Context, accountID int64, b blob.Blob, quota int64) (blob.Blob, error) {
	if err := s.w.steps.before("add"); err != nil {
		return blob.Blob{}, err
	}
	b, err := s.Store.Add(ctx, accountID, b, quota)
	return b, s.w.steps.after("add", err)
}

func (s watched) Collect(ctx context.Context, unused, unreferenced time.Time) (int, bool, error) {
	if err := s.w.steps.before("collect"); err != nil {
		return 0, false, err
	}
	n, more, err := s.Store.Collect(ctx, unused, unreferenced)
	return n, more, s.w.steps.after("collect", err)
}

func (s watched) Garbage(ctx context.Context, intended time.Time, after string, limit int) ([]string, error) {
	keys, err := s.Store.Garbage(ctx, intended, after, limit)
	if len(keys) > 0 {
		err = s.w.steps.after("garbage", err)
	}
	return keys, err
}

func (s watched) Forget(ctx context.Context, keys []string) error {
	if err := s.w.steps.before("forget"); err != nil {
		return err
	}
	return s.w.steps.after("forget", s.Store.Forget(ctx, keys))
}

// watchedFiles are real files with steps around the operations on them.
type watchedFiles struct {
	blob.Files
	w *world
}

func (f watchedFiles) Create(ctx context.Context) (blob.Upload, error) {
	if err := f.w.steps.before("create"); err != nil {
		return nil, err
	}
	u, err := f.Files.Create(ctx)
	return watchedUpload{u, f.w}, err
}

func (f watchedFiles) Open(ctx context.Context, key string) (blob.File, error) {
	if err := f.w.steps.before("open"); err != nil {
		return nil, err
	}
	return f.Files.Open(ctx, key)
}

func (f watchedFiles) Remove(ctx context.Context, key string) error {
	if err := f.w.steps.before("remove"); err != nil {
		return err
	}
	return f.w.steps.after("remove", f.Files.Remove(ctx, key))
}

type watchedUpload struct {
	blob.Upload
	w *world
}

func (u watchedUpload) Write(p []byte) (int, error) {
	if err := u.w.steps.before("write"); err != nil {
		return 0, err
	}
	return u.Upload.Write(p)
}

func (u watchedUpload) Commit(ctx context.Context, key string) error {
	if err := u.w.steps.before("commit"); err != nil {
		return err
	}
	return u.w.steps.after("commit", u.Upload.Commit(ctx, key))
}

func (u watchedUpload) Abort() {
	if u.w.steps.before("abort") == nil {
		u.Upload.Abort()
	}
}

// world is the service on a real database and real files.
type world struct {
	*blob.Service
	*storetest.World
	steps

	t       *testing.T
	blobs   string // the folder
	files   *disk.Files
	account *account.Account
	start   time.Time
	revs    int
	keys    atomic.Int64
}

// newWorld returns a world with one account, with an empty repository.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, World: storetest.NewWorld(t), blobs: filepath.Join(t.TempDir(), "blobs")}
	w.open()
	t.Cleanup(func() {
		if err := w.files.Close(); err != nil {
			t.Error(err)
		}
	})
	w.start = w.Clock.Now()
	w.account = w.Account(hosting.Pending{DID: "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", Handle: "alice.test"})
	d := mst.NewTree(1).Flush()
	first := w.signed(repo.Change{AccountID: w.account.ID, Next: repo.Head{DID: w.account.DID, Root: d.Root, NextNode: d.NextID}, Nodes: d.Changed})
	if err := w.Repos.Begin(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	return w
}

// open builds the service as a start of the server does.
func (w *world) open() {
	w.t.Helper()
	var err error
	if w.files, err = disk.Open(w.blobs, ""); err != nil {
		w.t.Fatal(err)
	}
	w.Service = &blob.Service{
		Store: watched{w.Blobs, w}, Files: watchedFiles{w.files, w},
		UploadLimit: 1 << 20, Unused: 24 * time.Hour, Unreferenced: time.Hour,
		NewKey: func() string { return fmt.Sprintf("K%05d", w.keys.Add(1)) }, Now: w.Clock.Now, Log: slog.New(slog.DiscardHandler),
	}
}

// restart builds what a process finds that starts after another was killed.
func (w *world) restart() {
	w.t.Helper()
	if err := w.files.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.Reopen()
	w.steps = nil
	w.open()
}

// signed returns c with the commit of its tree.
func (w *world) signed(c repo.Change) repo.Change {
	w.revs++
	c.Next.Rev = syntax.NewTIDFromTime(w.start.Add(time.Duration(w.revs)*time.Second), 0)
	c.Next.First = cmp.Or(c.Next.First, c.Next.Rev)
	c.At = w.Clock.Now()
	commit := repo.Commit{DID: c.Next.DID, Data: c.Next.Root.CID, Rev: c.Next.Rev, Sig: make([]byte, 64)}
	c.Next.Commit = commit.Encode()
	c.Next.CID = dagcbor.CID(c.Next.Commit)
	c.Event = event.Sync{DID: c.Next.DID, Rev: c.Next.Rev, Commit: car.Block{CID: c.Next.CID, Data: c.Next.Commit}, Time: c.At}.Event()
	return c
}

// write makes a commit that puts a record which refers to blobs under rkey, or
// without blobs removes the record.
func (w *world) write(rkey string, blobs ...cid.Cid) error {
	c := repo.Change{AccountID: w.account.ID}
	record := repo.Write{Key: "app.post/" + rkey, Blobs: blobs}
	err := w.Repos.View(w.t.Context(), w.account.ID, func(v repo.View) error {
		head := v.Head()
		c.Was, c.Next = head.CID, head
		tree, err := mst.Open(head.Root, head.NextNode, v.Node)
		if err != nil {
			return err
		}
		if len(blobs) == 0 {
			c.Next.Records--
			_, err = tree.Delete(record.Key)
		} else {
			c.Next.Records++
			if record.Block, err = dagcbor.Encode(map[string]any{"text": rkey}); err != nil {
				return err
			}
			record.CID = dagcbor.CID(record.Block)
			err = tree.Create(record.Key, record.CID)
		}
		d := tree.Flush()
		c.Next.Root, c.Next.NextNode, c.Nodes, c.Freed = d.Root, d.NextID, d.Changed, d.Freed
		return err
	})
	if err != nil {
		return err
	}
	c.Writes = []repo.Write{record}
	return w.Repos.Commit(w.t.Context(), w.signed(c))
}

// imported replaces the account's repository by one whose only record refers to
// blobs.
func (w *world) imported(rkey string, blobs ...cid.Cid) {
	w.t.Helper()
	store, ctx := w.Repos, w.t.Context()
	number, err := store.Stage(ctx, w.account.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	block, err := dagcbor.Encode(map[string]any{"text": rkey})
	if err != nil {
		w.t.Fatal(err)
	}
	record := repo.Write{Key: "app.post/" + rkey, CID: dagcbor.CID(block), Block: block, Blobs: blobs}
	tree := mst.NewTree(1)
	if err := tree.Create(record.Key, record.CID); err != nil {
		w.t.Fatal(err)
	}
	d := tree.Flush()
	c := w.signed(repo.Change{Next: repo.Head{Number: number, DID: w.account.DID, Root: d.Root, NextNode: d.NextID, Records: 1}})
	var was cid.Cid
	err = store.View(ctx, w.account.ID, func(v repo.View) error { was = v.Head().CID; return nil })
	if err == nil {
		err = store.Fill(ctx, number, c.Next.Rev, d.Changed, []repo.Write{record})
	}
	if err == nil {
		err = store.Switch(ctx, w.account.ID, was, c.Next, c.Event, c.At)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) mustWrite(rkey string, blobs ...cid.Cid) {
	w.t.Helper()
	if err := w.write(rkey, blobs...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) upload(content string) blob.Blob {
	w.t.Helper()
	b, err := w.Upload(w.t.Context(), w.account.ID, strings.NewReader(content), -1, "text/plain", anything)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

func (w *world) collect() {
	w.t.Helper()
	if err := w.Collect(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// read returns the content of a blob that a record refers to.
func (w *world) read(id cid.Cid) (string, error) {
	b, file, err := w.Open(w.t.Context(), w.account.ID, id)
	if err != nil {
		return "", err
	}
	content, err := io.ReadAll(file)
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	if err == nil && (b.CID != id || b.Size != int64(len(content)) || id != cidOf(string(content))) {
		err = fmt.Errorf("%+v is not what is in its file", b)
	}
	return string(content), err
}

func cidOf(content string) cid.Cid { return dagcbor.RawCID(sha256.Sum256([]byte(content))) }

// wantRead fails the test unless the blob of content can be read.
func (w *world) wantRead(content string) {
	w.t.Helper()
	if got, err := w.read(cidOf(content)); got != content || err != nil {
		w.t.Errorf("read %q, %v; want %q", got, err, content)
	}
}

func (w *world) wantGone(content string) {
	w.t.Helper()
	if got, err := w.read(cidOf(content)); !errors.Is(err, blob.ErrNotFound) {
		w.t.Errorf("read %q, %v; want ErrNotFound", got, err)
	}
}

// wantFiles fails the test unless exactly the files of those keys exist; a
// half-written one has no key.
func (w *world) wantFiles(keys ...string) {
	w.t.Helper()
	var got []string
	err := filepath.WalkDir(w.blobs, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() != durable.LockName {
			got = append(got, filepath.Base(path))
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	slices.Sort(keys)
	if !slices.Equal(got, keys) {
		w.t.Errorf("files %q, want %q", got, keys)
	}
}

// wantNoGarbage fails the test unless nothing is left to remove, whatever its age.
func (w *world) wantNoGarbage() {
	w.t.Helper()
	keys, err := w.Blobs.Garbage(w.t.Context(), w.start.Add(1000*time.Hour), "", 10)
	if err != nil || len(keys) > 0 {
		w.t.Errorf("garbage %q, %v", keys, err)
	}
}
