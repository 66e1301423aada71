package sqlite

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/blob"
)

// TestReferencesPaid: a call that reads many references pays for them, any other is
// free.
func TestReferencesPaid(t *testing.T) {
	db := openSweep(t)
	b := Blobs{db}
	missing := refer(t, db, 1, 5, blob.PayEvery, false, 0)
	last := refer(t, db, 2, 5, blob.PayEvery, false, 5*blob.PayEvery-1)
	refer(t, db, 3, 5, blob.PayEvery, false, 5*blob.PayEvery)
	refer(t, db, 4, 5, blob.PayEvery-1, true, blob.PayEvery-2) // four in five rows repeat a blob
	small := refer(t, db, 5, 1, blob.PayEvery-1, false, blob.PayEvery-2)
	cursor := last[4*blob.PayEvery].String()
	for _, c := range []struct {
		what        string
		account     int64
		since       syntax.TID // empty for Missing
		cursor      string
		limit       int
		found, paid int
	}{
		{"a page of what is missing", 1, "", "", 500, 500, 0},
		{"the largest page", 1, "", "", 1000, 1000, 1},
		{"a page behind a cursor", 1, "", missing[4000].String(), 1000, 999, 0},
		{"nearly nothing missing", 2, "", "", 500, 1, 5},
		{"nearly nothing missing, near the end", 2, "", cursor, 500, 1, 0},
		{"nothing missing", 3, "", "", 500, 0, 0},
		{"few blobs, often", 4, "", "", 500, 1, 0},
		{"few blobs", 5, "", "", 500, 1, 0},
		{"a page since long ago", 1, "2222222222222", "", 500, 500, 0},
		{"the same of few blobs, often", 4, "2222222222222", "", 500, 500, 2},
		{"since then", 1, oldRev, "", 500, 0, 5},
		{"since then, near the end", 1, oldRev, missing[4000].String(), 500, 0, 0},
		{"since now", 1, newRev, "", 500, 0, 0},
		{"since tomorrow", 1, "3zzzzzzzzzzzz", "", 500, 0, 0},
		{"since then, few blobs", 5, oldRev, small[0].String(), 500, 0, 0},
	} {
		call := func(pay blob.Pay) (n int, err error) {
			if c.since != "" {
				ids, err := b.List(t.Context(), c.account, c.since, c.cursor, c.limit, pay)
				return len(ids), err
			}
			got, err := b.Missing(t.Context(), c.account, c.cursor, c.limit, pay)
			return len(got), err
		}
		paid := 0
		n, err := call(func() error { paid++; return nil })
		if err != nil || n != c.found || paid != c.paid {
			t.Errorf("%s: %d found, paid %d times, want %d and %d; %v", c.what, n, paid, c.found, c.paid, err)
		}
		refused := errors.New("refused")
		if n, err := call(func() error { return refused }); c.paid > 0 && (n > 0 || !errors.Is(err, refused)) {
			t.Errorf("%s, refused: %d found, %v", c.what, n, err)
		}
	}
	all, err := b.List(t.Context(), 4, "", "", 1000, func() error { return errors.New("it costs something") })
	if err != nil || len(all) != blob.PayEvery-1 {
		t.Errorf("%d, %v", len(all), err)
	}
}

// TestReferencesPlan: all of these go from reference to reference as they lie.
func TestReferencesPlan(t *testing.T) {
	db := openSweep(t)
	for sql, want := range map[string]string{
		listBlobsSince: "SEARCH blob_ref USING PRIMARY KEY (repo_id=? AND cid>?)",
		listBlobs:      "SEARCH blob_ref USING PRIMARY KEY (repo_id=? AND cid>?)",
		missingBlobs:   "SEARCH blob_ref USING PRIMARY KEY (repo_id=? AND cid>?)",
		blobsThere:     "SEARCH blob USING PRIMARY KEY (account_id=?)",
	} {
		var plan []string
		err := db.read(t.Context(), func(c *sqlite.Conn) error {
			return query(c, "EXPLAIN QUERY PLAN "+sql, nil, func(r *sqlite.Stmt) error {
				plan = append(plan, r.ColumnText(3))
				return nil
			})
		})
		sorts := slices.ContainsFunc(plan, func(s string) bool { return strings.Contains(s, "B-TREE") || strings.HasPrefix(s, "SCAN blob") })
		if err != nil || !slices.Contains(plan, want) || sorts {
			t.Errorf("%s\n%q, %v", sql, plan, err)
		}
	}
}
