package server

import (
	"context"
	"io"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/ipfs/go-cid"

	"nestbox/blob"
	"nestbox/moving"
	"nestbox/prefs"
)

// buildMoving wires what comes with accounts that move in.
func (s *Server) buildMoving() {
	s.moving = &moving.Service{
		Accounts: s.stores.Accounts, Repos: s.repos, Blobs: broughtBlobs{s.stores.Blobs, s.blobs}, Prefs: broughtPrefs{s.stores.Prefs, s.prefs},
		UploadLimit: s.opts.Config.BlobUploadLimit, Now: s.opts.Now, Log: s.opts.Log,
	}
}

// broughtBlobs are the accounts' blobs, as package moving asks for them.
type broughtBlobs struct {
	blob.Store

	service *blob.Service
}

// Bring implements moving.Blobs.
func (b broughtBlobs) Bring(ctx context.Context, did syntax.DID, id cid.Cid, body io.Reader, length int64, declared string) error {
	return b.service.Bring(ctx, did, id, body, length, declared)
}

// broughtPrefs are their preferences.
type broughtPrefs struct {
	prefs.Store

	service *prefs.Service
}

// Bring implements moving.Preferences.
func (p broughtPrefs) Bring(ctx context.Context, did syntax.DID, list []jsontext.Value) (int, error) {
	return p.service.Bring(ctx, did, list)
}
