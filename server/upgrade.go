package server

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"nestbox/config"
	"nestbox/internal/pause"
	"nestbox/store/sqlite"
)

const (
	// copiesKept is how long a copy of the database from before an upgrade is kept, copiesEvery how
	// often older ones are looked for.
	copiesKept  = 7 * 24 * time.Hour
	copiesEvery = time.Hour
)

// dropCopies removes old safety copies until ctx ends: they have what was deleted since.
func (s *Server) dropCopies(ctx context.Context) {
	for s.clock.wait(ctx) {
		dropped, err := sqlite.DropSafetyCopies(s.dir.Database(), s.opts.Now().Add(-copiesKept))
		for _, path := range dropped {
			s.opts.Log.LogAttrs(ctx, slog.LevelInfo, "a copy of the database from before an upgrade was removed", slog.String("file", path))
		}
		if err != nil {
			s.opts.Log.LogAttrs(ctx, slog.LevelError, "copies of the database were not removed", slog.String("cause", err.Error()))
		}
		if !pause.For(ctx, copiesEvery) {
			return
		}
	}
}

// Downgraded is what Downgrade did.
type Downgraded = sqlite.Downgraded

// Downgrade puts the copy of the database from before its last upgrade, or the one at a path, in its
// place. The server must not run.
func Downgrade(c *config.Config, chosen string) (done Downgraded, err error) {
	dir, err := findDir(c.DataDirectory)
	if err != nil {
		return done, err
	}
	release, err := dir.Lock()
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, release()) }()
	return sqlite.Downgrade(dir.Database(), chosen)
}
