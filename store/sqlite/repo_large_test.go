package sqlite_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/dagcbor"
	"nestbox/repo"
	"nestbox/store/sqlite"
	"nestbox/store/storetest"
	"nestbox/takeover"
)

// maxInline is that of package sqlite.
const maxInline = 4096

// sizedRecord is the write of a record whose block has exactly so many bytes.
func sizedRecord(tb testing.TB, key string, size int) repo.Write {
	tb.Helper()
	head := 6 // the map, its key, and the length of its value in three bytes
	if size > 1<<16 {
		head = 8
	}
	block, err := dagcbor.Encode(map[string]any{"x": strings.Repeat("y", size-head)})
	if err != nil || len(block) != size {
		tb.Fatalf("%d bytes, want %d: %v", len(block), size, err)
	}
	return repo.Write{Key: key, CID: dagcbor.CID(block), Block: block}
}

// longKey is the longest key that there is.
func longKey(i int) string {
	return "com." + strings.Repeat("x", 313) + "/" + fmt.Sprintf("%0512d", i)
}

// thickRows counts the rows of record that lie on more than two pages: a search among them reads
// each whole that it passes.
const thickRows = "SELECT count(*) FROM dbstat WHERE name = 'record' AND pagetype = 'overflow' AND path LIKE '%+000001'"

// withLarge makes a database with records of all sizes, two of which are large, and removes some.
func withLarge(tb testing.TB, path string) {
	tb.Helper()
	db := openDB(tb, path, sqlite.Options{})
	w := newWriter(tb, db, "alice")
	w.fill(tb, 20)
	w.commit(tb, sizedRecord(tb, longKey(1), maxInline), sizedRecord(tb, longKey(2), maxInline+1), sizedRecord(tb, "com.example.a/1", 1_900_000))
	w.commit(tb, sizedRecord(tb, "com.example.a/2", 1_900_000), sizedRecord(tb, "com.example.a/3", maxInline+1))
	w.commit(tb, repo.Write{Key: "com.example.a/2"}, repo.Write{Key: "com.example.a/3"})
	if err := db.Close(); err != nil {
		tb.Fatal(err)
	}
}

// TestLargeRecords: a large record does not lie where searches for other records go by.
func TestLargeRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nestbox.sqlite")
	withLarge(t, path)
	verify(t, path)
	for sql, want := range map[string]int{
		thickRows: 0,
		"SELECT count(*) FROM record WHERE length(block) > 4096": 0,
		"SELECT count(*) FROM record WHERE length(block) = 4096": 1,
		"SELECT count(*) FROM record_block":                      2,
		"SELECT count(*) FROM record WHERE block_id IS NOT NULL": 2,
		"SELECT sum(length(block)) FROM record_block":            1_900_000 + maxInline + 1,
		"SELECT count(*) FROM record WHERE block = x''":          2,
	} {
		if n := number(t, path, sql); n != want {
			t.Errorf("%s: %d, want %d", sql, n, want)
		}
	}
}

// oldRecords makes a database one of schema 33, in which all blocks lay in record.
const oldRecords = `DROP TRIGGER record_block_gone; DROP TRIGGER record_block_replaced;
	UPDATE record SET block = (SELECT b.block FROM record_block b WHERE b.id = block_id) WHERE block_id IS NOT NULL;
	ALTER TABLE record DROP COLUMN block_id; DROP TABLE record_block;
	UPDATE standing SET min_reader = 33; PRAGMA user_version = 33;`

// TestUpgradeLargeRecords: large records of an older version are moved, and are the same.
func TestUpgradeLargeRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nestbox.sqlite")
	withLarge(t, path)
	want := blocks(t, path)
	script(t, path, oldRecords)
	if n := number(t, path, thickRows); n != 1 {
		t.Fatalf("%d records are thick in the older schema", n)
	}
	for range 2 { // the second time there is nothing to do
		if err := openDB(t, path, sqlite.Options{}).Close(); err != nil {
			t.Fatal(err)
		}
		verify(t, path)
		for sql, want := range map[string]int{thickRows: 0, "SELECT count(*) FROM record_block": 2, "SELECT count(*) FROM sqlite_temp_schema": 0} {
			if n := number(t, path, sql); n != want {
				t.Errorf("%s: %d, want %d", sql, n, want)
			}
		}
		got := blocks(t, path)
		if len(got) != len(want) || len(got) == 0 {
			t.Errorf("%d records, want %d", len(got), len(want))
		}
		for key, block := range want {
			if !bytes.Equal(got[key], block) {
				t.Errorf("%s: %d bytes, want %d", key, len(got[key]), len(block))
			}
		}
	}
}

// blocks returns the records of alice, whose CIDs it checks.
func blocks(t *testing.T, path string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	i, err := sqlite.Inspector{Path: path}.Open(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	err = i.Repo(1, func(rows repo.Rows) error {
		return rows.EachRow(func(r repo.Record, _ repo.Derived) error {
			if !dagcbor.CID(r.Block).Equals(r.CID) {
				t.Errorf("%s: its block is another", r.Key)
			}
			out[r.Key] = bytes.Clone(r.Block)
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestVerifyLargeRecords: a large block that is missing, or belongs to no record or to two, is
// found.
func TestVerifyLargeRecords(t *testing.T) {
	const missing, stray = "record without its large block: did:plc:", "large block that is not one record's: "
	for sql, want := range map[string]string{
		"DELETE FROM record_block WHERE length(block) > 5000":                                                       missing,
		"INSERT INTO record_block (id, block) VALUES (77, x'a0')":                                                   stray + "77",
		"DROP TRIGGER record_block_gone; DELETE FROM record WHERE key LIKE 'com.example.a/%'":                       stray,
		"UPDATE record SET block_id = (SELECT max(id) FROM record_block) WHERE key = (SELECT min(key) FROM record)": stray,
	} {
		path := filepath.Join(t.TempDir(), "nestbox.sqlite")
		withLarge(t, path)
		script(t, path, sql+";")
		faults, err := storetest.Faults(t.Context(), sqlite.Inspector{Path: path})
		if err != nil || !strings.Contains(strings.Join(faults, "\n"), want) {
			t.Errorf("%s: faults %q, %v; want %q", sql, faults, err, want)
		}
	}
}

// TestTakeoverLargeRecords: a take-over stores large records apart, and nothing is left of them
// when it begins an account again.
func TestTakeoverLargeRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nestbox.sqlite")
	db := openDB(t, path, sqlite.Options{})
	a := addAccount(t, db, "alice")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	store, err := sqlite.OpenTakeover(t.Context(), path, func(context.Context) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	const rev = syntax.TID("3jzfcijpj2z2a")
	for range 2 {
		staged, err := store.Stage(t.Context(), a.DID)
		if err != nil {
			t.Fatal(err)
		}
		var k takeover.Chunk
		for i, size := range []int{1000, maxInline, maxInline + 1, 1_900_000} {
			w := sizedRecord(t, fmt.Sprintf("com.example.a/%d", i), size)
			k.Records = append(k.Records, takeover.RecordRow{Record: repo.Record{Key: w.Key, CID: w.CID, Rev: rev, Block: w.Block}})
		}
		if err := store.Fill(t.Context(), staged, k); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	const whole = `SELECT sum(length(block)) + (SELECT sum(length(block)) FROM record_block) FROM record`
	for sql, want := range map[string]int{thickRows: 0, whole: 1000 + maxInline + maxInline + 1 + 1_900_000, "SELECT count(*) FROM record_block": 2} {
		if n := number(t, path, sql); n != want {
			t.Errorf("%s: %d, want %d", sql, n, want)
		}
	}
	if err := store.Drop(t.Context(), a.DID); err != nil {
		t.Fatal(err)
	}
	if err := store.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := number(t, path, "SELECT count(*) FROM record_block"); n != 0 {
		t.Errorf("%d large blocks are left", n)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestStatementsOfAPost: a post of a usual size costs no statement for the large ones.
func TestStatementsOfAPost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nestbox.sqlite")
	db := openDB(t, path, sqlite.Options{})
	w := newWriter(t, db, "alice")
	schema(t, path, `CREATE TABLE touched (n INTEGER);
		CREATE TRIGGER touch_block AFTER INSERT ON record_block BEGIN INSERT INTO touched VALUES (1); END;
		CREATE TRIGGER touch_record AFTER UPDATE ON record BEGIN INSERT INTO touched VALUES (1); END;`)
	w.commit(t, post(1))
	w.commit(t, sizedRecord(t, "com.example.a/1", maxInline))
	if n := number(t, path, "SELECT count(*) FROM touched"); n != 0 {
		t.Errorf("%d changes beside the insert", n)
	}
	w.commit(t, sizedRecord(t, "com.example.a/2", maxInline+1))
	if n := number(t, path, "SELECT count(*) FROM touched"); n != 2 {
		t.Errorf("%d changes beside the insert of a large one: this test cannot fail", n)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
