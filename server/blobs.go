package server

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/blob"
	"nestbox/blob/disk"
	"nestbox/config"
	"nestbox/datadir"
	"nestbox/internal/system"
	"nestbox/ratelimit"
)

// How long unneeded blobs are kept: an upload to which no record has referred, and
// a blob whose last reference went, to which an app may be about to refer again.
const (
	keepUnused       = 24 * time.Hour
	keepUnreferenced = time.Hour
)

// buildBlobs wires the blob service, and opens its folder.
func (s *Server) buildBlobs(limits *ratelimit.Limiter) error {
	c := &s.opts.Config
	dir, tmp := blobFolders(s.dir, c)
	files, err := disk.Open(dir, tmp)
	if err != nil {
		return err
	}
	s.blobFiles = files
	s.blobs = &blob.Service{
		Store: s.stores.Blobs, Files: files, Accounts: blobAccounts{s.stores.Accounts},
		UploadLimit: c.BlobUploadLimit, Quota: c.BlobQuota, Free: func() (int64, error) { return system.FreeSpace(dir) },
		Unused: keepUnused, Unreferenced: keepUnreferenced,
		Limits: limits, NewKey: rand.Text, Now: s.opts.Now, Doubt: s.clock.Check, Log: s.opts.Log,
	}
	return nil
}

// blobFolders returns the folders of blobs, and of those that are being uploaded.
func blobFolders(data datadir.Dir, c *config.Config) (dir, tmp string) {
	return cmp.Or(c.BlobDiskLocation, data.Blobs()), c.BlobDiskTmpLocation
}

// blobAccounts finds accounts for blobs.
type blobAccounts struct{ account.Store }

// Find implements blob.Accounts.
func (a blobAccounts) Find(ctx context.Context, did syntax.DID) (blob.Account, error) {
	found, err := a.ByDID(ctx, did)
	if errors.Is(err, account.ErrNotFound) {
		return blob.Account{}, blob.ErrNoAccount
	}
	if err != nil {
		return blob.Account{}, err
	}
	return blob.Account{ID: found.ID, Status: string(found.Status())}, nil
}
