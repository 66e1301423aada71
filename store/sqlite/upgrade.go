package sqlite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/internal/durable"
	"nestbox/internal/system"
)

// Before a database is migrated, it is kept as it is: SafetyCopy. Going back means to put that
// file in its place (Downgrade), so a program that meets a newer database can name the way back.

// ErrNoRoom: the disk has no room for a safety copy.
var ErrNoRoom = errors.New("the disk has no room for a copy of the database from before the upgrade")

const (
	copyPrefix, copySuffix = "before-", ".sqlite"
	partSuffix             = ".part"
	// copyMargin is how much of the disk a copy leaves free, besides a tenth of its size: the
	// migration needs some, too.
	copyMargin = 16 << 20
)

// SafetyCopy is a database as it was before it was migrated.
type SafetyCopy struct {
	Path string
	// Schema is the number of its schema, Before that of the schema to which the original was
	// brought.
	Schema, Before int
	At             time.Time
	Size           int64
}

// copyPath returns where the safety copy of a database is kept before it is brought to a schema.
func copyPath(database string, to int) string {
	return filepath.Join(filepath.Dir(database), copyPrefix+strconv.Itoa(to)+copySuffix)
}

// SafetyCopies returns the safety copies that lie beside a database, the latest first.
func SafetyCopies(database string) (found []SafetyCopy, err error) {
	names, err := filepath.Glob(filepath.Join(filepath.Dir(database), copyPrefix+"*"+copySuffix))
	if err != nil {
		return nil, fmt.Errorf("look for safety copies: %w", err)
	}
	for _, name := range names {
		text := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(name), copyPrefix), copySuffix)
		before, err := strconv.Atoi(text)
		if err != nil {
			continue // not ours
		}
		c, err := readCopy(name)
		if err != nil {
			return nil, err
		}
		c.Before = before
		found = append(found, c)
	}
	slices.SortFunc(found, func(a, b SafetyCopy) int { return b.At.Compare(a.At) })
	return found, nil
}

// readCopy looks at a database file without opening it as one. Schema is 0 if it is none.
func readCopy(path string) (c SafetyCopy, err error) {
	f, err := os.Open(path) //nolint:gosec // beside the operator's own database
	if err != nil {
		return c, fmt.Errorf("look at a safety copy: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	fi, err := f.Stat()
	if err != nil {
		return c, fmt.Errorf("look at a safety copy: %w", err)
	}
	c = SafetyCopy{Path: path, At: fi.ModTime(), Size: fi.Size()}
	const versionAt, idAt, size = 60, 68, 100 // https://sqlite.org/fileformat2.html#the_database_header
	header := make([]byte, size)
	if _, err := io.ReadFull(f, header); err != nil {
		return c, nil //nolint:nilerr // no database
	}
	if binary.BigEndian.Uint32(header[idAt:]) == applicationID {
		c.Schema = int(binary.BigEndian.Uint32(header[versionAt:]))
	}
	return c, nil
}

// keepCopy makes the safety copy of a database that nobody else writes to and that is about to be
// brought from one schema to another. If that was interrupted on the way before, and nobody has used
// the database since, the copy of that time is the one to keep. If somebody has, with a program of a
// schema in between, it stays beside the new one, as what was there before that schema.
func keepCopy(ctx context.Context, c *sqlite.Conn, path string, have, to int, opts Options) error {
	target := copyPath(path, to)
	if err := durable.Remove(target + partSuffix); err != nil {
		return fmt.Errorf("remove an unfinished copy: %w", err)
	}
	aside := ""
	if old, err := readCopy(target); err == nil && old.Schema != 0 && old.Schema < have {
		used, err := usedSince(c, target)
		if err != nil {
			return fmt.Errorf("compare the database with the copy of an upgrade that did not end: %w", err)
		}
		if !used {
			if opts.Log != nil {
				opts.Log.LogAttrs(ctx, slog.LevelWarn, "the database is not kept again: a copy of an upgrade that did not end is there",
					slog.String("file", target), slog.Int("schema", old.Schema), slog.Int("now", have))
			}
			return nil
		}
		aside = copyPath(path, have)
	}
	began := time.Now()
	cloned, err := cloneDatabase(c, path, target+partSuffix)
	if err == nil && !cloned {
		err = vacuumInto(c, target+partSuffix, opts.Free)
	}
	if err == nil && aside != "" {
		err = os.Rename(target, aside)
	}
	if err == nil {
		err = settleFile(target+partSuffix, target)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("keep the database as it is before the upgrade: %w", err), durable.Remove(target+partSuffix))
	}
	if opts.Log != nil {
		opts.Log.LogAttrs(ctx, slog.LevelInfo, "the database was kept as it is before the upgrade",
			slog.String("file", target), slog.Int("schema", have), slog.Int("next", to), slog.Duration("took", time.Since(began)))
	}
	return nil
}

// usedSince reports whether a database has been used after a safety copy of it was made, as its
// events, trails, checks of identities and signs of life tell. Migrations alone leave those.
func usedSince(c *sqlite.Conn, safety string) (used bool, err error) {
	old, err := sqlite.OpenConn("file:"+(&url.URL{Path: safety}).EscapedPath()+"?immutable=1", sqlite.OpenReadOnly, sqlite.OpenURI)
	if err != nil {
		return false, fmt.Errorf("open %s: %w", safety, err)
	}
	defer func() { err = errors.Join(err, old.Close()) }()
	then, err := lastUsed(old)
	if err != nil {
		return false, err
	}
	now, err := lastUsed(c)
	return now > then, err
}

// lastUsed returns the newest time that a database names, in milliseconds: an old schema may lack
// some of the tables.
func lastUsed(c *sqlite.Conn) (last int64, err error) {
	for table, sql := range map[string]string{
		"event": "SELECT at FROM event ORDER BY seq DESC LIMIT 1", "trail": "SELECT at FROM trail ORDER BY id DESC LIMIT 1",
		"identity": "SELECT max(checked_at) FROM identity", "standing": "SELECT beat_at FROM standing",
	} {
		there := false
		err := query(c, "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?",
			func(s *sqlite.Stmt) { s.BindText(1, table) }, func(*sqlite.Stmt) error { there = true; return nil })
		if err == nil && there {
			err = query(c, sql, nil, func(r *sqlite.Stmt) error { last = max(last, r.ColumnInt64(0)); return nil })
		}
		if err != nil {
			return 0, fmt.Errorf("look at %s: %w", table, err)
		}
	}
	return last, nil
}

// cloneDatabase makes a file that shares the database's content, if the file system can do that.
func cloneDatabase(c *sqlite.Conn, path, target string) (done bool, err error) {
	var busy bool
	err = query(c, "PRAGMA wal_checkpoint(TRUNCATE)", nil, func(r *sqlite.Stmt) error { busy = r.ColumnInt(0) != 0; return nil })
	if err != nil || busy { // another program reads it: the file alone is not all
		return false, err
	}
	from, err := os.Open(path) //nolint:gosec // the operator's own database
	if err != nil {
		return false, fmt.Errorf("open the database file: %w", err)
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to, err := os.OpenFile(target, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600) //nolint:gosec // beside it
	if err != nil {
		return false, fmt.Errorf("make a copy: %w", err)
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	if err := system.Clone(to, from); err != nil {
		if errors.Is(err, errors.ErrUnsupported) {
			err = nil
		}
		return false, errors.Join(err, os.Remove(target))
	}
	return true, nil
}

// vacuumInto writes a compact copy of the database: ErrNoRoom.
func vacuumInto(c *sqlite.Conn, target string, free func() (int64, error)) error {
	var size [3]int
	for i, name := range []string{"page_count", "freelist_count", "page_size"} {
		n, err := pragmaInt(c, name)
		if err != nil {
			return err
		}
		size[i] = n
	}
	need := int64(size[0]-size[1]) * int64(size[2])
	if free != nil {
		has, err := free()
		if err != nil {
			return err
		}
		if has < need+need/10+copyMargin {
			return fmt.Errorf("%w: it needs %d MB, and %d MB are free: make room, or start once with nestbox serve --no-safety-copy",
				ErrNoRoom, (need+need/10+copyMargin)>>20, has>>20)
		}
	}
	if err := sqlitex.ExecuteTransient(c, "VACUUM INTO ?", &sqlitex.ExecOptions{Args: []any{target}}); err != nil {
		return fmt.Errorf("write a copy: %w", err)
	}
	return os.Chmod(target, 0o600)
}

// settleFile makes a finished file durable under its name.
func settleFile(part, target string) error {
	f, err := os.OpenFile(part, os.O_RDWR, 0) //nolint:gosec // beside the operator's own database
	if err != nil {
		return fmt.Errorf("open a copy: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sync a copy: %w", err)
	}
	if err := os.Rename(part, target); err != nil {
		return fmt.Errorf("name a copy: %w", err)
	}
	return durable.SyncDir(filepath.Dir(target))
}

// DropSafetyCopies removes the safety copies of a database that were made before a time, and
// returns their paths.
func DropSafetyCopies(database string, before time.Time) (dropped []string, err error) {
	copies, err := SafetyCopies(database)
	if err != nil {
		return nil, err
	}
	for _, c := range copies {
		if !c.At.Before(before) {
			continue
		}
		if err := durable.Remove(c.Path); err != nil {
			return dropped, fmt.Errorf("remove a safety copy: %w", err)
		}
		dropped = append(dropped, c.Path)
	}
	return dropped, nil
}

// newerSchema returns the refusal of a database whose schema this program does not know, with the
// way back if there is one.
func newerSchema(database string, have, newest int) error {
	err := fmt.Errorf("%w (%s has schema %d, this binary knows %d)", ErrNewerSchema, database, have, newest)
	copies, cerr := SafetyCopies(database)
	for _, c := range copies {
		if c.Schema > 0 && c.Schema <= newest {
			return fmt.Errorf("%w. %s is the database from before the upgrade, of %s: "+
				"nestbox downgrade --to-copy --copy %s puts it back, and keeps the newer one", err, c.Path, c.At.UTC().Format(time.RFC3339), c.Path)
		}
	}
	return errors.Join(err, cerr)
}

// Downgraded is what Downgrade did.
type Downgraded struct {
	// Copy is in the place of the database now, which is kept at Kept.
	Copy SafetyCopy
	Kept string
	// Last is the number of the last event that the network may have seen, and Events how many of
	// those events the copy lacks.
	Last, Events int64
}

// ErrNoCopy: there is no copy to go back to.
var ErrNoCopy = errors.New("no copy of the database from before an upgrade is there (they are kept for 7 days): restore a backup")

// Downgrade puts a safety copy in the place of a database that nobody has open: the latest, or the
// one at a path. The database stays, under another name. ErrNoCopy.
func Downgrade(database, chosen string) (done Downgraded, err error) {
	copies, err := SafetyCopies(database)
	if err != nil {
		return done, err
	}
	i := slices.IndexFunc(copies, func(c SafetyCopy) bool {
		return c.Schema > 0 && (chosen == "" || filepath.Clean(chosen) == c.Path)
	})
	if i < 0 {
		return done, ErrNoCopy
	}
	done.Copy = copies[i]
	schema, last, err := settleLog(database)
	if err != nil {
		return done, err
	}
	_, before, err := settleLog(done.Copy.Path)
	if err != nil {
		return done, err
	}
	done.Last, done.Events = last, max(last-before, 0)
	done.Kept = filepath.Join(filepath.Dir(database), fmt.Sprintf("newer-%d-%d.sqlite", schema, time.Now().Unix()))
	// At each moment there is a whole database under its name.
	if err := os.Link(database, done.Kept); err != nil {
		return done, fmt.Errorf("keep the newer database: %w", err)
	}
	if err := os.Rename(done.Copy.Path, database); err != nil {
		return done, errors.Join(fmt.Errorf("put the copy in its place: %w", err), os.Remove(done.Kept))
	}
	return done, durable.SyncDir(filepath.Dir(database))
}

// settleLog brings all that a database has into its file, whatever its schema, and returns the
// number of that and of its last event.
func settleLog(path string) (schema int, last int64, err error) {
	c, err := openConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return 0, 0, fmt.Errorf("open %s: %w", path, err)
	}
	defer func() {
		err = errors.Join(err, c.Close())
		if fi, serr := os.Stat(path + "-wal"); err == nil && serr == nil && fi.Size() > 0 {
			err = fmt.Errorf("another program has %s open", path)
		}
	}()
	var check string
	if err = query(c, "PRAGMA quick_check(1)", nil, func(r *sqlite.Stmt) error { check = r.ColumnText(0); return nil }); err != nil {
		return 0, 0, fmt.Errorf("check %s: %w", path, err)
	}
	if check != "ok" {
		return 0, 0, fmt.Errorf("%s is damaged: %s", path, check)
	}
	if schema, err = pragmaInt(c, "user_version"); err != nil {
		return 0, 0, err
	}
	if last, err = lastSeq(c); err != nil {
		return 0, 0, fmt.Errorf("read the last event of %s: %w", path, err)
	}
	return schema, last, sqlitex.ExecuteTransient(c, "PRAGMA wal_checkpoint(TRUNCATE)", nil)
}
