package reference

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/takeover"
)

// copyLogs is what to do when a log was left behind.
const copyLogs = "copy the whole data directory again, with the files that end in -wal, " +
	"or start the old server on it once and stop it"

// service are the databases that a running server has open all the time.
func (s *Source) service() map[Kind]*DB {
	out := map[Kind]*DB{KindAccounts: s.AccountDB, KindEvents: s.EventDB}
	if s.DocumentDB != nil {
		out[KindDocuments] = s.DocumentDB
	}
	return out
}

// Served returns the databases that a server has open.
func (p Places) Served() (paths []string, err error) {
	for _, path := range []string{p.Accounts, p.Events, p.Documents} {
		running, err := Running(path)
		if err != nil {
			return nil, err
		}
		if running {
			paths = append(paths, path)
		}
	}
	return paths, nil
}

// Inspect returns why the databases cannot be taken over, and what of them is not read
// because it is newer than this package.
func (s *Source) Inspect() (out takeover.Refusals, unread []string, err error) {
	for _, kind := range []Kind{KindAccounts, KindEvents, KindDocuments} {
		db := s.service()[kind]
		if db == nil {
			continue
		}
		more, newer, err := s.inspect(kind, db)
		if err != nil {
			return nil, nil, err
		}
		out, unread = append(out, more...), append(unread, newer...)
	}
	if len(out) > 0 {
		return out, unread, nil
	}
	more, err := s.logBehind()
	return append(out, more...), unread, err
}

func (s *Source) inspect(kind Kind, db *DB) (out takeover.Refusals, unread []string, err error) {
	refuse := func(problem, do string) {
		out = append(out, takeover.Refusal{Problem: db.Path + ": " + problem, Do: do})
	}
	schema, err := db.Schema(kind)
	switch code := sqlite.ErrCode(err).ToPrimary(); {
	case err == nil:
	case code == sqlite.ResultError:
		refuse("its tables are missing ("+err.Error()+")", copyLogs)
		return out, nil, nil
	case code == sqlite.ResultCorrupt, code == sqlite.ResultNotADB:
		refuse("it is damaged ("+err.Error()+")", "bring it back from a backup of the old server")
		return out, nil, nil
	default:
		return nil, nil, err
	}
	if schema.Locked {
		refuse("a migration was begun and not ended", "let the old version start once, and stop it again")
	}
	if len(schema.Missing) > 0 {
		refuse(fmt.Sprintf("it is of an older version, without the migrations %s", strings.Join(schema.Missing, ", ")),
			"let a version of 2026 of the old server start on it once, and stop it again")
	}
	if len(schema.Unknown) > 0 {
		if unread, err = db.Unread(kind); err != nil {
			return nil, nil, err
		}
		what := strings.Join(unread, ", ")
		if what == "" {
			what = "no table or column that is not known"
		}
		if !s.Places.Force {
			refuse(fmt.Sprintf("it is of a newer version, with the migrations %s, which add %s", strings.Join(schema.Unknown, ", "), what),
				"use a newer nestbox, or take over what is known with --force")
		}
		for i, name := range unread {
			unread[i] = filepath.Base(db.Path) + ": " + name
		}
	}
	if damaged := db.Intact(); damaged != nil {
		refuse("it is damaged ("+damaged.Error()+")", "bring it back from a backup of the old server")
	}
	return out, unread, nil
}

// logBehind refuses an event log that is older than the repositories, or a database of
// accounts that is older than the event log: its -wal was left behind. While the old server
// runs none can be, and one is read later than the other.
func (s *Source) logBehind() (takeover.Refusals, error) {
	served, err := s.Places.Served()
	if err != nil || len(served) > 0 || s.Places.Force {
		return nil, err
	}
	_, newest, err := s.LastEvent()
	if err != nil {
		return nil, err
	}
	ahead, root := 0, time.Time{}
	err = s.AccountDB.each("SELECT rev FROM repo_root", nil, func(r *sqlite.Stmt) error {
		rev, err := syntax.ParseTID(r.ColumnText(0))
		if err == nil && rev.Time().Sub(newest) > takeover.Behind {
			ahead++
		}
		if err == nil && rev.Time().After(root) {
			root = rev.Time()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if ahead > 0 {
		return takeover.Refusals{{
			Problem: fmt.Sprintf("%s: %d repositories are newer than its last event", s.EventDB.Path, ahead),
			Do:      copyLogs + "; if the log was emptied on purpose, use --force",
		}}, nil
	}
	latest, err := s.latestRevision()
	if err != nil || latest.Sub(root) <= takeover.Behind {
		return nil, err
	}
	return takeover.Refusals{{
		Problem: fmt.Sprintf("%s: the event log has a revision of %s, and it knows none after %s",
			s.AccountDB.Path, latest.UTC().Format(time.RFC3339), root.UTC().Format(time.RFC3339)),
		Do: copyLogs + "; if it was brought back from a backup, use --force",
	}}, nil
}

// latestRevision returns when the last revision that the event log names was made.
func (s *Source) latestRevision() (at time.Time, err error) {
	err = s.EventDB.each("SELECT "+eventColumns+` FROM repo_seq
		WHERE +eventType IN ('append', 'sync') AND invalidated = 0 ORDER BY seq DESC LIMIT 1`, nil,
		func(r *sqlite.Stmt) error {
			if rev, err := syntax.ParseTID(columnEvent(r).Revision()); err == nil {
				at = rev.Time()
			}
			return nil
		})
	return at, err
}

// Newest returns the newest time that the source has written: of an event, or of a revision.
func (s *Source) Newest() (at time.Time, what string, err error) {
	if _, at, err = s.LastEvent(); err != nil {
		return at, "", err
	}
	what = "its last event"
	err = s.AccountDB.each("SELECT did, rev FROM repo_root", nil, func(r *sqlite.Stmt) error {
		if rev, err := syntax.ParseTID(r.ColumnText(1)); err == nil && rev.Time().After(at) {
			at, what = rev.Time(), "the repository of "+r.ColumnText(0)
		}
		return nil
	})
	return at, what, err
}

// Sizes returns the sizes of the source's files.
func (p Places) Sizes() (out takeover.Sizes, err error) {
	for _, path := range []string{p.Accounts, p.Events, p.Documents} {
		state, err := StateOf(path)
		if err != nil && !errors.Is(err, ErrMissing) {
			return out, err
		}
		out.Databases += state.Size + state.WAL
	}
	if out.Actors, _, err = sizeOf(p.Actors); err != nil || p.Blobs == "" {
		return out, err
	}
	out.Blobs, out.BlobFiles, err = sizeOf(p.Blobs)
	return out, err
}

func sizeOf(dir string) (bytes, files int64, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil // a server removed it meanwhile, or there is none
		case err != nil:
			return fmt.Errorf("look at %s: %w", path, err)
		case e.IsDir():
			return nil
		}
		info, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err == nil {
			bytes, files = bytes+info.Size(), files+1
		}
		return err
	})
	return bytes, files, err
}

// AnyBlob returns the path of the file of some blob, empty if there is none.
func (p Places) AnyBlob() (path string, err error) {
	if p.Blobs == "" {
		return "", nil
	}
	err = filepath.WalkDir(p.Blobs, func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			path = name
			return fs.SkipAll
		}
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
	return path, err
}
