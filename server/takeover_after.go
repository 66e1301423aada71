package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/config"
	"nestbox/datadir"
	"nestbox/repo"
	"nestbox/store"
	"nestbox/store/reference"
	"nestbox/store/sqlite"
	"nestbox/takeover"
)

// ErrNotTaken: the data directory was not made by a take-over that has ended.
var ErrNotTaken = errors.New("nothing was taken over there yet")

// CheckedTakeover is how a data directory compares with the one that was taken over.
type CheckedTakeover struct {
	Accounts int `json:"accounts"`
	// Same are repositories that are at the old commit, Newer those that were written since.
	Same  int `json:"same"`
	Newer int `json:"newer"`
	// Differences are what is not as it was, for another reason than a write since.
	Differences []string `json:"differences,omitempty"`
}

// CheckTakeover compares what was taken over with the source, account by account. A server
// may run on it. ErrNotTaken.
func CheckTakeover(ctx context.Context, c *config.Config) (out CheckedTakeover, err error) {
	dir := datadir.Dir(c.DataDirectory)
	taken, err := readTaken(dir)
	if err != nil {
		return out, err
	}
	if taken == nil {
		return out, fmt.Errorf("%s: %w", dir, ErrNotTaken)
	}
	scratch, err := os.MkdirTemp("", "nestbox-takeover-")
	if err != nil {
		return out, fmt.Errorf("make folder for copies of databases: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	source, err := reference.OpenSource(ctx, taken.Places, scratch)
	if err != nil {
		return out, fmt.Errorf("open the source: %w", err)
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	view, err := sqlite.Inspector{Path: dir.Database()}.Open(ctx)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, view.Close()) }()
	there := map[syntax.DID]store.Inspected{}
	for after := int64(0); ; {
		page, err := view.Accounts(after, 1000)
		if err != nil {
			return out, err
		}
		if len(page) == 0 {
			break
		}
		for _, a := range page {
			there[a.DID], after = a, a.ID
		}
	}
	accounts, _, err := source.Accounts()
	if err != nil {
		return out, err
	}
	for _, a := range accounts {
		out.Accounts++
		now, ok := there[a.DID]
		if !ok {
			out.Differences = append(out.Differences, fmt.Sprintf("%s: it is not here: it was skipped, or deleted since", a.DID))
			continue
		}
		active := !a.TakenDown && a.DeactivatedAt.IsZero()
		if active != now.Active {
			out.Differences = append(out.Differences, fmt.Sprintf("%s: it was %s, and is %s", a.DID, word(active), word(now.Active)))
		}
		if err := out.compare(ctx, source, view, a.DID, now); err != nil {
			return out, err
		}
	}
	return out, nil
}

func word(active bool) string {
	if active {
		return "active"
	}
	return "not active"
}

// compare compares one account's repository.
func (c *CheckedTakeover) compare(
	ctx context.Context, source *reference.Source, view store.Inspection, did syntax.DID, now store.Inspected,
) error {
	differs := func(format string, args ...any) {
		c.Differences = append(c.Differences, did.String()+": "+fmt.Sprintf(format, args...))
	}
	actor, err := source.Actor(ctx, did)
	if err != nil {
		differs("the old repository cannot be read: %v", err)
		return ctx.Err()
	}
	defer func() { _ = actor.Close() }() // it was only read
	root, err := actor.Root()
	if err != nil {
		differs("the old repository cannot be read: %v", err)
		return ctx.Err()
	}
	records, err := actor.Records()
	if err != nil {
		differs("the old records cannot be read: %v", err)
		return ctx.Err()
	}
	err = view.Repo(now.ID, func(rows repo.Rows) error {
		head := rows.Head()
		switch {
		case head.Rev < root.Rev:
			differs("its repository is at revision %s, the old one at %s", head.Rev, root.Rev)
		case head.Rev > root.Rev:
			c.Newer++
		case !head.CID.Equals(root.CID):
			differs("its repository is at commit %s, the old one at %s", head.CID, root.CID)
		case head.Records != int64(len(records)):
			// The table may lag behind the tree.
			if n, err := takeover.CountRecords(did, actor); err != nil || n != head.Records {
				differs("it has %d records, the old one %d: %v", head.Records, n, err)
			} else {
				c.Same++
			}
		default:
			c.Same++
		}
		return nil
	})
	if err != nil {
		differs("its repository: %v", err)
	}
	return ctx.Err()
}

// OldFiles are the files of a source that nothing here needs.
type OldFiles struct {
	At        time.Time `json:"at"`
	Removable []string  `json:"removable"`
	Keep      []string  `json:"keep"`
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
