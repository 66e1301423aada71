package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/account"
	"nestbox/moving"
	"nestbox/store/sqlite/groupcommit"
)

// Jobs implements moving.Store.
type Jobs struct{ *DB }

var _ moving.Store = Jobs{}

// AddJob implements moving.Store.
func (db Jobs) AddJob(ctx context.Context, j moving.Job) (id int64, err error) {
	progress, err := json.Marshal(j.Progress)
	if err != nil {
		return 0, fmt.Errorf("progress of a job: %w", err)
	}
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		_, err := change(tx.Conn, `INSERT INTO job (account_id, kind, source, state, progress, error, made_at, changed_at)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)`,
			func(s *sqlite.Stmt) {
				s.BindInt64(1, j.AccountID)
				s.BindText(2, string(j.Kind))
				s.BindText(3, j.Source)
				s.BindText(4, string(j.State))
				s.BindText(5, string(progress))
				s.BindText(6, j.Error)
				bindTime(s, 7, j.MadeAt)
				bindTime(s, 8, j.ChangedAt)
			})
		switch {
		case isUnique(err):
			return moving.ErrJob
		case sqlite.ErrCode(err) == sqlite.ResultConstraintForeignKey:
			return account.ErrNotFound
		}
		id = tx.Conn.LastInsertRowID()
		return wrap(err, "add job")
	})
	return id, err
}

// SaveJob implements moving.Store.
func (db Jobs) SaveJob(ctx context.Context, j moving.Job) (open bool, err error) {
	progress, err := json.Marshal(j.Progress)
	if err != nil {
		return false, fmt.Errorf("progress of a job: %w", err)
	}
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		n, err := change(tx.Conn, "UPDATE job SET state = ?2, progress = ?3, error = ?4, changed_at = ?5 WHERE id = ?1 AND state = 'open'",
			func(s *sqlite.Stmt) {
				s.BindInt64(1, j.ID)
				s.BindText(2, string(j.State))
				s.BindText(3, string(progress))
				s.BindText(4, j.Error)
				bindTime(s, 5, j.ChangedAt)
			})
		open = n > 0
		return wrap(err, "save job")
	})
	return open, err
}

// OpenJobs implements moving.Store.
func (db Jobs) OpenJobs(ctx context.Context) ([]moving.Job, error) {
	return db.jobs(ctx, "WHERE j.state = 'open' ORDER BY j.id", func(*sqlite.Stmt) {})
}

// Jobs implements moving.Store.
func (db Jobs) Jobs(ctx context.Context, accountID int64, limit int) ([]moving.Job, error) {
	return db.jobs(ctx, "WHERE j.account_id = ? ORDER BY j.id DESC LIMIT ?",
		func(s *sqlite.Stmt) { s.BindInt64(1, accountID); s.BindInt64(2, int64(limit)) })
}

func (db Jobs) jobs(ctx context.Context, which string, b bind) (list []moving.Job, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, `SELECT j.id, j.account_id, j.kind, j.source, j.state, j.progress, j.error, j.made_at, j.changed_at, a.did
			FROM job j JOIN account a ON a.id = j.account_id `+which, b,
			func(r *sqlite.Stmt) error {
				j := moving.Job{
					ID: r.ColumnInt64(0), AccountID: r.ColumnInt64(1), DID: syntax.DID(r.ColumnText(9)), Kind: moving.Kind(r.ColumnText(2)),
					Source: r.ColumnText(3),
					State:  moving.State(r.ColumnText(4)), Error: r.ColumnText(6), MadeAt: columnTime(r, 7), ChangedAt: columnTime(r, 8),
				}
				if err := json.Unmarshal(columnBytes(r, 5), &j.Progress); err != nil {
					return fmt.Errorf("progress of job %d: %w", j.ID, err)
				}
				list = append(list, j)
				return nil
			})
	})
	return list, wrap(err, "list jobs")
}

// CollectJobs implements moving.Store.
func (db Jobs) CollectJobs(ctx context.Context, before time.Time) (n int, err error) {
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		n, err = change(tx.Conn, "DELETE FROM job WHERE state <> 'open' AND changed_at < ?", func(s *sqlite.Stmt) { bindTime(s, 1, before) })
		return wrap(err, "delete jobs")
	})
	return n, err
}
