package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"nestbox/admin"
	"nestbox/datadir"
	"nestbox/internal/pause"
	"nestbox/internal/system"
)

const (
	// diagnosisLife and disksLife are how long a look of the doctor, and one at the disks,
	// is good enough for a page.
	diagnosisLife = 10 * time.Minute
	disksLife     = time.Hour
	// biggestShown is how many of the biggest accounts are listed.
	biggestShown = 20
)

// lookAtDisks returns what the server has on its disks, and remembers the sizes of the day.
func (s *Server) lookAtDisks(ctx context.Context) (out admin.Storage) {
	var errs []error
	out.WriteAheadLog, out.Transfers = s.db.LogSize(), s.repos.Spooled()
	if fi, err := os.Stat(s.dir.Database()); err == nil {
		out.Database = fi.Size()
	} else {
		errs = append(errs, err)
	}
	st, err := s.firehose.Status(ctx)
	errs = append(errs, err)
	out.EventLog = st.Bytes
	out.Usage, err = s.stores.Views.Usage(ctx, biggestShown)
	errs = append(errs, err)
	out.BackedUp, err = s.dir.LastSuccess(datadir.BackupMade)
	errs = append(errs, err)
	out.Verified, err = s.dir.LastSuccess(datadir.BackupVerified)
	errs = append(errs, err)
	if problem := s.logProblem(); problem != nil {
		out.Unsent = problem.Error()
	} else if s.sendFails.Load() {
		out.Unsent = "the store of the backups cannot be reached: what was written waits until it can"
	}
	now := admin.Size{At: s.opts.Now().UTC().Truncate(time.Second), Database: out.Database, Blobs: out.BlobBytes}
	raw, err := s.dir.LastSizes()
	errs = append(errs, err)
	past := admin.ParseSizes(raw)
	if errors.Join(errs...) == nil && s.clock.Check() == nil {
		past = admin.WithSize(past, now)
		errs = append(errs, s.dir.KeepSizes(admin.FormatSizes(past)))
	}
	data := func(z admin.Size) int64 { return z.Database + z.Blobs }
	if elsewhere := s.opts.Config.BlobDiskLocation; elsewhere != "" {
		data = func(z admin.Size) int64 { return z.Database }
		disk, err := diskOf(elsewhere, past, now, func(z admin.Size) int64 { return z.Blobs })
		out.Disks, errs = append(out.Disks, disk), append(errs, err)
	}
	disk, err := diskOf(s.DataDir, past, now, data)
	out.Disks, errs = append([]admin.Disk{disk}, out.Disks...), append(errs, err)
	if err := errors.Join(errs...); err != nil && ctx.Err() == nil {
		out.Error = err.Error()
		s.opts.Log.LogAttrs(ctx, slog.LevelError, "looking at the disks failed", slog.String("cause", out.Error))
	}
	return out
}

// freeSpace returns what is free on the disk of the data directory, in bytes.
func (s *Server) freeSpace() (int64, error) { return system.FreeSpace(s.DataDir) }

func diskOf(path string, past []admin.Size, now admin.Size, of func(admin.Size) int64) (admin.Disk, error) {
	d := admin.Disk{Path: path}
	d.Growth, d.Since = admin.Growth(past, now, of)
	free, err := system.FreeSpace(path)
	if err != nil {
		return d, fmt.Errorf("look at a disk: %w", err)
	}
	d.Free = free
	return d, nil
}

// watchDisks has the sizes of each day remembered, also while nobody looks at the admin page.
func (s *Server) watchDisks(ctx context.Context) {
	for s.disks.Last(); pause.For(ctx, disksLife); s.disks.Last() {
	}
}
