package sqlite_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	zombie "zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/repo"
	"nestbox/repo/mst"
	"nestbox/store/sqlite"
)

// number returns the result of a query of one number.
func (w world) number(t *testing.T, sql string, args ...any) (n int64) {
	t.Helper()
	conn, err := zombie.OpenConn(w.path, zombie.OpenReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	err = sqlitex.ExecuteTransient(conn, sql, &sqlitex.ExecOptions{
		Args:       args,
		ResultFunc: func(s *zombie.Stmt) error { n = s.ColumnInt64(0); return nil },
	})
	if err := errors.Join(err, conn.Close()); err != nil {
		t.Fatal(err)
	}
	return n
}

// genesis is an account's first commit.
func genesis(a *account.Account) repo.Change {
	d := mst.NewTree(1).Flush()
	w := &writer{account: a}
	return w.finish(repo.Change{Next: repo.Head{Root: d.Root, NextNode: d.NextID}, Nodes: d.Changed}, nil)
}

// known returns an account by its DID, nil if there is none.
func (w world) known(t *testing.T, name string) *account.Account {
	t.Helper()
	a, err := sqlite.Accounts{DB: w.DB}.ByDID(t.Context(), pendingAccount(name).DID)
	if err != nil && !errors.Is(err, account.ErrNotFound) {
		t.Error(err)
	}
	return a
}

// hostingChanges are the writes of hosting.Store, and the deletion of an account
// that has everything.
func hostingChanges() map[string]change {
	return map[string]change{
		"sign-up": {
			do: func(t *testing.T, w world) error {
				_, err := sqlite.Hosting{DB: w.DB}.Reserve(t.Context(), pendingAccount("bob"))
				return err
			},
			done: func(t *testing.T, w world) bool {
				l, err := sqlite.Hosting{DB: w.DB}.Pending(t.Context())
				return err == nil && len(l) == 1
			},
		},
		"activation": {
			before: 1, // the reservation
			do: func(t *testing.T, w world) error {
				store := sqlite.Hosting{DB: w.DB}
				id, err := store.Reserve(t.Context(), pendingAccount("bob"))
				if errors.Is(err, account.ErrHandleTaken) { // it is there since the first try
					id, err = w.number(t, "SELECT id FROM account WHERE handle = 'bob.test'"), nil
				}
				if err != nil {
					return err
				}
				first := genesis(&account.Account{ID: id, DID: pendingAccount("bob").DID})
				_, err = store.Activate(t.Context(), id, []byte("{}"), &first, accountEntry())
				return err
			},
			done: func(t *testing.T, w world) bool {
				a := w.known(t, "bob")
				facts := map[string]bool{
					"account": a != nil,
					"events":  w.number(t, "SELECT count(*) FROM event WHERE did = 'did:plc:bob'") == 4,
				}
				if a != nil {
					facts["repository"] = headOf(t, w.DB, a.ID).CID.Defined()
				}
				return all(t, facts)
			},
		},
		"moving in": {
			do: func(t *testing.T, w world) error {
				p := pendingAccount("bob")
				first := genesis(&account.Account{DID: p.DID})
				_, err := sqlite.Hosting{DB: w.DB}.MoveIn(t.Context(), p, []byte("{}"), first, accountEntry())
				return err
			},
			done: func(t *testing.T, w world) bool {
				a := w.known(t, "bob")
				facts := map[string]bool{"account": a != nil}
				if a != nil {
					facts["deactivated"] = a.Status() == account.Deactivated
					facts["repository"] = headOf(t, w.DB, a.ID).CID.Defined()
				}
				return all(t, facts)
			},
		},
		"handle": {
			before: 1, // the intention
			do: func(t *testing.T, w world) error {
				store := sqlite.Hosting{DB: w.DB}
				err := store.BeginHandle(t.Context(), hosting.HandleChange{AccountID: w.account.ID, Handle: "new.test", By: account.ActorOwner, BegunAt: start})
				if err != nil && !errors.Is(err, account.ErrStatusConflict) { // it is there since the first try
					return err
				}
				return store.FinishHandle(t.Context(), w.account.ID, "new.test", []byte(`{"new":1}`), accountEntry())
			},
			done: func(t *testing.T, w world) bool {
				return all(t, map[string]bool{
					"handle":    w.known(t, "alice").Handle == "new.test",
					"document":  string(w.known(t, "alice").Document) == `{"new":1}`,
					"intention": w.number(t, "SELECT count(*) FROM handle_change") == 0 && w.known(t, "alice").Handle != "alice.test",
					"event":     w.number(t, "SELECT count(*) FROM event WHERE did = 'did:plc:alice' AND kind = '#identity'") == 2,
				})
			},
		},
		"signing key": {
			before: 1, // the intention
			do: func(t *testing.T, w world) error {
				store := sqlite.Hosting{DB: w.DB}
				c := hosting.KeyChange{AccountID: w.repo.writer.account.ID, Public: "did:key:new", Sealed: []byte("new"), BegunAt: start}
				if err := store.BeginKey(t.Context(), c); err != nil && !errors.Is(err, account.ErrStatusConflict) { // it is there since the first try
					return err
				}
				return store.FinishKey(t.Context(), c, []byte(`{"new":1}`), &w.repo.resigned, accountEntry())
			},
			done: func(t *testing.T, w world) bool {
				_, sealed, err := sqlite.Hosting{DB: w.DB}.SealedKey(t.Context(), w.repo.writer.account.ID)
				if err != nil {
					t.Error(err)
				}
				return all(t, map[string]bool{
					"key":       string(sealed) == "new" && w.known(t, "carol").SigningKey == "did:key:new",
					"document":  string(w.known(t, "carol").Document) == `{"new":1}`,
					"intention": w.number(t, "SELECT count(*) FROM key_change") == 0 && string(sealed) == "new",
					"commit":    headOf(t, w.DB, w.repo.writer.account.ID).CID.Equals(w.repo.resigned.Next.CID),
					"identity":  w.number(t, "SELECT count(*) FROM event WHERE did = 'did:plc:carol' AND kind = '#identity'") == 2,
				})
			},
		},
		"sealing anew": {
			do: func(t *testing.T, w world) error {
				_, err := sqlite.Hosting{DB: w.DB}.Reseal(t.Context(), func(_ hosting.SealedKind, _ syntax.DID, sealed []byte) ([]byte, error) {
					return append(bytes.TrimSuffix(sealed, []byte("+")), '+'), nil
				})
				return err
			},
			done: func(t *testing.T, w world) bool {
				return w.number(t, "SELECT count(*) FROM account WHERE substr(CAST(signing_key_sealed AS TEXT), -1) <> '+'") == 0
			},
		},
		"deletion": {
			do: func(t *testing.T, w world) error {
				return sqlite.Accounts{DB: w.DB}.Delete(t.Context(), w.repo.writer.account.ID, start)
			},
			done: func(t *testing.T, w world) bool {
				id := w.repo.writer.account.ID
				return all(t, map[string]bool{
					"account":    w.known(t, "carol") == nil,
					"repository": w.number(t, "SELECT count(*) FROM repo WHERE account_id = ?", id) == 0,
					"blobs":      w.number(t, "SELECT count(*) FROM blob_orphaned WHERE account_id = ?", id) == 1,
					"events":     w.number(t, "SELECT count(*) FROM event_deleted WHERE did = 'did:plc:carol'") == 1,
					"announced":  w.number(t, "SELECT count(*) FROM event WHERE did = 'did:plc:carol' AND kind = '#account'") == 2,
				})
			},
		},
	}
}
