package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/account"
	"nestbox/store/sqlite/groupcommit"
)

// AddInviteCodes implements account.Store.
func (db Accounts) AddInviteCodes(ctx context.Context, codes []account.InviteCode) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		for _, code := range codes {
			_, err := change(tx.Conn, "INSERT INTO invite_code (code, available, disabled, for_account, created_by, created_at) VALUES (?, ?, ?, ?, ?, ?)",
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
	})
}

// InviteCodes implements account.Store.
func (db Accounts) InviteCodes(ctx context.Context, codes []string) (out []account.InviteCode, err error) {
	err = db.readTx(ctx, func(c *sqlite.Conn) error {
		for _, code := range codes {
			found, err := inviteCodes(c, "code = ?", code)
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
		out, err = inviteCodes(c, "for_account = ?", did.String())
		return err
	})
	return out, err
}

func inviteCodes(c *sqlite.Conn, where, value string) ([]account.InviteCode, error) {
	var out []account.InviteCode
	err := query(c, "SELECT code, available, disabled, for_account, created_by, created_at FROM invite_code WHERE "+where+" ORDER BY created_at, code",
		func(s *sqlite.Stmt) { s.BindText(1, value) },
		func(r *sqlite.Stmt) error {
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
		err := query(c, "SELECT used_by, used_at FROM invite_use WHERE code = ? ORDER BY used_at",
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

// useInvite notes the use of a code within the transaction that reserves the
// account: account.ErrInviteUsed where it is unknown, disabled or used up.
func useInvite(c *sqlite.Conn, code string, by syntax.DID, at time.Time) error {
	n, err := change(c, `INSERT INTO invite_use (code, used_by, used_at)
		SELECT code, ?2, ?3 FROM invite_code WHERE code = ?1 AND disabled = 0
			AND available > (SELECT count(*) FROM invite_use u WHERE u.code = ?1)`,
		func(s *sqlite.Stmt) { s.BindText(1, code); s.BindText(2, by.String()); bindTime(s, 3, at) })
	if err != nil {
		return fmt.Errorf("use invite code: %w", err)
	}
	if n == 0 {
		return account.ErrInviteUsed
	}
	return nil
}
