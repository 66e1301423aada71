package sqlite

import (
	"slices"
	"testing"

	"zombiezen.com/go/sqlite"

	"nestbox/repo"
)

// TestNewPostsPlan: new posts are found in their index alone, and in order; what the
// index holds are the keys of repo.PostCollection. Without the index, or for other
// bounds, SQLite would refuse the query.
func TestNewPostsPlan(t *testing.T) {
	db := openInternal(t)
	var plan []string
	err := db.read(t.Context(), func(c *sqlite.Conn) error {
		return query(c, "EXPLAIN QUERY PLAN "+newPosts, nil, func(r *sqlite.Stmt) error {
			plan = append(plan, r.ColumnText(3))
			return nil
		})
	})
	want := []string{
		"SEARCH record USING INDEX record_post (repo_id=? AND rev>?)", "CORRELATED SCALAR SUBQUERY 1",
		"SEARCH t USING PRIMARY KEY (did=? AND subject=?)",
	}
	if err != nil || !slices.Equal(plan, want) {
		t.Errorf("plan %q, %v", plan, err)
	}
	low, high := collectionRange(repo.PostCollection)
	if low != "app.bsky.feed.post/" || high != "app.bsky.feed.post0" {
		t.Errorf("%s is between %q and %q", repo.PostCollection, low, high)
	}
}
