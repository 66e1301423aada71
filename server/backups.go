package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"nestbox/backup"
	"nestbox/datadir"
	"nestbox/internal/durable"
	"nestbox/internal/pause"
)

const (
	// backupLook is how often we look whether a backup is due, backupAgain how long we wait
	// after one that failed.
	backupLook  = time.Minute
	backupAgain = 10 * time.Minute
	// proveEvery is how often the newest snapshot is verified.
	proveEvery = 7 * 24 * time.Hour
	// proveAgain is how long a verification waits that could not read the store: it reads all of it.
	proveAgain = time.Hour
)

// proof is the result of the last verification of the server's backups: a file in the folder
// of their state.
type proof struct {
	backup.Verified

	At time.Time `json:"at"`
	// First is the first fault.
	First string `json:"first,omitempty"`
	// Refused: the store refused to be read. Again: the verification before found damage, too.
	Refused bool `json:"refused,omitempty"`
	Again   bool `json:"again,omitempty"`
}

// calls reports whether a proof found damage that a backup, sent now, may mend: one is made, and
// verified. What it does not mend is as old as the snapshots that have it.
func (p *proof) calls() bool { return p.Damaged() && !p.Again }

// proofName is the file of a proof.
const proofName = "verified.json"

// ownBackup returns the arguments of the server's own backups.
func (s *Server) ownBackup() BackupArgs {
	c := &s.opts.Config
	return BackupArgs{To: c.BackupTo, Recipients: c.BackupRecipients, Keep: c.BackupKeep}
}

// runBackups makes the server's own backups until ctx ends, and verifies one each week.
func (s *Server) runBackups(ctx context.Context) {
	if s.opts.Config.BackupTo == "" || !s.clock.wait(ctx) {
		return
	}
	for wait := time.Duration(0); pause.For(ctx, wait); {
		wait = backupLook
		if err := s.backUpIfDue(ctx); err != nil && ctx.Err() == nil {
			s.opts.Log.LogAttrs(ctx, slog.LevelError, "backup failed: it is tried again", slog.String("to", s.opts.Config.BackupTo),
				slog.String("cause", err.Error()))
			wait = backupAgain
		}
	}
}

// backUpIfDue makes a snapshot when it is time, and verifies the newest when it is time for
// that.
func (s *Server) backUpIfDue(ctx context.Context) error {
	service, err := s.backupTo(s.ownBackup())
	if err != nil {
		return err
	}
	newest, _, err := service.Made(ctx)
	if err != nil {
		return err
	}
	var failed error
	last := readProof(service.State)
	needed := service.Segments != nil && service.Segments.NeedsBase() || last.calls() && last.At.After(newest) || service.KeysChanged()
	if needed || s.opts.Now().Sub(newest) >= s.opts.Config.BackupEvery {
		failed = s.backUpNow(ctx)
		if newest, _, err = service.Made(ctx); err != nil {
			return errors.Join(failed, err)
		}
	}
	due := s.opts.Now().Sub(last.At) >= proveEvery || last.calls() && newest.After(last.At)
	if due && (failed == nil || !newest.IsZero()) {
		return errors.Join(failed, s.prove(ctx, service, last.calls()))
	}
	return failed
}

// backUpNow makes one of the server's own backups.
func (s *Server) backUpNow(ctx context.Context) error {
	service, ctx, done, err := s.beginBackup(ctx, s.ownBackup())
	if errors.Is(err, errBackingUp) {
		return nil // the operator makes one: this one is due later
	}
	if err != nil {
		return err
	}
	defer done()
	m, err := service.Snapshot(ctx)
	if err != nil {
		return err
	}
	s.noteBackup(ctx, datadir.BackupMade)
	s.opts.Log.LogAttrs(ctx, slog.LevelInfo, "backup made", slog.String("to", service.Depot.String()), slog.Int64("sent", m.Sent),
		slog.Int64("blobs", m.BlobCount), slog.Int64("milliseconds", m.Took))
	removed, err := service.Retain(ctx)
	if err != nil {
		return fmt.Errorf("the backup was made, but old ones were not removed: %w", err)
	}
	if removed.Snapshots > 0 {
		s.opts.Log.LogAttrs(ctx, slog.LevelInfo, "old backups removed", slog.Int("snapshots", removed.Snapshots), slog.Int64("bytes",
			removed.Bytes))
	}
	return nil
}

// prove verifies the newest snapshot and keeps the result. The server has no identity: of
// what is encrypted it compares the hashes. The store learns what is damaged, so that the next
// backup sends it again.
func (s *Server) prove(ctx context.Context, service *backup.Service, again bool) error {
	if !s.backingUp.TryLock() {
		return nil
	}
	defer s.backingUp.Unlock()
	if s.opts.Now().Before(s.proveAfter) {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.stopping, cancel)() //nolint:contextcheck // it ends with the server, too
	p := proof{At: s.opts.Now().UTC(), Again: again}
	var err error
	p.Verified, err = backup.Verification{
		Reader: &backup.Reader{Depot: service.Depot}, Scratch: service.State,
		Check: CheckBackup(func(string) {}), Now: s.opts.Now,
		Fault: func(line string) {
			if p.First == "" {
				p.First = line
			}
			s.opts.Log.LogAttrs(ctx, slog.LevelError, "backup is damaged", slog.String("fault", line))
		},
	}.Run(ctx)
	if errors.Is(err, backup.ErrNoSnapshot) {
		return nil // the first one is not made yet
	}
	p.Refused = errors.Is(err, backup.ErrRefused)
	s.sights.unreadable.Store(p.Refused)
	if p.Refused {
		s.opts.Log.LogAttrs(ctx, slog.LevelWarn, "backup not verified: this server may not read it", slog.String("to", s.opts.Config.BackupTo),
			slog.String("cause", err.Error()))
		return p.keep(service.State)
	}
	broken := err
	if broken != nil {
		broken = fmt.Errorf("verify the backup: %w", broken)
		s.proveAfter = s.opts.Now().Add(proveAgain)
		if p.Faults == 0 {
			return broken
		}
	}
	// What was found counts, also if the rest could not be read.
	if err := backup.MarkDamaged(ctx, service.Depot, p.DamagedObjects); err != nil {
		return errors.Join(broken, err)
	}
	if service.Segments != nil && p.Parted != "" { // a snapshot in the same chain would not lead over the gap
		if err := service.Segments.Part(ctx, p.Parted, fmt.Errorf("%w: %s", backup.ErrParted, p.First)); err != nil {
			return errors.Join(broken, err)
		}
	}
	if broken != nil {
		return errors.Join(broken, p.keep(service.State))
	}
	s.opts.Log.LogAttrs(ctx, slog.LevelInfo, "backup verified", slog.Int("faults", p.Faults), slog.Bool("hashes_only", p.HashesOnly))
	if p.Faults == 0 {
		s.noteBackup(ctx, datadir.BackupVerified)
	}
	return p.keep(service.State)
}

// keep writes the proof.
func (p *proof) keep(state string) error {
	raw, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode the result of the verification: %w", err)
	}
	return durable.WriteFile(filepath.Join(state, proofName), raw, 0o600)
}

// readProof returns the last proof; one that is missing or damaged is zero.
func readProof(state string) (p proof) {
	raw, err := os.ReadFile(filepath.Join(state, proofName)) //nolint:gosec // the state's own folder
	if err != nil || json.Unmarshal(raw, &p) != nil {
		return proof{}
	}
	return p
}

// lookAtBackups finds how old the newest of the server's own backups is, and whether it was
// verified.
func (s *Server) lookAtBackups(ctx context.Context) (string, error) {
	c := &s.opts.Config
	if c.BackupTo == "" {
		return "this server makes none by itself: set PDS_BACKUP_TO, or run nestbox backup from a timer", nil
	}
	service, err := s.backupTo(s.ownBackup())
	if err != nil {
		return "", fmt.Errorf("%s cannot be reached: %w", c.BackupTo, err)
	}
	newest, other, err := service.Made(ctx)
	switch old := s.opts.Now().Sub(newest).Round(time.Minute); {
	case err != nil:
		return "", fmt.Errorf("%s cannot be read: %w", c.BackupTo, err)
	case other == "" && newest.IsZero():
		return "", fmt.Errorf("%s has none of this server: look into the log, or wait until one is made", c.BackupTo)
	case other != "":
		return "", fmt.Errorf("%s has a snapshot that this server has not made, %s: if another server writes there, "+
			"give each a folder or a prefix of its own", c.BackupTo, other)
	case old >= 2*c.BackupEvery:
		return "", fmt.Errorf("the newest in %s is %s old: the log has why later ones failed", c.BackupTo, old)
	}
	says := fmt.Sprintf("the newest in %s is of %s", c.BackupTo, newest.Format(backup.ShownTime))
	switch last := readProof(service.State); {
	case last.At.IsZero():
		says += ", and was not verified yet"
	case last.Refused:
		says += "; this server may not read it, so verify it with nestbox backup verify from where it can be read"
	case last.Faults > 0 && !last.Damaged():
		return "", fmt.Errorf("%s has what the server had, which lacks files of blobs: run nestbox verify", c.BackupTo)
	case last.Faults > 0:
		return "", fmt.Errorf("%s is damaged, %d faults, the first: %s; the next backup sends again what is damaged of the newest: "+
			"if this stays, make one to another store, with nestbox backup --to", c.BackupTo, last.Faults, last.First)
	case s.opts.Now().Sub(last.At) >= 2*proveEvery:
		return "", fmt.Errorf("%s was verified last on %s: the log has why not since", c.BackupTo, last.At.Format(time.DateOnly))
	case last.HashesOnly:
		says += fmt.Sprintf("; on %s everything of one was there; nestbox backup verify --identity also restores it",
			last.At.Format(time.DateOnly))
	default:
		says += ", and on " + last.At.Format(time.DateOnly) + " one was restored and verified"
		if last.KeysUnchecked {
			says += ", but for its keys, which are not in the store"
		}
	}
	return s.lookAtLog(ctx, says)
}
