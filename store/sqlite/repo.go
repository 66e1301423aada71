package sqlite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	"zombiezen.com/go/sqlite"

	"nestbox/account"
	"nestbox/dagcbor"
	"nestbox/repo"
	"nestbox/repo/mst"
	"nestbox/store/sqlite/groupcommit"
)

// Repos implements repo.Store.
type Repos struct{ *DB }

var _ repo.Store = Repos{}

// maxNode is the highest number of a node: see nodeKey.
const maxNode = 1<<32 - 1

// nodeKey is the row of a node: its number in the lower 32 bits, its
// repository's above.
func nodeKey(number, node int64) int64 { return number<<32 | node }

// nodesOf binds the first two parameters to the bounds of a repository's nodes.
func nodesOf(number int64) bind {
	return func(s *sqlite.Stmt) {
		s.BindInt64(1, nodeKey(number, 0))
		s.BindInt64(2, nodeKey(number, maxNode))
	}
}

// owner is the account of a repository, as a writer sees it.
type owner struct {
	active bool
	head   repo.Head // Number 0 if there is none
}

// loadOwner returns repo.ErrNoRepo if there is no account; one whose DID is
// being registered does not count.
func loadOwner(c *sqlite.Conn, accountID int64) (o owner, err error) {
	err = repo.ErrNoRepo
	qerr := query(c, `SELECT r.id, r.cid, r.rev, r.records, `+statusColumns+`
		FROM account a LEFT JOIN repo r ON r.account_id = a.id AND r.current = 1
		WHERE a.id = CAST(? AS INTEGER) AND a.pending_operation IS NULL`,
		func(s *sqlite.Stmt) { s.BindInt64(1, accountID) },
		func(r *sqlite.Stmt) error {
			o.active, err = columnStatus(r, 4) == account.Active, nil
			o.head.Number = r.ColumnInt64(0)
			if o.head.Number == 0 {
				return nil
			}
			o.head.Rev, o.head.Records = syntax.TID(r.ColumnText(2)), r.ColumnInt64(3)
			o.head.CID, err = columnCID(r, 1)
			return err
		})
	if qerr != nil {
		return owner{}, fmt.Errorf("look for repository: %w", qerr)
	}
	return o, err
}

// Commit implements repo.Store.
func (db Repos) Commit(ctx context.Context, c repo.Change) error {
	return db.CommitChain(ctx, []repo.Change{c})
}

// CommitChain implements repo.Store.
func (db Repos) CommitChain(ctx context.Context, chain []repo.Change) error {
	if len(chain) == 0 {
		return nil
	}
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		was, err := loadOwner(tx.Conn, chain[0].AccountID)
		switch {
		case err != nil:
			return err
		case was.head.Number == 0:
			return repo.ErrNoRepo
		case !was.active:
			return repo.ErrInactive
		}
		passing := passingNodes(chain)
		for _, c := range chain {
			if c.AccountID != chain[0].AccountID {
				return errors.New("a chain of commits is of two accounts")
			}
			if err := storeChange(tx.Conn, was.head, c, passing); err != nil {
				return err
			}
			if err := insertLog(tx, db.DB, c.Event, c.At); err != nil {
				return err
			}
			was.head = c.Next
		}
		return storeHead(tx.Conn, was.head)
	})
}

// passingNodes are those that one change of a chain makes and a later one frees.
func passingNodes(chain []repo.Change) map[int64]bool {
	if len(chain) == 1 {
		return nil
	}
	made, passing := map[int64]bool{}, map[int64]bool{}
	for _, c := range chain {
		for _, id := range c.Freed {
			if made[id] {
				passing[id] = true
			}
		}
		for _, n := range c.Nodes {
			made[n.ID] = true
		}
	}
	return passing
}

// storeChange stores what c changes, but for passing nodes, the head and the event.
func storeChange(conn *sqlite.Conn, was repo.Head, c repo.Change, passing map[int64]bool) error {
	switch {
	case was.Number != c.Next.Number || !was.CID.Equals(c.Was):
		return repo.ErrConflict
	case c.Next.Rev <= was.Rev:
		return fmt.Errorf("revision %s does not follow %s", c.Next.Rev, was.Rev)
	}
	if len(passing) > 0 {
		c.Nodes = slices.DeleteFunc(slices.Clone(c.Nodes), func(n mst.Changed) bool { return passing[n.ID] })
		c.Freed = slices.DeleteFunc(slices.Clone(c.Freed), func(id int64) bool { return passing[id] })
	}
	if err := storeNodes(conn, c.Next.Number, c.Next.Rev, c.Nodes, c.Freed); err != nil {
		return err
	}
	if err := checkSeen(conn, c.AccountID, c.Writes); err != nil {
		return err
	}
	done, err := storeWrites(conn, c.Next.Number, c.Next.Rev, c.Writes)
	if err != nil {
		return err
	}
	if was.Records+done.records != c.Next.Records {
		return fmt.Errorf("commit %s counts %d records, but makes %d", c.Next.CID, c.Next.Records, was.Records+done.records)
	}
	if err := markBlobs(conn, c.AccountID, c.Next.Number, done.touched, c.At); err != nil {
		return err
	}
	return countBlobs(conn, c.Next.Number, done.blobs)
}

// checkSeen returns repo.ErrConflict unless the blobs of writes are still what these were
// checked against, repo.ErrNoBlob if one is gone or was taken down.
func checkSeen(c *sqlite.Conn, accountID int64, writes []repo.Write) error {
	for _, w := range writes {
		for i, seen := range w.Seen {
			switch now, err := blobInfo(c, accountID, w.Blobs[i]); {
			case err != nil:
				return err
			case !seen.Still(now):
				return repo.ErrConflict
			}
		}
	}
	return nil
}

// Begin implements repo.Store.
func (db Repos) Begin(ctx context.Context, c repo.Change) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		active, err := beginRepo(tx.Conn, c.AccountID, c)
		if err != nil {
			return err
		}
		return insertLogs(tx, db.DB, repo.ChangeEvents(active, c.Event), c.At)
	})
}

// beginRepo makes an account's first repository, and returns whether the account is
// active.
func beginRepo(conn *sqlite.Conn, accountID int64, c repo.Change) (active bool, err error) {
	was, err := loadOwner(conn, accountID)
	switch {
	case err != nil:
		return false, err
	case was.head.Number != 0:
		return false, repo.ErrConflict
	case len(c.Writes) > 0 || c.Next.Records != 0:
		return false, errors.New("a first repository begins without records")
	}
	next := c.Next
	err = query(conn, "INSERT INTO repo (account_id, current) VALUES (?, 1) RETURNING id",
		func(s *sqlite.Stmt) { s.BindInt64(1, accountID) },
		func(r *sqlite.Stmt) error { next.Number = r.ColumnInt64(0); return nil })
	if err != nil {
		return false, fmt.Errorf("insert repository: %w", err)
	}
	if err := storeHead(conn, next); err != nil {
		return false, err
	}
	if err := storeNodes(conn, next.Number, next.Rev, c.Nodes, nil); err != nil {
		return false, err
	}
	return was.active, nil
}

// storeHead makes h the head of the repository h.Number.
func storeHead(c *sqlite.Conn, h repo.Head) error {
	_, err := change(c, `UPDATE repo SET cid = ?, rev = ?, commit_block = ?, root_id = ?, root_cid = ?, next_node = ?, records = ?,
		first_rev = ?, removed_rev = ? WHERE id = ?`,
		func(s *sqlite.Stmt) {
			bindCID(s, 1, h.CID)
			s.BindText(2, h.Rev.String())
			s.BindBytes(3, h.Commit)
			s.BindInt64(4, h.Root.ID)
			bindCID(s, 5, h.Root.CID)
			s.BindInt64(6, h.NextNode)
			s.BindInt64(7, h.Records)
			s.BindText(8, h.First.String())
			s.BindText(9, h.Removed.String())
			s.BindInt64(10, h.Number)
		})
	if err != nil {
		return fmt.Errorf("store head: %w", err)
	}
	return nil
}

// storeNodes writes nodes and removes those that are freed.
func storeNodes(c *sqlite.Conn, number int64, rev syntax.TID, nodes []mst.Changed, freed []int64) error {
	var children []byte
	for _, n := range nodes {
		if n.ID < 1 || n.ID > maxNode {
			return fmt.Errorf("node %d is not numbered from 1 to %d", n.ID, int64(maxNode))
		}
		children = children[:0]
		for _, id := range n.Links {
			children = binary.AppendUvarint(children, uint64(id)) //nolint:gosec // above 0, as every node's
		}
		_, err := change(c, "INSERT INTO node (id, rev, children, block) VALUES (?, ?, ?, ?)",
			func(s *sqlite.Stmt) {
				s.BindInt64(1, nodeKey(number, n.ID))
				s.BindText(2, rev.String())
				s.BindBytes(3, children)
				s.BindBytes(4, n.Block)
			})
		if err != nil {
			return fmt.Errorf("store node: %w", err)
		}
	}
	for _, id := range freed {
		if _, err := change(c, "DELETE FROM node WHERE id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, nodeKey(number, id)) }); err != nil {
			return fmt.Errorf("remove node: %w", err)
		}
	}
	return nil
}

// written is what writes have changed beside the records themselves.
type written struct {
	// records and blobs are how many more there are; only blobs that a record
	// refers to count.
	records, blobs int64
	touched        touched
}

// touched are the blobs whose references changed: those that a write refers to
// are true.
type touched map[string]bool

// storeWrites writes and removes records, and their references.
func storeWrites(c *sqlite.Conn, number int64, rev syntax.TID, writes []repo.Write) (done written, err error) {
	done.touched = touched{}
	for _, w := range writes {
		created := false
		if w.Block != nil {
			if created, err = insertRecord(c, number, rev, w); err != nil {
				return written{}, err
			}
		}
		if created {
			done.records++
		} else {
			fewer, err := replaceRecord(c, number, rev, w, done.touched)
			if err != nil {
				return written{}, err
			}
			done.blobs -= fewer
		}
		if w.Block == nil {
			done.records--
			continue
		}
		more, err := insertReferences(c, number, rev, w)
		if err != nil {
			return written{}, err
		}
		done.blobs += more
		for _, id := range w.Blobs {
			done.touched[id.String()] = true
		}
	}
	return done, nil
}

// insertRecord reports whether it inserted w: not if its key is taken.
func insertRecord(c *sqlite.Conn, number int64, rev syntax.TID, w repo.Write) (created bool, err error) {
	n, err := change(c, `INSERT INTO record (repo_id, key, cid, rev, block, subject)
		VALUES (?, ?, ?, ?, ?, nullif(?, '')) ON CONFLICT DO NOTHING`,
		func(s *sqlite.Stmt) {
			s.BindInt64(1, number)
			s.BindText(2, w.Key)
			bindCID(s, 3, w.CID)
			s.BindText(4, rev.String())
			s.BindBytes(5, inline(w.Block))
			s.BindText(6, w.Subject)
		})
	if err != nil {
		return false, fmt.Errorf("insert record %s: %w", w.Key, err)
	}
	if n == 0 {
		return false, nil
	}
	return true, storeLarge(c, number, w.Key, w.Block)
}

// replaceRecord updates or removes a record that is there, and removes its
// references, whose blobs it adds to touched. It returns how many of these have
// no reference left.
func replaceRecord(c *sqlite.Conn, number int64, rev syntax.TID, w repo.Write, touched touched) (gone int64, err error) {
	atKey := func(s *sqlite.Stmt) { s.BindInt64(1, number); s.BindText(2, w.Key) }
	if w.Block == nil {
		n, err := change(c, "DELETE FROM record WHERE repo_id = ? AND key = ?", atKey)
		if err != nil {
			return 0, fmt.Errorf("remove record %s: %w", w.Key, err)
		}
		if n == 0 {
			return 0, fmt.Errorf("remove record %s: %w", w.Key, repo.ErrNoRecord)
		}
	} else {
		_, err := change(c, `UPDATE record SET cid = ?3, rev = ?4, block = ?5, block_id = NULL, subject = nullif(?6, '')
			WHERE repo_id = ?1 AND key = ?2`,
			func(s *sqlite.Stmt) {
				atKey(s)
				bindCID(s, 3, w.CID)
				s.BindText(4, rev.String())
				s.BindBytes(5, inline(w.Block))
				s.BindText(6, w.Subject)
			})
		if err != nil {
			return 0, fmt.Errorf("update record %s: %w", w.Key, err)
		}
		if err := storeLarge(c, number, w.Key, w.Block); err != nil {
			return 0, err
		}
	}
	var ids []string
	err = query(c, "SELECT cid FROM blob_ref WHERE repo_id = ? AND key = ?", atKey,
		func(r *sqlite.Stmt) error { ids = append(ids, r.ColumnText(0)); return nil })
	if err != nil {
		return 0, fmt.Errorf("read references of record %s: %w", w.Key, err)
	}
	if _, err := change(c, "DELETE FROM blob_ref WHERE repo_id = ? AND key = ?", atKey); err != nil {
		return 0, fmt.Errorf("remove references of record %s: %w", w.Key, err)
	}
	for _, id := range ids {
		if _, ok := touched[id]; !ok {
			touched[id] = false
		}
		still, err := isReferredTo(c, number, id)
		if err != nil {
			return 0, err
		}
		if !still {
			gone++
		}
	}
	return gone, nil
}

// insertReferences notes the blobs that a record refers to. It returns how many of
// them had no reference before.
func insertReferences(c *sqlite.Conn, number int64, rev syntax.TID, w repo.Write) (more int64, err error) {
	for _, blob := range w.Blobs {
		id := blob.String()
		already, err := isReferredTo(c, number, id)
		if err != nil {
			return 0, err
		}
		_, err = change(c, "INSERT INTO blob_ref (repo_id, cid, key, rev) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
			func(s *sqlite.Stmt) {
				s.BindInt64(1, number)
				s.BindText(2, id)
				s.BindText(3, w.Key)
				s.BindText(4, rev.String())
			})
		if err != nil {
			return 0, fmt.Errorf("insert reference of record %s: %w", w.Key, err)
		}
		if !already {
			more++
		}
	}
	return more, nil
}

func isReferredTo(c *sqlite.Conn, number int64, blob string) (is bool, err error) {
	err = query(c, "SELECT 1 FROM blob_ref WHERE repo_id = ? AND cid = ? LIMIT 1",
		func(s *sqlite.Stmt) { s.BindInt64(1, number); s.BindText(2, blob) },
		func(*sqlite.Stmt) error { is = true; return nil })
	return is, wrap(err, "look for references to a blob")
}

// countBlobs adjusts the repository's count of referenced blobs. A trigger would do
// this once per row and open a statement journal each time.
func countBlobs(c *sqlite.Conn, number, more int64) error {
	if more == 0 {
		return nil
	}
	_, err := change(c, "UPDATE repo SET blobs = blobs + ? WHERE id = ?",
		func(s *sqlite.Stmt) { s.BindInt64(1, more); s.BindInt64(2, number) })
	return wrap(err, "count blobs")
}

// markBlobs notes which of the account's blobs are used now, and since when the
// others are not. A blob that a write refers to must be there, else
// repo.ErrNoBlob.
func markBlobs(c *sqlite.Conn, accountID, number int64, blobs touched, at time.Time) error {
	for id, needed := range blobs {
		n, err := change(c, `UPDATE blob SET unused_since = iif(used, NULL, ifnull(unused_since, ?4)), was_used = was_used OR used
			FROM (SELECT EXISTS (SELECT 1 FROM blob_ref WHERE repo_id = ?3 AND cid = ?2) AS used) WHERE account_id = ?1 AND cid = ?2`,
			func(s *sqlite.Stmt) {
				s.BindInt64(1, accountID)
				s.BindText(2, id)
				s.BindInt64(3, number)
				bindTime(s, 4, at)
			})
		if err != nil {
			return fmt.Errorf("mark blob: %w", err)
		}
		if n == 0 && needed {
			return fmt.Errorf("%w: %s", repo.ErrNoBlob, id)
		}
	}
	return nil
}

// Heads implements repo.Store.
func (db Repos) Heads(ctx context.Context, after int64, limit int) ([]repo.AccountHead, error) {
	return db.heads(ctx, `SELECT a.id, a.did, r.cid, r.rev, `+statusColumns+` FROM repo r JOIN account a ON a.id = r.account_id
		WHERE r.account_id > ? AND r.current = 1 ORDER BY r.account_id LIMIT ?`,
		func(s *sqlite.Stmt) { s.BindInt64(1, after); s.BindInt64(2, max(0, int64(limit))) })
}

// Without implements repo.Store.
func (db Repos) Without(ctx context.Context, after int64, limit int) ([]repo.AccountHead, error) {
	return db.heads(ctx, `SELECT a.id, a.did, NULL, '', `+statusColumns+` FROM account a WHERE a.id > ? AND a.pending_operation IS NULL
		AND NOT EXISTS (SELECT 1 FROM repo r WHERE r.account_id = a.id AND r.current = 1) ORDER BY a.id LIMIT ?`,
		func(s *sqlite.Stmt) { s.BindInt64(1, after); s.BindInt64(2, max(0, int64(limit))) })
}

// statusColumns are the columns that the status of an account a follows from: see
// columnStatus.
const statusColumns = `a.takendown_at, a.suspended_at, a.deactivated_at`

// columnStatus reads statusColumns, the first of which is at col.
func columnStatus(r *sqlite.Stmt, col int) account.Status {
	return account.StatusOf(columnTime(r, col), columnTime(r, col+1), columnTime(r, col+2))
}

func (db Repos) heads(ctx context.Context, sql string, b bind) (out []repo.AccountHead, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, sql, b, func(r *sqlite.Stmt) error {
			h := repo.AccountHead{
				AccountID: r.ColumnInt64(0), DID: syntax.DID(r.ColumnText(1)),
				Rev: syntax.TID(r.ColumnText(3)), Status: string(columnStatus(r, 4)),
			}
			if !r.ColumnIsNull(2) {
				if h.CID, err = columnCID(r, 2); err != nil {
					return err
				}
			}
			out = append(out, h)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list repositories: %w", err)
	}
	return out, nil
}

func bindCID(s *sqlite.Stmt, param int, id cid.Cid) { s.BindBytes(param, id.Bytes()) }

// columnCID reads the CID of a block.
func columnCID(r *sqlite.Stmt, col int) (cid.Cid, error) { return castCID(columnBytes(r, col)) }

// castCID makes bytes the CID of a block.
func castCID(b []byte) (cid.Cid, error) {
	id, err := cid.Cast(b)
	if err != nil {
		return cid.Undef, fmt.Errorf("damaged CID: %w", err)
	}
	if !dagcbor.IsBlockCID(id) {
		return cid.Undef, fmt.Errorf("damaged CID: %s is of no block", id)
	}
	return id, nil
}
