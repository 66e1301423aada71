package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"nestbox/backup"
	"nestbox/backup/depot"
	"nestbox/datadir"
	"nestbox/internal/pause"
)

const (
	// lastSend bounds how long a server that stops waits for the store of its backups. What is
	// left is sent at the next start.
	lastSend = 3 * time.Second
	// logLate is how many intervals what was written may wait before the doctor calls it late.
	logLate = 12
)

// followLog prepares to send the log to the store of the server's own backups. It must be
// called before the log can start over. A store that is away does not matter: what is written waits.
func (s *Server) followLog(ctx context.Context) error {
	c := &s.opts.Config
	if c.BackupTo == "" || c.BackupLogEvery == 0 || !s.opts.Listen {
		return nil
	}
	service, err := s.backupBy(s.ownBackup(), depot.Await)
	if err != nil {
		s.unsent = fmt.Errorf("what is written is not sent there until the next start: %w", err)
		s.opts.Log.LogAttrs(ctx, slog.LevelError, "the log is not sent to the backups until the next start", slog.String("to", c.BackupTo),
			slog.String("cause", err.Error()))
		return nil
	}
	// The services of the server are not there yet.
	service.Source.HoldBlobs = func() func() { return s.blobs.HoldFiles() }
	segments, err := service.OpenSegments()
	if err != nil {
		return err
	}
	s.segments, s.backupState = segments, service.State
	return segments.Start(ctx, s.db)
}

// sendLog sends the log until ctx ends, and then once more.
func (s *Server) sendLog(ctx context.Context) {
	if s.segments == nil {
		return
	}
	defer s.segments.Close()
	every, failing := s.opts.Config.BackupLogEvery, false
	send := func(ctx context.Context) {
		err := errors.Join(s.db.Cut(ctx), s.segments.Send(ctx))
		s.sendFails.Store(err != nil)
		switch {
		case err == nil:
			s.noteBackup(ctx, datadir.BackupLog)
		case ctx.Err() == nil && !failing:
			s.opts.Log.LogAttrs(ctx, slog.LevelError, "the log was not sent to the backups: it is tried again",
				slog.String("to", s.opts.Config.BackupTo), slog.String("cause", err.Error()))
		}
		if failing && err == nil {
			s.opts.Log.LogAttrs(ctx, slog.LevelInfo, "the log was sent to the backups again")
		}
		failing = err != nil
	}
	for pause.For(ctx, every) {
		send(ctx)
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSend)
	defer cancel()
	send(last)
}

// logProblem returns why what is written does not arrive at the backups, nil if it does, or is not sent
// by the settings. It asks no store.
func (s *Server) logProblem() error {
	if s.segments == nil {
		return s.unsent
	}
	waits, every := s.segments.Waits(), s.opts.Config.BackupLogEvery
	switch old := s.opts.Now().Sub(waits.Since).Round(time.Second); {
	case waits.Gap != nil:
		return fmt.Errorf("the times until the next snapshot cannot be restored: %w", waits.Gap)
	case waits.Segments > 0 && old > logLate*every:
		return fmt.Errorf("what was written in the last %s is not there yet, %d MB wait: the log has why", old, waits.Bytes>>20)
	}
	return nil
}

// lookAtLog adds to what the doctor says of backups whether the log arrives there, and stays.
func (s *Server) lookAtLog(ctx context.Context, says string) (string, error) {
	if err := s.logProblem(); err != nil || s.segments == nil {
		return says, err
	}
	if s.segments.NeedsBase() {
		return says + "; the log is sent once a snapshot was made", nil
	}
	hole, err := s.segments.Mend(ctx)
	switch {
	case errors.Is(err, backup.ErrParted):
		return "", fmt.Errorf("%w: what was written after that cannot be restored: "+
			"a snapshot is made within a minute, from which the log goes on", err)
	case err != nil && ctx.Err() != nil:
		says += "; its log was not compared with what was sent, since to list it takes too long"
	case err != nil:
		return "", fmt.Errorf("its log cannot be listed: %w", err)
	case hole != "":
		says += "; not every time before it can be restored, as nestbox backup list shows, because " + hole
	}
	return says + "; what is written is there within " + s.opts.Config.BackupLogEvery.String(), nil
}
