package sqlite

import (
	"context"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"zombiezen.com/go/sqlite"

	"nestbox/repo/mst"
	"nestbox/takeover"
)

// Stage implements takeover.Store.
func (t *Takeover) Stage(ctx context.Context, did syntax.DID) (number int64, err error) {
	err = t.within(ctx, func(c *sqlite.Conn) error {
		if err := dropActor(c, did); err != nil {
			return err
		}
		return query(c, "INSERT INTO repo (account_id, current) SELECT id, 0 FROM account WHERE did = ? RETURNING id",
			func(s *sqlite.Stmt) { s.BindText(1, did.String()) },
			func(r *sqlite.Stmt) error { number = r.ColumnInt64(0); return nil })
	})
	if err == nil && number == 0 {
		err = fmt.Errorf("stage repository of %s: there is no such account", did)
	}
	return number, err
}

// Drop implements takeover.Store.
func (t *Takeover) Drop(ctx context.Context, did syntax.DID) error {
	return t.within(ctx, func(c *sqlite.Conn) error { return dropActor(c, did) })
}

// dropActor removes all that Stage, Fill and Settle have stored of an account.
func dropActor(c *sqlite.Conn, did syntax.DID) error {
	var numbers []int64
	err := query(c, "SELECT r.id FROM repo r JOIN account a ON a.id = r.account_id WHERE a.did = ?",
		func(s *sqlite.Stmt) { s.BindText(1, did.String()) },
		func(r *sqlite.Stmt) error { numbers = append(numbers, r.ColumnInt64(0)); return nil })
	if err != nil {
		return fmt.Errorf("look for repositories of %s: %w", did, err)
	}
	for _, number := range numbers {
		if _, err := change(c, "DELETE FROM node WHERE id BETWEEN ? AND ?", nodesOf(number)); err != nil {
			return fmt.Errorf("remove nodes: %w", err)
		}
		for _, sql := range []string{
			"DELETE FROM record WHERE repo_id = ?", "DELETE FROM blob_ref WHERE repo_id = ?", "DELETE FROM repo WHERE id = ?",
		} {
			if _, err := change(c, sql, func(s *sqlite.Stmt) { s.BindInt64(1, number) }); err != nil {
				return fmt.Errorf("remove repository: %w", err)
			}
		}
	}
	for _, sql := range []string{
		"DELETE FROM blob WHERE account_id = (SELECT id FROM account WHERE did = ?)",
		"DELETE FROM preferences WHERE account_id = (SELECT id FROM account WHERE did = ?)",
		"DELETE FROM takedown WHERE did = ?",
		"DELETE FROM takeover_actor WHERE did = ?",
	} {
		if _, err := change(c, sql, func(s *sqlite.Stmt) { s.BindText(1, did.String()) }); err != nil {
			return fmt.Errorf("remove what there is of %s: %w", did, err)
		}
	}
	return nil
}

// Fill implements takeover.Store.
func (t *Takeover) Fill(ctx context.Context, number int64, k takeover.Chunk) error {
	return t.within(ctx, func(c *sqlite.Conn) error {
		for _, n := range k.Nodes {
			if err := storeNodes(c, number, n.Rev, []mst.Changed{n.Changed}, nil); err != nil {
				return err
			}
			t.bytes += int64(len(n.Block))
		}
		for _, rec := range k.Records {
			if err := fillRecord(c, number, rec); err != nil {
				return err
			}
			t.bytes += int64(len(rec.Block))
		}
		return nil
	})
}

func fillRecord(c *sqlite.Conn, number int64, rec takeover.RecordRow) error {
	_, err := change(c, "INSERT INTO record (repo_id, key, cid, rev, block, subject) VALUES (?, ?, ?, ?, ?, nullif(?, ''))",
		func(s *sqlite.Stmt) {
			s.BindInt64(1, number)
			s.BindText(2, rec.Key)
			bindCID(s, 3, rec.CID)
			s.BindText(4, rec.Rev.String())
			s.BindBytes(5, inline(rec.Block))
			s.BindText(6, rec.Subject)
		})
	if err != nil {
		return fmt.Errorf("insert record %s: %w", rec.Key, err)
	}
	if err := storeLarge(c, number, rec.Key, rec.Block); err != nil {
		return err
	}
	for _, id := range rec.Blobs {
		_, err := change(c, "INSERT INTO blob_ref (repo_id, cid, key, rev) VALUES (?, ?, ?, ?)",
			func(s *sqlite.Stmt) {
				s.BindInt64(1, number)
				s.BindText(2, id)
				s.BindText(3, rec.Key)
				s.BindText(4, rec.Rev.String())
			})
		if err != nil {
			return fmt.Errorf("insert reference of record %s: %w", rec.Key, err)
		}
	}
	return nil
}

// Settle implements takeover.Store.
func (t *Takeover) Settle(ctx context.Context, number int64, a takeover.Settled) error {
	return t.within(ctx, func(c *sqlite.Conn) error {
		var id int64
		err := query(c, `UPDATE repo SET current = 1, blobs = (SELECT count(DISTINCT cid) FROM blob_ref WHERE repo_id = ?1)
			WHERE id = ?1 RETURNING account_id`,
			func(s *sqlite.Stmt) { s.BindInt64(1, number) },
			func(r *sqlite.Stmt) error { id = r.ColumnInt64(0); return nil })
		if err != nil || id == 0 {
			return fmt.Errorf("settle repository of %s: %w", a.DID, err)
		}
		head := a.Head
		head.Number = number
		if err := storeHead(c, head); err != nil {
			return err
		}
		_, err = change(c, "UPDATE account SET signing_key = ?, signing_key_sealed = ? WHERE id = ?",
			func(s *sqlite.Stmt) { s.BindText(1, a.SigningKey); s.BindBytes(2, a.SealedKey); s.BindInt64(3, id) })
		if err != nil {
			return fmt.Errorf("store signing key: %w", err)
		}
		if err := setDocument(c, id, a.Document, "NOTHING"); err != nil {
			return err
		}
		if err := settleRest(c, id, number, a); err != nil {
			return err
		}
		t.actors++
		_, err = change(c, "INSERT INTO takeover_actor (did, rev, size, wal_size, changed) VALUES (?, ?, ?, ?, ?)",
			func(s *sqlite.Stmt) {
				s.BindText(1, a.DID.String())
				s.BindText(2, head.Rev.String())
				s.BindInt64(3, a.State.Size)
				s.BindInt64(4, a.State.WAL)
				s.BindInt64(5, a.State.Changed)
			})
		return wrap(err, "note progress of the take-over")
	})
}

// settleRest stores the blobs, takedowns and preferences of an account.
func settleRest(c *sqlite.Conn, id, number int64, a takeover.Settled) error {
	for _, b := range a.Blobs {
		_, err := change(c, `INSERT INTO blob (account_id, cid, size, mime_type, file, created_at, unused_since, was_used)
			VALUES (?, ?, ?, ?, ?, ?, ?, 0)`,
			func(s *sqlite.Stmt) {
				s.BindInt64(1, id)
				s.BindText(2, b.CID)
				s.BindInt64(3, b.Size)
				s.BindText(4, b.MimeType)
				s.BindText(5, b.Key)
				bindTime(s, 6, b.CreatedAt)
				bindTime(s, 7, a.Now)
			})
		if err != nil {
			return fmt.Errorf("store blob %s: %w", b.CID, err)
		}
	}
	if len(a.Blobs) > 0 {
		if _, err := markAllBlobs(c, id, number, a.Now); err != nil {
			return err
		}
	}
	for _, d := range a.Takedowns {
		_, err := change(c, "INSERT INTO takedown (did, subject, ref, at, cid) VALUES (?, ?, ?, ?, ?)",
			func(s *sqlite.Stmt) {
				s.BindText(1, a.DID.String())
				s.BindText(2, d.Subject)
				s.BindText(3, d.Ref)
				bindTime(s, 4, d.At)
				s.BindText(5, d.CID)
			})
		if err != nil {
			return fmt.Errorf("store takedown: %w", err)
		}
	}
	if a.Preferences == nil {
		return nil
	}
	_, err := change(c, "INSERT INTO preferences (account_id, list) VALUES (?, ?)",
		func(s *sqlite.Stmt) { s.BindInt64(1, id); s.BindText(2, string(a.Preferences)) })
	return wrap(err, "store preferences")
}
