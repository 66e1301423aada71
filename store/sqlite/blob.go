package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	"zombiezen.com/go/sqlite"

	"nestbox/blob"
	"nestbox/store/sqlite/groupcommit"
)

// Blobs implements blob.Store.
type Blobs struct{ *DB }

var _ blob.Store = Blobs{}

// currentRepo is the number of the repository of the account ?1.
const currentRepo = "(SELECT id FROM repo WHERE account_id = ?1 AND current = 1)"

// Intend implements blob.Store.
func (db Blobs) Intend(ctx context.Context, key string, at time.Time) error {
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		_, err := change(tx.Conn, "INSERT INTO blob_garbage (file, at, intended) VALUES (?, ?, 1)",
			func(s *sqlite.Stmt) { s.BindText(1, key); bindTime(s, 2, at) })
		if err != nil {
			return fmt.Errorf("note file: %w", err)
		}
		return nil
	})
}

// Add implements blob.Store.
func (db Blobs) Add(ctx context.Context, accountID int64, b blob.Blob, quota int64) (blob.Blob, error) {
	var out blob.Blob
	var refused error // with what Add keeps all the same: that the file is garbage
	err := db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		out, refused = b, nil
		if err := adopt(tx.Conn, b.Key); err != nil {
			return err
		}
		old, referenced, err := blobRow(tx.Conn, accountID, b.CID)
		if err != nil {
			return err
		}
		limit := quota
		if old.Key != "" {
			limit = 0 // it is counted already
		}
		if refused, err = refuseBlob(tx.Conn, accountID, b, limit); err != nil {
			return err
		}
		if refused != nil {
			return addGarbage(tx.Conn, b.Key)
		}
		if old.Key != "" {
			if referenced {
				out.MimeType, out.CreatedAt = old.MimeType, old.CreatedAt
			}
			if err := addGarbage(tx.Conn, old.Key); err != nil {
				return err
			}
		}
		tx.AfterCommit(func() { db.noteBlob(out.Key, out.Size) })
		return putBlob(tx.Conn, accountID, out, referenced)
	})
	if err == nil {
		err = refused
	}
	if err != nil {
		return blob.Blob{}, err
	}
	out.CreatedAt = out.CreatedAt.UTC().Truncate(time.Millisecond) // as it is kept
	return out, nil
}

// adopt gives an intended file to a blob.
func adopt(c *sqlite.Conn, key string) error {
	n, err := change(c, "DELETE FROM blob_garbage WHERE file = ? AND intended = 1", func(s *sqlite.Stmt) { s.BindText(1, key) })
	if err != nil {
		return fmt.Errorf("adopt file: %w", err)
	}
	if n == 0 {
		return blob.ErrAbandoned
	}
	return nil
}

func addGarbage(c *sqlite.Conn, key string) error {
	_, err := change(c, "INSERT INTO blob_garbage (file, at, intended) VALUES (?, 0, 0)", func(s *sqlite.Stmt) { s.BindText(1, key) })
	if err != nil {
		return fmt.Errorf("note garbage: %w", err)
	}
	return nil
}

// blobRow returns what is kept of a blob, without a key if there is nothing,
// and whether a record of the account's repository refers to it.
func blobRow(c *sqlite.Conn, accountID int64, id cid.Cid) (b blob.Blob, referenced bool, err error) {
	at := func(s *sqlite.Stmt) { s.BindInt64(1, accountID); s.BindText(2, id.String()) }
	err = query(c, "SELECT size, mime_type, file, created_at FROM blob WHERE account_id = ? AND cid = ?", at,
		func(r *sqlite.Stmt) error {
			b = blob.Blob{CID: id, Size: r.ColumnInt64(0), MimeType: r.ColumnText(1), Key: r.ColumnText(2), CreatedAt: columnTime(r, 3)}
			return nil
		})
	if err != nil {
		return blob.Blob{}, false, fmt.Errorf("read blob: %w", err)
	}
	err = query(c, "SELECT 1 FROM blob_ref WHERE repo_id = "+currentRepo+" AND cid = ?2 LIMIT 1", at,
		func(*sqlite.Stmt) error { referenced = true; return nil })
	if err != nil {
		return blob.Blob{}, false, fmt.Errorf("look for references to blob: %w", err)
	}
	return b, referenced, nil
}

// refuseBlob returns an error if the account may not have one more blob.
func refuseBlob(c *sqlite.Conn, accountID int64, b blob.Blob, quota int64) (refused, err error) {
	refused = blob.ErrNoAccount
	err = query(c, "SELECT 1 FROM account WHERE id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, accountID) },
		func(*sqlite.Stmt) error { refused = nil; return nil })
	if err != nil || refused != nil {
		return refused, err
	}
	down, err := isTakenDown(c, accountID, b.CID.String())
	switch {
	case err != nil:
		return nil, err
	case down:
		return blob.ErrTakenDown, nil
	case quota == 0:
		return nil, nil
	}
	err = query(c, "SELECT coalesce(sum(size), 0) FROM blob WHERE account_id = ?",
		func(s *sqlite.Stmt) { s.BindInt64(1, accountID) },
		func(r *sqlite.Stmt) error {
			if r.ColumnInt64(0)+b.Size > quota {
				refused = blob.ErrQuota
			}
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("sum up blobs: %w", err)
	}
	return refused, nil
}

// Room implements blob.Store.
func (db Blobs) Room(ctx context.Context, accountID, quota int64) (room int64, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT coalesce(max(?2 - sum(size), max(size)), ?2) FROM blob WHERE account_id = ?1",
			func(s *sqlite.Stmt) { s.BindInt64(1, accountID); s.BindInt64(2, quota) },
			func(r *sqlite.Stmt) error { room = r.ColumnInt64(0); return nil })
	})
	return room, wrap(err, "look how much room an account has for blobs")
}

// Used implements blob.Store.
func (db Blobs) Used(ctx context.Context, accountID int64) (blobs, bytes int64, err error) {
	err = db.read(ctx, func(c *sqlite.Conn) error {
		return query(c, "SELECT count(*), coalesce(sum(size), 0) FROM blob WHERE account_id = ?",
			func(s *sqlite.Stmt) { s.BindInt64(1, accountID) },
			func(r *sqlite.Stmt) error { blobs, bytes = r.ColumnInt64(0), r.ColumnInt64(1); return nil })
	})
	return blobs, bytes, wrap(err, "count an account's blobs")
}

func putBlob(c *sqlite.Conn, accountID int64, b blob.Blob, referenced bool) error {
	_, err := change(c, `INSERT INTO blob (account_id, cid, size, mime_type, file, created_at, unused_since, was_used)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, iif(?7, NULL, ?6), ?7)
		ON CONFLICT DO UPDATE SET mime_type = excluded.mime_type, file = excluded.file, created_at = excluded.created_at,
			unused_since = excluded.unused_since, was_used = excluded.was_used`,
		func(s *sqlite.Stmt) {
			s.BindInt64(1, accountID)
			s.BindText(2, b.CID.String())
			s.BindInt64(3, b.Size)
			s.BindText(4, b.MimeType)
			s.BindText(5, b.Key)
			bindTime(s, 6, b.CreatedAt)
			s.BindBool(7, referenced)
		})
	if err != nil {
		return fmt.Errorf("store blob: %w", err)
	}
	return nil
}

// Get implements blob.Store.
func (db Blobs) Get(ctx context.Context, accountID int64, id cid.Cid) (b blob.Blob, err error) {
	referenced, down := false, false
	err = db.readTx(ctx, func(c *sqlite.Conn) error {
		if b, referenced, err = blobRow(c, accountID, id); err != nil {
			return err
		}
		down, err = isTakenDown(c, accountID, id.String())
		return err
	})
	switch {
	case err != nil:
		return blob.Blob{}, err
	case b.Key == "" || !referenced || down:
		return blob.Blob{}, blob.ErrNotFound
	default:
		return b, nil
	}
}

const (
	// distinctBlobs seeks from one blob to the next, however many records refer to it.
	distinctBlobs = `WITH RECURSIVE page (cid) AS (
			SELECT min(cid) FROM blob_ref WHERE repo_id = ?1 AND cid > ?2
			UNION ALL SELECT (SELECT min(cid) FROM blob_ref WHERE repo_id = ?1 AND cid > page.cid) FROM page WHERE cid IS NOT NULL
		) `
	listBlobs = distinctBlobs + "SELECT cid, 1 FROM page WHERE cid IS NOT NULL"
	// listBlobsSince reads every reference behind the cursor.
	listBlobsSince = "SELECT cid, rev > ?3 FROM blob_ref WHERE repo_id = ?1 AND cid > ?2 ORDER BY cid"
	// missingBlobs returns no key for a blob that the account ?3 has.
	missingBlobs = distinctBlobs + `SELECT cid, iif(EXISTS (SELECT 1 FROM blob b WHERE b.account_id = ?3 AND b.cid = page.cid), NULL,
			(SELECT min(key) FROM blob_ref WHERE repo_id = ?1 AND cid = page.cid)) FROM page WHERE cid IS NOT NULL`
	blobsThere = "SELECT count(*) FROM blob WHERE account_id = ? AND unused_since IS NULL"
)

// referring is a repository, as far as its references to blobs go.
type referring struct {
	number int64 // 0 if there is none
	rev    syntax.TID
	blobs  int64 // that records refer to
}

func loadReferring(c *sqlite.Conn, accountID int64) (of referring, err error) {
	err = query(c, "SELECT id, rev, blobs FROM repo WHERE account_id = CAST(? AS INTEGER) AND current = 1",
		func(s *sqlite.Stmt) { s.BindInt64(1, accountID) },
		func(r *sqlite.Stmt) error {
			of = referring{number: r.ColumnInt64(0), rev: syntax.TID(r.ColumnText(1)), blobs: r.ColumnInt64(2)}
			return nil
		})
	return of, err
}

// countBlobsThere returns how many blobs records refer to, and how many of them are
// there. It reads no reference: the repository counts its blobs, and used blobs are
// marked.
func countBlobsThere(c *sqlite.Conn, accountID int64) (of referring, there int64, err error) {
	if of, err = loadReferring(c, accountID); err != nil {
		return referring{}, 0, err
	}
	err = query(c, blobsThere,
		func(s *sqlite.Stmt) { s.BindInt64(1, accountID) },
		func(r *sqlite.Stmt) error { there = r.ColumnInt64(0); return nil })
	return of, there, err
}

// page goes through the rows that a query finds in a repository behind the
// cursor, until take has accepted limit of them, and pays for each row that it
// reads.
func page(c *sqlite.Conn, sql string, b bind, limit int, pay blob.Pay, take func(*sqlite.Stmt) (bool, error)) error {
	if limit <= 0 {
		return nil
	}
	looked := 0
	err := query(c, sql, b, func(r *sqlite.Stmt) error {
		if looked++; looked%blob.PayEvery == 0 && pay != nil {
			if err := pay(); err != nil {
				return err
			}
		}
		taken, err := take(r)
		if err == nil && taken {
			limit--
		}
		if err == nil && limit == 0 {
			err = errPageFull
		}
		return err
	})
	if errors.Is(err, errPageFull) {
		return nil
	}
	return err
}

// List implements blob.Store.
func (db Blobs) List(
	ctx context.Context, accountID int64, since syntax.TID, cursor string, limit int, pay blob.Pay,
) (out []cid.Cid, err error) {
	sql, read := listBlobs, db.readTx
	if since == "" {
		pay = nil
	} else {
		sql = listBlobsSince
		read = func(ctx context.Context, fn func(*sqlite.Conn) error) error { return db.scanRead(ctx, accountID, fn) }
	}
	err = read(ctx, func(c *sqlite.Conn) error {
		of, err := loadReferring(c, accountID)
		if err != nil || of.blobs == 0 || since >= of.rev {
			return err
		}
		last := ""
		return page(c, sql,
			func(s *sqlite.Stmt) {
				s.BindInt64(1, of.number)
				s.BindText(2, cursor)
				if since != "" {
					s.BindText(3, since.String())
				}
			}, limit, pay,
			func(r *sqlite.Stmt) (bool, error) {
				if !r.ColumnBool(1) || since != "" && last == r.ColumnText(0) {
					return false, nil
				}
				id, err := columnBlobCID(r, 0)
				out, last = append(out, id), r.ColumnText(0)
				return true, err
			})
	})
	if err != nil {
		return nil, fmt.Errorf("list blobs: %w", err)
	}
	return out, nil
}

// keptBlobs leaves out what only a repository refers to that is being imported.
const keptBlobs = `SELECT cid, size, mime_type, file, created_at FROM blob
	WHERE account_id = ?1 AND cid > ?2 AND unused_since IS NULL
	AND EXISTS (SELECT 1 FROM blob_ref r WHERE r.repo_id = ?4 AND r.cid = blob.cid) ORDER BY cid LIMIT ?3`

// Kept implements blob.Store.
func (db Blobs) Kept(ctx context.Context, accountID int64, cursor string, limit int) (out []blob.Kept, err error) {
	err = db.readTx(ctx, func(c *sqlite.Conn) error {
		of, err := loadReferring(c, accountID)
		if err != nil || of.blobs == 0 {
			return err
		}
		err = query(c, keptBlobs,
			func(s *sqlite.Stmt) {
				s.BindInt64(1, accountID)
				s.BindText(2, cursor)
				s.BindInt64(3, int64(limit))
				s.BindInt64(4, of.number)
			},
			func(r *sqlite.Stmt) error {
				id, err := columnBlobCID(r, 0)
				out = append(out, blob.Kept{Blob: blob.Blob{
					CID: id, Size: r.ColumnInt64(1), MimeType: r.ColumnText(2), Key: r.ColumnText(3), CreatedAt: columnTime(r, 4),
				}})
				return err
			})
		for i := 0; err == nil && i < len(out); i++ {
			err = describeUse(c, accountID, of.number, &out[i])
		}
		return err
	})
	return out, wrap(err, "list kept blobs")
}

// describeUse adds which records refer to a blob, and whether it was taken down.
func describeUse(c *sqlite.Conn, accountID, repoID int64, u *blob.Kept) (err error) {
	id := u.CID.String()
	if u.TakenDown, err = isTakenDown(c, accountID, id); err != nil {
		return err
	}
	return query(c, "SELECT DISTINCT key FROM blob_ref WHERE repo_id = ? AND cid = ? ORDER BY key LIMIT ?",
		func(s *sqlite.Stmt) { s.BindInt64(1, repoID); s.BindText(2, id); s.BindInt64(3, blob.MaxUses) },
		func(r *sqlite.Stmt) error { u.Records = append(u.Records, r.ColumnText(0)); return nil })
}

// Missing implements blob.Store. It reads no reference if no blob is missing.
func (db Blobs) Missing(ctx context.Context, accountID int64, cursor string, limit int, pay blob.Pay) (out []blob.Missing, err error) {
	err = db.scanRead(ctx, accountID, func(c *sqlite.Conn) error {
		of, there, err := countBlobsThere(c, accountID)
		if err != nil || of.blobs == there {
			return err
		}
		return page(c, missingBlobs,
			func(s *sqlite.Stmt) { s.BindInt64(1, of.number); s.BindText(2, cursor); s.BindInt64(3, accountID) },
			limit, pay,
			func(r *sqlite.Stmt) (bool, error) {
				if r.ColumnIsNull(1) {
					return false, nil
				}
				id, err := columnBlobCID(r, 0)
				out = append(out, blob.Missing{CID: id, Record: r.ColumnText(1)})
				return true, err
			})
	})
	if err != nil {
		return nil, fmt.Errorf("list missing blobs: %w", err)
	}
	return out, nil
}

// Count implements blob.Store.
func (db Blobs) Count(ctx context.Context, accountID int64) (expected, there int64, err error) {
	err = db.readTx(ctx, func(c *sqlite.Conn) (err error) {
		of, n, err := countBlobsThere(c, accountID)
		expected, there = of.blobs, n
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("count blobs: %w", err)
	}
	return expected, there, nil
}

// collectAtOnce bounds how many blobs one call of Collect checks.
const collectAtOnce = 500

// candidate is a blob that has been marked as unused for long enough.
type candidate struct {
	accountID int64
	cid       string
	current   bool // a record of the account's repository refers to it, so the mark is wrong
	staged    bool // a record of an import refers to it
}

// Collect implements blob.Store. The references themselves decide whether a
// blob is needed, in the transaction that forgets it: the marks only show where
// to look.
func (db Blobs) Collect(ctx context.Context, unused, unreferenced time.Time) (collected int, more bool, err error) {
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		if collected, more, err = collectOrphans(tx.Conn); err != nil || more {
			return err
		}
		found, err := candidates(tx.Conn, unused, unreferenced)
		if err != nil {
			return err
		}
		more = len(found) == collectAtOnce
		for _, f := range found {
			at := func(s *sqlite.Stmt) { s.BindInt64(1, f.accountID); s.BindText(2, f.cid) }
			switch {
			case f.current:
				_, err = change(tx.Conn, "UPDATE blob SET unused_since = NULL, was_used = 1 WHERE account_id = ? AND cid = ?", at)
			case f.staged: // looked at again once the import may have ended
				_, err = change(tx.Conn, "UPDATE blob SET unused_since = ?3 WHERE account_id = ?1 AND cid = ?2",
					func(s *sqlite.Stmt) { at(s); bindTime(s, 3, later(unused, unreferenced)) })
			default:
				collected++
				_, err = change(tx.Conn, "DELETE FROM blob WHERE account_id = ? AND cid = ?", at)
			}
			if err != nil {
				return fmt.Errorf("collect blob %s: %w", f.cid, err)
			}
		}
		return nil
	})
	if err != nil {
		return 0, false, err
	}
	return collected, more, nil
}

// collectOrphans forgets blobs of an account that is gone. more reports whether
// there was one.
func collectOrphans(c *sqlite.Conn) (collected int, more bool, err error) {
	var accountID int64
	err = query(c, "SELECT account_id FROM blob_orphaned LIMIT 1", nil,
		func(r *sqlite.Stmt) error { accountID, more = r.ColumnInt64(0), true; return nil })
	if err != nil || !more {
		return 0, false, wrap(err, "look for blobs of deleted accounts")
	}
	collected, err = change(c, `DELETE FROM blob WHERE account_id = ?1
		AND cid IN (SELECT cid FROM blob WHERE account_id = ?1 ORDER BY cid LIMIT ?2)`,
		func(s *sqlite.Stmt) { s.BindInt64(1, accountID); s.BindInt64(2, collectAtOnce) })
	if err == nil && collected < collectAtOnce {
		_, err = change(c, "DELETE FROM blob_orphaned WHERE account_id = ?", func(s *sqlite.Stmt) { s.BindInt64(1, accountID) })
	}
	return collected, true, wrap(err, "collect blobs of a deleted account")
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func candidates(c *sqlite.Conn, unused, unreferenced time.Time) (found []candidate, err error) {
	const refers = `EXISTS (SELECT 1 FROM repo p JOIN blob_ref r ON r.repo_id = p.id
		WHERE p.account_id = b.account_id AND p.current = %d AND r.cid = b.cid)`
	err = query(c, "SELECT b.account_id, b.cid, "+fmt.Sprintf(refers, 1)+", "+fmt.Sprintf(refers, 0)+` FROM blob b
		WHERE b.unused_since < max(?1, ?2) AND b.unused_since < iif(b.was_used, ?2, ?1) LIMIT ?3`,
		func(s *sqlite.Stmt) {
			s.BindInt64(1, unused.UnixMilli())
			s.BindInt64(2, unreferenced.UnixMilli())
			s.BindInt64(3, collectAtOnce)
		},
		func(r *sqlite.Stmt) error {
			found = append(found, candidate{accountID: r.ColumnInt64(0), cid: r.ColumnText(1), current: r.ColumnBool(2), staged: r.ColumnBool(3)})
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("look for unused blobs: %w", err)
	}
	return found, nil
}

// Garbage implements blob.Store.
func (db Blobs) Garbage(ctx context.Context, intended time.Time, after string, limit int) (keys []string, err error) {
	err = db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		keys = nil
		// Otherwise an upload that is so slow could have its file adopted, and
		// then removed.
		_, err := change(tx.Conn, "UPDATE blob_garbage SET intended = 0 WHERE intended = 1 AND at < ?",
			func(s *sqlite.Stmt) { s.BindInt64(1, intended.UnixMilli()) })
		if err != nil {
			return fmt.Errorf("give up slow uploads: %w", err)
		}
		return query(tx.Conn, "SELECT file FROM blob_garbage WHERE intended = 0 AND file > ? ORDER BY file LIMIT ?",
			func(s *sqlite.Stmt) { s.BindText(1, after); s.BindInt64(2, max(0, int64(limit))) },
			func(r *sqlite.Stmt) error { keys = append(keys, r.ColumnText(0)); return nil })
	})
	if err != nil {
		return nil, fmt.Errorf("list garbage: %w", err)
	}
	return keys, nil
}

// Forget implements blob.Store.
func (db Blobs) Forget(ctx context.Context, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	return db.writer.Do(ctx, func(tx *groupcommit.Tx) error {
		for _, key := range keys {
			_, err := change(tx.Conn, "DELETE FROM blob_garbage WHERE file = ? AND intended = 0", func(s *sqlite.Stmt) { s.BindText(1, key) })
			if err != nil {
				return fmt.Errorf("forget file: %w", err)
			}
		}
		return nil
	})
}

// columnBlobCID reads the CID of a blob, kept as text, since a record of
// another server may refer to a blob in any form.
func columnBlobCID(r *sqlite.Stmt, col int) (cid.Cid, error) {
	id, err := cid.Decode(r.ColumnText(col))
	if err != nil {
		return cid.Undef, fmt.Errorf("damaged CID: %w", err)
	}
	return id, nil
}
