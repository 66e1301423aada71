package sqlite

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/store/sqlite/groupcommit"
)

func openSweep(tb testing.TB) *DB {
	tb.Helper()
	db, err := Open(tb.Context(), filepath.Join(tb.TempDir(), "test.sqlite"), Options{Fatal: func(err error) { tb.Error(err) }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	return db
}

// leave makes rows of a repository that is to be removed: of each table n, with
// blocks of size bytes.
func leave(tb testing.TB, db *DB, number int64, n, size int) {
	tb.Helper()
	err := db.writer.Do(tb.Context(), func(tx *groupcommit.Tx) error {
		return sqlitex.ExecuteScript(tx.Conn, fmt.Sprintf(`INSERT INTO repo (id, current) VALUES (%[1]d, 1);
			CREATE TEMP TABLE n AS WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < %[2]d) SELECT i FROM c;
			INSERT INTO node (id, rev, children, block) SELECT %[1]d << 32 | i, '', x'', zeroblob(%[3]d) FROM n;
			INSERT INTO record (repo_id, key, cid, rev, block) SELECT %[1]d, printf('app.post/%%08d', i), x'', '', zeroblob(%[3]d) FROM n;
			INSERT INTO blob_ref (repo_id, cid, key, rev) SELECT %[1]d, printf('cid%%d', i / 100), printf('app.post/%%08d', i), '' FROM n;
			DROP TABLE n`, number, n, size), nil)
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// left counts the rows of a repository, and the bytes of its blocks.
func left(tb testing.TB, db *DB, number int64) (n, bytes int) {
	tb.Helper()
	err := db.read(tb.Context(), func(c *sqlite.Conn) error {
		return query(c, `SELECT (SELECT count(*) FROM node WHERE id >> 32 = ?1) + (SELECT count(*) FROM record WHERE repo_id = ?1)
			+ (SELECT count(*) FROM blob_ref WHERE repo_id = ?1) + (SELECT count(*) FROM repo WHERE id = ?1),
			(SELECT total(length(block)) FROM node WHERE id >> 32 = ?1) + (SELECT total(length(block)) FROM record WHERE repo_id = ?1)`,
			func(s *sqlite.Stmt) { s.BindInt64(1, number) },
			func(r *sqlite.Stmt) error { n, bytes = r.ColumnInt(0), r.ColumnInt(1); return nil })
	})
	if err != nil {
		tb.Fatal(err)
	}
	return n, bytes
}

// TestSweepSteps: a step removes no more rows, and no more bytes, than others
// can wait for, and nothing of other repositories; at the end all is gone.
func TestSweepSteps(t *testing.T) {
	for name, c := range map[string]struct {
		n, size, steps int
	}{
		"many rows":     {3000, 10, 5},
		"many bytes":    {100, 40_000, 8},
		"rows too long": {2, sweepBytes + 1, 5}, // one at a time
		"few":           {5, 10, 1},
		"none":          {0, 0, 1},
	} {
		db := openSweep(t)
		leave(t, db, 7, c.n, c.size)
		leave(t, db, 8, 0, 0)
		for _, other := range []int64{6, 9} {
			leave(t, db, other, 3, 10)
		}
		err := db.writer.Do(t.Context(), func(tx *groupcommit.Tx) error {
			return sqlitex.ExecuteScript(tx.Conn, `INSERT INTO account (id, did, handle, email, email_key, password_hash, signing_key, signing_key_sealed, created_at)
				VALUES (1, 'did:plc:x', 'x.test', '', '', '', '', x'', 0); UPDATE repo SET account_id = 1, current = id IN (6) WHERE id IN (6, 9)`, nil)
		})
		if err != nil {
			t.Fatal(err)
		}
		steps := 0
		for before, held := left(t, db, 7); before > 0; steps++ {
			more, err := Repos{db}.Sweep(t.Context())
			now, holds := left(t, db, 7)
			if !more || err != nil || now >= before || before-now > sweepRows+1 || held-holds > sweepBytes+c.size {
				t.Fatalf("%s: step %d: from %d rows of %d bytes to %d of %d, more: %t, %v", name, steps, before, held, now, holds, more, err)
			}
			before, held = now, holds
		}
		if steps != c.steps {
			t.Errorf("%s: %d steps, want %d", name, steps, c.steps)
		}
		more, err := Repos{db}.Sweep(t.Context())
		if n, _ := left(t, db, 8); more || err != nil || n != 0 {
			t.Errorf("%s: the last of all: %t, %v", name, more, err)
		}
		for _, other := range []int64{6, 9} {
			if n, _ := left(t, db, other); n != 10 {
				t.Errorf("%s: %d rows of repository %d are left", name, n, other)
			}
		}
	}
}

// TestSweepPlan: a step finds the rows that it reads and removes by key, from
// the first row on, however many are left.
func TestSweepPlan(t *testing.T) {
	db := openSweep(t)
	for _, table := range sweeps {
		for _, sql := range []string{table.list, table.remove} {
			var plan []string
			err := db.read(t.Context(), func(c *sqlite.Conn) error {
				return query(c, "EXPLAIN QUERY PLAN "+sql, nil, func(r *sqlite.Stmt) error {
					plan = append(plan, r.ColumnText(3))
					return nil
				})
			})
			if strings.Contains(sql, "record_block") { // each large block is found by its number
				plan = slices.DeleteFunc(plan, func(step string) bool {
					return step == "CORRELATED SCALAR SUBQUERY 1" || step == "SEARCH b USING INTEGER PRIMARY KEY (rowid=?)"
				})
			}
			if err != nil || len(plan) != 1 || !strings.HasPrefix(plan[0], "SEARCH ") || !strings.Contains(plan[0], "PRIMARY KEY (") {
				t.Errorf("%s: plan %q, %v", sql, plan, err)
			}
			if sql == table.remove && !strings.Contains(plan[0], "<") {
				t.Errorf("%s: not bounded: %q", sql, plan[0])
			}
		}
	}
}

// BenchmarkSweep is one step, of a repository of some records and of one of many.
func BenchmarkSweep(b *testing.B) {
	for _, n := range []int{10_000, 400_000} {
		b.Run(fmt.Sprintf("records=%d", n), func(b *testing.B) {
			db := openSweep(b)
			number := int64(0)
			for b.Loop() {
				more, err := Repos{db}.Sweep(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				if !more {
					b.StopTimer()
					number++
					leave(b, db, number, n, 200)
					b.StartTimer()
				}
			}
		})
	}
}
