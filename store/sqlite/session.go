package sqlite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/device"
	"nestbox/mail"
	"nestbox/session"
	"nestbox/store/sqlite/groupcommit"
)

// Sessions implements session.Store.
type Sessions struct{ *DB }

var _ session.Store = Sessions{}

const sessionColumns = `s.id, s.nonce, s.account_id, s.app_password_id, s.scope, s.created_at,
	s.head, s.rotated_at, s.marks, s.floor, s.expires, s.network, s.user_agent, s.flagged_at,
	(SELECT name FROM app_password p WHERE p.id = s.app_password_id), ` + grantColumns

// sessionTables are what sessionColumns are of.
const sessionTables = "session s LEFT JOIN oauth_session g ON g.session_id = s.id"

func scanSession(r *sqlite.Stmt) (session.State, error) {
	marks, err := decodeMarks(columnBytes(r, 8))
	if err != nil {
		return session.State{}, fmt.Errorf("session %d: %w", r.ColumnInt64(0), err)
	}
	return session.State{
		Grant: scanGrant(r, 15), ID: r.ColumnInt64(0), Nonce: r.ColumnText(1), AccountID: r.ColumnInt64(2), AppPasswordID: r.ColumnInt64(3),
		Scope: auth.Scope(r.ColumnText(4)), CreatedAt: columnTime(r, 5),
		Head: r.ColumnInt64(6), RotatedAt: columnTime(r, 7), Marks: marks, Floor: r.ColumnInt64(9),
		Expires: columnTime(r, 10), Network: r.ColumnText(11), UserAgent: r.ColumnText(12), FlaggedAt: columnTime(r, 13),
		AppPassword: r.ColumnText(14),
	}, nil
}

// encodeMarks packs (Unix milliseconds, generation) pairs as varints, each
// relative to the pair before it.
func encodeMarks(marks []session.Mark) []byte {
	buf := make([]byte, 0, len(marks)*8)
	var at, gen int64
	for _, m := range marks {
		buf = binary.AppendVarint(buf, m.Time.UnixMilli()-at)
		buf = binary.AppendVarint(buf, m.Generation-gen)
		at, gen = m.Time.UnixMilli(), m.Generation
	}
	return buf
}

func decodeMarks(buf []byte) ([]session.Mark, error) {
	var marks []session.Mark
	var at, gen int64
	for len(buf) > 0 {
		dt, n := binary.Varint(buf)
		if n <= 0 {
			return nil, errors.New("rotation marks are damaged")
		}
		dg, m := binary.Varint(buf[n:])
		if m <= 0 {
			return nil, errors.New("rotation marks are damaged")
		}
		buf = buf[n+m:]
		at, gen = at+dt, gen+dg
		marks = append(marks, session.Mark{Time: time.UnixMilli(at).UTC(), Generation: gen})
	}
	return marks, nil
}

func loadSession(c *sqlite.Conn, id int64) (*session.State, error) {
	var found *session.State
	err := query(c, "SELECT "+sessionColumns+" FROM "+sessionTables+" WHERE s.id = ?",
		func(s *sqlite.Stmt) { s.BindInt64(1, id) },
		func(r *sqlite.Stmt) error {
			st, err := scanSession(r)
			found = &st
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("load session: %w", err)
	}
	if found == nil {
		return nil, session.ErrUnknown
	}
	return found, nil
}

// Load implements session.Store. The row is read under the cache's lock on its
// key, so that a change committed meanwhile replaces what this puts there.
func (db Sessions) Load(ctx context.Context, id int64) (*session.State, error) {
	if st, ok := db.sessions.GetIfPresent(id); ok {
		return st, nil
	}
	var err error
	st, ok := db.sessions.ComputeIfAbsent(id, func() (loaded *session.State, cancel bool) {
		err = db.read(ctx, func(c *sqlite.Conn) (err error) {
			loaded, err = loadSession(c, id)
			return err
		})
		return loaded, err != nil
	})
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, session.ErrUnknown
	}
	return st, nil
}

// Create implements session.Store.
func (db Sessions) Create(ctx context.Context, n session.New) (*session.State, error) {
	var st *session.State
	err := db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		var err error
		st, err = insertSession(tx, db.DB, n)
		return err
	})
	if err != nil {
		return nil, err
	}
	return st, nil
}

// Seen implements session.Store.
func (db Sessions) Seen(ctx context.Context, accountID int64, network string) (agents []string, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, `SELECT user_agent FROM session WHERE account_id = ?1 AND network = ?2
			UNION SELECT user_agent FROM trail WHERE account_id = ?1 AND network = ?2 AND kind IN (SELECT value FROM json_each(?3))`,
			func(s *sqlite.Stmt) {
				s.BindInt64(1, accountID)
				s.BindText(2, network)
				bindList(s, 3, session.Arrivals())
			},
			func(r *sqlite.Stmt) error { agents = append(agents, r.ColumnText(0)); return nil })
	})
	if err != nil {
		return nil, fmt.Errorf("look for earlier sign-ins: %w", err)
	}
	return agents, nil
}

// insertSession adds a session, makes room for it, and notes the sign-in.
func insertSession(tx *groupcommit.Tx, db *DB, n session.New) (*session.State, error) {
	current := false
	err := query(tx.Conn, "SELECT credential_epoch FROM account WHERE id = ? AND pending_operation IS NULL",
		func(s *sqlite.Stmt) { s.BindInt64(1, n.AccountID) },
		func(r *sqlite.Stmt) error { current = r.ColumnInt64(0) == n.Epoch; return nil })
	if err != nil {
		return nil, fmt.Errorf("check credentials: %w", err)
	}
	if !current {
		return nil, session.ErrUnknown
	}
	if n.Code != nil {
		if err := useCode(tx.Conn, *n.Code); err != nil {
			return nil, err
		}
	}
	if err := makeRoom(tx, db, n); err != nil {
		return nil, err
	}
	st := &session.State{
		Nonce: n.Nonce, AccountID: n.AccountID, AppPasswordID: n.AppPasswordID, Scope: n.Scope, Grant: n.Grant,
		CreatedAt: n.At, RotatedAt: n.At, Expires: n.Expires, Network: n.Network, UserAgent: n.UserAgent,
	}
	err = query(tx.Conn, `INSERT INTO session
		(nonce, account_id, app_password_id, scope, created_at, head, rotated_at, marks, floor, expires, network, user_agent)
		VALUES (?, ?, ?, ?, ?, 0, ?, x'', 0, ?, ?, ?)
		RETURNING id, (SELECT name FROM app_password p WHERE p.id = app_password_id)`,
		func(s *sqlite.Stmt) {
			s.BindText(1, st.Nonce)
			s.BindInt64(2, st.AccountID)
			bindID(s, 3, st.AppPasswordID)
			s.BindText(4, string(st.Scope))
			bindTime(s, 5, st.CreatedAt)
			bindTime(s, 6, st.RotatedAt)
			bindTime(s, 7, st.Expires)
			s.BindText(8, st.Network)
			s.BindText(9, st.UserAgent)
		}, func(r *sqlite.Stmt) error { st.ID, st.AppPassword = r.ColumnInt64(0), r.ColumnText(1); return nil })
	if sqlite.ErrCode(err) == sqlite.ResultConstraintForeignKey {
		return nil, session.ErrUnknown
	}
	if err != nil {
		return nil, fmt.Errorf("insert session: %w", err)
	}
	if n.Grant != nil {
		if err := insertGrant(tx.Conn, st.ID, n.Grant); err != nil {
			return nil, err
		}
	}
	n.Entry.Session = st.ID
	if err := insertEntry(tx.Conn, n.AccountID, n.Entry); err != nil {
		return nil, err
	}
	if err := queueMails(tx, db, n.AccountID, n.At, n.Mails); err != nil {
		return nil, err
	}
	tx.AfterCommit(func() { db.sessions.Set(st.ID, st) })
	return st, nil
}

// makeRoom ends the sessions that are over the account's limit with the new one.
func makeRoom(tx *groupcommit.Tx, db *DB, n session.New) error {
	var held []session.Held
	err := query(tx.Conn, "SELECT s.id, s.app_password_id, s.rotated_at, g.client_id, g.last_call_at FROM "+
		sessionTables+" WHERE s.account_id = ?",
		func(s *sqlite.Stmt) { s.BindInt64(1, n.AccountID) },
		func(r *sqlite.Stmt) error {
			held = append(held, session.Held{
				ID: r.ColumnInt64(0), AppPasswordID: r.ColumnInt64(1), RotatedAt: columnTime(r, 2),
				ClientID: r.ColumnText(3), LastCallAt: columnTime(r, 4),
			})
			return nil
		})
	if err != nil {
		return fmt.Errorf("look for sessions: %w", err)
	}
	end, e := session.MakeRoom(held, n)
	for _, id := range end {
		if err := endForeign(tx, db, id, n.At); err != nil {
			return err
		}
		if _, err := deleteSessions(tx, db, "id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, id) }); err != nil {
			return err
		}
	}
	if len(end) == 0 {
		return nil
	}
	return insertEntry(tx.Conn, n.AccountID, e)
}

// deleteSessions removes the sessions that where selects and, once that is
// committed, forgets them in the cache. It returns their numbers.
func deleteSessions(tx *groupcommit.Tx, db *DB, where string, b bind) ([]int64, error) {
	var ids []int64
	var ofApps []session.State // what app passwords keep of them
	err := query(tx.Conn, "DELETE FROM session WHERE "+where+" RETURNING id, app_password_id, rotated_at, network", b,
		func(r *sqlite.Stmt) error {
			ids = append(ids, r.ColumnInt64(0))
			if app := r.ColumnInt64(1); app != 0 {
				ofApps = append(ofApps, session.State{AppPasswordID: app, RotatedAt: columnTime(r, 2), Network: r.ColumnText(3)})
			}
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("delete sessions: %w", err)
	}
	for i := range ofApps {
		if err := keepLastUse(tx.Conn, &ofApps[i]); err != nil {
			return nil, err
		}
	}
	tx.AfterCommit(func() {
		for _, id := range ids {
			db.sessions.Invalidate(id)
		}
	})
	return ids, nil
}

// keepLastUse notes when a session that ends has last used its app password.
func keepLastUse(c *sqlite.Conn, st *session.State) error {
	_, err := change(c, "UPDATE app_password SET used_at = ?1, used_network = ?2 WHERE id = ?3 AND (used_at IS NULL OR used_at < ?1)",
		func(s *sqlite.Stmt) {
			bindTime(s, 1, st.RotatedAt)
			s.BindText(2, st.Network)
			s.BindInt64(3, st.AppPasswordID)
		})
	return wrap(err, "note the use of an app password")
}

// Rotate implements session.Store. The common case costs one UPDATE: the
// decision is made on the cached state, and the write requires that the row
// still has it; if not, the decision is made again on the row. A session that
// is not cached is read by the writer, which needs its page anyway and, unlike
// a reader, keeps its pages from one transaction to the next.
func (db Sessions) Rotate(
	ctx context.Context, id int64, decide func(session.State) (session.Rotation, error),
) (r session.Rotation, err error) {
	was, cached := db.sessions.GetIfPresent(id)
	if cached {
		if r, err = decide(*was); err != nil || !r.Changed {
			return r, err
		}
	}
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		if cached {
			if written, err := db.store(tx, *was, r); err != nil || written {
				return err
			}
		}
		now, err := loadSession(tx.Conn, id)
		if err != nil {
			return err
		}
		if r, err = decide(*now); err != nil {
			return err
		}
		if !r.Changed {
			tx.AfterCommit(func() { db.sessions.Set(id, now) })
			return nil
		}
		written, err := db.store(tx, *now, r)
		if err == nil && !written {
			err = fmt.Errorf("session %d changed within a transaction", id)
		}
		return err
	})
	if err != nil {
		return session.Rotation{}, err
	}
	return r, nil
}

// store writes what a rotation changed, if the row is still in state was.
func (db Sessions) store(tx *groupcommit.Tx, was session.State, r session.Rotation) (bool, error) {
	if r.Revoke {
		if err := endForeign(tx, db.DB, was.ID, r.Entries[0].At); err != nil {
			return false, err
		}
		ids, err := deleteSessions(tx, db.DB, "id = ? AND head = ?",
			func(s *sqlite.Stmt) { s.BindInt64(1, was.ID); s.BindInt64(2, was.Head) })
		if err != nil || len(ids) == 0 {
			return false, err
		}
		return true, noteRotation(tx, db.DB, was.AccountID, r)
	}
	next := r.Next
	n, err := change(tx.Conn, `UPDATE session
		SET head = ?, rotated_at = ?, marks = ?, floor = ?, expires = ?, network = ?, user_agent = ?, flagged_at = ?
		WHERE id = ? AND head = ? AND flagged_at IS ?
		AND (?12 < 0 OR (SELECT version FROM oauth_session WHERE session_id = session.id) = ?12)`,
		func(s *sqlite.Stmt) {
			s.BindInt64(1, next.Head)
			bindTime(s, 2, next.RotatedAt)
			s.BindBytes(3, encodeMarks(next.Marks))
			s.BindInt64(4, next.Floor)
			bindTime(s, 5, next.Expires)
			s.BindText(6, next.Network)
			s.BindText(7, next.UserAgent)
			bindTime(s, 8, next.FlaggedAt)
			s.BindInt64(9, was.ID)
			s.BindInt64(10, was.Head)
			bindTime(s, 11, was.FlaggedAt)
			s.BindInt64(12, grantVersion(was.Grant))
		})
	if err != nil {
		return false, fmt.Errorf("update session: %w", err)
	}
	if n == 0 {
		return false, nil
	}
	if next.Grant != was.Grant {
		if err := updateGrant(tx.Conn, next.ID, next.Grant); err != nil {
			return false, err
		}
	}
	if err := noteRotation(tx, db.DB, was.AccountID, r); err != nil {
		return false, err
	}
	tx.AfterCommit(func() { db.sessions.Set(next.ID, &next) })
	return true, nil
}

// noteRotation writes what a rotation leaves on the trail, and queues its mails.
func noteRotation(tx *groupcommit.Tx, db *DB, accountID int64, r session.Rotation) error {
	if err := insertEntries(tx.Conn, accountID, r.Entries); err != nil || len(r.Mails) == 0 {
		return err
	}
	return queueMails(tx, db, accountID, r.Entries[0].At, r.Mails)
}

// End implements session.Store.
func (db Sessions) End(ctx context.Context, id int64, e account.Entry, mails ...mail.Message) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		st, err := loadSession(tx.Conn, id)
		if err != nil {
			return err
		}
		if err := endForeign(tx, db.DB, id, e.At); err != nil {
			return err
		}
		if _, err := deleteSessions(tx, db.DB, "id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, id) }); err != nil {
			return err
		}
		e.Session = id
		return noteAndTell(tx, db.DB, st.AccountID, e, mails)
	})
}

// EndAll implements session.Store.
func (db Sessions) EndAll(ctx context.Context, accountID int64, appPasswords bool, e account.Entry) (int, error) {
	ended := 0
	err := db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		ids, err := endAll(tx, db.DB, accountID, 0, e)
		if err != nil {
			return err
		}
		ended = len(ids)
		if appPasswords {
			_, err := change(tx.Conn, "DELETE FROM app_password WHERE account_id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, accountID) })
			if err != nil {
				return fmt.Errorf("delete app passwords: %w", err)
			}
		}
		return insertEntry(tx.Conn, accountID, e)
	})
	return ended, err
}

// endAll removes an account's sessions except keep, and its sign-ins on browsers, as a
// change that e records does.
func endAll(tx *groupcommit.Tx, db *DB, accountID, keep int64, e account.Entry) ([]int64, error) {
	if _, err := endBrowsers(tx.Conn, accountID, 0, device.EndingOf(e.Kind)); err != nil {
		return nil, err
	}
	return endSessions(tx, db, accountID, keep, e.At)
}

// endSessions removes an account's sessions except keep, and what could become one: what
// was proven before counts for nothing, nor does what apps were allowed and have not taken.
// It also ends the tokens of another server that the account still had.
func endSessions(tx *groupcommit.Tx, db *DB, accountID, keep int64, at time.Time) ([]int64, error) {
	ids, err := deleteSessions(tx, db, "account_id = ? AND id <> ?",
		func(s *sqlite.Stmt) { s.BindInt64(1, accountID); s.BindInt64(2, keep) })
	if err != nil {
		return nil, err
	}
	_, err = change(tx.Conn, "UPDATE account SET credential_epoch = credential_epoch + 1 WHERE id = ?",
		func(s *sqlite.Stmt) { s.BindInt64(1, accountID) })
	if err != nil {
		return nil, fmt.Errorf("end what was proven: %w", err)
	}
	if err := dropWaiting(tx.Conn, accountID, ""); err != nil {
		return nil, err
	}
	return ids, expireForeignTokens(tx, db, accountID, at)
}

// List implements session.Store.
func (db Sessions) List(ctx context.Context, accountID int64) ([]session.State, error) {
	var out []session.State
	err := db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT "+sessionColumns+" FROM "+sessionTables+" WHERE s.account_id = ? ORDER BY s.rotated_at DESC, s.id DESC",
			func(s *sqlite.Stmt) { s.BindInt64(1, accountID) },
			func(r *sqlite.Stmt) error {
				st, err := scanSession(r)
				out = append(out, st)
				return err
			})
	})
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	return out, nil
}

// collectStep is how many rows one call of Collect reads.
const collectStep = 5000

// Collect implements session.Store. It searches on a read connection and uses
// the writer only if there is something to remove.
func (db Sessions) Collect(ctx context.Context, after int64, before, granted time.Time) (next int64, removed int, err error) {
	const ended = "expires < CASE scope WHEN 'oauth' THEN ?1 ELSE ?2 END"
	seen, expired := 0, 0
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT id, "+ended+" FROM session WHERE id > ?3 ORDER BY id LIMIT ?4",
			func(s *sqlite.Stmt) {
				bindTime(s, 1, granted)
				bindTime(s, 2, before)
				s.BindInt64(3, after)
				s.BindInt64(4, collectStep)
			},
			func(r *sqlite.Stmt) error {
				seen++
				next = r.ColumnInt64(0)
				if r.ColumnBool(1) {
					expired++
				}
				return nil
			})
	})
	if err != nil {
		return 0, 0, fmt.Errorf("look for expired sessions: %w", err)
	}
	upTo := next
	if seen < collectStep {
		next = 0
	}
	if expired == 0 {
		return next, 0, nil
	}
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		ids, err := deleteSessions(tx, db.DB, "id > ?3 AND id <= ?4 AND "+ended, func(s *sqlite.Stmt) {
			bindTime(s, 1, granted)
			bindTime(s, 2, before)
			s.BindInt64(3, after)
			s.BindInt64(4, upTo)
		})
		removed = len(ids)
		return err
	})
	return next, removed, err
}
