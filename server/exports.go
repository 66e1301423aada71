package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

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

// ExportCommand is the name of the command that answers with an archive of all that an account has
// here, as the account's own page does.
const ExportCommand = "account.export"

// ExportArgs are the arguments of ExportCommand.
type ExportArgs struct {
	Account string `json:"account"`
	// Part is the number of the part of a large account's files, 0 for the archive itself.
	Part int `json:"part"`
}

// exportAccount answers ExportCommand.
func (s *Server) exportAccount(ctx context.Context, raw []byte, _ io.Reader, out io.Writer) error {
	var args ExportArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return fmt.Errorf("read arguments: %w", err)
	}
	ctx, a, err := s.admin.BeginExport(ctx, args.Account)
	if err != nil {
		return err
	}
	x, err := s.exports().Begin(ctx, a, args.Part)
	if err != nil {
		return err
	}
	defer x.Close()
	return x.Write(ctx, out)
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
