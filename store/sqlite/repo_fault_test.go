package sqlite_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/ipfs/go-cid"

	"nestbox/blob"
	"nestbox/dagcbor"
	"nestbox/repo"
	"nestbox/repo/mst"
	"nestbox/store/sqlite"
)

// repoWorld is an account with a repository of one record that refers to a blob,
// and changes of it that were computed, none of them made yet.
type repoWorld struct {
	writer      *writer
	was         repo.Head
	used, other cid.Cid // blobs, one of them referred to

	commit, imported repo.Change
	// resigned is another commit of the tree that is there.
	resigned repo.Change
}

func openRepoWorld(t *testing.T, db *sqlite.DB) repoWorld {
	t.Helper()
	w := repoWorld{writer: newWriter(t, db, "carol")}
	id := w.writer.account.ID
	w.used, w.other = uploadBlob(t, db, id, "used"), uploadBlob(t, db, id, "other")
	first := post(0)
	first.Blobs = []cid.Cid{w.used}
	w.writer.commit(t, first)
	second := post(1)
	second.Blobs = []cid.Cid{w.other}
	w.commit = w.writer.change(t, second, repo.Write{Key: first.Key})
	w.resigned = w.writer.change(t)
	w.was = headOf(t, db, id)
	w.imported = w.writer.stage(t, 5)
	return w
}

func uploadBlob(t *testing.T, db *sqlite.DB, accountID int64, text string) cid.Cid {
	t.Helper()
	blobs := sqlite.Blobs{DB: db}
	b := blob.Blob{CID: dagcbor.RawCID(sha256.Sum256([]byte(text))), Size: int64(len(text)), MimeType: "text/plain", Key: text, CreatedAt: start}
	if err := blobs.Intend(t.Context(), b.Key, start); err != nil {
		t.Fatal(err)
	}
	if _, err := blobs.Add(t.Context(), accountID, b, 0); err != nil {
		t.Fatal(err)
	}
	return b.CID
}

// headOf returns an account's head, an empty one if it has no repository.
func headOf(t *testing.T, db *sqlite.DB, accountID int64) (h repo.Head) {
	t.Helper()
	err := sqlite.Repos{DB: db}.View(t.Context(), accountID, func(v repo.View) error { h = v.Head(); return nil })
	if err != nil && !errors.Is(err, repo.ErrNoRepo) {
		t.Error(err)
	}
	return h
}

// announced reports whether the last event of the log is e's.
func announced(t *testing.T, db *sqlite.DB, c repo.Change) bool {
	t.Helper()
	log := sqlite.EventLog{DB: db}
	b, err := log.Bounds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	events, err := log.Read(t.Context(), b.Last-1, 10, 1<<20)
	if err != nil {
		t.Error(err)
	}
	return len(events) == 1 && bytes.Equal(events[0].Body, c.Event.Body)
}

// all reports whether a change is there as a whole, and fails the test if it is
// there in part.
func all(t *testing.T, facts map[string]bool) bool {
	t.Helper()
	n := 0
	for _, is := range facts {
		if is {
			n++
		}
	}
	if n != 0 && n != len(facts) {
		t.Errorf("there in part: %v", facts)
	}
	return n == len(facts)
}

// seen checks the repository after a change of it.
func (w repoWorld) seen(t *testing.T, db *sqlite.DB, next repo.Head, key string) (facts map[string]bool) {
	t.Helper()
	err := sqlite.Repos{DB: db}.View(t.Context(), w.writer.account.ID, func(v repo.View) error {
		rec, err := v.Record(key)
		if err != nil && !errors.Is(err, repo.ErrNoRecord) {
			t.Error(err)
		}
		old, err := v.Record(post(0).Key)
		if err != nil && !errors.Is(err, repo.ErrNoRecord) {
			t.Error(err)
		}
		keys := int64(0)
		walker := mst.Walker{Load: v.Node, Entry: func(string, cid.Cid) error { keys++; return nil }}
		if err := walker.Walk(v.Head().Root); err != nil || keys != v.Head().Records {
			t.Errorf("the tree holds %d records of %d: %v", keys, v.Head().Records, err)
		}
		facts = map[string]bool{
			"head": v.Head().CID.Equals(next.CID), "revision": v.Head().Rev == next.Rev,
			"record": rec.Block != nil && rec.Rev == next.Rev, "old record gone": old.Rev != w.was.Rev,
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return facts
}

// repoChanges are the writes of repo.Store that clients wait for.
func repoChanges() map[string]change {
	begin := func(w world) repo.Change {
		d := mst.NewTree(1).Flush()
		other := &writer{account: w.account}
		return other.finish(repo.Change{Next: repo.Head{Root: d.Root, NextNode: d.NextID}, Nodes: d.Changed}, nil)
	}
	return map[string]change{
		"first repository": {
			do: func(t *testing.T, w world) error {
				return sqlite.Repos{DB: w.DB}.Begin(t.Context(), begin(w))
			},
			done: func(t *testing.T, w world) bool {
				return all(t, map[string]bool{"head": headOf(t, w.DB, w.account.ID).CID.Defined(), "event": announced(t, w.DB, begin(w))})
			},
		},
		"commit": {
			do: func(t *testing.T, w world) error {
				return sqlite.Repos{DB: w.DB}.Commit(t.Context(), w.repo.commit)
			},
			done: func(t *testing.T, w world) bool {
				c := w.repo.commit
				facts := w.repo.seen(t, w.DB, c.Next, c.Writes[0].Key)
				facts["event"] = announced(t, w.DB, c)
				used, err := sqlite.Blobs{DB: w.DB}.List(t.Context(), c.AccountID, "", "", 10, nil)
				if err != nil {
					t.Error(err)
				}
				facts["blobs"] = len(used) == 1 && used[0].Equals(w.repo.other)
				return all(t, facts)
			},
		},
		"import": {
			do: func(t *testing.T, w world) error {
				c := w.repo.imported
				return sqlite.Repos{DB: w.DB}.Switch(t.Context(), c.AccountID, w.repo.was.CID, c.Next, c.Event, c.At)
			},
			done: func(t *testing.T, w world) bool {
				c := w.repo.imported
				facts := w.repo.seen(t, w.DB, c.Next, post(4).Key)
				facts["event"] = announced(t, w.DB, c)
				return all(t, facts)
			},
		},
	}
}
