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
	large := []string{"SEARCH b USING INTEGER PRIMARY KEY (rowid=?)"}
	want := slices.Concat([]string{
		"SEARCH record USING INDEX record_post (repo_id=? AND rev>?)", "CORRELATED SCALAR SUBQUERY 3",
		"SEARCH t USING PRIMARY KEY (did=? AND subject=?)",
		"CORRELATED SCALAR SUBQUERY 1",
	}, large, []string{"CORRELATED SCALAR SUBQUERY 2"}, large)
	if err != nil || !slices.Equal(plan, want) {
		t.Errorf("plan %q, %v", plan, err)
	}
	low, high := collectionRange(repo.PostCollection)
	if low != "app.bsky.feed.post/" || high != "app.bsky.feed.post0" {
		t.Errorf("%s is between %q and %q", repo.PostCollection, low, high)
	}
}

// TestPreparedOnce: queries that reads make again and again are prepared once for a
// connection, whatever is set as their parameters. SQLite asks the authorizer whenever it
// prepares.
func TestPreparedOnce(t *testing.T) {
	db := openInternal(t)
	err := db.read(t.Context(), func(c *sqlite.Conn) error {
		v := &view{conn: c, accountID: 1, head: repo.Head{Number: 1, DID: "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"}}
		asked := 0
		if err := c.SetAuthorizer(sqlite.AuthorizeFunc(func(sqlite.Action) sqlite.AuthResult {
			asked++
			return sqlite.AuthResultOK
		})); err != nil {
			return err
		}
		for name, read := range map[string]func(limit int) error{
			"NewPosts": func(limit int) error {
				_, err := v.NewPosts("3jzfcijpj2z2a", repo.Bounds{Count: limit, Size: 1 << 18, Bytes: 1 << 20})
				return err
			},
			"Records": func(limit int) error {
				_, err := v.Records(repo.Range{Collection: "a.b.c", Limit: limit, Shown: true})
				return err
			},
			"BySubject":   func(limit int) error { _, err := v.BySubject("a.b.c", "at://x", limit); return err },
			"Collections": func(limit int) error { _, err := v.Collections(limit); return err },
		} {
			for i, limit := range []int{100, 100, 7} {
				asked = 0
				if err := read(limit); err != nil {
					return err
				}
				if first := i == 0; first != (asked > 0) {
					t.Errorf("%s, time %d: SQLite prepared what %d actions need", name, i+1, asked)
				}
			}
		}
		return c.SetAuthorizer(nil)
	})
	if err != nil {
		t.Error(err)
	}
}
