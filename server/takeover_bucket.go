package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"nestbox/auth"
	"nestbox/backup"
	"nestbox/backup/depot"
	"nestbox/config"
	"nestbox/datadir"
	"nestbox/store/reference"
	"nestbox/takeover"
)

// bucket implements takeover.Originals for the bucket of a source's blobs, by their keys. It
// only reads.
type bucket struct{ depot *depot.S3 }

var _ takeover.Originals = bucket{}

// originalsOf returns the files of a source's blobs.
func originalsOf(b config.ReferenceBucket, p reference.Places) (takeover.Originals, error) {
	if p.Bucket == "" {
		return takeover.FolderOriginals{}, nil
	}
	opened, err := depot.OpenS3("s3://"+b.Name, S3Settings(b.S3))
	if err != nil {
		return nil, fmt.Errorf("PDS_BLOBSTORE_S3_BUCKET, PDS_BLOBSTORE_S3_ENDPOINT: %w", err)
	}
	return bucket{opened}, nil
}

// explained adds to an error of the bucket which settings reach it.
func (b bucket) explained(err error) error {
	if err == nil || errors.Is(err, takeover.ErrNoFile) {
		return err
	}
	return fmt.Errorf("bucket of the old server's blobs (PDS_BLOBSTORE_S3_ settings): %w", err)
}

// Size implements takeover.Originals.
func (b bucket) Size(ctx context.Context, path string) (size int64, err error) {
	size = -1
	err = b.depot.List(ctx, path, func(o backup.Object) error {
		if o.Name == path {
			size = o.Size
		}
		return nil
	})
	if err == nil && size < 0 {
		err = takeover.ErrNoFile
	}
	return size, b.explained(err)
}

// Open implements takeover.Originals.
func (b bucket) Open(ctx context.Context, path string) (io.ReadCloser, error) {
	body, err := b.depot.Get(ctx, path)
	if errors.Is(err, backup.ErrMissing) {
		return nil, takeover.ErrNoFile
	}
	return body, b.explained(err)
}

// sizesOfBucket adds what the bucket has to sizes, if the source's blobs are in one.
func (t *takeoverRun) sizesOfBucket(ctx context.Context, sizes *takeover.Sizes) error {
	b, ok := t.originals.(bucket)
	if !ok {
		return nil
	}
	for _, folder := range []string{"blocks/", "tmp/", "quarantine/"} {
		err := b.depot.List(ctx, folder, func(o backup.Object) error {
			sizes.Blobs, sizes.BlobFiles = sizes.Blobs+o.Size, sizes.BlobFiles+1
			return nil
		})
		if err != nil {
			return b.explained(err)
		}
	}
	return nil
}

// errNoSecret: see checkToken.
var errNoSecret = errors.New("PDS_JWT_SECRET is not set")

// checkToken checks the token that the operator named with the settings' secret.
func (t *takeoverRun) checkToken() error {
	secret := t.Config.JWTSecret
	if !secret.IsSet() {
		return errNoSecret
	}
	return auth.CheckForeign(t.Token, secret.Reveal(), t.Config.ServiceDID)
}

// whereTheyAre returns the places of a source whose take-over is in dir. A container may have
// the source's data directory elsewhere than the machine on which it was taken over.
func whereTheyAre(dir datadir.Dir, p reference.Places) reference.Places {
	abs, err := filepath.Abs(string(dir))
	if err != nil || filepath.Base(abs) != datadir.TakeoverFolder || filepath.Dir(abs) == p.Data {
		return p
	}
	here := p.At(filepath.Dir(abs))
	_, there := reference.StateOf(p.Accounts)
	_, moved := reference.StateOf(here.Accounts)
	if errors.Is(there, reference.ErrMissing) && moved == nil {
		return here
	}
	return p
}
