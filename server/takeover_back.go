package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/config"
	"nestbox/datadir"
	"nestbox/internal/durable"
	"nestbox/mail"
	"nestbox/repo"
	"nestbox/store/reference"
	"nestbox/store/sqlite"
	"nestbox/takeover"
)

// errNoReturn: the new data directory holds no take-over that has ended.
var errNoReturn = errors.New("nothing was taken over there, so there is no way back from it")

// GoBack makes a data directory at dir for the server that was taken over: takeover.GoBack. No
// server may run on either directory.
func GoBack(ctx context.Context, c *config.Config, dir string, now time.Time) (_ *takeover.BackReport, err error) {
	target := datadir.Dir(c.DataDirectory)
	taken, err := readTaken(target)
	if err != nil {
		return nil, err
	}
	if taken == nil {
		return nil, fmt.Errorf("%s: %w", target, errNoReturn)
	}
	var closers []func() error
	defer func() {
		for i := range closers {
			err = errors.Join(err, closers[len(closers)-1-i]())
		}
	}()
	target, release, err := openDir(c.DataDirectory)
	if release != nil {
		closers = append(closers, release)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", c.DataDirectory, err)
	}
	scratch := filepath.Join(string(target), "takeover")
	if err := errors.Join(os.RemoveAll(scratch), durable.MakeDir(scratch)); err != nil {
		return nil, fmt.Errorf("make folder for copies of databases: %w", err)
	}
	closers = append(closers, func() error { return os.RemoveAll(scratch) })
	source, err := reference.OpenSource(ctx, taken.Places, scratch)
	if err != nil {
		return nil, fmt.Errorf("open the old data directory: %w", err)
	}
	closers = append(closers, source.Close)
	lost := make(chan error, 1)
	db, err := sqlite.Open(ctx, target.Database(), sqlite.Options{
		Log: slog.New(slog.DiscardHandler), Fatal: func(err error) { lost <- err },
	})
	if err != nil {
		return nil, err
	}
	closers = append(closers, db.Close)
	stores := db.Stores()
	repos := &repo.Service{Store: stores.Repos, Transfers: repo.Transfers{TempDir: scratch}}
	report, err := takeover.GoBack(ctx, db.Legacy(), reference.Back{Source: source, Dir: dir}, now,
		func(ctx context.Context, did syntax.DID, w io.Writer) error {
			a, err := stores.Accounts.ByDID(ctx, did)
			if err != nil {
				return err
			}
			return repos.Export(ctx, repo.Account{ID: a.ID, DID: a.DID}, w)
		})
	report.Remove = oursAlone(c)
	select {
	case unknown := <-lost:
		err = errors.Join(err, unknown)
	default:
	}
	return &report, err
}

// oursAlone returns the settings of a server that sends no mail, with which a reference PDS fails.
func oursAlone(c *config.Config) (settings []string) {
	disabled := c.SMTPURL.Reveal() == mail.Disabled
	if disabled {
		settings = append(settings, "PDS_EMAIL_SMTP_URL="+mail.Disabled)
	}
	if c.EmailFrom != "" && (disabled || !c.SMTPURL.IsSet()) {
		settings = append(settings, "PDS_EMAIL_FROM_ADDRESS")
	}
	return settings
}
