package backup

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path"
	"strings"
)

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
	n.step()
	return n.write(line)
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
		n.folder, n.found = folder, map[string][]blobLine{}
		err := n.Depot.List(ctx, folder, func(o Object) error {
			key, rest, _ := strings.Cut(path.Base(o.Name), ".")
			n.found[key] = append(n.found[key], blobLine{key: key, word: strings.TrimSuffix(rest, sealed)})
			return nil
		})
		if err != nil {
			return fmt.Errorf("list the blobs of %s: %w", n.Depot, err)
		}
	}
	for _, line := range n.found[n.key] {
		if err := n.write(&line); !harmed(err) && !errors.Is(err, ErrIdentity) {
			return err
		}
	}
	return nil
}
