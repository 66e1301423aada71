package server

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"nestbox/internal/durable"
	"nestbox/internal/seal"
	"nestbox/oauth/dpop"
)

// openDPoP makes the check of proofs. What the last server remembers of used proofs counts
// only if it stopped cleanly, and it is taken out of the file before anything is accepted.
func (s *Server) openDPoP(ctx context.Context, box *seal.Box) error {
	secret := box.Derive("DPoP nonces")
	if c := s.opts.Config.DPoPSecret; c.IsSet() {
		var err error
		if secret, err = hex.DecodeString(c.Reveal()); err != nil {
			return fmt.Errorf("PDS_DPOP_SECRET: %w", err)
		}
	}
	s.dpop = &dpop.Checker{
		Nonces: dpop.NewNonces(secret), Replays: dpop.NewReplays(s.opts.Now(), 0),
		Origin: s.URL, Dev: s.opts.Config.DevMode, Now: s.opts.Now,
	}
	if !s.opts.Listen {
		return nil
	}
	known, err := readReplays(s.dir.Replays(), s.opts.Now())
	if err != nil {
		return err
	}
	s.dpop.Replays = known
	if err := durable.WriteFile(s.dir.Replays(), known.Running(), 0o600); err != nil {
		// A full disk does not keep the server from starting. Without the file the next start
		// trusts no older nonce, as after a crash.
		if rm := durable.Remove(s.dir.Replays()); rm != nil {
			return fmt.Errorf("mark used DPoP proofs as taken: %w", errors.Join(err, rm))
		}
		s.opts.Log.LogAttrs(ctx, slog.LevelWarn, "used DPoP proofs not marked as taken", slog.String("cause", err.Error()))
	}
	s.replaysTaken = true
	s.opts.Log.LogAttrs(ctx, slog.LevelDebug, "DPoP proofs of the last server", slog.Int("known", known.Len()))
	return nil
}

// readReplays reads what the last server left, at its stop or at its start.
func readReplays(path string, now time.Time) (*dpop.Replays, error) {
	saved, err := os.ReadFile(path) //nolint:gosec // a file of the operator's own data directory
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read used DPoP proofs: %w", err)
	}
	return dpop.LoadReplays(saved, now), nil
}

// closeDPoP saves what was used for the next start. Without it, as on a full disk, that one
// makes clients ask for another nonce.
func (s *Server) closeDPoP() {
	if !s.replaysTaken {
		return
	}
	if err := durable.WriteFile(s.dir.Replays(), s.dpop.Replays.Save(), 0o600); err != nil {
		s.opts.Log.Warn("used DPoP proofs not saved", slog.String("cause", err.Error()))
	}
}
