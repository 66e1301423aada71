package takeover

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"io"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/dagcbor"
)

// Manner is how the file of a blob is brought.
type Manner string

// The manners. Any is the first of the others that the file systems can do.
const (
	Any     Manner = ""
	Reflink Manner = "reflink" // shares the place on the disk until one of them is written
	Link    Manner = "link"    // another name of the same file
	Copy    Manner = "copy"
	// Present: an earlier pass has brought it.
	Present Manner = "present"
)

// Errors of Files.
var (
	// ErrNoFile: there is no such file.
	ErrNoFile = errors.New("there is no file")
	// ErrContent: the content is not that of the hash.
	ErrContent = errors.New("its content is damaged")
)

// Original is a file of the source that may have the content of a blob: one whose SHA-256 is
// Sum, and whose size in bytes should be Size.
type Original struct {
	Path string
	Sum  [sha256.Size]byte
	Size int64
}

// Originals are the files of the source's blobs, by their paths: see BlobFile. They are only
// read. Its methods may be called by several goroutines.
type Originals interface {
	// Size returns the size of a file in bytes: ErrNoFile.
	Size(ctx context.Context, path string) (int64, error)
	// Open opens a file: ErrNoFile. The caller closes it.
	Open(ctx context.Context, path string) (io.ReadCloser, error)
}

// Files are the files of blobs that are made. Its methods may be called by several
// goroutines.
type Files interface {
	// Bring makes the file key of an original in a manner, and returns its size and the
	// manner. If the file key is there already, it is left as it is: Present. The source is
	// only read, never written. ErrNoFile, ErrContent.
	Bring(ctx context.Context, key string, o Original, m Manner) (size int64, how Manner, err error)
	// Each calls yield for each file, with its key, empty if no blob could have it.
	Each(ctx context.Context, yield func(path, key string) error) error
	// Remove removes a file.
	Remove(ctx context.Context, key string) error
	// Settle makes all files and their names durable.
	Settle(ctx context.Context) error
}

var keyEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

func fileKey(of string) string {
	sum := sha256.Sum256([]byte("nestbox takeover " + of))
	return keyEncoding.EncodeToString(sum[:])
}

// bringBlobs brings the files of an account's blobs. One whose file is missing or damaged is
// left out: records that refer to it miss it here as they did there.
func (t *TakeOver) bringBlobs(ctx context.Context, did syntax.DID, files []BlobFile, w *work) (out []BlobRow, err error) {
	for _, f := range files {
		id, err := dagcbor.ParseCID(f.CID)
		if err != nil || !dagcbor.IsBlobCID(id) || id.String() != f.CID {
			w.badBlob(did, f.CID, "it is not the CID of a blob")
			continue
		}
		row := BlobRow{CID: f.CID, Size: f.Size, MimeType: f.MimeType, Key: keyOfFile(did, f.CID), CreatedAt: f.CreatedAt}
		if row.MimeType == "" {
			row.MimeType = "application/octet-stream"
		}
		if row.CreatedAt.IsZero() {
			row.CreatedAt = t.Now().UTC()
		}
		size, how, err := t.bringBlob(ctx, row.Key, f, [sha256.Size]byte(id.Bytes()[len(id.Bytes())-sha256.Size:]))
		switch {
		case errors.Is(err, ErrNoFile):
			w.badBlob(did, f.CID, noFile)
			continue
		case errors.Is(err, ErrContent):
			w.badBlob(did, f.CID, "its file is damaged: the content has another hash")
			continue
		case err != nil:
			return nil, fmt.Errorf("blob %s of %s: %w", f.CID, did, err)
		}
		if size != f.Size {
			w.remark("%s: blob %s has %d bytes, its row says %d", did, f.CID, size, f.Size)
		}
		row.Size = size
		w.blob(size, how)
		out = append(out, row)
	}
	return out, nil
}

// bringBlob tries the places where a blob's file may be. A damaged one counts only if there
// is no better.
func (t *TakeOver) bringBlob(
	ctx context.Context, key string, f BlobFile, sum [sha256.Size]byte,
) (size int64, how Manner, err error) {
	worst := ErrNoFile
	for _, path := range f.Paths {
		size, how, err = t.Files.Bring(ctx, key, Original{Path: path, Sum: sum, Size: f.Size}, t.Settings.Manner)
		switch {
		case errors.Is(err, ErrContent):
			worst = err
		case !errors.Is(err, ErrNoFile):
			return size, how, err
		}
	}
	return 0, "", worst
}

// noFile is why a blob whose file is not there is left out.
const noFile = "its file is missing"

// blobsThere refuses a folder of blobs that has nearly none of them: it is another one, or
// was not mounted. There is how many there are.
func (t *TakeOver) blobsThere(there int64, r *Report) error {
	const nearly = 9
	missing := int64(0)
	for _, b := range r.Blobs.Bad {
		if b.Why == noFile {
			missing++
		}
	}
	if missing == 0 || missing < there*nearly || t.Settings.Force {
		return nil
	}
	r.Refusals = append(r.Refusals, Refusal{
		Problem: fmt.Sprintf("the files of %d of %d blobs are missing", missing, missing+there),
		Do: "name the folder that has them, mounted, with PDS_BLOBSTORE_DISK_LOCATION or --from DIR, " +
			"or their bucket with PDS_BLOBSTORE_S3_BUCKET; if they are lost, use --force",
	})
	return r.Refusals
}

// sweepFiles removes files that no blob has: those of blobs that went between the passes.
func (t *TakeOver) sweepFiles(ctx context.Context) error {
	var gone []string
	err := t.Files.Each(ctx, func(_, key string) error {
		if key == "" {
			return nil
		}
		has, err := t.Store.HasFile(ctx, key)
		if err == nil && !has {
			gone = append(gone, key)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, key := range gone {
		if err := t.Files.Remove(ctx, key); err != nil {
			return err
		}
	}
	return nil
}
