package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/internal/pdstest"
)

// erasureNumber returns the number that a query finds in a database that a server
// has open.
func erasureNumber(t *testing.T, dir, sql string) (text string) {
	t.Helper()
	conn, err := sqlite.OpenConn(filepath.Join(dir, "nestbox.sqlite"), sqlite.OpenReadOnly)
	if err != nil {
		t.Fatal(err)
	}
	err = sqlitex.ExecuteTransient(conn, sql, &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error { text = s.ColumnText(0); return nil }})
	if err := errors.Join(err, conn.Close()); err != nil {
		t.Fatal(err)
	}
	return text
}

// grep returns the files below dir that contain text.
func grep(t *testing.T, dir, text string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(text)) {
			files = append(files, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// live fills an account with everything that can hold its name, in all tables of
// users' data.
func live(t *testing.T, p *pdstest.Process, box *pdstest.Mailbox, name string) pdstest.Session {
	t.Helper()
	s := p.SignUp(t, name)
	agent := http.Header{"User-Agent": {name + "-agent"}}
	do := func(nsid string, in any) pdstest.Answer {
		t.Helper()
		a := p.Do(t, pdstest.Request{Method: http.MethodPost, NSID: nsid, Auth: pdstest.Bearer(s.AccessJwt), Body: in, Header: agent})
		if a.Status != http.StatusOK {
			t.Fatalf("%s: %d %s", nsid, a.Status, a.Body)
		}
		return a
	}
	upload := func(data string) (blob any) {
		t.Helper()
		a := p.Do(t, pdstest.Request{
			Method: http.MethodPost, NSID: "com.atproto.repo.uploadBlob", Auth: pdstest.Bearer(s.AccessJwt), Body: data, Header: http.Header{"Content-Type": {"text/plain"}},
		})
		var out struct{ Blob any }
		a.Decode(t, &out)
		return out.Blob
	}
	record := func(i int) map[string]any {
		text := fmt.Sprintf("%s-record-%d ", name, i)
		if i%40 == 0 { // some go over several pages
			text = strings.Repeat(text, 2000)
		}
		return map[string]any{"$type": "com.example.note", "text": text}
	}
	var writes []any
	for i := range 200 {
		writes = append(writes, map[string]any{
			"$type": "com.atproto.repo.applyWrites#create", "collection": "com.example.note", "rkey": fmt.Sprintf("%s-key-%d", name, i), "value": record(i),
		})
	}
	for part := range slices.Chunk(writes, 50) {
		do("com.atproto.repo.applyWrites", map[string]any{"repo": s.DID, "writes": part})
	}
	for i := range 20 {
		key := fmt.Sprintf("%s-key-%d", name, i)
		do("com.atproto.repo.deleteRecord", map[string]any{"repo": s.DID, "collection": "com.example.note", "rkey": key})
		do("com.atproto.repo.putRecord", map[string]any{"repo": s.DID, "collection": "com.example.note", "rkey": fmt.Sprintf("%s-key-%d", name, 100+i), "record": record(1000 + i)})
	}
	do("com.atproto.repo.putRecord", map[string]any{"repo": s.DID, "collection": "com.example.album", "rkey": "self", "record": map[string]any{
		"$type": "com.example.album", "pictures": []any{upload(name + "-blob-small"), upload(strings.Repeat(name+"-blob-large ", 30_000))},
	}})
	upload(name + "-blob-that-no-record-has")
	do("app.bsky.actor.putPreferences", map[string]any{"preferences": []any{map[string]any{"$type": "app.bsky.actor.defs#interestsPref", "tags": []string{name + "-preference"}}}})
	do("com.atproto.server.createAppPassword", map[string]any{"name": name + "-app"})
	do("com.atproto.server.requestEmailConfirmation", nil)
	box.Wait(t, name+"@example.com")
	return s
}

// deleteOwn deletes an account as its owner does, by a code that comes by mail.
func deleteOwn(t *testing.T, p *pdstest.Process, box *pdstest.Mailbox, s pdstest.Session, email string) {
	t.Helper()
	if a := p.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.requestAccountDelete", Auth: pdstest.Bearer(s.AccessJwt)}); a.Status != http.StatusOK {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	var code string
	for !strings.Contains(code, "-") {
		m := box.Wait(t, email)
		if strings.Contains(strings.ToLower(m.Subject), "delet") {
			code = m.Code()
		}
	}
	a := p.Do(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.deleteAccount", Body: map[string]string{"did": s.DID, "password": pdstest.Password, "token": code}})
	if a.Status != http.StatusOK {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
}

// TestErasure: of an account that its owner deletes, nothing is left in the data
// directory except its DID and the fact of its deletion, even if the process is
// killed right after. Other accounts' data stays.
func TestErasure(t *testing.T) {
	plc := startPLC(t)
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	p := pdstest.Launch(t, "", append(box.Settings(), "PDS_LOG_LEVEL=warn", "PDS_DID_PLC_URL="+plc)...)
	bob := live(t, p, box, "stayingbob")
	alice := live(t, p, box, "leavingalice")
	signing := erasureNumber(t, p.Dir, "SELECT signing_key FROM account WHERE handle = 'leavingalice.test'")
	for _, text := range []string{"leavingalice@example.com", "leavingalice.test", "leavingalice-record-7 ", "leavingalice-blob-large", "leavingalice-preference", signing} {
		if len(grep(t, p.Dir, text)) == 0 {
			t.Errorf("%s is nowhere before: this test cannot fail", text)
		}
	}
	deleteOwn(t, p, box, alice, "leavingalice@example.com")
	p.Kill()
	p.Restart()
	const left = `SELECT (SELECT count(*) FROM repo WHERE account_id IS NULL) + (SELECT count(*) FROM blob_orphaned) +
		(SELECT count(*) FROM blob_garbage WHERE intended = 0) + (SELECT count(*) FROM event_deleted)`
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(time.Minute); erasureNumber(t, p.Dir, left) != "0"; {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s things are left to be removed", erasureNumber(t, p.Dir, left))
		}
	}
	// The server still runs: nothing may wait until it stops.
	for late := time.After(time.Minute); len(grep(t, p.Dir, "leavingalice"))+len(grep(t, p.Dir, signing)) > 0; {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("left in %s and %s", grep(t, p.Dir, "leavingalice"), grep(t, p.Dir, signing))
		}
	}
	p.Stop()
	if files := grep(t, p.Dir, alice.DID); !slices.Equal(files, []string{"nestbox.sqlite"}) {
		t.Errorf("the DID is in %s", files)
	}
	if n := erasureNumber(t, p.Dir, "SELECT count(*) FROM event WHERE did = '"+alice.DID+"'"); n != "1" {
		t.Errorf("%s events of the account, want that it is deleted", n)
	}
	for _, text := range []string{"stayingbob@example.com", "stayingbob.test", "stayingbob-record-70", "stayingbob-blob-large", "stayingbob-preference", "stayingbob-app", "stayingbob-agent", bob.DID} {
		if len(grep(t, p.Dir, text)) == 0 {
			t.Errorf("%s is gone", text)
		}
	}
}
