package server

import (
	"context"
	"io"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/ipfs/go-cid"

	"nestbox/blob"
	"nestbox/internal/safehttp"
	"nestbox/moving"
	"nestbox/prefs"
)

// fetchTimeout is how long another server may take to send a repository, if it goes on.
const fetchTimeout = 12 * time.Hour

// buildMoving wires what comes with accounts that move in.
func (s *Server) buildMoving() {
	s.moving = &moving.Service{
		Accounts: s.stores.Accounts, Repos: s.repos, Blobs: broughtBlobs{s.stores.Blobs, s.blobs}, Prefs: broughtPrefs{s.stores.Prefs, s.prefs},
		Store: s.stores.Jobs, UploadLimit: s.opts.Config.BlobUploadLimit, URL: s.URL, PLCLog: s.directory.Log,
		HTTP:   safehttp.Client(safehttp.Options{AllowLoopback: s.opts.Config.DevMode, Timeout: fetchTimeout}),
		Pauses: []time.Duration{5 * time.Second, time.Minute},
		PDS: func(ctx context.Context, did syntax.DID) (string, error) {
			d, err := s.resolver.Fresh(ctx, did)
			if err != nil {
				return "", err
			}
			return d.PDS(), nil
		},
		Notices: s.notices, Limits: s.limits, Now: s.opts.Now, Log: s.opts.Log,
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

// Fit implements moving.Preferences.
func (p broughtPrefs) Fit(ctx context.Context, did syntax.DID, list []jsontext.Value) (int, []string, error) {
	return p.service.Fit(ctx, did, list)
}
