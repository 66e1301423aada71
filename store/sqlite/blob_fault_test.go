package sqlite_test

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"nestbox/blob"
	"nestbox/dagcbor"
	"nestbox/repo"
	"nestbox/store/sqlite"
)

// blobChanges are the writes of blob.Store that somebody relies on.
func blobChanges() map[string]change {
	picture := dagcbor.RawCID(sha256.Sum256([]byte("picture")))
	has := func(t *testing.T, w world, id cid.Cid) bool {
		t.Helper()
		err := sqlite.Repos{DB: w.DB}.View(t.Context(), w.repo.writer.account.ID, func(v repo.View) error { _, err := v.Blob(id); return err })
		if err != nil && !errors.Is(err, repo.ErrNoBlob) {
			t.Error(err)
		}
		return err == nil
	}
	return map[string]change{
		"upload": {
			before: 1, // that the file is about to appear
			do: func(t *testing.T, w world) error {
				blobs := sqlite.Blobs{DB: w.DB}
				b := blob.Blob{CID: picture, Size: 7, MimeType: "image/png", Key: rand.Text(), CreatedAt: start}
				if err := blobs.Intend(t.Context(), b.Key, start); err != nil {
					return err
				}
				_, err := blobs.Add(t.Context(), w.repo.writer.account.ID, b, 0)
				return err
			},
			done: func(t *testing.T, w world) bool { return has(t, w, picture) },
		},
		"collection": {
			do: func(t *testing.T, w world) error {
				_, _, err := sqlite.Blobs{DB: w.DB}.Collect(t.Context(), start.Add(time.Hour), start)
				return err
			},
			done: func(t *testing.T, w world) bool {
				if !has(t, w, w.repo.used) {
					t.Error("a blob is gone that a record refers to")
				}
				return !has(t, w, w.repo.other)
			},
		},
	}
}
