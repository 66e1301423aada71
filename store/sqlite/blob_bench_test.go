package sqlite

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/dagcbor"
	"nestbox/store/sqlite/groupcommit"
)

// Revisions of the repositories that refer makes. All references are of oldRev.
const (
	oldRev = "3aaaaaaaaaa22"
	newRev = "3bbbbbbbbbb22"
)

// refer makes an account with a repository of as many records, each of which refers
// to as many blobs: the same ones, or others. The first ones, in their order, of
// which there are so many, are there.
func refer(tb testing.TB, db *DB, accountID int64, records, each int, same bool, there int) (ids []cid.Cid) {
	tb.Helper()
	distinct := records * each
	if same {
		distinct = each
	}
	for i := range distinct {
		ids = append(ids, dagcbor.RawCID(sha256.Sum256(binary.AppendVarint(nil, accountID<<32|int64(i)))))
	}
	slices.SortFunc(ids, func(a, b cid.Cid) int { return strings.Compare(a.String(), b.String()) })
	err := db.writer.Do(tb.Context(), func(tx *groupcommit.Tx) error {
		err := sqlitex.ExecuteScript(tx.Conn, fmt.Sprintf(`INSERT INTO account (id, did, handle, email, email_key, password_hash, signing_key, signing_key_sealed, created_at)
			VALUES (%[1]d, 'did:plc:%[1]d', '%[1]d.test', '', '%[1]d', '', '', x'', 0);
			INSERT INTO repo (id, account_id, current, rev, blobs) VALUES (%[1]d, %[1]d, 1, '%[2]s', %[3]d)`, accountID, newRev, distinct), nil)
		if err != nil {
			return err
		}
		for i := range records * each {
			_, err := change(tx.Conn, "INSERT INTO blob_ref (repo_id, cid, key, rev) VALUES (?, ?, ?, ?)", func(s *sqlite.Stmt) {
				s.BindInt64(1, accountID)
				s.BindText(2, ids[i%distinct].String())
				s.BindText(3, fmt.Sprintf("app.post/%08d", i/each))
				s.BindText(4, oldRev)
			})
			if err != nil {
				return err
			}
		}
		for i, id := range ids[:there] {
			_, err := change(tx.Conn, "INSERT INTO blob (account_id, cid, size, mime_type, file, created_at, was_used) VALUES (?, ?, 1, 'image/png', ?, 0, 1)", func(s *sqlite.Stmt) {
				s.BindInt64(1, accountID)
				s.BindText(2, id.String())
				s.BindText(3, fmt.Sprintf("file %d of %d", i, accountID))
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return ids
}

// BenchmarkReferences measures a request for the blobs of a repository with
// 200,000 references.
func BenchmarkReferences(b *testing.B) {
	db := openSweep(b)
	const records, each = 200, 1000
	for i, c := range []struct {
		name  string
		same  bool
		there int
	}{{"none there", false, 0}, {"all but one there", false, records*each - 1}, {"all there", false, records * each}, {"few and often", true, each - 1}} {
		id := int64(i + 1)
		refer(b, db, id, records, each, c.same, c.there)
		for name, call := range map[string]func() error{
			"Missing": func() error { _, err := (Blobs{db}).Missing(b.Context(), id, "", 500, nil); return err },
			"Count":   func() error { _, _, err := (Blobs{db}).Count(b.Context(), id); return err },
			"List":    func() error { _, err := (Blobs{db}).List(b.Context(), id, "", "", 500, nil); return err },
			"since":   func() error { _, err := (Blobs{db}).List(b.Context(), id, oldRev, "", 500, nil); return err },
			"future":  func() error { _, err := (Blobs{db}).List(b.Context(), id, newRev, "", 500, nil); return err },
		} {
			b.Run(c.name+"/"+name, func(b *testing.B) {
				for b.Loop() {
					if err := call(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
