package sqlite

import (
	"fmt"
	"testing"

	"zombiezen.com/go/sqlite"

	"nestbox/admin"
	"nestbox/store/sqlite/groupcommit"
)

// BenchmarkBrowse searches among 100,000 accounts for a text that nobody has, the most that a
// search can cost, and shows the first page.
func BenchmarkBrowse(b *testing.B) {
	db := openSweep(b)
	const accounts = 100_000
	err := db.writer.Do(b.Context(), func(tx *groupcommit.Tx) error {
		for i := range accounts {
			_, err := change(tx.Conn, `INSERT INTO account (did, handle, email, email_key, password_hash, created_at, signing_key, signing_key_sealed)
				VALUES (?1, ?2, ?3, ?3, ?4, ?5, ?4, zeroblob(72))`, func(s *sqlite.Stmt) {
				s.BindText(1, fmt.Sprintf("did:plc:%024d", i))
				s.BindText(2, fmt.Sprintf("person-number-%d.pds.example.com", i))
				s.BindText(3, fmt.Sprintf("person.number.%d@mail.example.com", i))
				s.BindText(4, fmt.Sprintf("$argon2id$v=19$m=19456,t=2,p=1$%040d", i))
				s.BindInt64(5, int64(i))
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	for name, q := range map[string]admin.BrowseQuery{"nobody": {Text: "zzzz"}, "first page": {}, "one": {Text: "number-77777."}} {
		b.Run(name, func(b *testing.B) {
			q.Limit = admin.BrowsePage + 1
			for b.Loop() {
				if _, err := (Admin{db}).Browse(b.Context(), q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
