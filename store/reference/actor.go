package reference

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	"zombiezen.com/go/sqlite"

	"nestbox/dagcbor"
	"nestbox/takeover"
)

// heldBytes is the size of a database, in bytes, up to which all blocks are read at once:
// one scan is quicker than a search for each.
const heldBytes = 24 << 20

// folder returns the folder of an actor.
func (p Places) folder(did syntax.DID) string {
	sum := sha256.Sum256([]byte(did))
	return filepath.Join(p.Actors, hex.EncodeToString(sum[:1]), did.String())
}

// store returns the database of an actor.
func (p Places) store(did syntax.DID) string { return filepath.Join(p.folder(did), actorDatabase) }

// actorDatabase is the name of an actor's database.
const actorDatabase = "store.sqlite"

// actor implements takeover.Actor.
type actor struct {
	*DB

	did    syntax.DID
	places Places
	held   map[string]block // by CID as text; nil: they are searched for
}

type block struct {
	rev     string
	content []byte
}

// ActorState implements takeover.Source.
func (s *Source) ActorState(did syntax.DID) (takeover.State, error) {
	state, err := StateOf(s.Places.store(did))
	if errors.Is(err, ErrMissing) {
		err = takeover.ErrNoActor
	}
	return takeover.State(state), err
}

// Actor implements takeover.Source.
func (s *Source) Actor(ctx context.Context, did syntax.DID) (takeover.Actor, error) {
	db, err := Open(ctx, s.Places.store(did), s.scratch)
	switch {
	case errors.Is(err, ErrMissing):
		return nil, takeover.ErrNoActor
	case errors.Is(err, ErrMoving):
		return nil, fmt.Errorf("%w: %w", takeover.ErrMoved, err)
	case err != nil:
		return nil, err
	}
	return &actor{DB: db, did: did, places: s.Places}, nil
}

// Key implements takeover.Actor.
func (a *actor) Key() ([]byte, error) {
	raw, err := readSmall(filepath.Join(a.places.folder(a.did), "key"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, takeover.Keyless(a.did, "its signing key is missing")
	}
	return raw, err
}

// State implements takeover.Actor.
func (a *actor) State() takeover.State { return takeover.State(a.DB.State) }

// damaged makes what SQLite says of a damaged database the account's fault.
func damaged(err error) error {
	if errors.Is(err, context.Canceled) || takeover.IsDamaged(err) {
		return err
	}
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultCorrupt, sqlite.ResultNotADB, sqlite.ResultError:
		return takeover.Damaged(err.Error())
	default:
		return err
	}
}

// Root implements takeover.Actor.
func (a *actor) Root() (root takeover.Root, err error) {
	schema, err := a.Schema(KindActor)
	if err != nil {
		return root, damaged(err)
	}
	if len(schema.Unknown) > 0 && !a.places.Force {
		return root, takeover.Faulty(fmt.Sprintf("its database is of a newer version: migrations %q are not known", schema.Unknown),
			"use a newer nestbox, or take over what is known with --force")
	}
	if schema.Locked {
		return root, takeover.Faulty("a migration of its database was begun and not ended", "let the old version start once, and stop it again")
	}
	err = a.each("SELECT cid, rev FROM repo_root WHERE did = ?", func(s *sqlite.Stmt) { s.BindText(1, a.did.String()) },
		func(r *sqlite.Stmt) (err error) {
			root.Rev = syntax.TID(r.ColumnText(1))
			if root.CID, err = dagcbor.ParseCID(r.ColumnText(0)); err != nil {
				return takeover.Damaged(fmt.Sprintf("its latest commit: %v", err))
			}
			return nil
		})
	if err != nil {
		return root, damaged(err)
	}
	if !root.CID.Defined() {
		return root, takeover.Damaged("it has no commit")
	}
	return root, a.hold()
}

// hold reads all blocks of a small database.
func (a *actor) hold() error {
	if a.DB.State.Size+a.DB.State.WAL > heldBytes {
		return nil
	}
	a.held = map[string]block{}
	return damaged(a.each("SELECT cid, repoRev, content FROM repo_block", nil, func(r *sqlite.Stmt) error {
		a.held[r.ColumnText(0)] = block{r.ColumnText(1), columnBytes(r, 2)}
		return nil
	}))
}

// Records implements takeover.Actor.
func (a *actor) Records() (out []takeover.Record, err error) {
	err = a.each("SELECT collection, rkey, cid, repoRev, takedownRef FROM record", nil, func(r *sqlite.Stmt) error {
		rec := takeover.Record{
			Key: r.ColumnText(0) + "/" + r.ColumnText(1), Rev: syntax.TID(r.ColumnText(3)),
			TakenDown: !r.ColumnIsNull(4), Takedown: r.ColumnText(4),
		}
		var err error
		if rec.CID, err = dagcbor.ParseCID(r.ColumnText(2)); err != nil {
			return takeover.Damaged(fmt.Sprintf("record %s: %v", rec.Key, err))
		}
		out = append(out, rec)
		return nil
	})
	slices.SortFunc(out, func(a, b takeover.Record) int { return cmp.Compare(a.Key, b.Key) })
	return out, damaged(err)
}

// Block implements takeover.Actor.
func (a *actor) Block(id cid.Cid) (content []byte, rev syntax.TID, ok bool, err error) {
	if a.held != nil {
		b, ok := a.held[id.String()]
		return b.content, syntax.TID(b.rev), ok, nil
	}
	err = a.each("SELECT repoRev, content FROM repo_block WHERE cid = ?", func(s *sqlite.Stmt) { s.BindText(1, id.String()) },
		func(r *sqlite.Stmt) error {
			rev, content, ok = syntax.TID(r.ColumnText(0)), columnBytes(r, 1), true
			return nil
		})
	return content, rev, ok, damaged(err)
}

// Blobs implements takeover.Actor.
func (a *actor) Blobs() (out []takeover.BlobFile, err error) {
	err = a.each("SELECT cid, mimeType, size, tempKey, createdAt, takedownRef FROM blob ORDER BY cid", nil, func(r *sqlite.Stmt) error {
		b := takeover.BlobFile{
			CID: r.ColumnText(0), MimeType: r.ColumnText(1), Size: r.ColumnInt64(2), Temporary: !r.ColumnIsNull(3),
			CreatedAt: columnDate(r, 4), TakenDown: !r.ColumnIsNull(5), Takedown: r.ColumnText(5),
		}
		b.Paths = a.places.blob(a.did, b.CID, r.ColumnText(3), b.TakenDown)
		out = append(out, b)
		return nil
	})
	return out, damaged(err)
}

// blob returns where the file of a blob may be, the likeliest place first: the old server
// moves a file before or after it writes the row.
func (p Places) blob(did syntax.DID, id, tempKey string, takenDown bool) (paths []string) {
	if p.Blobs == "" && p.Bucket == "" {
		return nil
	}
	if p.Bucket != "" {
		p.Blobs, p.Uploads, p.Quarantine = "blocks", "tmp", "quarantine"
	}
	add := func(dir, name string) {
		if name != "" && filepath.IsLocal(name) && filepath.Base(name) == name {
			paths = append(paths, filepath.Join(dir, did.String(), name))
		}
	}
	if takenDown {
		add(p.Quarantine, id)
	}
	add(p.Uploads, tempKey)
	add(p.Blobs, id)
	if !takenDown {
		add(p.Quarantine, id)
	}
	return paths
}

// Preferences implements takeover.Actor.
func (a *actor) Preferences() (out []string, err error) {
	err = a.each("SELECT valueJson FROM account_pref ORDER BY id", nil, func(r *sqlite.Stmt) error {
		out = append(out, r.ColumnText(0))
		return nil
	})
	return out, damaged(err)
}
