package reference

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/takeover"
)

// setActors brings what changed of takedowns and preferences into the accounts' own databases.
func (b Back) setActors(ctx context.Context, back takeover.Back) error {
	places := Places{Actors: filepath.Join(b.Dir, "actors")}
	for did, a := range back.Accounts {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		path := places.store(syntax.DID(did))
		if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
			continue
		}
		var blobs takedownChange
		err := rewrite(path, func(c *sqlite.Conn) (err error) {
			if err := setPreferences(c, &a); err != nil {
				return err
			}
			if _, err := setTakedowns(c, "SELECT takedownRef IS NOT NULL, collection || '/' || rkey FROM record",
				"UPDATE record SET takedownRef = ?1 WHERE uri = 'at://"+did+"/' || ?2", a.Takedowns); err != nil {
				return err
			}
			blobs, err = setTakedowns(c, "SELECT takedownRef IS NOT NULL, cid FROM blob", "UPDATE blob SET takedownRef = ?1 WHERE cid = ?2",
				a.Takedowns)
			return err
		})
		if err != nil {
			return err
		}
		if b.Places.Blobs == "" {
			continue
		}
		if err := blobs.move(filepath.Join(b.Dir, backBlobs), did); err != nil {
			return err
		}
	}
	return nil
}

// takedownChange are the subjects that were hidden here since, and those that are shown again.
type takedownChange struct{ hidden, shown []string }

// setTakedowns makes the takedowns of a table those of here. One that there was keeps its text.
func setTakedowns(c *sqlite.Conn, rows, set string, here map[string]string) (change takedownChange, err error) {
	err = sqlitex.Execute(c, rows, &sqlitex.ExecOptions{ResultFunc: func(r *sqlite.Stmt) error {
		subject := r.ColumnText(1)
		switch _, down := here[subject]; {
		case down && !r.ColumnBool(0):
			change.hidden = append(change.hidden, subject)
		case !down && r.ColumnBool(0):
			change.shown = append(change.shown, subject)
		}
		return nil
	}})
	for _, subject := range slices.Concat(change.hidden, change.shown) {
		if err == nil {
			ref, down := here[subject]
			err = execute(c, set, nullable(ref, down), subject)
		}
	}
	return change, err
}

// move moves the files of blobs into the folder of those that are taken down, and out of it.
func (ch takedownChange) move(blobs, did string) error {
	shown, hidden := filepath.Join(blobs, did), filepath.Join(blobs, "quarantine", did)
	for _, m := range []struct {
		ids      []string
		from, to string
	}{{ch.hidden, shown, hidden}, {ch.shown, hidden, shown}} {
		for _, id := range m.ids {
			if !filepath.IsLocal(id) || filepath.Base(id) != id {
				continue
			}
			err := os.MkdirAll(m.to, 0o700)
			if err == nil {
				err = os.Rename(filepath.Join(m.from, id), filepath.Join(m.to, id))
			}
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("move blob that was taken down, or is no more: %w", err)
			}
		}
	}
	return nil
}

// setPreferences replaces an account's preferences, if they are others.
func setPreferences(c *sqlite.Conn, a *takeover.BackAccount) error {
	want, err := a.PreferenceRows()
	if err != nil {
		return err
	}
	var have []takeover.BackPreference
	err = sqlitex.Execute(c, "SELECT name, valueJson FROM account_pref ORDER BY id",
		&sqlitex.ExecOptions{ResultFunc: func(r *sqlite.Stmt) error {
			have = append(have, takeover.BackPreference{Name: r.ColumnText(0), Value: r.ColumnText(1)})
			return nil
		}})
	if err != nil || slices.Equal(have, want) {
		return err
	}
	err = execute(c, "DELETE FROM account_pref")
	for _, p := range want {
		if err == nil {
			err = execute(c, "INSERT INTO account_pref (name, valueJson) VALUES (?, ?)", p.Name, p.Value)
		}
	}
	return err
}

// setInvites brings invite codes that were made here, and what became of the others.
func setInvites(c *sqlite.Conn, back takeover.Back) error {
	for _, i := range back.Invites {
		err := execute(c, `INSERT INTO invite_code (code, availableUses, disabled, forAccount, createdBy, createdAt) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT (code) DO UPDATE SET availableUses = excluded.availableUses, disabled = excluded.disabled`,
			i.Code, i.Available, i.Disabled, i.ForAccount, i.CreatedBy, date(i.CreatedAt))
		if err != nil {
			return err
		}
	}
	for _, u := range back.InviteUses {
		err := execute(c, "INSERT OR IGNORE INTO invite_code_use (code, usedBy, usedAt) VALUES (?, ?, ?)", u.Code, u.UsedBy, date(u.UsedAt))
		if err != nil {
			return err
		}
	}
	return nil
}
