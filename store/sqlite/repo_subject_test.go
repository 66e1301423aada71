package sqlite

import (
	"log/slog"
	"path/filepath"
	"testing"

	"zombiezen.com/go/sqlite"
)

// TestBySubjectPlan: what is about a subject is found in the index alone,
// whatever else the repository holds.
func TestBySubjectPlan(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.sqlite")
	db, err := Open(t.Context(), path, Options{Fatal: func(err error) { t.Error(err) }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	var plan []string
	err = db.read(t.Context(), func(c *sqlite.Conn) error {
		return query(c, "EXPLAIN QUERY PLAN "+bySubject, nil, func(r *sqlite.Stmt) error {
			plan = append(plan, r.ColumnText(3))
			return nil
		})
	})
	const want = "SEARCH record USING COVERING INDEX record_subject (repo_id=? AND subject=? AND key>? AND key<?)"
	if err != nil || len(plan) != 1 || plan[0] != want {
		t.Errorf("plan %q, %v", plan, err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}
