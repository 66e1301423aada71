package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/account"
	"nestbox/device"
	"nestbox/store/sqlite/groupcommit"
)

// Devices implements device.Store.
type Devices struct{ *DB }

var _ device.Store = Devices{}

const deviceColumns = `d.id, d.secrets, d.earned, d.generation, d.rotated_at,
	d.made_at, d.seen_at, d.network, d.user_agent`

func scanDevice(r *sqlite.Stmt) (device.Browser, error) {
	secrets, err := decodeSecrets(columnBytes(r, 1))
	if err != nil {
		return device.Browser{}, fmt.Errorf("browser %d: %w", r.ColumnInt64(0), err)
	}
	return device.Browser{
		ID: r.ColumnInt64(0), Secrets: secrets, Earned: r.ColumnBool(2), Generation: r.ColumnInt64(3), RotatedAt: columnTime(r, 4),
		MadeAt: columnTime(r, 5), SeenAt: columnTime(r, 6), Network: r.ColumnText(7), UserAgent: r.ColumnText(8),
	}, nil
}

// encodeSecrets writes (hash, salt) pairs one after the other.
func encodeSecrets(secrets []device.Secret) []byte {
	buf := make([]byte, 0, len(secrets)*2*device.HashSize)
	for _, k := range secrets {
		buf = append(append(buf, k.Hash[:]...), k.Salt[:]...)
	}
	return buf
}

func decodeSecrets(buf []byte) (secrets []device.Secret, err error) {
	const size = device.HashSize
	if len(buf) == 0 || len(buf)%(2*size) != 0 {
		return nil, errors.New("secrets are damaged")
	}
	for ; len(buf) > 0; buf = buf[2*size:] {
		secrets = append(secrets, device.Secret{Hash: [size]byte(buf[:size]), Salt: [size]byte(buf[size : 2*size])})
	}
	return secrets, nil
}

const signInColumns = `b.account_id, a.did, b.generation, b.signed_in_at, b.used_at, b.factors, b.remember,
	b.stepped_up_at, b.step_up_level, b.step_up_factors, b.trusted_until`

// scanSignIn reads signInColumns that begin at column from.
func scanSignIn(r *sqlite.Stmt, from int) device.SignIn {
	return device.SignIn{
		AccountID: r.ColumnInt64(from), DID: syntax.DID(r.ColumnText(from + 1)), Generation: r.ColumnInt64(from + 2),
		At: columnTime(r, from+3), UsedAt: columnTime(r, from+4), Factors: r.ColumnText(from + 5), Remember: r.ColumnBool(from + 6),
		StepUp:       device.StepUp{At: columnTime(r, from+7), Level: r.ColumnInt(from + 8), Factors: r.ColumnText(from + 9)},
		TrustedUntil: columnTime(r, from+10),
	}
}

// loadDevice returns a browser with its sign-ins: device.ErrUnknown.
func loadDevice(c *sqlite.Conn, id int64) (b device.Browser, err error) {
	err = query(c, "SELECT "+deviceColumns+" FROM device d WHERE d.id = ?",
		func(s *sqlite.Stmt) { s.BindInt64(1, id) },
		func(r *sqlite.Stmt) (err error) { b, err = scanDevice(r); return err })
	if err != nil {
		return b, fmt.Errorf("load browser: %w", err)
	}
	if b.ID == 0 {
		return b, device.ErrUnknown
	}
	err = query(c, "SELECT "+signInColumns+` FROM browser_session b JOIN account a ON a.id = b.account_id
		WHERE b.device_id = ? ORDER BY b.used_at DESC, b.account_id`,
		func(s *sqlite.Stmt) { s.BindInt64(1, id) },
		func(r *sqlite.Stmt) error { b.SignIns = append(b.SignIns, scanSignIn(r, 0)); return nil })
	return b, wrap(err, "load sign-ins of a browser")
}

// SignIn implements device.Store.
func (db Devices) SignIn(ctx context.Context, n device.New) (b device.Browser, err error) {
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		current := false
		err := query(tx.Conn, "SELECT credential_epoch FROM account WHERE id = ? AND pending_operation IS NULL",
			func(s *sqlite.Stmt) { s.BindInt64(1, n.SignIn.AccountID) },
			func(r *sqlite.Stmt) error { current = r.ColumnInt64(0) == n.Epoch; return nil })
		if err != nil {
			return fmt.Errorf("check credentials: %w", err)
		}
		if !current {
			return device.ErrChanged
		}
		if n.Code != nil {
			if err := useCode(tx.Conn, *n.Code); err != nil {
				return err
			}
		}
		id, in, err := browserOf(tx.Conn, n)
		if err != nil {
			return err
		}
		if err := makeRoomForSignIn(tx.Conn, id, in.AccountID); err != nil {
			return err
		}
		if err := putSignIn(tx.Conn, id, in); err != nil {
			return err
		}
		n.Entry.Browser = id
		if err := noteAndTell(tx, db.DB, n.SignIn.AccountID, n.Entry, n.Mails); err != nil {
			return err
		}
		b, err = loadDevice(tx.Conn, id)
		return err
	})
	return b, err
}

// browserOf returns the number of a sign-in's browser, which is made if need be, and what
// is to be stored for the account.
func browserOf(c *sqlite.Conn, n device.New) (id int64, in device.SignIn, err error) {
	was, err := loadDevice(c, n.Browser)
	if err == nil {
		if b, in, known := n.Turn(was); known {
			b.SeenAt, b.Network, b.UserAgent = in.At, n.Network, n.UserAgent
			return b.ID, in, replaceDevice(c, was, b)
		}
	} else if !errors.Is(err, device.ErrUnknown) {
		return 0, in, err
	}
	err = query(c, `INSERT INTO device (secrets, generation, rotated_at, made_at, seen_at, network, user_agent)
		VALUES (?1, 0, ?2, ?2, ?2, ?3, ?4) RETURNING id`,
		func(s *sqlite.Stmt) {
			s.BindBytes(1, encodeSecrets([]device.Secret{n.Secret}))
			bindTime(s, 2, n.SignIn.At)
			s.BindText(3, n.Network)
			s.BindText(4, n.UserAgent)
		},
		func(r *sqlite.Stmt) error { id = r.ColumnInt64(0); return nil })
	return id, n.SignIn, wrap(err, "insert browser")
}

// putDevice stores a browser's own row.
func putDevice(c *sqlite.Conn, b device.Browser) error {
	_, err := change(c, `UPDATE device SET secrets = ?, earned = ?, generation = ?, rotated_at = ?, seen_at = ?, network = ?, user_agent = ?
		WHERE id = ?`,
		func(s *sqlite.Stmt) {
			s.BindBytes(1, encodeSecrets(b.Secrets))
			s.BindBool(2, b.Earned)
			s.BindInt64(3, b.Generation)
			bindTime(s, 4, b.RotatedAt)
			bindTime(s, 5, b.SeenAt)
			s.BindText(6, b.Network)
			s.BindText(7, b.UserAgent)
			s.BindInt64(8, b.ID)
		})
	return wrap(err, "update browser")
}

// putSignIn stores a sign-in in the place of an earlier one.
func putSignIn(c *sqlite.Conn, id int64, in device.SignIn) error {
	_, err := change(c, `INSERT OR REPLACE INTO browser_session (device_id, account_id, generation, signed_in_at, used_at, factors,
		remember, stepped_up_at, step_up_level, step_up_factors, trusted_until) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		func(s *sqlite.Stmt) {
			s.BindInt64(1, id)
			s.BindInt64(2, in.AccountID)
			s.BindInt64(3, in.Generation)
			bindTime(s, 4, in.At)
			bindTime(s, 5, in.UsedAt)
			s.BindText(6, in.Factors)
			s.BindBool(7, in.Remember)
			bindTime(s, 8, in.StepUp.At)
			s.BindInt64(9, int64(in.StepUp.Level))
			s.BindText(10, in.StepUp.Factors)
			bindTime(s, 11, in.TrustedUntil)
		})
	return wrap(err, "store sign-in on a browser")
}

func dropSignIn(c *sqlite.Conn, id, accountID int64) error {
	_, err := change(c, "DELETE FROM browser_session WHERE device_id = ? AND account_id = ?",
		func(s *sqlite.Stmt) { s.BindInt64(1, id); s.BindInt64(2, accountID) })
	return wrap(err, "end sign-in on a browser")
}

// makeRoomForSignIn ends the sign-ins that are over the bounds of the browser, and of the
// account, with a new one.
func makeRoomForSignIn(c *sqlite.Conn, id, accountID int64) error {
	for _, bound := range []struct {
		where string
		most  int
	}{
		{"device_id = ?1 AND account_id <> ?2", device.MaxAccounts},
		{"account_id = ?2 AND device_id <> ?1", device.MaxBrowsers},
	} {
		var held []device.Held
		err := query(c, "SELECT device_id, account_id, used_at FROM browser_session WHERE "+bound.where,
			func(s *sqlite.Stmt) { s.BindInt64(1, id); s.BindInt64(2, accountID) },
			func(r *sqlite.Stmt) error {
				held = append(held, device.Held{Browser: r.ColumnInt64(0), AccountID: r.ColumnInt64(1), UsedAt: columnTime(r, 2)})
				return nil
			})
		if err != nil {
			return fmt.Errorf("look for sign-ins on browsers: %w", err)
		}
		for _, h := range device.MakeRoom(held, bound.most) {
			if err := dropSignIn(c, h.Browser, h.AccountID); err != nil {
				return err
			}
		}
	}
	return nil
}

// Change implements device.Store. The decision is made on a reader first: most change
// nothing.
func (db Devices) Change(ctx context.Context, id int64, decide func(device.Browser) (device.Change, error)) (c device.Change, err error) {
	err = db.readTx(ctx, func(conn *sqlite.Conn) error {
		b, err := loadDevice(conn, id)
		if err == nil {
			c, err = decide(b)
		}
		return err
	})
	if err != nil || !c.Changed {
		return c, err
	}
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		was, err := loadDevice(tx.Conn, id)
		if err == nil {
			c, err = decide(was)
		}
		if err != nil || !c.Changed {
			return err
		}
		if c.Code != nil {
			if err := useCode(tx.Conn, *c.Code); err != nil {
				return err
			}
		}
		if err := replaceDevice(tx.Conn, was, c.Next); err != nil {
			return err
		}
		for _, n := range c.Entries {
			if err := insertEntry(tx.Conn, n.AccountID, n.Entry); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return device.Change{}, err
	}
	return c, nil
}

// replaceDevice stores a browser with the sign-ins that it keeps.
func replaceDevice(c *sqlite.Conn, was, next device.Browser) error {
	if err := putDevice(c, next); err != nil {
		return err
	}
	for _, in := range was.SignIns {
		kept, ok := next.SignIn(in.AccountID)
		switch {
		case !ok:
			if err := dropSignIn(c, was.ID, in.AccountID); err != nil {
				return err
			}
		case *kept != in:
			if err := putSignIn(c, was.ID, *kept); err != nil {
				return err
			}
		}
	}
	return nil
}

// List implements device.Store.
func (db Devices) List(ctx context.Context, accountID int64) (out []device.Browser, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT "+deviceColumns+", "+signInColumns+` FROM browser_session b
			JOIN device d ON d.id = b.device_id JOIN account a ON a.id = b.account_id
			WHERE b.account_id = ? ORDER BY b.used_at DESC, d.id DESC`,
			func(s *sqlite.Stmt) { s.BindInt64(1, accountID) },
			func(r *sqlite.Stmt) error {
				b, err := scanDevice(r)
				if err != nil {
					return err
				}
				b.SignIns = []device.SignIn{scanSignIn(r, deviceColumnCount)}
				out = append(out, b)
				return nil
			})
	})
	return out, wrap(err, "list browsers")
}

// deviceColumnCount is how many deviceColumns there are.
const deviceColumnCount = 9

// EndAll implements device.Store.
func (db Devices) EndAll(ctx context.Context, accountID, keep int64, e account.Entry) (sessions, signIns int, err error) {
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		ids, err := endSessions(tx, db.DB, accountID, 0, e.At)
		if err != nil {
			return err
		}
		sessions = len(ids)
		if signIns, err = endBrowsers(tx.Conn, accountID, keep, device.EndingOf(e.Kind)); err != nil {
			return err
		}
		return insertEntry(tx.Conn, accountID, e.Ending(sessions+signIns))
	})
	return sessions, signIns, err
}

// endBrowsers ends what a change of an account ends on its browsers except keep, and
// returns how many sign-ins there were. Each change that has a row in device.EndingOf
// calls it in its transaction.
func endBrowsers(c *sqlite.Conn, accountID, keep int64, end device.Ending) (n int, err error) {
	b := func(s *sqlite.Stmt) { s.BindInt64(1, accountID); s.BindInt64(2, keep) }
	switch {
	case end.SignIns:
		n, err = change(c, "DELETE FROM browser_session WHERE account_id = ? AND device_id <> ?", b)
		if err == nil {
			err = endPresences(c, accountID)
		}
	case end.Trust:
		_, err = change(c, "UPDATE browser_session SET trusted_until = NULL WHERE account_id = ? AND device_id <> ?", b)
	}
	return n, wrap(err, "end sign-ins on browsers")
}

// Collect implements device.Store. It searches on a read connection and uses the writer
// only if there is something to remove.
func (db Devices) Collect(ctx context.Context, after int64, now time.Time) (next int64, removed int, err error) {
	var due []int64
	err = db.readTx(ctx, func(c *sqlite.Conn) error {
		var ids []int64
		err := query(c, "SELECT id FROM device WHERE id > ? ORDER BY id LIMIT ?",
			func(s *sqlite.Stmt) { s.BindInt64(1, after); s.BindInt64(2, collectDevices) },
			func(r *sqlite.Stmt) error { ids = append(ids, r.ColumnInt64(0)); return nil })
		if err != nil {
			return err
		}
		for _, id := range ids {
			b, err := loadDevice(c, id)
			if err != nil {
				return err
			}
			if _, changed, gone := device.Swept(b, now); changed || gone {
				due = append(due, id)
			}
		}
		if len(ids) == collectDevices {
			next = ids[len(ids)-1]
		}
		return nil
	})
	if err != nil || len(due) == 0 {
		return next, 0, wrap(err, "look for browsers that are done with")
	}
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		removed = 0
		for _, id := range due {
			gone, err := sweepDevice(tx.Conn, id, now)
			if err != nil {
				return err
			}
			if gone {
				removed++
			}
		}
		return nil
	})
	return next, removed, err
}

// collectDevices is how many browsers one call of Collect looks at.
const collectDevices = 500

// sweepDevice applies device.Swept to a browser and reports whether it is gone.
func sweepDevice(c *sqlite.Conn, id int64, now time.Time) (gone bool, err error) {
	was, err := loadDevice(c, id)
	if errors.Is(err, device.ErrUnknown) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	next, changed, gone := device.Swept(was, now)
	switch {
	case gone:
		_, err = change(c, "DELETE FROM device WHERE id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, id) })
		err = wrap(err, "remove browser")
	case changed:
		err = replaceDevice(c, was, next)
	}
	return gone, err
}
