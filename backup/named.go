package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"path/filepath"
	"strings"

	"nestbox/internal/durable"
)

// blobs writes the files of the blobs of a state, as far as the database at a path names them. Those that
// are damaged or missing in the store are left out. A verification of what was restored finds them.
func (r *Reader) blobs(ctx context.Context, replay *Replay, to Target, path string) (err error) {
	place, settle := r.inFolder(ctx, filepath.Join(to.Dir, BlobsName))
	if to.Place != nil {
		switch elsewhere, err := to.Place(ctx, path); {
		case err != nil:
			return err
		case elsewhere != nil:
			defer func() { err = errors.Join(err, elsewhere.Close()) }()
			place, settle = r.inPlace(ctx, elsewhere), elsewhere.Settle
		}
	}
	done := int64(0)
	write := func(line *blobLine) error {
		if err := place(line); err != nil {
			return err
		}
		done++
		r.progress(Step{"blobs", done, max(done, replay.manifest.BlobCount), 0})
		return nil
	}
	each := func(line *blobLine) error {
		if err := write(line); !harmed(err) {
			return err
		}
		return nil
	}
	end := func() error { return nil }
	if to.Named != nil {
		n := r.namedBlobs(ctx, to, path, write)
		defer n.stop()
		each = func(line *blobLine) error { return n.listed(ctx, line) }
		end = func() error { return n.upTo(ctx, "\xff") }
	}
	if err := r.eachOf(ctx, replay.manifest, replay, each); err != nil {
		return err
	}
	if err := end(); err != nil {
		return err
	}
	return settle()
}

// inFolder returns what restores a blob into the folder of blobs of a data directory, and what makes that
// durable.
func (r *Reader) inFolder(ctx context.Context, dir string) (place func(*blobLine) error, settle func() error) {
	made := map[string]bool{}
	place = func(line *blobLine) error {
		shard := filepath.Join(dir, line.key[:2])
		if !made[shard] {
			if err := durable.MakeDir(shard); err != nil {
				return err
			}
			made[shard] = true
		}
		return r.blob(ctx, line, filepath.Join(shard, line.key))
	}
	return place, func() error { return syncTree(dir) }
}

// inPlace returns what restores a blob into a folder elsewhere, unless its file is there.
func (r *Reader) inPlace(ctx context.Context, to BlobPlace) func(*blobLine) error {
	return func(line *blobLine) error {
		if _, there, err := to.Size(line.key); err != nil || there {
			return err
		}
		return to.Adopt(line.key, func(path string) error {
			if err := r.blob(ctx, line, path); err != nil {
				return err
			}
			return durable.SyncDir(path) // of a file, it syncs the content
		})
	}
}

// blob writes a blob's file, and removes what is there of one that is damaged.
func (r *Reader) blob(ctx context.Context, line *blobLine, path string) (err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // parseBlobLine keeps it within the folder
	if err != nil {
		return fmt.Errorf("write blob: %w", err)
	}
	defer func() {
		if err = errors.Join(err, file.Close()); err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	return r.useBlob(ctx, line, func(in io.Reader) error {
		_, err := io.Copy(file, in)
		return err
	})
}

// namedBlobs restores the blobs that a database names: from the lines of lists, and where a list is
// damaged or missing, from what the store has by their keys.
type namedBlobs struct {
	*Reader

	write func(*blobLine) error
	next  func() (string, error, bool)
	stop  func()
	// key is the next one that the database names.
	key  string
	err  error
	more bool
	// folder is one of the store, found has the files in it, by key.
	folder string
	found  map[string][]blobLine
}

// errEnough ends an iteration early.
var errEnough = errors.New("enough")

// namedBlobs returns what restores the blobs that the database at a path names, each by write.
func (r *Reader) namedBlobs(ctx context.Context, to Target, database string, write func(*blobLine) error) *namedBlobs {
	n := &namedBlobs{Reader: r, write: write}
	n.next, n.stop = iter.Pull2(func(yield func(string, error) bool) {
		err := to.Named(ctx, database, func(key string) error {
			if !yield(key, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield("", err)
		}
	})
	n.step()
	return n
}

func (n *namedBlobs) step() { n.key, n.err, n.more = n.next() }

// listed restores the blob of a line, if the database names it, after those before it.
func (n *namedBlobs) listed(ctx context.Context, line *blobLine) error {
	if err := n.upTo(ctx, line.key); err != nil || !n.more || n.key != line.key {
		return err
	}
	err := n.write(line)
	if harmed(err) {
		if err = nil; line.word != "" { // a later backup may have encrypted it again
			err = n.unlisted(ctx)
		}
	}
	n.step()
	return err
}

// upTo restores the blobs before a key of which no line came.
func (n *namedBlobs) upTo(ctx context.Context, key string) error {
	for ; n.err == nil && n.more && n.key < key; n.step() {
		if err := n.unlisted(ctx); err != nil {
			return err
		}
	}
	return n.err
}

// unlisted restores the next blob from a file that the store has by its key: there is one for each time it
// was encrypted. What has none is missing, as the verification says.
func (n *namedBlobs) unlisted(ctx context.Context) error {
	if len(n.key) < 3 {
		return nil
	}
	if folder := blobsFolder + "/" + n.key[:2] + "/"; folder != n.folder {
		found, err := n.byKey(ctx, folder)
		if err != nil {
			return err
		}
		n.folder, n.found = folder, found
	}
	for _, line := range n.found[n.key] {
		if err := n.write(&line); !harmed(err) && !errors.Is(err, ErrIdentity) {
			return err
		}
	}
	return nil
}

// byKey returns the files of blobs in a folder of the store, by their keys. What hash they should have is not
// known.
func (r *Reader) byKey(ctx context.Context, folder string) (map[string][]blobLine, error) {
	found := map[string][]blobLine{}
	err := r.Depot.List(ctx, folder, func(o Object) error {
		key, rest, _ := strings.Cut(path.Base(o.Name), ".")
		found[key] = append(found[key], blobLine{key: key, word: strings.TrimSuffix(rest, sealed)})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the blobs of %s: %w", r.Depot, err)
	}
	return found, nil
}
