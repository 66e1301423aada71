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
// account.ErrInviteUsed if it is unknown, disabled or used up, or belongs to a DID
// that is taken down. A DID that uses a code again counts once.
func useInvite(c *sqlite.Conn, code string, by syntax.DID, at time.Time) error {
	n, err := change(c, `INSERT INTO invite_use (code, used_by, used_at)
		SELECT code, ?2, ?3 FROM invite_code WHERE code = ?1 AND disabled = 0
			AND NOT EXISTS (SELECT 1 FROM account a WHERE a.did = for_account AND a.takendown_at IS NOT NULL)
			AND NOT EXISTS (SELECT 1 FROM measure m WHERE m.did = for_account AND m.takendown_at IS NOT NULL)
			AND (available > (SELECT count(*) FROM invite_use u WHERE u.code = ?1)
				OR EXISTS (SELECT 1 FROM invite_use u WHERE u.code = ?1 AND u.used_by = ?2))
		ON CONFLICT DO UPDATE SET used_at = used_at`,
		func(s *sqlite.Stmt) { s.BindText(1, code); s.BindText(2, by.String()); bindTime(s, 3, at) })
	if err != nil {
		return fmt.Errorf("use invite code: %w", err)
	}
	if n == 0 {
		return account.ErrInviteUsed
	}
	return nil
}
