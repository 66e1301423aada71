package sqlite

import (
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"

	"nestbox/admin"
	"nestbox/store/sqlite/groupcommit"
)

func openInternal(t *testing.T) *DB {
	t.Helper()
	db, err := Open(t.Context(), filepath.Join(t.TempDir(), "test.sqlite"), Options{Fatal: func(err error) { t.Error(err) }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// TestTakedownPlans: a check for a takedown costs two index look-ups, an account's
// page of the audit log one.
func TestTakedownPlans(t *testing.T) {
	db := openInternal(t)
	for sql, want := range map[string][]string{
		takendown: {"SEARCH takedown USING PRIMARY KEY (did=? AND subject=?)", "SCALAR SUBQUERY 1", "SEARCH account USING INTEGER PRIMARY KEY (rowid=?)"},
		auditOf:   {"SEARCH audit USING INDEX audit_did (did=? AND id<?)"},
		auditAll:  {"SEARCH audit USING INTEGER PRIMARY KEY (rowid<?)"},
	} {
		var plan []string
		err := db.read(t.Context(), func(c *sqlite.Conn) error {
			return query(c, "EXPLAIN QUERY PLAN "+sql, nil, func(r *sqlite.Stmt) error {
				plan = append(plan, r.ColumnText(3))
				return nil
			})
		})
		if err != nil || !slices.Equal(plan, want) {
			t.Errorf("%s\nplan %q, %v", sql, plan, err)
		}
	}
}

// TestAuditLimit: the oldest actions go, one for each that comes.
func TestAuditLimit(t *testing.T) {
	db := openInternal(t)
	err := db.writer.Do(t.Context(), func(tx *groupcommit.Tx) error {
		return query(tx.Conn, `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
			INSERT INTO audit (at, who, what, did, subject, details, network, user_agent) SELECT i, '', '', '', '', '', '', '' FROM n`,
			func(s *sqlite.Stmt) { s.BindInt64(1, admin.AuditLimit) }, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := (Admin{db}).Note(t.Context(), admin.Action{At: time.UnixMilli(1), What: "new"}); err != nil {
			t.Fatal(err)
		}
	}
	var count, oldest int64
	err = db.read(t.Context(), func(c *sqlite.Conn) error {
		return query(c, "SELECT count(*), min(id) FROM audit", nil, func(r *sqlite.Stmt) error {
			count, oldest = r.ColumnInt64(0), r.ColumnInt64(1)
			return nil
		})
	})
	if err != nil || count != admin.AuditLimit || oldest != 3 {
		t.Errorf("%d actions, the oldest is %d, %v", count, oldest, err)
	}
}
