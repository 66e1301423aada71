package sqlite

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/account"
	"nestbox/admin"
	"nestbox/store/sqlite/groupcommit"
)

var _ admin.ViewStore = Admin{}

// browseStates are the conditions of an admin.State on an account a; ?4 is since when an
// account is new.
var browseStates = map[admin.State]string{
	"":                     "",
	admin.StateActive:      " AND a.deactivated_at IS NULL AND a.suspended_at IS NULL AND a.takendown_at IS NULL",
	admin.StateDeactivated: " AND a.deactivated_at IS NOT NULL",
	admin.StateSuspended:   " AND a.suspended_at IS NOT NULL",
	admin.StateTakenDown:   " AND a.takendown_at IS NOT NULL",
	admin.StateUnconfirmed: " AND a.email_confirmed_at IS NULL",
	admin.StateNew:         " AND a.created_at >= ?4",
}

// trigram is how many characters a text must have to be looked for in account_text.
const trigram = 3

// browseNetwork is the condition of a network, ?3.
const browseNetwork = ` AND (a.id IN (SELECT account_id FROM session WHERE network = ?3)
	OR a.id IN (SELECT b.account_id FROM browser_session b JOIN device d ON d.id = b.device_id WHERE d.network = ?3))`

// Browse implements admin.ViewStore. A text is looked for in account_text; one too short for
// that in the index account_search, which has the same without the rest of an account.
func (db Admin) Browse(ctx context.Context, q admin.BrowseQuery) (out []*account.Account, err error) {
	condition, known := browseStates[q.State]
	if !known || strings.ContainsRune(q.Text, 0) {
		return nil, nil
	}
	if q.Network != "" {
		condition += browseNetwork
	}
	from, order, text := "account a INDEXED BY account_search", "a.id", strings.ToLower(q.Text)
	switch n := utf8.RuneCountInString(text); {
	case n >= trigram:
		order = "t.rowid"
		from = "account_text t CROSS JOIN account a ON a.id = t.rowid"
		condition += " AND t.rowid < ?1 AND t.account_text MATCH ?2"
		text = `"` + strings.ReplaceAll(text, `"`, `""`) + `"`
	case n > 0:
		condition += " AND (instr(a.handle, ?2) > 0 OR instr(a.email_key, ?2) > 0)"
	}
	before := q.Before
	if before == 0 {
		before = math.MaxInt64
	}
	sql := "SELECT " + accountColumns + " FROM " + from + ` LEFT JOIN identity i ON i.account_id = a.id
		WHERE a.id < ?1` + condition + " AND a.pending_operation IS NULL ORDER BY " + order + " DESC LIMIT ?5"
	err = db.scanRead(ctx, 0, func(c *sqlite.Conn) error {
		return query(c, sql, func(s *sqlite.Stmt) {
			s.BindInt64(1, before)
			if text != "" {
				s.BindText(2, text)
			}
			if q.Network != "" {
				s.BindText(3, q.Network)
			}
			if q.State == admin.StateNew {
				s.BindInt64(4, q.NewSince.UnixMilli())
			}
			s.BindInt64(5, int64(q.Limit))
		}, func(r *sqlite.Stmt) error { out = append(out, scanAccount(r)); return nil })
	})
	return out, wrap(err, "list accounts")
}

// Stored implements admin.ViewStore.
func (db Admin) Stored(ctx context.Context, id int64) (st admin.Stored, err error) {
	err = db.readTx(ctx, func(c *sqlite.Conn) error {
		of := func(s *sqlite.Stmt) { s.BindInt64(1, id) }
		err := query(c, "SELECT records FROM repo WHERE account_id = ? AND current = 1", of,
			func(r *sqlite.Stmt) error { st.Records = r.ColumnInt64(0); return nil })
		if err != nil {
			return err
		}
		return query(c, "SELECT count(*), coalesce(sum(size), 0) FROM blob WHERE account_id = ?", of,
			func(r *sqlite.Stmt) error { st.Blobs, st.BlobBytes = r.ColumnInt64(0), r.ColumnInt64(1); return nil })
	})
	return st, wrap(err, "count what an account has")
}

// Totals implements admin.TotalsStore.
func (db Admin) Totals(ctx context.Context) (t admin.Totals, err error) {
	t.Accounts = map[account.Status]int64{}
	err = db.scanRead(ctx, 0, func(c *sqlite.Conn) error {
		err := query(c, `SELECT max(takendown_at), max(suspended_at), max(deactivated_at), count(*) FROM account
			WHERE pending_operation IS NULL GROUP BY takendown_at IS NOT NULL, suspended_at IS NOT NULL, deactivated_at IS NOT NULL`, nil,
			func(r *sqlite.Stmt) error {
				t.Accounts[account.StatusOf(columnTime(r, 0), columnTime(r, 1), columnTime(r, 2))] += r.ColumnInt64(3)
				return nil
			})
		if err != nil {
			return err
		}
		err = query(c, "SELECT coalesce(sum(records), 0) FROM repo WHERE current = 1", nil,
			func(r *sqlite.Stmt) error { t.Records = r.ColumnInt64(0); return nil })
		if err != nil {
			return err
		}
		err = query(c, "SELECT count(*), coalesce(sum(size), 0) FROM blob", nil,
			func(r *sqlite.Stmt) error { t.Blobs, t.BlobBytes = r.ColumnInt64(0), r.ColumnInt64(1); return nil })
		if err != nil {
			return err
		}
		return query(c, "SELECT count(*) FROM blob_garbage WHERE intended = 0", nil,
			func(r *sqlite.Stmt) error { t.Garbage = r.ColumnInt64(0); return nil })
	})
	return t, wrap(err, "count what there is")
}

// Collections implements admin.TotalsStore.
func (db Admin) Collections(ctx context.Context, limit int) (lines []admin.CollectionLine, all int64, err error) {
	err = db.scanRead(ctx, 0, func(c *sqlite.Conn) error {
		return query(c, `WITH held AS (SELECT r.id, substr(x.key, 1, instr(x.key, '/') - 1) AS name, count(*) AS n
				FROM repo r JOIN record x ON x.repo_id = r.id WHERE r.current = 1 GROUP BY 1, 2),
			every AS MATERIALIZED (SELECT name, sum(n) AS records, count(*) AS accounts FROM held GROUP BY name)
			SELECT name, records, accounts, (SELECT count(*) FROM every) FROM every ORDER BY records DESC, name LIMIT ?`,
			func(s *sqlite.Stmt) { s.BindInt64(1, int64(limit)) },
			func(r *sqlite.Stmt) error {
				lines = append(lines, admin.CollectionLine{Name: r.ColumnText(0), Records: r.ColumnInt64(1), Accounts: r.ColumnInt64(2)})
				all = r.ColumnInt64(3)
				return nil
			})
	})
	return lines, all, wrap(err, "count collections")
}

// Usage implements admin.UsageStore. Blobs lie in the order of accounts, so one walk adds
// them up.
func (db Admin) Usage(ctx context.Context, limit int) (u admin.Usage, err error) {
	err = db.scanRead(ctx, 0, func(c *sqlite.Conn) error {
		err := query(c, `SELECT count(*), coalesce(sum(size), 0) FROM blob WHERE unused_since IS NOT NULL`, nil, func(r *sqlite.Stmt) error {
			u.Unused, u.UnusedBytes = r.ColumnInt64(0), r.ColumnInt64(1)
			return nil
		})
		if err != nil {
			return err
		}
		return query(c, `WITH held AS MATERIALIZED (SELECT account_id, count(*) AS n, sum(size) AS bytes FROM blob GROUP BY account_id)
			SELECT a.did, a.handle, coalesce(r.records, 0), h.n, h.bytes, (SELECT sum(n) FROM held), (SELECT sum(bytes) FROM held)
			FROM held h LEFT JOIN account a ON a.id = h.account_id LEFT JOIN repo r ON r.account_id = a.id AND r.current = 1
			ORDER BY h.bytes DESC, h.account_id LIMIT ?`,
			func(s *sqlite.Stmt) { s.BindInt64(1, int64(limit)) },
			func(r *sqlite.Stmt) error {
				u.Blobs, u.BlobBytes = r.ColumnInt64(5), r.ColumnInt64(6)
				if r.ColumnText(0) == "" {
					return nil // the account is gone, and its blobs are being removed
				}
				u.Biggest = append(u.Biggest, admin.BigAccount{
					DID: syntax.DID(r.ColumnText(0)), Handle: syntax.Handle(r.ColumnText(1)),
					Stored: admin.Stored{Records: r.ColumnInt64(2), Blobs: r.ColumnInt64(3), BlobBytes: r.ColumnInt64(4)},
				})
				return nil
			})
	})
	return u, wrap(err, "add up what is stored")
}

// Waiting implements admin.ViewStore.
func (db Admin) Waiting(ctx context.Context) (w admin.Waiting, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT count(*), min(queued_at), coalesce(sum(attempts > 0), 0) FROM outbox", nil, func(r *sqlite.Stmt) error {
			w = admin.Waiting{Messages: r.ColumnInt64(0), OldestAt: columnTime(r, 1), Failed: r.ColumnInt64(2)}
			return nil
		})
	})
	return w, wrap(err, "count waiting mails")
}

// RetryNow implements admin.ViewStore.
func (db Admin) RetryNow(ctx context.Context, a admin.Action) (n int64, err error) {
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		changed, err := change(tx.Conn, "UPDATE outbox SET due = ?", func(s *sqlite.Stmt) { bindTime(s, 1, a.At) })
		if err != nil {
			return fmt.Errorf("make waiting mails due: %w", err)
		}
		n = int64(changed)
		return insertAudit(tx.Conn, a)
	})
	return n, err
}

// Newest implements admin.ViewStore.
func (db Admin) Newest(ctx context.Context, kinds []account.EntryKind, limit int) (out []admin.Happening, err error) {
	wanted := make([]string, len(kinds))
	for i, kind := range kinds {
		wanted[i] = string(kind)
	}
	list, err := json.Marshal(wanted)
	if err != nil {
		return nil, fmt.Errorf("encode kinds: %w", err)
	}
	err = db.scanRead(ctx, 0, func(c *sqlite.Conn) error {
		return query(c, `SELECT t.at, t.kind, t.actor, t.session_id, t.reason, t.network, t.user_agent, t.other_network, t.other_user_agent,
			a.did, a.handle FROM trail t JOIN account a ON a.id = t.account_id
			WHERE t.id > (SELECT coalesce(max(id), 0) FROM trail) - ?1 AND t.kind IN (SELECT value FROM json_each(?2))
			ORDER BY t.id DESC LIMIT ?3`,
			func(s *sqlite.Stmt) {
				s.BindInt64(1, admin.NewestOf)
				s.BindText(2, string(list))
				s.BindInt64(3, int64(limit))
			},
			func(r *sqlite.Stmt) error {
				out = append(out, admin.Happening{
					Entry: account.Entry{
						At: columnTime(r, 0), Kind: account.EntryKind(r.ColumnText(1)), By: account.Actor(r.ColumnText(2)), Session: r.ColumnInt64(3),
						Reason: r.ColumnText(4), Network: r.ColumnText(5), UserAgent: r.ColumnText(6), OtherNetwork: r.ColumnText(7),
						OtherUserAgent: r.ColumnText(8),
					},
					DID: syntax.DID(r.ColumnText(9)), Handle: syntax.Handle(r.ColumnText(10)),
				})
				return nil
			})
	})
	return out, wrap(err, "list the newest entries of trails")
}
