package server

import (
	"context"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/account"
	"nestbox/blob"
	"nestbox/export"
	"nestbox/repo"
)

// exports returns the service that makes archives of what accounts have here.
func (s *Server) exports() *export.Service {
	return &export.Service{
		Accounts: s.stores.Accounts, Sessions: s.stores.Sessions, Devices: s.stores.Devices, Consents: s.stores.OAuth, Prefs: s.stores.Prefs,
		Files: blobFiles{s.stores.Blobs, s.blobs}, Hostname: s.opts.Config.Hostname, Limits: s.limits, Notices: s.notices, Now: s.opts.Now,
		Document: s.hosting.SeenDocument,
		Snapshot: func(ctx context.Context, a *account.Account) (*repo.Snapshot, error) {
			return s.repos.Snapshot(ctx, repo.Account{ID: a.ID, DID: a.DID})
		},
		Log: func(ctx context.Context, did syntax.DID) ([]byte, error) {
			if did.Method() != "plc" {
				return nil, nil
			}
			return s.directory.Log(ctx, did)
		},
	}
}

// blobFiles are the accounts' files.
type blobFiles struct {
	blob.Store

	service *blob.Service
}

// Open implements export.Files.
func (f blobFiles) Open(ctx context.Context, accountID int64, id cid.Cid) (blob.Blob, blob.File, error) {
	return f.service.Open(ctx, accountID, id)
}
