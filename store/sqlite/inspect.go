package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/account"
	"nestbox/blob"
	"nestbox/dagcbor"
	"nestbox/firehose"
	"nestbox/hosting"
	"nestbox/repo"
	"nestbox/store"
	"nestbox/takeover"
)

// Inspector implements store.Inspector for the database file at Path. One with a
// schema that is not this binary's is refused: ErrNewerSchema, ErrOlderSchema,
// ErrNotOurs.
type Inspector struct{ Path string }

var _ store.Inspector = Inspector{}

// inspection implements store.Inspection.
type inspection struct {
	path string
	conn *sqlite.Conn
}

// Open implements store.Inspector.
func (i Inspector) Open(ctx context.Context) (store.Inspection, error) {
	opened, err := inspect(ctx, i.Path)
	if err != nil {
		return nil, err
	}
	return opened, nil
}

func inspect(ctx context.Context, path string) (*inspection, error) {
	c, err := openConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	if err := knownSchema(c, path); err != nil {
		return nil, errors.Join(fmt.Errorf("open database %s: %w", path, err), c.Close())
	}
	if err := pragmas(c, "PRAGMA synchronous=FULL", "PRAGMA foreign_keys=ON", "PRAGMA cache_size=-16000"); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	c.SetInterrupt(ctx.Done())
	return &inspection{path, c}, nil
}

// Snapshot implements store.Inspector. The writes of a server that runs on the database
// wait until all inspections have begun to read.
func (i Inspector) Snapshot(ctx context.Context, n int) (views []store.Inspection, err error) {
	defer func() {
		if err != nil {
			for _, view := range views {
				_ = view.Close() // it has read nothing
			}
			views = nil
		}
	}()
	var opened []*inspection
	for range n {
		view, err := inspect(ctx, i.Path)
		if err != nil {
			return views, err
		}
		views, opened = append(views, view), append(opened, view)
	}
	lock, err := inspect(ctx, i.Path)
	if err != nil {
		return views, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	end, err := sqlitex.ImmediateTransaction(lock.conn)
	if err != nil {
		return views, fmt.Errorf("wait for the server to let the database be read: %w", err)
	}
	defer end(&err)
	for _, view := range opened {
		if err := view.begin(); err != nil {
			return views, err
		}
	}
	return views, nil
}

// begin begins to read the state as it is now: a transaction begins with its first read.
func (i *inspection) begin() error {
	for _, sql := range []string{"BEGIN", "SELECT count(*) FROM sqlite_schema"} {
		if err := sqlitex.ExecuteTransient(i.conn, sql, nil); err != nil {
			return fmt.Errorf("begin to read: %w", err)
		}
	}
	return nil
}

// LogSize implements store.Inspection: it is that of the write-ahead log.
func (i *inspection) LogSize() int64 { return walSize(i.path) }

// ErrOlderSchema: the database awaits migrations.
var ErrOlderSchema = errors.New("the database was written by an older nestbox; start this version's server on it first")

func knownSchema(c *sqlite.Conn, path string) error {
	have, app, known, err := schemaOf(c)
	switch {
	case err != nil:
		return err
	case app != applicationID:
		return ErrNotOurs
	case have > newest(known):
		return admitted(c, path, have, newest(known))
	case have < newest(known):
		return ErrOlderSchema
	default:
		return nil
	}
}

// Close implements store.Inspection.
func (i *inspection) Close() error { return i.conn.Close() }

// Accounts implements store.Inspection.
func (i *inspection) Accounts(after int64, limit int) (out []store.Inspected, err error) {
	err = query(i.conn, `SELECT a.id, a.did, a.signing_key, a.signing_key_sealed, a.pending_operation IS NOT NULL, `+statusColumns+`
		FROM account a WHERE a.id > ? ORDER BY a.id LIMIT ?`,
		func(s *sqlite.Stmt) { s.BindInt64(1, after); s.BindInt64(2, int64(limit)) },
		func(r *sqlite.Stmt) error {
			out = append(out, store.Inspected{
				ID: r.ColumnInt64(0), DID: syntax.DID(r.ColumnText(1)), SigningKey: r.ColumnText(2),
				SealedKey: columnBytes(r, 3), Active: columnStatus(r, 5) == account.Active, Pending: r.ColumnBool(4),
			})
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return out, nil
}

// Sealed implements store.Inspection.
func (i *inspection) Sealed(yield func(kind hosting.SealedKind, did syntax.DID, sealed []byte) error) error {
	for _, place := range sealedKeys[1:] { // the first is Accounts'
		err := query(i.conn, place.list, nil, func(r *sqlite.Stmt) error {
			return yield(place.kind, syntax.DID(r.ColumnText(1)), columnBytes(r, 2))
		})
		if err != nil {
			return fmt.Errorf("list sealed keys: %w", err)
		}
	}
	return nil
}

// Repo implements store.Inspection.
func (i *inspection) Repo(accountID int64, fn func(repo.Rows) error) (err error) {
	defer sqlitex.Save(i.conn)(&err) // in the transaction of a snapshot, if there is one
	head, err := loadHead(i.conn, accountID)
	if err != nil {
		return err
	}
	return fn(&rows{view{conn: i.conn, accountID: accountID, head: head}})
}

// rows implements repo.Rows.
type rows struct{ view }

var _ repo.Rows = (*rows)(nil)

// EachNumber implements repo.Rows.
func (r *rows) EachNumber(yield func(id int64) error) error {
	return query(r.conn, "SELECT id FROM node WHERE id BETWEEN ? AND ? ORDER BY id",
		nodesOf(r.head.Number),
		func(s *sqlite.Stmt) error { return yield(s.ColumnInt64(0) & maxNode) })
}

// EachRow implements repo.Rows.
func (r *rows) EachRow(yield func(repo.Record, repo.Derived) error) error {
	return eachRow(r.conn, r.head.Number, yield)
}

func eachRow(c *sqlite.Conn, number int64, yield func(repo.Record, repo.Derived) error) error {
	var block []byte
	return query(c, `SELECT key, cid, rev, `+wholeBlock+`, subject,
		(SELECT group_concat(b.cid, ' ') FROM (SELECT cid FROM blob_ref WHERE repo_id = r.repo_id AND key = r.key ORDER BY cid) b)
		FROM record r WHERE repo_id = ? ORDER BY key`,
		func(s *sqlite.Stmt) { s.BindInt64(1, number) },
		func(s *sqlite.Stmt) error {
			id, err := columnCID(s, 1)
			if err != nil {
				id = cid.Undef
			}
			block = columnInto(block, s, 3)
			return yield(repo.Record{Key: s.ColumnText(0), CID: id, Rev: syntax.TID(s.ColumnText(2)), Block: block},
				repo.Derived{Blobs: strings.Fields(s.ColumnText(5)), Subject: s.ColumnText(4)})
		})
}

// Blobs implements store.Inspection.
func (i *inspection) Blobs(yield func(did syntax.DID, b blob.Blob) error) error {
	return query(i.conn, `SELECT a.did, b.cid, b.size, b.mime_type, b.file, b.created_at
		FROM blob b JOIN account a ON a.id = b.account_id`, nil,
		func(r *sqlite.Stmt) error {
			id, err := columnBlobCID(r, 1)
			if err != nil || !dagcbor.IsBlobCID(id) {
				id = cid.Undef
			}
			return yield(syntax.DID(r.ColumnText(0)), blob.Blob{
				CID: id, Size: r.ColumnInt64(2), MimeType: r.ColumnText(3), Key: r.ColumnText(4), CreatedAt: columnTime(r, 5),
			})
		})
}

// KnowsFile implements store.Inspection.
func (i *inspection) KnowsFile(key string) (known bool, err error) {
	err = query(i.conn, "SELECT 1 FROM blob WHERE file = ?1 UNION ALL SELECT 1 FROM blob_garbage WHERE file = ?1",
		func(s *sqlite.Stmt) { s.BindText(1, key) },
		func(*sqlite.Stmt) error { known = true; return nil })
	if err != nil {
		return false, fmt.Errorf("look for file %s: %w", key, err)
	}
	return known, nil
}

// HasFile implements store.Inspection.
func (i *inspection) HasFile(key string) (has bool, err error) {
	err = query(i.conn, "SELECT 1 FROM blob WHERE file = ?",
		func(s *sqlite.Stmt) { s.BindText(1, key) },
		func(*sqlite.Stmt) error { has = true; return nil })
	return has, wrap(err, "look for file "+key)
}

// MissingBlobs implements store.Inspection.
func (i *inspection) MissingBlobs(yield func(did syntax.DID, id, record string) error) error {
	return query(i.conn, `SELECT a.did, r.cid, min(r.key) FROM account a JOIN repo p ON p.account_id = a.id AND p.current = 1
		JOIN blob_ref r ON r.repo_id = p.id WHERE NOT EXISTS (SELECT 1 FROM blob b WHERE b.account_id = a.id AND b.cid = r.cid)
		GROUP BY a.id, r.cid`, nil,
		func(r *sqlite.Stmt) error {
			return yield(syntax.DID(r.ColumnText(0)), r.ColumnText(1), r.ColumnText(2))
		})
}

// Events implements store.Inspection.
func (i *inspection) Events(yield func(e firehose.Logged, total int64) error) error {
	return query(i.conn, "SELECT "+loggedColumns+", total FROM event ORDER BY seq", nil,
		func(r *sqlite.Stmt) error { return yield(scanLogged(r), r.ColumnInt64(6)) })
}

// Foreign implements store.Inspection.
func (i *inspection) Foreign() (last int64, err error) {
	err = query(i.conn, "SELECT last_event FROM takeover", nil, func(r *sqlite.Stmt) error { last = r.ColumnInt64(0); return nil })
	return last, wrap(err, "look for a take-over")
}

// Inherited implements store.Inspection.
func (i *inspection) Inherited(yield func(store.InheritedToken) error) (in store.Inherited, err error) {
	err = query(i.conn, "SELECT at FROM legacy_since", nil, func(r *sqlite.Stmt) error { in.Since = columnTime(r, 0); return nil })
	if err != nil || in.Since.IsZero() {
		return in, wrap(err, "look for sessions of another server")
	}
	err = query(i.conn, `SELECT t.hash, a.did, coalesce(g.client_id, ''), coalesce(g.dpop_jkt, '')
		FROM legacy_token t JOIN session s ON s.id = t.session_id JOIN account a ON a.id = s.account_id
		LEFT JOIN oauth_session g ON g.session_id = s.id`, nil, func(r *sqlite.Stmt) error {
		token := store.InheritedToken{DID: syntax.DID(r.ColumnText(1)), ClientID: r.ColumnText(2), DPoPJKT: r.ColumnText(3)}
		r.ColumnBytes(0, token.Hash[:])
		return yield(token)
	})
	if err != nil {
		return in, fmt.Errorf("list tokens of another server: %w", err)
	}
	err = query(i.conn, `SELECT coalesce(sum(s.created_at < l.at AND s.rotated_at > l.at), 0), coalesce(sum(s.created_at >= l.at), 0),
			min(CASE WHEN s.created_at >= l.at THEN s.created_at END)
		FROM session s, legacy_since l`, nil, func(r *sqlite.Stmt) error {
		in.Refreshed, in.Opened, in.First = r.ColumnInt64(0), r.ColumnInt64(1), columnTime(r, 2)
		return nil
	})
	return in, wrap(err, "count sessions of another server")
}

// LastEvent implements store.Inspection.
func (i *inspection) LastEvent() (int64, error) { return lastSeq(i.conn) }

// Rebuild implements store.Inspection.
func (i *inspection) Rebuild(
	accountID int64, tree bool, derive func(repo.Record) (repo.Derived, error), at time.Time,
) (out store.Rebuilt, err error) {
	end, err := sqlitex.ImmediateTransaction(i.conn)
	if err != nil {
		return store.Rebuilt{}, fmt.Errorf("begin to rebuild: %w", err)
	}
	defer end(&err)
	b := &rebuild{conn: i.conn, accountID: accountID}
	if err := b.open(); err != nil {
		return store.Rebuilt{}, err
	}
	if err := b.derived(derive); err != nil {
		return store.Rebuilt{}, err
	}
	if b.out.Marks, err = markAllBlobs(i.conn, accountID, b.number, at); err != nil {
		return store.Rebuilt{}, err
	}
	if tree {
		if err := b.tree(); err != nil {
			return store.Rebuilt{}, err
		}
	}
	return b.out, b.counts()
}

// BlobFiles calls yield with the key of each blob's file that the database at a path knows, by
// key, also of those that are to be removed. Nobody has the database open, and it stays as it
// is, whatever its schema.
func BlobFiles(ctx context.Context, path string, yield func(key string) error) (err error) {
	c, err := sqlite.OpenConn(unchanging(path), sqlite.OpenReadOnly|sqlite.OpenURI)
	if err != nil {
		return fmt.Errorf("open database %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	c.SetInterrupt(ctx.Done())
	return query(c, "SELECT file FROM blob UNION SELECT file FROM blob_garbage ORDER BY file", nil,
		func(r *sqlite.Stmt) error { return yield(r.ColumnText(0)) })
}

// TakenOver returns how the take-over ended that made the database at a path, and the data directory that it took over,
// which is empty if there was none. Nobody has the database open, and it stays as it is, whatever its schema.
func TakenOver(ctx context.Context, path string) (stage takeover.Stage, source string, err error) {
	c, err := sqlite.OpenConn(unchanging(path), sqlite.OpenReadOnly|sqlite.OpenURI)
	if err != nil {
		return stage, "", fmt.Errorf("open database %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	c.SetInterrupt(ctx.Done())
	known := false
	err = query(c, "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'takeover'", nil, func(*sqlite.Stmt) error {
		known = true
		return nil
	})
	if err != nil || !known {
		return stage, "", err
	}
	return stageOf(c)
}
