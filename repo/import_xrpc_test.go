package repo_test

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nestbox/control"
	"nestbox/internal/pdstest"
)

// importRepo sends a CAR file.
func importRepo(t *testing.T, s *pdstest.InProcess, auth, contentType string, body []byte) pdstest.Answer {
	t.Helper()
	return s.Do(t, pdstest.Request{
		Method: http.MethodPost, NSID: "com.atproto.repo.importRepo", Auth: auth, Body: string(body),
		Header: http.Header{"Content-Type": {contentType}},
	})
}

const typeCAR = "application/vnd.ipld.car"

// TestImportRepo: an account goes back to an older state, on a whole server, with the
// answers that its client gets.
func TestImportRepo(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_MAX_REPO_IMPORT_SIZE=100000"}})
	alice, bob := s.SignUp(t, "alice"), s.SignUp(t, "bob")
	token := pdstest.Bearer(alice.AccessJwt)
	for i := range 20 {
		note(t, s, alice, strings.Repeat("n", i+1), "then")
	}
	then := wantCAR(t, query(t, s, "", "getRepo", "did", alice.DID))
	file := then.bytes()
	note(t, s, alice, "now", "now")
	var before struct{ CID, Rev string }
	query(t, s, "", "getLatestCommit", "did", alice.DID).Decode(t, &before)

	app := pdstest.Bearer(s.SignIn(t, "alice.test", appPassword(t, s, alice)).AccessJwt)
	importRepo(t, s, "", typeCAR, file).WantError(t, 401, "AuthMissing", "Authentication Required")
	importRepo(t, s, app, typeCAR, file).WantError(t, 400, "InvalidToken", "Bad token scope")
	importRepo(t, s, token, "application/json", file).WantError(t, 400, "InvalidRequest", "Wrong request encoding (Content-Type): expected application/vnd.ipld.car")
	importRepo(t, s, token, "", file).WantError(t, 400, "InvalidRequest", "Wrong request encoding (Content-Type): expected application/vnd.ipld.car")
	importRepo(t, s, pdstest.Bearer(bob.AccessJwt), typeCAR, file).WantError(t, 400, "InvalidRequest",
		"repository cannot be imported: it is the repository of "+alice.DID+", not of "+bob.DID)
	if a := importRepo(t, s, token, typeCAR, file[:len(file)-1]); a.Status != 400 || !strings.Contains(string(a.Body), "it is cut off") {
		t.Errorf("cut off: %d %s", a.Status, a.Body)
	}
	if a := importRepo(t, s, token, typeCAR, bytes.Repeat([]byte{'x'}, 100_001)); a.Status != 413 || !strings.Contains(string(a.Body), "PayloadTooLarge") {
		t.Errorf("too large: %d %s", a.Status, a.Body)
	}
	var after struct{ CID, Rev string }
	query(t, s, "", "getLatestCommit", "did", alice.DID).Decode(t, &after)
	if after != before {
		t.Errorf("refused imports went from %+v to %+v", before, after)
	}

	if a := importRepo(t, s, token, typeCAR, file); a.Status != http.StatusOK || len(a.Body) != 0 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	now := wantCAR(t, query(t, s, "", "getRepo", "did", alice.DID))
	if len(now.blocks) != len(then.blocks) || now.blocks[1].CID != then.blocks[1].CID || now.root == then.root {
		t.Errorf("%d blocks with the root %s, want %d with %s", len(now.blocks), now.blocks[1].CID, len(then.blocks), then.blocks[1].CID)
	}
	if left, err := os.ReadDir(filepath.Join(s.DataDir, "transfers")); err != nil || len(left) > 0 {
		t.Errorf("left in the folder of temporary files: %v, %v", left, err)
	}
	note(t, s, alice, "later", "it goes on")
}

func appPassword(t *testing.T, s *pdstest.InProcess, who pdstest.Session) string {
	t.Helper()
	var made struct{ Password string }
	s.Do(t, pdstest.Request{NSID: "com.atproto.server.createAppPassword", Auth: pdstest.Bearer(who.AccessJwt), Body: map[string]string{"name": "app"}}).Decode(t, &made)
	return made.Password
}

// TestImportRepoClosed: an operator may refuse imports, and a suspended account
// imports nothing.
func TestImportRepoClosed(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_ACCEPTING_REPO_IMPORTS=false"}})
	alice := s.SignUp(t, "alice")
	importRepo(t, s, pdstest.Bearer(alice.AccessJwt), typeCAR, []byte("x")).WantError(t, 400, "InvalidRequest", "Service is not accepting repo imports")
	open := pdstest.Start(t, pdstest.Options{})
	alice = open.SignUp(t, "alice")
	if err := open.Run(t.Context(), "account.suspend", map[string]string{"account": alice.DID}, new(any)); err != nil {
		t.Fatal(err)
	}
	importRepo(t, open, pdstest.Bearer(alice.AccessJwt), typeCAR, []byte("x")).WantError(t, 401, "AccountTakedown", "Account has been suspended")
}

// TestRepoCommands: what the operator exports is imported again.
func TestRepoCommands(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice := s.SignUp(t, "alice")
	for i := range 20 {
		note(t, s, alice, strings.Repeat("n", i+1), "then")
	}
	args := map[string]string{"account": "alice.test"}
	var file, answer bytes.Buffer
	if err := control.CallFile(t.Context(), s.DataDir, "repo.export", args, strings.NewReader(""), &file); err != nil {
		t.Fatal(err)
	}
	then := readArchive(t, file.Bytes())
	note(t, s, alice, "now", "now")
	if err := control.CallFile(t.Context(), s.DataDir, "repo.import", args, bytes.NewReader(file.Bytes()), &answer); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(answer.String(), `{"did":"`+alice.DID+`","cid":"`) || !strings.Contains(answer.String(), `"records":20,"kept":false`) {
		t.Errorf("answer %s", answer.String())
	}
	if now := wantCAR(t, query(t, s, "", "getRepo", "did", alice.DID)); now.blocks[1].CID != then.blocks[1].CID {
		t.Errorf("the root is %s, want %s", now.blocks[1].CID, then.blocks[1].CID)
	}
	// Without a running server the result is the same.
	var alone bytes.Buffer
	if err := s.RunFile(t.Context(), "repo.export", args, nil, &alone); err != nil || len(readArchive(t, alone.Bytes()).blocks) != len(then.blocks) {
		t.Errorf("exported %d bytes, %v", alone.Len(), err)
	}
	for _, name := range []string{"repo.export", "repo.import"} {
		nobody := map[string]string{"account": "nobody.test"}
		for way, err := range map[string]error{
			"through the server": control.CallFile(t.Context(), s.DataDir, name, nobody, bytes.NewReader(file.Bytes()), &answer),
			"alone":              s.RunFile(t.Context(), name, nobody, bytes.NewReader(file.Bytes()), &answer),
		} {
			if err == nil || !strings.Contains(err.Error(), `"nobody.test"`) {
				t.Errorf("%s of nobody, %s: %v", name, way, err)
			}
		}
	}
	if err := control.CallFile(t.Context(), t.TempDir(), "repo.export", args, strings.NewReader(""), &alone); !errors.Is(err, control.ErrNotRunning) {
		t.Errorf("no server: %v", err)
	}
	// An interrupted export leaves no file.
	gone := errors.New("gone")
	err := control.CallFile(t.Context(), s.DataDir, "repo.import", args, readerFunc(func([]byte) (int, error) { return 0, gone }), &answer)
	if !errors.Is(err, gone) {
		t.Errorf("a file that cannot be read: %v", err)
	}
}
