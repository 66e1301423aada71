package sqlite

import (
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/dagcbor"
	"nestbox/repo"
	"nestbox/repo/mst"
	"nestbox/store"
)

// rebuild is one Rebuild, in its transaction.
type rebuild struct {
	conn              *sqlite.Conn
	accountID, number int64
	cid, commit       []byte
	rev               syntax.TID
	out               store.Rebuilt
}

func (b *rebuild) open() error {
	err := query(b.conn, "SELECT id, cid, commit_block, rev FROM repo WHERE account_id = ? AND current = 1",
		func(s *sqlite.Stmt) { s.BindInt64(1, b.accountID) },
		func(r *sqlite.Stmt) error {
			b.number, b.cid, b.commit, b.rev = r.ColumnInt64(0), columnBytes(r, 1), columnBytes(r, 2), syntax.TID(r.ColumnText(3))
			return nil
		})
	if err != nil {
		return fmt.Errorf("read head: %w", err)
	}
	if b.number == 0 {
		return repo.ErrNoRepo
	}
	return nil
}

// derived puts what follows from the records into tables of its own, on disk if
// they are large, and makes blob_ref and the subjects the same.
func (b *rebuild) derived(derive func(repo.Record) (repo.Derived, error)) error {
	err := sqlitex.ExecuteScript(b.conn, `CREATE TEMP TABLE IF NOT EXISTS wanted (cid TEXT NOT NULL, key TEXT NOT NULL, rev TEXT NOT NULL,
			PRIMARY KEY (cid, key)) WITHOUT ROWID;
		CREATE TEMP TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, subject TEXT NOT NULL) WITHOUT ROWID;
		DELETE FROM wanted; DELETE FROM about;`, nil)
	if err != nil {
		return fmt.Errorf("make tables of what is derived: %w", err)
	}
	err = eachRow(b.conn, b.number, func(r repo.Record, kept repo.Derived) error {
		want, err := derive(r)
		if err != nil {
			return fmt.Errorf("%w: record %s: %w", store.ErrRecord, r.Key, err)
		}
		return b.want(r, want, kept)
	})
	if err != nil {
		return err
	}
	for _, fix := range []struct {
		sql   string
		count *int
	}{
		{`DELETE FROM blob_ref WHERE repo_id = ?1 AND NOT EXISTS
			(SELECT 1 FROM wanted w WHERE w.cid = blob_ref.cid AND w.key = blob_ref.key AND w.rev = blob_ref.rev)`, &b.out.References},
		{`INSERT INTO blob_ref (repo_id, cid, key, rev)
			SELECT ?1, cid, key, rev FROM wanted WHERE true ON CONFLICT DO NOTHING`, &b.out.References},
		{"UPDATE record SET subject = nullif(a.subject, '') FROM about a WHERE record.repo_id = ?1 AND record.key = a.key", &b.out.Subjects},
	} {
		n, err := change(b.conn, fix.sql, func(s *sqlite.Stmt) { s.BindInt64(1, b.number) })
		if err != nil {
			return fmt.Errorf("rebuild what is derived: %w", err)
		}
		*fix.count += n
	}
	return nil
}

// want notes the references of a record, and its subject if that is wrong.
func (b *rebuild) want(r repo.Record, want, kept repo.Derived) error {
	for _, id := range want.Blobs {
		_, err := change(b.conn, "INSERT INTO wanted (cid, key, rev) VALUES (?, ?, ?)",
			func(s *sqlite.Stmt) { s.BindText(1, id); s.BindText(2, r.Key); s.BindText(3, r.Rev.String()) })
		if err != nil {
			return fmt.Errorf("note reference: %w", err)
		}
	}
	if want.Subject == kept.Subject {
		return nil
	}
	_, err := change(b.conn, "INSERT INTO about (key, subject) VALUES (?, ?)",
		func(s *sqlite.Stmt) { s.BindText(1, r.Key); s.BindText(2, want.Subject) })
	if err != nil {
		return fmt.Errorf("note subject: %w", err)
	}
	return nil
}

// tree makes the nodes again. An export with since is larger than it needs to
// be then, since all nodes count as the latest commit's.
func (b *rebuild) tree() error {
	commit, err := repo.DecodeCommit(b.commit)
	if err != nil || dagcbor.CID(b.commit).KeyString() != string(b.cid) {
		return fmt.Errorf("%w: the commit itself is damaged", store.ErrTree)
	}
	if _, err := change(b.conn, "DELETE FROM node WHERE id BETWEEN ? AND ?", nodesOf(b.number)); err != nil {
		return fmt.Errorf("remove nodes: %w", err)
	}
	builder := mst.Builder{NextID: 1, Emit: func(n mst.Changed) error {
		return storeNodes(b.conn, b.number, b.rev, []mst.Changed{n}, nil)
	}}
	err = query(b.conn, "SELECT key, cid FROM record WHERE repo_id = ? ORDER BY key",
		func(s *sqlite.Stmt) { s.BindInt64(1, b.number) },
		func(r *sqlite.Stmt) error {
			id, err := cid.Cast(columnBytes(r, 1))
			if err != nil {
				return fmt.Errorf("%w: record %s: damaged CID", store.ErrRecord, r.ColumnText(0))
			}
			return builder.Add(r.ColumnText(0), id)
		})
	if err != nil {
		return fmt.Errorf("rebuild tree: %w", err)
	}
	root, err := builder.Finish()
	if err != nil {
		return fmt.Errorf("rebuild tree: %w", err)
	}
	if !root.CID.Equals(commit.Data) {
		return fmt.Errorf("%w: %s, not %s", store.ErrTree, root.CID, commit.Data)
	}
	b.out.Nodes = builder.NextID - 1
	_, err = change(b.conn, "UPDATE repo SET root_id = ?, root_cid = ?, next_node = ? WHERE id = ?", func(s *sqlite.Stmt) {
		s.BindInt64(1, root.ID)
		bindCID(s, 2, root.CID)
		s.BindInt64(3, builder.NextID)
		s.BindInt64(4, b.number)
	})
	if err != nil {
		return fmt.Errorf("store root: %w", err)
	}
	return nil
}

// counts corrects the numbers of records and of blobs, a next node that is taken, and
// revisions that cannot be.
func (b *rebuild) counts() error {
	const last = "(SELECT coalesce(max(id), 0) & 0xffffffff FROM node WHERE id BETWEEN ?1 << 32 AND ?1 << 32 | 0xffffffff)"
	const records = "(SELECT count(*) FROM record WHERE repo_id = ?1)"
	const blobs = "(SELECT count(DISTINCT cid) FROM blob_ref WHERE repo_id = ?1)"
	const oldest = "coalesce((SELECT min(rev) FROM record WHERE repo_id = ?1), rev)"
	const noFirst = "(first_rev = '' OR first_rev > " + oldest + ")"
	n, err := change(b.conn, "UPDATE repo SET records = "+records+", blobs = "+blobs+", next_node = max(next_node, 1 + "+last+`),
		first_rev = iif(`+noFirst+", "+oldest+`, first_rev), removed_rev = min(removed_rev, rev)
		WHERE id = ?1 AND (records <> `+records+" OR blobs <> "+blobs+" OR next_node <= "+last+" OR "+noFirst+" OR removed_rev > rev)",
		func(s *sqlite.Stmt) { s.BindInt64(1, b.number) })
	if err != nil {
		return fmt.Errorf("count: %w", err)
	}
	b.out.Counted = n > 0
	return nil
}
