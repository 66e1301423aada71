package sqlite_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/internal/pdstest"
)

// TestStalledDownload: a client that asks for a repository and reads nothing of
// it keeps no snapshot open: the whole write-ahead log can be checkpointed.
func TestStalledDownload(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice := s.SignUp(t, "alice")
	write := func(i int) {
		t.Helper()
		var writes []any
		for j := range 10 {
			writes = append(writes, map[string]any{
				"$type": "com.atproto.repo.applyWrites#create", "collection": "com.example.note", "rkey": fmt.Sprintf("note-%d-%d", i, j),
				"value": map[string]any{"text": strings.Repeat("x", 90_000)},
			})
		}
		a := s.Do(t, pdstest.Request{NSID: "com.atproto.repo.applyWrites", Auth: pdstest.Bearer(alice.AccessJwt), Body: map[string]any{"repo": alice.DID, "writes": writes}})
		if a.Status != http.StatusOK {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
	}
	for i := range 20 { // 18 MB: more than a connection's buffers take
		write(i)
	}
	host := strings.TrimPrefix(s.Base, "http://")
	_, port, err := net.SplitHostPort(host)
	if err != nil {
		t.Fatal(err)
	}
	var d net.Dialer
	client, err := d.DialContext(t.Context(), "tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	if _, err := fmt.Fprintf(client, "GET /xrpc/com.atproto.sync.getRepo?did=%s HTTP/1.1\r\nHost: %s\r\n\r\n", alice.DID, host); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(client, make([]byte, 1000)); err != nil { // it has begun
		t.Fatal(err)
	}

	open := func() *sqlite.Conn {
		t.Helper()
		c, err := sqlite.OpenConn(filepath.Join(s.DataDir, "nestbox.sqlite"), sqlite.OpenReadWrite)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	own, other := open(), open()
	// blocked reports whether a snapshot kept the log from being emptied.
	blocked := func(patience string) (busy bool) {
		t.Helper()
		err := sqlitex.ExecuteTransient(own, "PRAGMA busy_timeout="+patience, nil)
		if err == nil {
			err = sqlitex.ExecuteTransient(own, "PRAGMA wal_checkpoint(TRUNCATE)", &sqlitex.ExecOptions{
				ResultFunc: func(r *sqlite.Stmt) error { busy = r.ColumnBool(0); return nil },
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		return busy
	}
	for _, sql := range []string{"BEGIN", "SELECT count(*) FROM repo"} {
		if err := sqlitex.ExecuteTransient(other, sql, nil); err != nil {
			t.Fatal(err)
		}
	}
	write(100)
	if !blocked("200") {
		t.Error("an open snapshot does not keep the log: this test cannot fail")
	}
	if err := sqlitex.ExecuteTransient(other, "ROLLBACK", nil); err != nil {
		t.Fatal(err)
	}
	write(101)
	// The server's own checkpoint may be under way, for which SQLite does not wait.
	for tries := 1; blocked("5000"); tries++ {
		if tries == 5 {
			t.Fatal("a snapshot is open though the download stands still")
		}
	}
}
