package sqlite

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/account"
	"nestbox/store/sqlite/groupcommit"
)

// AddInviteCodes implements account.Store.
func (db Accounts) AddInviteCodes(ctx context.Context, codes []account.InviteCode) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error { return insertInvites(tx.Conn, codes) })
}

func insertInvites(c *sqlite.Conn, codes []account.InviteCode) error {
	for _, code := range codes {
		_, err := change(c, "INSERT INTO invite_code (code, available, disabled, for_account, created_by, created_at) VALUES (?, ?, ?, ?, ?, ?)",
			func(s *sqlite.Stmt) {
				s.BindText(1, code.Code)
				s.BindInt64(2, int64(code.Available))
				s.BindBool(3, code.Disabled)
				s.BindText(4, code.ForAccount)
				s.BindText(5, code.CreatedBy)
				bindTime(s, 6, code.CreatedAt)
			})
		if err != nil {
			return fmt.Errorf("insert invite code: %w", err)
		}
	}
	return nil
}

// EarnInviteCodes implements account.Store.
func (db Accounts) EarnInviteCodes(
	ctx context.Context, id int64, decide func(*account.Account, []account.InviteCode) []account.InviteCode,
) error {
	return db.update(ctx, id, func(tx *groupcommit.Tx, a *account.Account) error {
		own, err := inviteCodesOf(tx.Conn, a.DID)
		if err != nil {
			return err
		}
		return insertInvites(tx.Conn, decide(a, own))
	})
}

// DisableInviteCodes implements account.Store.
func (db Accounts) DisableInviteCodes(ctx context.Context, codes, owners []string) (n int, err error) {
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		n = 0
		for _, set := range []struct {
			column string
			values []string
		}{{"code", codes}, {"for_account", owners}} {
			for _, value := range set.values {
				changed, err := change(tx.Conn, "UPDATE invite_code SET disabled = 1 WHERE disabled = 0 AND "+set.column+" = ?",
					func(s *sqlite.Stmt) { s.BindText(1, value) })
				if err != nil {
					return fmt.Errorf("disable invite codes: %w", err)
				}
				n += changed
			}
		}
		return nil
	})
	return n, err
}

// The pages of all invite codes; a page by use reads all of them.
const (
	inviteColumns = "code, available, disabled, for_account, created_by, created_at"
	recentInvites = "SELECT " + inviteColumns + ` FROM invite_code
		WHERE (created_at, code) < (?1, ?2) ORDER BY created_at DESC, code DESC LIMIT ?3`
	usedInvites = "SELECT " + inviteColumns + ` FROM
		(SELECT *, (SELECT count(*) FROM invite_use u WHERE u.code = c.code) AS uses FROM invite_code c)
		WHERE (uses, code) < (?1, ?2) ORDER BY uses DESC, code DESC LIMIT ?3`
	beforeTheFirst = int64(math.MaxInt64)
)

// ListInviteCodes implements account.Store.
func (db Accounts) ListInviteCodes(ctx context.Context, q account.InviteQuery) (out []account.InviteCode, err error) {
	sql, primary, code := recentInvites, beforeTheFirst, ""
	if q.ByUsage {
		sql = usedInvites
	}
	if q.After != nil {
		primary, code = q.After.CreatedAt.UnixMilli(), q.After.Code
		if q.ByUsage {
			primary = q.After.Uses
		}
	}
	err = db.readTx(ctx, func(c *sqlite.Conn) error {
		out, err = inviteCodes(c, sql, func(s *sqlite.Stmt) {
			s.BindInt64(1, primary)
			s.BindText(2, code)
			s.BindInt64(3, int64(q.Limit))
		})
		return err
	})
	return out, err
}

// InviteCodes implements account.Store.
func (db Accounts) InviteCodes(ctx context.Context, codes []string) (out []account.InviteCode, err error) {
	err = db.readTx(ctx, func(c *sqlite.Conn) error {
		for _, code := range codes {
			found, err := inviteCodes(c, "SELECT "+inviteColumns+" FROM invite_code WHERE code = ?", func(s *sqlite.Stmt) { s.BindText(1, code) })
			if err != nil {
				return err
			}
			out = append(out, found...)
		}
		return nil
	})
	return out, err
}

// InviteCodesFor implements account.Store.
func (db Accounts) InviteCodesFor(ctx context.Context, did syntax.DID) (out []account.InviteCode, err error) {
	err = db.readTx(ctx, func(c *sqlite.Conn) error {
		out, err = inviteCodesOf(c, did)
		return err
	})
	return out, err
}

func inviteCodesOf(c *sqlite.Conn, did syntax.DID) ([]account.InviteCode, error) {
	return inviteCodes(c, "SELECT "+inviteColumns+" FROM invite_code WHERE for_account = ? ORDER BY created_at, code",
		func(s *sqlite.Stmt) { s.BindText(1, did.String()) })
}

// inviteCodes runs a query of inviteColumns.
func inviteCodes(c *sqlite.Conn, sql string, b bind) ([]account.InviteCode, error) {
	var out []account.InviteCode
	err := query(c, sql, b, func(r *sqlite.Stmt) error {
		out = append(out, account.InviteCode{
			Code: r.ColumnText(0), Available: r.ColumnInt(1), Disabled: r.ColumnBool(2),
			ForAccount: r.ColumnText(3), CreatedBy: r.ColumnText(4), CreatedAt: columnTime(r, 5),
		})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read invite codes: %w", err)
	}
	for i := range out {
		err := query(c, "SELECT used_by, used_at FROM invite_use WHERE code = ? ORDER BY used_at DESC, used_by",
			func(s *sqlite.Stmt) { s.BindText(1, out[i].Code) },
			func(r *sqlite.Stmt) error {
				out[i].Uses = append(out[i].Uses, account.InviteUse{UsedBy: syntax.DID(r.ColumnText(0)), UsedAt: columnTime(r, 1)})
				return nil
			})
		if err != nil {
			return nil, fmt.Errorf("read uses of invite code: %w", err)
		}
	}
	return out, nil
}

// useInvite notes the use of a code within the transaction that reserves the account:
// account.ErrInviteUsed if there is no such code, or InviteCode.Admits says so. A DID that
// uses a code again counts once.
func useInvite(c *sqlite.Conn, code string, by syntax.DID, at time.Time) error {
	var invite *account.InviteCode
	used, again := 0, false
	err := query(c, `SELECT available, disabled, for_account, (SELECT count(*) FROM invite_use u WHERE u.code = ?1),
			EXISTS (SELECT 1 FROM invite_use u WHERE u.code = ?1 AND u.used_by = ?2) FROM invite_code WHERE code = ?1`,
		func(s *sqlite.Stmt) { s.BindText(1, code); s.BindText(2, by.String()) },
		func(r *sqlite.Stmt) error {
			invite = &account.InviteCode{Code: code, Available: r.ColumnInt(0), Disabled: r.ColumnBool(1), ForAccount: r.ColumnText(2)}
			used, again = r.ColumnInt(3), r.ColumnBool(4)
			return nil
		})
	if err != nil {
		return fmt.Errorf("look for invite code: %w", err)
	}
	if invite == nil {
		return account.ErrInviteUsed
	}
	owner, _, err := measuresOf(c, syntax.DID(invite.ForAccount))
	if err == nil {
		err = invite.Admits(used, again, owner)
	}
	if err != nil {
		return err
	}
	_, err = change(c, "INSERT OR IGNORE INTO invite_use (code, used_by, used_at) VALUES (?, ?, ?)",
		func(s *sqlite.Stmt) { s.BindText(1, code); s.BindText(2, by.String()); bindTime(s, 3, at) })
	return wrap(err, "use invite code")
}
