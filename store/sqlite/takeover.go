package sqlite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/account"
	"nestbox/admin"
	"nestbox/internal/durable"
	"nestbox/mail"
	"nestbox/takeover"
)

// ErrUnfinished: a take-over has begun to fill the database, and has not ended.
var ErrUnfinished = errors.New("the take-over that makes this database was not finished: " +
	"run nestbox takeover again, it goes on where it was")

// Takeover implements takeover.Store: a database that no server has open, with one
// connection that writes. A crash of the process loses what the open transaction has; one of the machine
// may lose more, but leaves the database whole.
type Takeover struct {
	path   string
	before func(context.Context) error

	mu   sync.Mutex
	conn *sqlite.Conn
	log  *logCopier
	// actors and bytes are what the open transaction has settled and filled.
	actors int
	bytes  int64
}

var _ takeover.Store = (*Takeover)(nil)

// A transaction is committed when it has settled batchActors, or filled batchBytes.
const (
	batchActors = 500
	batchBytes  = 64 << 20
)

// OpenTakeover opens, or makes, the database at path. before is called ahead of each COMMIT:
// it makes durable what the rows refer to.
func OpenTakeover(ctx context.Context, path string, before func(context.Context) error) (*Takeover, error) {
	if err := ownFile(path); err != nil {
		return nil, err
	}
	conn, err := openConn(path, sqlite.OpenReadWrite, sqlite.OpenCreate)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	if err := prepareTakeover(ctx, conn, path); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), conn.Close())
	}
	log, err := openLogCopier(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), conn.Close())
	}
	return &Takeover{path: path, before: before, conn: conn, log: log}, nil
}

func prepareTakeover(ctx context.Context, c *sqlite.Conn, path string) error {
	err := pragmas(c,
		// Commits sync nothing: the log is synced ahead of each copy, by log.
		"PRAGMA synchronous=NORMAL", "PRAGMA fullfsync=ON", "PRAGMA checkpoint_fullfsync=ON",
		// A log that starts over is made short, so that its length tells what is in it.
		"PRAGMA wal_autocheckpoint=0", "PRAGMA journal_size_limit=0",
		"PRAGMA foreign_keys=ON", "PRAGMA cache_size=-65536", "PRAGMA temp_store=MEMORY",
	)
	if err != nil {
		return err
	}
	return migrate(ctx, c, path, Options{NoSafetyCopy: true}) // what is there comes from the source
}

// within runs fn in the open transaction, which it begins if there is none, and ends it if
// it is large enough. An error rolls back all of it, so that the take-over must begin again
// from its Progress.
func (t *Takeover) within(ctx context.Context, fn func(*sqlite.Conn) error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if t.conn.AutocommitEnabled() {
		if err := sqlitex.ExecuteTransient(t.conn, "BEGIN IMMEDIATE", nil); err != nil {
			return fmt.Errorf("begin transaction: %w", err)
		}
	}
	err := fn(t.conn)
	if err == nil && (t.actors >= batchActors || t.bytes >= batchBytes) {
		err = t.commit(ctx)
	}
	if err != nil {
		err = errors.Join(err, t.rollback())
	}
	return err
}

// atOnce is within, in a transaction that is committed when it returns.
func (t *Takeover) atOnce(ctx context.Context, fn func(*sqlite.Conn) error) error {
	if err := t.within(ctx, fn); err != nil {
		return err
	}
	return t.Flush(ctx)
}

func (t *Takeover) rollback() error {
	t.actors, t.bytes = 0, 0
	if t.conn.AutocommitEnabled() {
		return nil
	}
	return sqlitex.ExecuteTransient(t.conn, "ROLLBACK", nil)
}

func (t *Takeover) commit(ctx context.Context) error {
	t.actors, t.bytes = 0, 0
	if t.conn.AutocommitEnabled() {
		return nil
	}
	if err := t.before(ctx); err != nil {
		return err
	}
	if err := sqlitex.ExecuteTransient(t.conn, "COMMIT", nil); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return t.log.committed()
}

// Flush implements takeover.Store.
func (t *Takeover) Flush(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.commit(ctx); err != nil {
		return errors.Join(err, t.rollback())
	}
	return nil
}

// Close implements takeover.Store.
func (t *Takeover) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return errors.Join(t.rollback(), t.log.close(), t.conn.Close())
}

// Begin implements takeover.Store.
func (t *Takeover) Begin(ctx context.Context, source string, now time.Time) (stage takeover.Stage, err error) {
	err = t.atOnce(ctx, func(c *sqlite.Conn) error {
		err := query(c, "SELECT 1 FROM account WHERE NOT EXISTS (SELECT 1 FROM takeover) LIMIT 1", nil,
			func(*sqlite.Stmt) error { return takeover.ErrServed })
		if err != nil {
			return err
		}
		_, err = change(c, "INSERT INTO takeover (one, source, began_at) VALUES (1, ?, ?) ON CONFLICT DO NOTHING",
			func(s *sqlite.Stmt) { s.BindText(1, source); bindTime(s, 2, now) })
		if err != nil {
			return fmt.Errorf("begin take-over: %w", err)
		}
		now, was, err := stageOf(c)
		if err == nil && was != source {
			err = fmt.Errorf("%w: %s", takeover.ErrOtherSource, was)
		}
		if err == nil {
			stage = now
		}
		return err
	})
	return stage, err
}

// stageOf returns how far the take-over is that makes a database, and the data directory that it takes over.
func stageOf(c *sqlite.Conn) (stage takeover.Stage, source string, err error) {
	err = query(c, "SELECT source, began_at, finished_at, last_event FROM takeover", nil, func(r *sqlite.Stmt) error {
		source = r.ColumnText(0)
		stage = takeover.Stage{Began: columnTime(r, 1), Finished: columnTime(r, 2), LastEvent: r.ColumnInt64(3)}
		return nil
	})
	return stage, source, err
}

// Reopen makes a take-over that has ended one that has not, so that it can be made again.
func (t *Takeover) Reopen(ctx context.Context) error {
	err := t.atOnce(ctx, func(c *sqlite.Conn) error {
		_, err := change(c, "UPDATE takeover SET finished_at = NULL", nil)
		return err
	})
	return wrap(err, "begin the take-over again")
}

// checkTakeover returns ErrUnfinished while a take-over fills the database.
func checkTakeover(c *sqlite.Conn) error {
	return query(c, "SELECT 1 FROM takeover WHERE finished_at IS NULL", nil, func(*sqlite.Stmt) error { return ErrUnfinished })
}

// Progress implements takeover.Store.
func (t *Takeover) Progress(ctx context.Context) (map[syntax.DID]takeover.Progress, error) {
	out := map[syntax.DID]takeover.Progress{}
	err := t.within(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT did, rev, size, wal_size, changed FROM takeover_actor", nil, func(r *sqlite.Stmt) error {
			out[syntax.DID(r.ColumnText(0))] = takeover.Progress{
				Rev:   syntax.TID(r.ColumnText(1)),
				State: takeover.State{Size: r.ColumnInt64(2), WAL: r.ColumnInt64(3), Changed: r.ColumnInt64(4)},
			}
			return nil
		})
	})
	return out, wrap(err, "read progress of the take-over")
}

// HasFile implements takeover.Store.
func (t *Takeover) HasFile(ctx context.Context, key string) (has bool, err error) {
	err = t.within(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT 1 FROM blob WHERE file = ?", func(s *sqlite.Stmt) { s.BindText(1, key) },
			func(*sqlite.Stmt) error { has = true; return nil })
	})
	return has, wrap(err, "look for file "+key)
}

// Heads implements takeover.Store.
func (t *Takeover) Heads(ctx context.Context) (all []takeover.Head, err error) {
	err = t.within(ctx, func(c *sqlite.Conn) error {
		return query(c, `SELECT a.did, a.handle, r.rev, r.cid, r.commit_block, `+statusColumns+`
			FROM account a JOIN repo r ON r.account_id = a.id AND r.current = 1 ORDER BY a.id`, nil, func(r *sqlite.Stmt) error {
			h := takeover.Head{DID: syntax.DID(r.ColumnText(0)), Handle: syntax.Handle(r.ColumnText(1)), Status: columnStatus(r, 5)}
			h.Head.Rev = syntax.TID(r.ColumnText(2))
			var err error
			h.Head.Commit.CID, err = columnCID(r, 3)
			h.Head.Commit.Data = columnBytes(r, 4)
			all = append(all, h)
			return err
		})
	})
	return all, wrap(err, "list repositories")
}

// Counts implements takeover.Store.
func (t *Takeover) Counts(ctx context.Context) (n takeover.Counts, err error) {
	err = t.within(ctx, func(c *sqlite.Conn) error {
		for _, one := range []struct {
			to  *int64
			sql string
		}{
			{&n.Accounts, "SELECT count(*) FROM account"},
			{&n.TakenDown, "SELECT count(*) FROM account WHERE takendown_at IS NOT NULL"},
			{&n.Deactivated, "SELECT count(*) FROM account WHERE takendown_at IS NULL AND deactivated_at IS NOT NULL"},
			{&n.Repositories, "SELECT count(*) FROM repo WHERE current = 1 AND account_id IS NOT NULL"},
			{&n.Records, "SELECT coalesce(sum(records), 0) FROM repo WHERE current = 1 AND account_id IS NOT NULL"},
			{&n.Blobs, "SELECT count(*) FROM blob"},
			{&n.BlobBytes, "SELECT coalesce(sum(size), 0) FROM blob"},
			{&n.AppPasswords, "SELECT count(*) FROM app_password"},
			{&n.Invites, "SELECT count(*) FROM invite_code"},
			{&n.InviteUses, "SELECT count(*) FROM invite_use"},
			{&n.ReservedKeys, "SELECT count(*) FROM reserved_key"},
			{&n.EmailCodes, "SELECT count(*) FROM email_code"},
			{&n.Preferences, "SELECT count(*) FROM preferences"},
			{&n.Takedowns, "SELECT count(*) FROM takedown"},
			{&n.Sessions, "SELECT count(*) FROM session"},
			{&n.Events, "SELECT count(*) FROM event WHERE kind <> ''"},
			{&n.LastEvent, "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'event'"},
		} {
			if err := query(c, one.sql, nil, func(r *sqlite.Stmt) error { *one.to = r.ColumnInt64(0); return nil }); err != nil {
				return err
			}
		}
		n.Active = n.Accounts - n.TakenDown - n.Deactivated
		return nil
	})
	return n, wrap(err, "count what was taken over")
}

// Mail implements takeover.Store.
func (t *Takeover) Mail(ctx context.Context, letters []takeover.Letter, now time.Time) (queued int, err error) {
	err = t.within(ctx, func(c *sqlite.Conn) error {
		if _, err := change(c, "DELETE FROM outbox", nil); err != nil { // of a pass that is made again
			return fmt.Errorf("empty the outbox: %w", err)
		}
		for i := range letters {
			var id int64
			err := query(c, "SELECT id FROM account WHERE did = ?", func(s *sqlite.Stmt) { s.BindText(1, letters[i].DID.String()) },
				func(r *sqlite.Stmt) error { id = r.ColumnInt64(0); return nil })
			if err != nil {
				return fmt.Errorf("look for the account of a mail: %w", err)
			}
			if id == 0 {
				continue // it was left out
			}
			err = queueMail(c, id, now, letters[i].Message, mail.MaxWaiting)
			if errors.Is(err, mail.ErrFull) {
				break // the report has how many there are
			}
			if err != nil {
				return err
			}
			queued++
		}
		return nil
	})
	return queued, err
}

// Finish implements takeover.Store.
func (t *Takeover) Finish(ctx context.Context, e account.Entry, a admin.Action, now time.Time) error {
	err := t.within(ctx, func(c *sqlite.Conn) error {
		for _, sql := range []string{"DELETE FROM takeover_actor", "DELETE FROM trail", "DELETE FROM audit", "DELETE FROM blob_garbage"} {
			if _, err := change(c, sql, nil); err != nil {
				return err
			}
		}
		_, err := change(c, `INSERT INTO trail (account_id, at, kind, actor, session_id, reason, network, user_agent, other_network,
			other_user_agent) SELECT id, ?, ?, ?, 0, '', '', '', '', '' FROM account ORDER BY id`,
			func(s *sqlite.Stmt) { bindTime(s, 1, e.At); s.BindText(2, string(e.Kind)); s.BindText(3, string(e.By)) })
		if err != nil {
			return err
		}
		if err := insertAudit(c, a); err != nil {
			return err
		}
		_, err = change(c, "UPDATE takeover SET finished_at = ?", func(s *sqlite.Stmt) { bindTime(s, 1, now) })
		return err
	})
	if err != nil {
		return fmt.Errorf("end the take-over: %w", err)
	}
	if err := t.Flush(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.log.rest(); err != nil {
		return err
	}
	if err := pragmas(t.conn, "PRAGMA optimize", "PRAGMA synchronous=FULL", "PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(t.path))
}
