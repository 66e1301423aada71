package reference

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/internal/durable"
	"nestbox/takeover"
)

// Back makes a new data directory for the server of a source: takeover.BackTarget.
type Back struct {
	*Source

	// Dir is the new directory; it must not exist, be empty, or be one that was not finished.
	Dir string
}

var _ takeover.BackTarget = Back{}

// The names in the new directory.
const (
	backBlobs = "blocks"
	backMoved = "moved" // repositories to be imported
	// backUnfinished is there until the directory is complete: what is in it may be removed.
	backUnfinished = "nestbox-unfinished"
)

// Revs implements takeover.BackTarget.
func (b Back) Revs(context.Context) (map[string]string, error) {
	revs := map[string]string{}
	err := b.AccountDB.each("SELECT a.did, r.rev FROM actor a LEFT JOIN repo_root r ON r.did = a.did", nil, func(r *sqlite.Stmt) error {
		revs[r.ColumnText(0)] = r.ColumnText(1)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read revisions: %w", err)
	}
	return revs, nil
}

// Write implements takeover.BackTarget.
func (b Back) Write(ctx context.Context, back takeover.Back) (settings []string, err error) {
	if err := b.begin(); err != nil {
		return nil, err
	}
	gone := func(did string) bool {
		_, there := back.Accounts[did]
		return strings.HasPrefix(did, "did:") && !there
	}
	for _, db := range []struct{ from, to string }{
		{b.Places.Accounts, "account.sqlite"}, {b.Places.Events, "sequencer.sqlite"}, {b.Places.Documents, "did_cache.sqlite"},
	} {
		if err := copyDatabase(db.from, filepath.Join(b.Dir, db.to)); err != nil {
			return nil, err
		}
	}
	if err := copyTree(ctx, b.Places.Actors, filepath.Join(b.Dir, "actors"), gone, durable.CopyFile); err != nil {
		return nil, err
	}
	settings = []string{"PDS_DATA_DIRECTORY=" + b.Dir}
	if b.Places.Blobs != "" {
		to := filepath.Join(b.Dir, backBlobs)
		if err := copyTree(ctx, b.Places.Blobs, to, gone, linkFile); err != nil {
			return nil, err
		}
		if err := copyTree(ctx, b.Places.Uploads, filepath.Join(to, "tempt"), gone, durable.CopyFile); err != nil {
			return nil, err
		}
		settings = append(settings, "PDS_BLOBSTORE_DISK_LOCATION="+to)
	}
	if err := b.setActors(ctx, back); err != nil {
		return nil, err
	}
	err = rewrite(filepath.Join(b.Dir, "sequencer.sqlite"), func(c *sqlite.Conn) error { return setNumber(c, back.LastNumber) })
	if err != nil {
		return nil, err
	}
	return settings, rewrite(filepath.Join(b.Dir, "account.sqlite"), func(c *sqlite.Conn) error { return setAccounts(c, back) })
}

// begin makes the directory, or empties one that was not finished.
func (b Back) begin() error {
	entries, err := os.ReadDir(b.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look at %s: %w", b.Dir, err)
	}
	unfinished := slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == backUnfinished })
	if len(entries) > 0 && !unfinished {
		return fmt.Errorf("%s is not empty", b.Dir)
	}
	for _, e := range entries {
		if e.Name() == backUnfinished {
			continue // goes last
		}
		if err := os.RemoveAll(filepath.Join(b.Dir, e.Name())); err != nil {
			return fmt.Errorf("remove what was not finished: %w", err)
		}
	}
	err = os.MkdirAll(b.Dir, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(b.Dir, backUnfinished), nil, 0o600)
	}
	if err != nil {
		return fmt.Errorf("make the new directory: %w", err)
	}
	return nil
}

// Finish implements takeover.BackTarget.
func (b Back) Finish() error {
	if err := os.Remove(filepath.Join(b.Dir, backUnfinished)); err != nil {
		return fmt.Errorf("mark %s as complete: %w", b.Dir, err)
	}
	return nil
}

// Create implements takeover.BackTarget.
func (b Back) Create(did string) (w io.WriteCloser, path string, err error) {
	dir := filepath.Join(b.Dir, backMoved)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", fmt.Errorf("make folder for repositories: %w", err)
	}
	path = filepath.Join(dir, did+".car")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // a DID of the database
	if err != nil {
		return nil, "", fmt.Errorf("make file for a repository: %w", err)
	}
	return f, path, nil
}

// copyDatabase copies a database with its log. One that there is not is left out.
func copyDatabase(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return fmt.Errorf("make the new directory: %w", err)
	}
	for _, suffix := range []string{"", "-wal"} {
		if err := durable.CopyFile(from+suffix, to+suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("copy %s: %w", from+suffix, err)
		}
	}
	return nil
}

// copyTree copies the files below a folder by put, but for the folders that skip selects by
// their name, for shared memory, which each server makes, and for what is no file.
func copyTree(ctx context.Context, from, to string, skip func(name string) bool, put func(from, to string) error) error {
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir() && skip(d.Name()):
			return filepath.SkipDir
		case d.IsDir():
			return os.MkdirAll(target, 0o700)
		case !d.Type().IsRegular(), strings.HasSuffix(path, "-shm"):
			return nil
		}
		if _, err := os.Lstat(target); err == nil {
			return nil // uploads lie below the blobs
		}
		return put(path, target)
	})
	if errors.Is(err, os.ErrNotExist) {
		if _, there := os.Lstat(from); errors.Is(there, os.ErrNotExist) {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return nil
}

// linkFile gives a file a second name: the old server replaces blobs, and never changes one. Where
// the file system cannot, it is copied.
func linkFile(from, to string) error {
	if os.Link(from, to) == nil {
		return nil
	}
	return durable.CopyFile(from, to)
}

// rewrite changes a database of the new directory in one transaction.
func rewrite(path string, fn func(*sqlite.Conn) error) (err error) {
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	end, err := sqlitex.ImmediateTransaction(c)
	if err != nil {
		return fmt.Errorf("change %s: %w", path, err)
	}
	defer end(&err)
	if err := fn(c); err != nil {
		return fmt.Errorf("change %s: %w", path, err)
	}
	return nil
}

// setNumber makes the event log go on above a number.
func setNumber(c *sqlite.Conn, last int64) error {
	if err := execute(c, "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = 'repo_seq'", last); err != nil {
		return err
	}
	return execute(c, "INSERT INTO sqlite_sequence (name, seq) SELECT 'repo_seq', ? WHERE NOT EXISTS "+
		"(SELECT 1 FROM sqlite_sequence WHERE name = 'repo_seq')", last)
}

// setAccounts brings what changed of accounts and sessions.
func setAccounts(c *sqlite.Conn, back takeover.Back) error {
	var gone []string
	err := each(c, "SELECT did FROM actor UNION SELECT did FROM account", func(r *sqlite.Stmt) error {
		if _, there := back.Accounts[r.ColumnText(0)]; !there {
			gone = append(gone, r.ColumnText(0))
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, did := range gone {
		for _, table := range []string{
			"refresh_token", "app_password", "email_token", "repo_root", "authorized_client", "account_device", "token", "account", "actor",
		} {
			if err := deleteOf(c, table, did); err != nil {
				return err
			}
		}
	}
	// Handles and addresses are unique, also while they change.
	for _, sql := range []string{"UPDATE actor SET handle = NULL", "UPDATE account SET email = did"} {
		if err := execute(c, sql); err != nil {
			return err
		}
	}
	for _, a := range back.Accounts {
		if err := setAccount(c, a); err != nil {
			return err
		}
	}
	if err := execute(c, "DELETE FROM refresh_token"); err != nil {
		return err
	}
	for _, t := range back.Tokens {
		err := execute(c, "INSERT OR REPLACE INTO refresh_token (id, did, expiresAt, nextId, appPasswordName) VALUES (?, ?, ?, ?, ?)",
			t.ID, t.DID, date(t.Expires), nullable(t.Next, t.Next != ""), nullable(t.AppPassword, t.OfApp))
		if err != nil {
			return err
		}
	}
	if err := dropBrowsers(c, back); err != nil {
		return err
	}
	if err := setInvites(c, back); err != nil {
		return err
	}
	return dropGrants(c, back)
}

// deleteOf removes an account's rows of a table, if there is one.
func deleteOf(c *sqlite.Conn, table, did string) error {
	there, err := hasTable(c, table)
	if err != nil || !there {
		return err
	}
	return execute(c, "DELETE FROM "+table+" WHERE did = ?", did)
}

func hasTable(c *sqlite.Conn, table string) (there bool, err error) {
	err = sqlitex.Execute(c, "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?", &sqlitex.ExecOptions{
		Args: []any{table}, ResultFunc: func(*sqlite.Stmt) error { there = true; return nil },
	})
	return there, err
}

func setAccount(c *sqlite.Conn, a takeover.BackAccount) error {
	err := execute(c, `UPDATE actor SET handle = ?2, takedownRef = CASE WHEN ?3 IS NULL OR takedownRef IS NULL THEN ?3 ELSE takedownRef END,
		deactivatedAt = ?4 WHERE did = ?1`,
		a.DID, nullable(a.Handle, a.Handle != ""), nullable(a.Takedown, a.Takedown != ""),
		nullable(date(a.DeactivatedAt), !a.DeactivatedAt.IsZero()))
	if err != nil {
		return err
	}
	err = execute(c, "UPDATE account SET email = ?2, emailConfirmedAt = ?3 WHERE did = ?1",
		a.DID, a.Email, nullable(date(a.EmailConfirmedAt), !a.EmailConfirmedAt.IsZero()))
	if err != nil {
		return err
	}
	var revoked []string
	err = sqlitex.Execute(c, "SELECT name, createdAt, privileged FROM app_password WHERE did = ?", &sqlitex.ExecOptions{
		Args: []any{a.DID}, ResultFunc: func(r *sqlite.Stmt) error {
			p := takeover.AppPassword{Name: r.ColumnText(0), CreatedAt: columnDate(r, 1), Privileged: r.ColumnBool(2)}
			if !a.HasAppPassword(p) {
				revoked = append(revoked, p.Name)
			}
			return nil
		},
	})
	for _, name := range revoked {
		if err == nil {
			err = execute(c, "DELETE FROM app_password WHERE did = ? AND name = ?", a.DID, name)
		}
	}
	return err
}

// dropBrowsers removes sign-ins on browsers, and consents, that ended here.
func dropBrowsers(c *sqlite.Conn, back takeover.Back) error {
	for _, drop := range []struct {
		table, rows, remove string
		keeps               func(r *sqlite.Stmt) bool
	}{
		{
			"account_device",
			"SELECT a.did, a.deviceId, coalesce(d.sessionId, '') FROM account_device a LEFT JOIN device d ON d.id = a.deviceId",
			"DELETE FROM account_device WHERE did = ? AND deviceId = ?",
			func(r *sqlite.Stmt) bool { return back.KeepsSignIn(r.ColumnText(1), r.ColumnText(2), r.ColumnText(0)) },
		},
		{
			"authorized_client",
			"SELECT did, clientId, data FROM authorized_client",
			"DELETE FROM authorized_client WHERE did = ? AND clientId = ?",
			func(r *sqlite.Stmt) bool {
				return back.KeepsConsent(r.ColumnText(0), takeover.Allowed{ClientID: r.ColumnText(1), Data: []byte(r.ColumnText(2))})
			},
		},
	} {
		there, err := hasTable(c, drop.table)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		var ended [][2]string
		err = sqlitex.Execute(c, drop.rows, &sqlitex.ExecOptions{ResultFunc: func(r *sqlite.Stmt) error {
			if !drop.keeps(r) {
				ended = append(ended, [2]string{r.ColumnText(0), r.ColumnText(1)})
			}
			return nil
		}})
		for _, row := range ended {
			if err == nil {
				err = execute(c, drop.remove, row[0], row[1])
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// dropGrants removes what OAuth clients were granted, but for what they still have the newest
// token of.
func dropGrants(c *sqlite.Conn, back takeover.Back) error {
	there, err := hasTable(c, "token")
	if err != nil || !there {
		return err
	}
	var ended []string
	err = each(c, "SELECT tokenId, coalesce(currentRefreshToken, '') FROM token", func(r *sqlite.Stmt) error {
		if !back.Keeps(r.ColumnText(0), r.ColumnText(1)) {
			ended = append(ended, r.ColumnText(0))
		}
		return nil
	})
	for _, id := range ended {
		if err == nil {
			err = execute(c, "DELETE FROM used_refresh_token WHERE tokenId = (SELECT id FROM token WHERE tokenId = ?)", id)
		}
		if err == nil {
			err = execute(c, "DELETE FROM token WHERE tokenId = ?", id)
		}
	}
	return err
}

func each(c *sqlite.Conn, sql string, row func(*sqlite.Stmt) error) error {
	return sqlitex.Execute(c, sql, &sqlitex.ExecOptions{ResultFunc: row})
}

func execute(c *sqlite.Conn, sql string, args ...any) error {
	return sqlitex.Execute(c, sql, &sqlitex.ExecOptions{Args: args})
}

// date writes a time as the source keeps it.
func date(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z") }

// nullable returns a value, or NULL.
func nullable(text string, there bool) any {
	if !there {
		return nil
	}
	return text
}
