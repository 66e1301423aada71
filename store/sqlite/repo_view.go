package sqlite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	"zombiezen.com/go/sqlite"

	"nestbox/dagcbor"
	"nestbox/repo"
	"nestbox/repo/mst"
)

// View implements repo.Store.
func (db Repos) View(ctx context.Context, accountID int64, fn func(repo.View) error) error {
	return db.readTx(ctx, func(c *sqlite.Conn) error {
		head, err := loadHead(c, accountID)
		if err != nil {
			return err
		}
		return fn(&view{conn: c, accountID: accountID, head: head})
	})
}

// Scan implements repo.Store.
func (db Repos) Scan(ctx context.Context, accountID int64, fn func(repo.View) error) error {
	return db.scan(ctx, accountID, func(ctx context.Context) error { return db.View(ctx, accountID, fn) })
}

// loadHead returns the head of an account's repository, or repo.ErrNoRepo.
func loadHead(c *sqlite.Conn, accountID int64) (h repo.Head, err error) {
	err = repo.ErrNoRepo
	// SQLite would compile it again each time for a bare parameter: see
	// Accounts.find.
	qerr := query(c, `SELECT id, cid, rev, commit_block, root_id, root_cid, next_node, records,
		(SELECT did FROM account a WHERE a.id = account_id), first_rev, removed_rev FROM repo
		WHERE account_id = CAST(? AS INTEGER) AND current = 1`,
		func(s *sqlite.Stmt) { s.BindInt64(1, accountID) },
		func(r *sqlite.Stmt) error {
			h = repo.Head{
				Number: r.ColumnInt64(0), Rev: syntax.TID(r.ColumnText(2)), Commit: columnBytes(r, 3),
				Root: mst.Link{ID: r.ColumnInt64(4)}, NextNode: r.ColumnInt64(6), Records: r.ColumnInt64(7),
				DID: syntax.DID(r.ColumnText(8)), First: syntax.TID(r.ColumnText(9)), Removed: syntax.TID(r.ColumnText(10)),
			}
			if h.CID, err = columnCID(r, 1); err != nil {
				return err
			}
			h.Root.CID, err = columnCID(r, 5)
			return err
		})
	if qerr != nil {
		return repo.Head{}, fmt.Errorf("read head: %w", qerr)
	}
	return h, err
}

// view implements repo.View on a connection in a read transaction.
type view struct {
	conn      *sqlite.Conn
	accountID int64
	head      repo.Head
}

var _ repo.View = (*view)(nil)

func (v *view) Head() repo.Head { return v.head }

// Node implements repo.View.
func (v *view) Node(l *mst.Link) (n *mst.Node, err error) {
	err = query(v.conn, "SELECT children, block FROM node WHERE id = ?",
		func(s *sqlite.Stmt) { s.BindInt64(1, nodeKey(v.head.Number, l.ID)) },
		func(r *sqlite.Stmt) error {
			n, err = decodeNode(l, columnBytes(r, 0), columnBytes(r, 1))
			return err
		})
	if err == nil && n == nil {
		err = errors.New("it is not there")
	}
	if err != nil {
		return nil, fmt.Errorf("read node %d, %s: %w", l.ID, l.CID, err)
	}
	return n, nil
}

// decodeNode makes a node from its row. A node that does not match its link is
// damaged.
func decodeNode(l *mst.Link, children, block []byte) (*mst.Node, error) {
	if id := dagcbor.CID(block); !id.Equals(l.CID) {
		return nil, fmt.Errorf("its block is %s", id)
	}
	n, err := mst.Decode(block)
	if err != nil {
		return nil, err
	}
	n.ID = l.ID
	for _, child := range n.Children() {
		if child == nil {
			continue
		}
		id, size := binary.Uvarint(children)
		if size <= 0 || id == 0 || id > maxNode {
			return nil, errors.New("its children's numbers are damaged")
		}
		child.ID, children = int64(id), children[size:]
	}
	if len(children) > 0 {
		return nil, errors.New("it has fewer children than numbers of them")
	}
	return n, nil
}

// Record implements repo.View.
func (v *view) Record(key string) (repo.Record, error) {
	rec, found := repo.Record{Key: key}, false
	err := query(v.conn, "SELECT cid, rev, "+wholeBlock+" FROM record WHERE repo_id = ? AND key = ?",
		func(s *sqlite.Stmt) { s.BindInt64(1, v.head.Number); s.BindText(2, key) },
		func(r *sqlite.Stmt) (err error) {
			found = true
			rec.CID, err = columnCID(r, 0)
			rec.Rev, rec.Block = syntax.TID(r.ColumnText(1)), columnBytes(r, 2)
			return err
		})
	if err != nil {
		return repo.Record{}, fmt.Errorf("read record %s: %w", key, err)
	}
	if !found {
		return repo.Record{}, repo.ErrNoRecord
	}
	return rec, nil
}

// TakenDown implements repo.View.
func (v *view) TakenDown(key string) (bool, error) { return isTakenDown(v.conn, v.accountID, key) }

// collectionRange returns the bounds between which the keys of a collection
// lie, none of them a key itself: "0" is what comes after "/".
func collectionRange(collection string) (low, high string) { return collection + "/", collection + "0" }

// errPageFull ends a query.
var errPageFull = errors.New("page is full")

// Records implements repo.View.
func (v *view) Records(rg repo.Range) ([]repo.Record, error) {
	low, high := collectionRange(rg.Collection)
	order := " DESC"
	switch {
	case rg.Ascending:
		order = ""
		if rg.After != "" {
			low += rg.After
		}
	case rg.After != "":
		high = low + rg.After
	}
	shown := ""
	if rg.Shown {
		shown = " AND NOT EXISTS (SELECT 1 FROM takedown t WHERE t.did = (SELECT did FROM account WHERE id = ?5) AND t.subject = key)"
	}
	var out []repo.Record
	size := 0
	err := query(v.conn, "SELECT key, cid, rev, "+wholeBlock+" FROM record WHERE repo_id = +?1 AND key > ?2 AND key < ?3"+shown+
		" ORDER BY key"+order+" LIMIT +?4",
		func(s *sqlite.Stmt) {
			s.BindInt64(1, v.head.Number)
			s.BindText(2, low)
			s.BindText(3, high)
			s.BindInt64(4, max(0, int64(rg.Limit)))
			if rg.Shown {
				s.BindInt64(5, v.accountID)
			}
		},
		func(r *sqlite.Stmt) error {
			size += r.ColumnLen(3)
			if rg.Bytes > 0 && size > rg.Bytes && len(out) > 0 {
				return errPageFull
			}
			id, err := columnCID(r, 1)
			out = append(out, repo.Record{Key: r.ColumnText(0), CID: id, Rev: syntax.TID(r.ColumnText(2)), Block: columnBytes(r, 3)})
			return err
		})
	if err != nil && !errors.Is(err, errPageFull) {
		return nil, fmt.Errorf("list records of %s: %w", rg.Collection, err)
	}
	return out, nil
}

// Collections implements repo.View. It reads only the first key of each.
func (v *view) Collections(limit int) ([]string, error) {
	var out []string
	for from, more := "", true; more && len(out) < limit; {
		more = false
		err := query(v.conn, "SELECT key FROM record WHERE repo_id = +? AND key >= ? ORDER BY key LIMIT 1",
			func(s *sqlite.Stmt) { s.BindInt64(1, v.head.Number); s.BindText(2, from) },
			func(r *sqlite.Stmt) error {
				collection, _, _ := strings.Cut(r.ColumnText(0), "/")
				out, more = append(out, collection), true
				_, from = collectionRange(collection)
				return nil
			})
		if err != nil {
			return nil, fmt.Errorf("list collections: %w", err)
		}
	}
	slices.Sort(out) // a.b.c/ comes before a.b/
	return out, nil
}

// bySubject reads nothing but the index record_subject.
const bySubject = `SELECT key FROM record WHERE repo_id = +? AND subject = +? AND key > ? AND key < ? ORDER BY key LIMIT +?`

// BySubject implements repo.View.
func (v *view) BySubject(collection, subject string, limit int) (keys []string, err error) {
	low, high := collectionRange(collection)
	err = query(v.conn, bySubject,
		func(s *sqlite.Stmt) {
			s.BindInt64(1, v.head.Number)
			s.BindText(2, subject)
			s.BindText(3, low)
			s.BindText(4, high)
			s.BindInt64(5, max(0, int64(limit)))
		},
		func(r *sqlite.Stmt) error { keys = append(keys, r.ColumnText(0)); return nil })
	if err != nil {
		return nil, fmt.Errorf("look for records of %s by subject: %w", collection, err)
	}
	return keys, nil
}

// newPosts reads the part of the index record_post behind a revision, from its end.
// SQLite knows the size of a block that it does not read.
const newPosts = `SELECT key, cid, rev, CASE WHEN ` + blockLength + ` <= ?5 THEN ` + wholeBlock + ` END FROM record INDEXED BY record_post
	WHERE repo_id = +?1 AND rev > ?2 AND key BETWEEN '` + repo.PostCollection + `/' AND '` + repo.PostCollection + `0'
	AND NOT EXISTS (SELECT 1 FROM takedown t WHERE t.did = ?3 AND t.subject = key) ORDER BY rev DESC, key DESC LIMIT +?4`

// NewPosts implements repo.View.
func (v *view) NewPosts(since syntax.TID, most repo.Bounds) (out []repo.Record, err error) {
	size := 0
	err = query(v.conn, newPosts,
		func(s *sqlite.Stmt) {
			s.BindInt64(1, v.head.Number)
			s.BindText(2, since.String())
			s.BindText(3, v.head.DID.String())
			s.BindInt64(4, max(0, int64(most.Count)))
			s.BindInt64(5, int64(most.Size))
		},
		func(r *sqlite.Stmt) error {
			if r.ColumnType(3) == sqlite.TypeNull {
				return nil
			}
			if size += r.ColumnLen(3); size > most.Bytes {
				return errPageFull
			}
			id, err := columnCID(r, 1)
			out = append(out, repo.Record{Key: r.ColumnText(0), CID: id, Rev: syntax.TID(r.ColumnText(2)), Block: columnBytes(r, 3)})
			return err
		})
	if err != nil && !errors.Is(err, errPageFull) {
		return nil, fmt.Errorf("look for new posts: %w", err)
	}
	slices.Reverse(out)
	return out, nil
}

// Blob implements repo.View.
func (v *view) Blob(id cid.Cid) (repo.BlobInfo, error) { return blobInfo(v.conn, v.accountID, id) }

func blobInfo(c *sqlite.Conn, accountID int64, id cid.Cid) (info repo.BlobInfo, err error) {
	found := false
	err = query(c, "SELECT size, mime_type, was_used FROM blob WHERE account_id = ? AND cid = ?",
		func(s *sqlite.Stmt) { s.BindInt64(1, accountID); s.BindText(2, id.String()) },
		func(r *sqlite.Stmt) error {
			found, info = true, repo.BlobInfo{Size: r.ColumnInt64(0), MimeType: r.ColumnText(1), WasUsed: r.ColumnBool(2)}
			return nil
		})
	if err != nil {
		return repo.BlobInfo{}, fmt.Errorf("look for blob %s: %w", id, err)
	}
	down, err := isTakenDown(c, accountID, id.String())
	if err != nil {
		return repo.BlobInfo{}, err
	}
	if !found || down {
		return repo.BlobInfo{}, fmt.Errorf("%w: %s", repo.ErrNoBlob, id)
	}
	return info, nil
}

// Nodes implements repo.View.
func (v *view) Nodes() (n int64, err error) {
	err = query(v.conn, "SELECT count(*) FROM node WHERE id BETWEEN ? AND ?",
		nodesOf(v.head.Number),
		func(r *sqlite.Stmt) error { n = r.ColumnInt64(0); return nil })
	if err != nil {
		return 0, fmt.Errorf("count nodes: %w", err)
	}
	return n, nil
}

// EachNode implements repo.View: one scan of the nodes as they lie on disk.
func (v *view) EachNode(since syntax.TID, yield func(id int64, children []int64, block []byte) error) error {
	var numbers, block []byte
	var children []int64
	return query(v.conn, "SELECT id, children, block FROM node WHERE id BETWEEN ? AND ? AND rev > ?",
		func(s *sqlite.Stmt) {
			nodesOf(v.head.Number)(s)
			s.BindText(3, since.String())
		},
		func(r *sqlite.Stmt) error {
			number := r.ColumnInt64(0) & maxNode
			numbers, block = columnInto(numbers, r, 1), columnInto(block, r, 2)
			children = children[:0]
			for rest := numbers; len(rest) > 0; {
				id, size := binary.Uvarint(rest)
				if size <= 0 || id > maxNode {
					return fmt.Errorf("node %d: its children's numbers are damaged", number)
				}
				children, rest = append(children, int64(id)), rest[size:]
			}
			return yield(number, children, block)
		})
}

// EachRecord implements repo.View.
func (v *view) EachRecord(since syntax.TID, yield func(repo.Record) error) error {
	var block, scratch []byte
	var last syntax.TID
	return query(v.conn, "SELECT key, cid, rev, "+wholeBlock+" FROM record WHERE repo_id = ? AND rev > ? ORDER BY key",
		func(s *sqlite.Stmt) { s.BindInt64(1, v.head.Number); s.BindText(2, since.String()) },
		func(r *sqlite.Stmt) error {
			scratch = columnInto(scratch, r, 1)
			id, err := castCID(scratch)
			if err != nil {
				return err
			}
			if scratch = columnInto(scratch, r, 2); string(scratch) != string(last) {
				last = syntax.TID(scratch) // most records were written with the one before
			}
			block = columnInto(block, r, 3)
			return yield(repo.Record{Key: r.ColumnText(0), CID: id, Rev: last, Block: block})
		})
}

// columnInto reads a column into the memory of buf, if it fits.
func columnInto(buf []byte, r *sqlite.Stmt, col int) []byte {
	n := r.ColumnLen(col)
	buf = slices.Grow(buf[:0], n)[:n]
	r.ColumnBytes(col, buf)
	return buf
}
