package sqlite

import (
	"context"
	"fmt"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/account"
	"nestbox/admin"
	"nestbox/mail"
	"nestbox/store/sqlite/groupcommit"
)

// Admin implements admin.Store.
type Admin struct{ *DB }

var _ admin.Store = Admin{}

// Note implements admin.Store.
func (db Admin) Note(ctx context.Context, a admin.Action) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error { return insertAudit(tx.Conn, a) })
}

// SendMail implements admin.Store.
func (db Admin) SendMail(ctx context.Context, m mail.Message, a admin.Action) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		var id int64
		err := query(tx.Conn, "SELECT id FROM account WHERE did = ?", func(s *sqlite.Stmt) { s.BindText(1, a.DID.String()) },
			func(r *sqlite.Stmt) error { id = r.ColumnInt64(0); return nil })
		if err != nil {
			return fmt.Errorf("look for account: %w", err)
		}
		if err := queueMail(tx.Conn, id, a.At, m, mail.MaxWaiting); err != nil {
			return err
		}
		wakeOutbox(tx, db.DB)
		return insertAudit(tx.Conn, a)
	})
}

// auditOf and auditAll are the audit log, newest first; the first walks the
// index audit_did.
const (
	auditColumns = "SELECT id, at, who, what, did, subject, details, network, user_agent FROM audit "
	auditBy      = " AND (?5 = '' OR who = ?5) AND (?6 = '' OR what = ?6) ORDER BY id DESC LIMIT ?3"
	auditAll     = auditColumns + "WHERE id < ?1 AND at >= ?2" + auditBy
	auditOf      = auditColumns + "WHERE did = ?4 AND id < ?1 AND at >= ?2" + auditBy
)

// Audit implements admin.Store.
func (db Admin) Audit(ctx context.Context, f admin.AuditFilter) (out []admin.Action, err error) {
	sql := auditAll
	if f.DID != "" {
		sql = auditOf
	}
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, sql,
			func(s *sqlite.Stmt) {
				s.BindInt64(1, f.Before)
				s.BindInt64(2, f.Since.UnixMilli())
				s.BindInt64(3, max(0, int64(f.Limit)))
				s.BindText(5, f.Who)
				s.BindText(6, f.What)
				if f.DID != "" {
					s.BindText(4, f.DID.String())
				}
			},
			func(r *sqlite.Stmt) error {
				out = append(out, admin.Action{
					ID: r.ColumnInt64(0), At: columnTime(r, 1), Who: r.ColumnText(2), What: r.ColumnText(3), DID: syntax.DID(r.ColumnText(4)),
					Subject: r.ColumnText(5), Details: r.ColumnText(6), Network: r.ColumnText(7), UserAgent: r.ColumnText(8),
				})
				return nil
			})
	})
	return out, wrap(err, "read audit log")
}

// Search implements admin.Store. It reads every account behind after.
func (db Admin) Search(ctx context.Context, text string, after int64, limit int) (out []*account.Account, err error) {
	err = db.scanRead(ctx, 0, func(c *sqlite.Conn) error {
		return query(c, "SELECT "+accountColumns+accountTables+`WHERE a.pending_operation IS NULL AND a.id > ?1
			AND (instr(a.email_key, ?2) > 0 OR instr(lower(a.email), ?2) > 0 OR instr(a.handle, ?2) > 0) ORDER BY a.id LIMIT ?3`,
			func(s *sqlite.Stmt) {
				s.BindInt64(1, after)
				s.BindText(2, strings.ToLower(text))
				s.BindInt64(3, max(0, int64(limit)))
			},
			func(r *sqlite.Stmt) error { out = append(out, scanAccount(r)); return nil })
	})
	if err != nil {
		return nil, fmt.Errorf("search accounts: %w", err)
	}
	return out, nil
}
