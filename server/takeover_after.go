package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"nestbox/config"
	"nestbox/datadir"
	"nestbox/internal/durable"
)

// ErrNotTaken: the data directory was not made by a take-over that has ended.
var ErrNotTaken = errors.New("nothing was taken over there yet")

// OldFiles are the files of a source that nothing here needs.
type OldFiles struct {
	At        time.Time `json:"at"`
	Removable []string  `json:"removable"`
	Keep      []string  `json:"keep"`
	// Moved is where the data directory is now, empty if it was not moved.
	Moved string `json:"moved,omitempty"`
}

// OverTakeover returns what may be removed of a data directory that was taken over, by who
// gives up the way back. ErrNotTaken.
func OverTakeover(c *config.Config) (OldFiles, error) {
	dir := datadir.Dir(c.DataDirectory)
	taken, err := readTaken(dir)
	if err != nil {
		return OldFiles{}, err
	}
	if taken == nil {
		return OldFiles{}, fmt.Errorf("%s: %w", dir, ErrNotTaken)
	}
	out := OldFiles{At: taken.At, Keep: []string{string(dir)}}
	p := taken.Places
	for _, path := range []string{
		p.Accounts, p.Accounts + "-wal", p.Accounts + "-shm", p.Events, p.Events + "-wal", p.Events + "-shm",
		p.Documents, p.Documents + "-wal", p.Documents + "-shm", p.Actors, p.Blobs, p.Uploads, p.Quarantine,
	} {
		if _, err := os.Lstat(path); err != nil || path == "" {
			continue
		}
		if rel, err := filepath.Rel(path, string(dir)); err == nil && filepath.IsLocal(rel) {
			out.Keep = append(out.Keep, path)
			continue
		}
		out.Removable = append(out.Removable, path)
	}
	return out, nil
}

// Errors of MoveTakeover.
var (
	// errOccupied: there is something already where the data directory is to be.
	errOccupied = errors.New("it is there, and is not an empty folder: name another")
	// errWithin: what is deleted with the old data directory is not out of it.
	errWithin = errors.New("it is below the old data directory: name a folder outside of it")
	// errOtherDisk: a folder can be moved at once within a file system alone.
	errOtherDisk = errors.New("it is on another file system: name a folder on the same, or stop the server, " +
		"copy the data directory with its dates and modes (cp -a), and serve the copy")
)

// MoveTakeover moves the data directory that a take-over made to the folder to, out of the old
// one, which can be deleted then; it returns what may be removed of that. No server may run on
// it: durable.ErrLocked. It is moved at once or not at all. ErrNotTaken.
func MoveTakeover(c *config.Config, to string) (_ OldFiles, err error) {
	over, err := OverTakeover(c)
	if err != nil {
		return over, err
	}
	taken, err := readTaken(datadir.Dir(c.DataDirectory))
	if err != nil {
		return over, err
	}
	if to, err = filepath.Abs(to); err != nil {
		return over, err
	}
	fail := func(cause error) error { return fmt.Errorf("move the data directory to %s: %w", to, cause) }
	if rel, err := filepath.Rel(taken.Places.Data, to); err == nil && filepath.IsLocal(rel) {
		return over, fail(errWithin)
	}
	if entries, err := os.ReadDir(to); err != nil && !errors.Is(err, os.ErrNotExist) || len(entries) > 0 {
		return over, fail(errOccupied)
	}
	dir, release, err := openDir(c.DataDirectory)
	if release != nil {
		defer func() { err = errors.Join(err, release()) }()
	}
	if err != nil {
		return over, fail(err)
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return over, fail(err)
	}
	err = os.Rename(string(dir), to)
	if errors.Is(err, syscall.EXDEV) {
		err = errOtherDisk
	}
	if err == nil {
		err = errors.Join(durable.SyncDir(filepath.Dir(to)), durable.SyncDir(filepath.Dir(string(dir))))
	}
	if err != nil {
		return over, fail(err)
	}
	moved := *c
	moved.DataDirectory = to
	if over, err = OverTakeover(&moved); err != nil {
		return over, err
	}
	over.Moved = to
	return over, nil
}

// lookAtOldServer looks whether the server that was taken over runs again: both would write
// histories of the same accounts.
func (s *Server) lookAtOldServer(context.Context) (string, error) {
	served, err := s.taken.Places.Served()
	if errors.Is(err, fs.ErrPermission) {
		return "this user cannot see whether it runs", nil
	}
	if err != nil {
		return "", fmt.Errorf("it cannot be seen whether it runs: %w", err)
	}
	if len(served) > 0 {
		return "", fmt.Errorf("it runs again, and has %s open: %s", strings.Join(served, ", "), stopOld)
	}
	return "it was taken over on " + s.taken.At.Format(time.DateOnly) + ", and does not run on this machine", nil
}
