package sqlite

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/account"
	"nestbox/device"
	"nestbox/session"
	"nestbox/takeover"
)

var _ takeover.BackStore = Legacy{}

// TakenOver implements takeover.BackStore.
func (db Legacy) TakenOver(ctx context.Context) (at time.Time, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT at FROM legacy_since", nil, func(r *sqlite.Stmt) error { at = columnTime(r, 0); return nil })
	})
	return at, wrap(err, "look for the time of the take-over")
}

// BackAccounts implements takeover.BackStore.
func (db Legacy) BackAccounts(ctx context.Context, since time.Time, yield func(takeover.BackAccount) error) error {
	apps := map[string][]takeover.AppPassword{}
	err := db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT a.did, p.name, p.privileged, p.created_at FROM app_password p JOIN account a ON a.id = p.account_id", nil,
			func(r *sqlite.Stmt) error {
				did := r.ColumnText(0)
				apps[did] = append(apps[did], takeover.AppPassword{
					DID: syntax.DID(did), Name: r.ColumnText(1), Privileged: r.ColumnBool(2), CreatedAt: columnTime(r, 3),
				})
				return nil
			})
	})
	if err != nil {
		return fmt.Errorf("list app passwords: %w", err)
	}
	takedowns, preferences := map[string]map[string]string{}, map[string][]byte{}
	err = db.read(ctx, func(c *sqlite.Conn) error {
		err := query(c, "SELECT did, subject, ref, at FROM takedown", nil, func(r *sqlite.Stmt) error {
			of := takedowns[r.ColumnText(0)]
			if of == nil {
				of = map[string]string{}
				takedowns[r.ColumnText(0)] = of
			}
			of[r.ColumnText(1)] = takedownText(r.ColumnText(2), columnTime(r, 3))
			return nil
		})
		if err != nil {
			return err
		}
		return query(c, "SELECT a.did, p.list FROM preferences p JOIN account a ON a.id = p.account_id", nil, func(r *sqlite.Stmt) error {
			preferences[r.ColumnText(0)] = []byte(r.ColumnText(1))
			return nil
		})
	})
	if err != nil {
		return fmt.Errorf("list takedowns and preferences: %w", err)
	}
	var all []takeover.BackAccount
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, `SELECT a.did, a.handle, a.email, a.email_confirmed_at, a.deactivated_at, a.takendown_at, a.takedown_ref,
			coalesce(r.rev, ''),
			EXISTS (SELECT 1 FROM trail t WHERE t.account_id = a.id AND t.kind = ? AND t.at >= ?)
			FROM account a LEFT JOIN repo r ON r.account_id = a.id AND r.current = 1 WHERE a.pending_operation IS NULL ORDER BY a.id`,
			func(s *sqlite.Stmt) {
				s.BindText(1, string(account.EntryPasswordChanged))
				bindTime(s, 2, since)
			},
			func(r *sqlite.Stmt) error {
				a := takeover.BackAccount{
					DID: r.ColumnText(0), Handle: r.ColumnText(1), Email: r.ColumnText(2), EmailConfirmedAt: columnTime(r, 3),
					DeactivatedAt: columnTime(r, 4), Takedown: r.ColumnText(6), Rev: r.ColumnText(7), PasswordChanged: r.ColumnBool(8),
				}
				if at := columnTime(r, 5); at.IsZero() {
					a.Takedown = ""
				} else {
					a.Takedown = takedownText(a.Takedown, at)
				}
				a.AppPasswords, a.Takedowns, a.Preferences = apps[a.DID], takedowns[a.DID], preferences[a.DID]
				all = append(all, a)
				return nil
			})
	})
	if err != nil {
		return fmt.Errorf("list accounts: %w", err)
	}
	for _, a := range all {
		if err := yield(a); err != nil {
			return err
		}
	}
	return nil
}

// takedownText is the case of a takedown, or its time.
func takedownText(ref string, at time.Time) string {
	if ref == "" {
		return at.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	return ref
}

// Invites implements takeover.BackStore.
func (db Legacy) Invites(ctx context.Context) (codes []takeover.Invite, uses []takeover.InviteUse, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		err := query(c, "SELECT code, available, disabled, for_account, created_by, created_at FROM invite_code", nil,
			func(r *sqlite.Stmt) error {
				codes = append(codes, takeover.Invite{
					Code: r.ColumnText(0), Available: r.ColumnInt64(1), Disabled: r.ColumnBool(2), ForAccount: r.ColumnText(3),
					CreatedBy: r.ColumnText(4), CreatedAt: columnTime(r, 5),
				})
				return nil
			})
		if err != nil {
			return err
		}
		return query(c, "SELECT code, used_by, used_at FROM invite_use", nil, func(r *sqlite.Stmt) error {
			uses = append(uses, takeover.InviteUse{Code: r.ColumnText(0), UsedBy: r.ColumnText(1), UsedAt: columnTime(r, 2)})
			return nil
		})
	})
	return codes, uses, wrap(err, "list invite codes")
}

// BackSessions implements takeover.BackStore.
func (db Legacy) BackSessions(ctx context.Context, yield func(takeover.BackSession) error) error {
	tokens := map[int64][]takeover.BroughtToken{}
	var all []takeover.BackSession
	var ids []int64
	err := db.read(ctx, func(c *sqlite.Conn) error {
		err := query(c, "SELECT session_id, generation, hash FROM legacy_token", nil, func(r *sqlite.Stmt) error {
			t := takeover.BroughtToken{Generation: r.ColumnInt64(1)}
			copy(t.Hash[:], columnBytes(r, 2))
			tokens[r.ColumnInt64(0)] = append(tokens[r.ColumnInt64(0)], t)
			return nil
		})
		if err != nil {
			return err
		}
		return query(c, "SELECT s.id, s.nonce, s.head, s.expires, a.did, p.id IS NOT NULL, coalesce(p.name, '') FROM session s "+
			"JOIN account a ON a.id = s.account_id LEFT JOIN app_password p ON p.id = s.app_password_id WHERE s.scope <> 'oauth' ORDER BY s.id",
			nil, func(r *sqlite.Stmt) error {
				st := session.State{ID: r.ColumnInt64(0), Nonce: r.ColumnText(1), Head: r.ColumnInt64(2)}
				b := takeover.BackSession{
					DID: r.ColumnText(4), AppPassword: r.ColumnText(6), OfApp: r.ColumnBool(5), Head: st.Head, HeadID: st.JTI(st.Head),
					Expires: columnTime(r, 3),
				}
				if st.Head > 0 {
					b.BeforeID = st.JTI(st.Head - 1)
				}
				ids, all = append(ids, st.ID), append(all, b)
				return nil
			})
	})
	if err != nil {
		return fmt.Errorf("list sessions: %w", err)
	}
	for i := range all {
		all[i].Tokens = tokens[ids[i]]
		if err := yield(all[i]); err != nil {
			return err
		}
	}
	return nil
}

// UntouchedGrants implements takeover.BackStore.
func (db Legacy) UntouchedGrants(ctx context.Context) (map[[sha256.Size]byte]bool, error) {
	untouched := map[[sha256.Size]byte]bool{}
	err := db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, `SELECT t.hash FROM legacy_token t JOIN session s ON s.id = t.session_id
			WHERE s.scope = 'oauth' AND t.generation = s.head`, nil,
			func(r *sqlite.Stmt) error {
				untouched[[sha256.Size]byte(columnBytes(r, 0))] = true
				return nil
			})
	})
	return untouched, wrap(err, "list grants of OAuth clients")
}

// SignedIn implements takeover.BackStore.
func (db Legacy) SignedIn(ctx context.Context, now time.Time) (map[takeover.BackSignIn]bool, error) {
	signedIn := map[takeover.BackSignIn]bool{}
	err := db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, `SELECT l.hash, a.did, b.used_at, b.remember FROM legacy_browser l
			JOIN browser_session b ON b.device_id = l.device_id JOIN account a ON a.id = b.account_id`, nil,
			func(r *sqlite.Stmt) error {
				in := device.SignIn{UsedAt: columnTime(r, 2), Remember: r.ColumnBool(3)}
				if in.Live(now) {
					signedIn[takeover.BackSignIn{Browser: [device.HashSize]byte(columnBytes(r, 0)), DID: r.ColumnText(1)}] = true
				}
				return nil
			})
	})
	return signedIn, wrap(err, "list browsers of another server")
}

// Consents implements takeover.BackStore.
func (db Legacy) Consents(ctx context.Context) (map[takeover.BackConsent]string, error) {
	consents := map[takeover.BackConsent]string{}
	err := db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT a.did, o.client_id, o.scopes FROM oauth_consent o JOIN account a ON a.id = o.account_id", nil,
			func(r *sqlite.Stmt) error {
				consents[takeover.BackConsent{DID: r.ColumnText(0), ClientID: r.ColumnText(1)}] = r.ColumnText(2)
				return nil
			})
	})
	return consents, wrap(err, "list consents")
}

// LastNumber implements takeover.BackStore.
func (db Legacy) LastNumber(ctx context.Context) (last int64, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'event'", nil,
			func(r *sqlite.Stmt) error { last = r.ColumnInt64(0); return nil })
	})
	return last, wrap(err, "look for the last number of the event log")
}
