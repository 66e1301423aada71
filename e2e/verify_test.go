package e2e

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/config"
	"nestbox/dagcbor"
	"nestbox/internal/pdstest"
	"nestbox/repo"
	"nestbox/server"
	"nestbox/verify"
)

// lived is a data directory in which a server has lived: repositories with
// records and blobs, an import, deletions, accounts of every status.
func lived(t *testing.T) (dir, alice string) {
	t.Helper()
	s := pdstest.Start(t, pdstest.Options{Dir: t.TempDir()})
	call := func(auth string, r pdstest.Request) pdstest.Answer {
		t.Helper()
		r.Auth = auth
		a := s.Do(t, r)
		if a.Status != http.StatusOK {
			t.Fatalf("%s: %d %s", r.NSID, a.Status, a.Body)
		}
		return a
	}
	typed := func(kind string) http.Header { return http.Header{"Content-Type": {kind}} }
	write := func(auth, did, collection string, from, to int, record map[string]any) {
		t.Helper()
		var writes []map[string]any
		for n := from; n < to; n++ {
			writes = append(writes, map[string]any{
				"$type": "com.atproto.repo.applyWrites#create", "collection": collection, "rkey": fmt.Sprintf("r%04d", n), "value": record,
			})
		}
		call(auth, pdstest.Request{NSID: "com.atproto.repo.applyWrites", Body: map[string]any{"repo": did, "writes": writes}})
	}
	upload := func(auth, content string) any {
		t.Helper()
		var out struct{ Blob any }
		call(auth, pdstest.Request{NSID: "com.atproto.repo.uploadBlob", Body: content, Header: typed("text/plain")}).Decode(t, &out)
		return out.Blob
	}
	dids := map[string]string{}
	auths := map[string]string{}
	for _, name := range []string{"alice", "bob", "carol", "dave", "erin"} {
		who := s.SignUp(t, name)
		dids[name], auths[name] = who.DID, pdstest.Bearer(who.AccessJwt)
		write(auths[name], who.DID, "com.example.note", 0, 20, map[string]any{"text": "hello"})
	}
	// Bob takes back a write, by an import of what was before it.
	car := call("", pdstest.Request{NSID: "com.atproto.sync.getRepo?did=" + url.QueryEscape(dids["bob"])})
	write(auths["bob"], dids["bob"], "com.example.note", 20, 21, map[string]any{"text": "taken back"})
	call(auths["bob"], pdstest.Request{NSID: "com.atproto.repo.importRepo", Body: string(car.Body), Header: typed("application/vnd.ipld.car")})
	call(auths["carol"], pdstest.Request{NSID: "com.atproto.server.deactivateAccount", Body: map[string]any{}})
	admin := basic("admin:admin")
	call(admin, pdstest.Request{NSID: "com.atproto.admin.updateSubjectStatus", Body: map[string]any{
		"subject": map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": dids["dave"]}, "takedown": map[string]any{"applied": true},
	}})
	call(admin, pdstest.Request{NSID: "com.atproto.admin.deleteAccount", Body: map[string]any{"did": dids["erin"]}})

	upload(auths["alice"], "never used")
	picture := upload(auths["alice"], "a picture")
	write(auths["alice"], dids["alice"], "com.example.picture", 0, 2, map[string]any{"image": picture})
	write(auths["alice"], dids["alice"], "com.example.post", 0, 200, map[string]any{"text": "hello"})
	for _, who := range []string{"bob", "carol", "bob"} { // the second takes the place of the first
		call(auths["alice"], pdstest.Request{NSID: "com.atproto.repo.createRecord", Body: map[string]any{
			"repo": dids["alice"], "collection": "app.bsky.graph.follow",
			"record": map[string]any{"subject": dids[who], "createdAt": "2026-08-01T12:00:00.000Z"},
		}})
	}
	call(auths["alice"], pdstest.Request{NSID: "com.atproto.repo.deleteRecord", Body: map[string]any{
		"repo": dids["alice"], "collection": "com.example.post", "rkey": "r0007",
	}})
	s.Stop()
	return s.DataDir, dids["alice"]
}

// found holds the findings of a verification.
type found struct {
	faults, remarks, repaired []string
	verify.Verified
}

func verifyDir(t *testing.T, dir string, repair bool) found {
	t.Helper()
	c, _, err := config.Load(config.Flags{Data: dir, Dev: true, Command: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var f found
	into := func(lines *[]string) func(string) { return func(line string) { *lines = append(*lines, line) } }
	v, err := server.Verification(&c)
	if err != nil {
		t.Fatal(err)
	}
	v.Now, v.Fault, v.Remark, v.Progress = time.Now, into(&f.faults), into(&f.remarks), func(string) {}
	if repair {
		v.Repaired = into(&f.repaired)
	}
	if f.Verified, err = v.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f.Faults != int64(len(f.faults)) {
		t.Errorf("%d faults are counted, %d were told", f.Faults, len(f.faults))
	}
	return f
}

// sameLines fails the test unless each line has the part at its place.
func sameLines(t *testing.T, what string, lines, parts []string) {
	t.Helper()
	ok := len(lines) == len(parts)
	for i := range min(len(lines), len(parts)) {
		ok = ok && strings.Contains(lines[i], parts[i])
	}
	if !ok {
		t.Errorf("%s:\n%s\nwant:\n%s", what, strings.Join(lines, "\n"), strings.Join(parts, "\n"))
	}
}

// sql changes the database of a data directory directly.
func sql(t *testing.T, dir, script string) {
	t.Helper()
	c, err := sqlite.OpenConn(filepath.Join(dir, "nestbox.sqlite"), sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func([]byte) []byte{"flip": flip, "swapped": swapped, "resigned": resigned, "cid": func(b []byte) []byte { return dagcbor.CID(b).Bytes() }} {
		err := c.CreateFunction(name, &sqlite.FunctionImpl{NArgs: 1, Scalar: func(_ sqlite.Context, args []sqlite.Value) (sqlite.Value, error) {
			return sqlite.BlobValue(f(bytes.Clone(args[0].Blob()))), nil
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := sqlitex.ExecuteScript(c, script, nil); err != nil {
		t.Errorf("%s: %v", script, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// flip changes a byte in the middle.
func flip(b []byte) []byte {
	b[len(b)/2] ^= 1
	return b
}

// swapped changes the places of the first two children.
func swapped(b []byte) []byte {
	first, n := binary.Uvarint(b)
	second, m := binary.Uvarint(b[n:])
	out := binary.AppendUvarint(binary.AppendUvarint(nil, second), first)
	return append(out, b[n+m:]...)
}

// resigned is a commit with another signature.
func resigned(b []byte) []byte {
	c, err := repo.DecodeCommit(b)
	if err != nil {
		return nil
	}
	flip(c.Sig)
	return c.Encode()
}

// Alice's repository, two nodes of it, and a record.
const (
	hers   = "(SELECT id FROM repo WHERE account_id = 1)"
	root   = "(SELECT id << 32 | root_id FROM repo WHERE account_id = 1)"
	leaf   = "(SELECT max(id) FROM node WHERE id >> 32 = " + hers + " AND children = x'')"
	record = " repo_id = " + hers + " AND key = 'com.example.post/r0100'"
)

// damage is one fault in a data directory.
type damage struct {
	name string
	sql  string
	file string // whose content do changes, as a pattern
	do   func([]byte) []byte
	want []string // the findings, in order, ALICE for her DID
	// repair is the output of --repair=rebuild-index; after it nothing is
	// wrong.
	repair []string
}

const (
	unmarked = "blob is used and not marked so, or the other way round: ALICE bafkrei"
	miscount = "repository counts its records wrong: ALICE"
	wrong    = "ALICE: tree: read node "
	anew     = "ALICE: tree rebuilt, "
	untold   = "ALICE: the event log last told of commit "
	unsigned = "commit is not signed by the account's key"
)

var damages = []damage{
	{name: "node changed", sql: "UPDATE node SET block = flip(block) WHERE id = " + leaf, want: []string{wrong}, repair: []string{anew}},
	{name: "node removed", sql: "DELETE FROM node WHERE id = " + leaf, want: []string{wrong}, repair: []string{anew}},
	{
		name: "root removed", sql: "DELETE FROM node WHERE id = " + root,
		want: []string{"repository without its root: ALICE", wrong}, repair: []string{anew},
	},
	{
		name: "node left over",
		sql: "UPDATE repo SET next_node = next_node + 1 WHERE id = " + hers + "; INSERT INTO node (id, rev, children, block) SELECT " +
			hers + " << 32 | (SELECT next_node - 1 FROM repo WHERE id = " + hers + "), rev, children, block FROM node WHERE id = " + leaf,
		want: []string{"belongs to no tree"}, repair: []string{anew},
	},
	{name: "children's numbers mixed up", sql: "UPDATE node SET children = swapped(children) WHERE id = " + root, want: []string{wrong}, repair: []string{anew}},
	{name: "children's numbers lost", sql: "UPDATE node SET children = x'' WHERE id = " + root, want: []string{wrong}, repair: []string{anew}},
	{
		name: "root's CID changed", sql: "UPDATE repo SET root_cid = flip(root_cid) WHERE id = " + hers,
		want: []string{"its tree is bafyrei", wrong}, repair: []string{anew},
	},
	{
		name: "next node's number is taken", sql: "UPDATE repo SET next_node = 3 WHERE id = " + hers,
		want: []string{"node that is not numbered below the next: ALICE"}, repair: []string{"ALICE: counts corrected"},
	},
	{name: "record changed", sql: "UPDATE record SET block = flip(block) WHERE" + record, want: []string{"ALICE: record com.example.post/r0100: its block is bafyrei"}},
	{name: "record removed", sql: "DELETE FROM record WHERE" + record, want: []string{miscount, "ALICE: record com.example.post/r0100: it is missing, the tree has bafyrei"}},
	{
		name: "last record removed", sql: "DELETE FROM record WHERE repo_id = " + hers + " AND key = (SELECT max(key) FROM record WHERE repo_id = " + hers + ")",
		want: []string{miscount, "ALICE: record com.example.post/r0199: it is missing"},
	},
	{
		name: "record with a blob removed", sql: "DELETE FROM record WHERE repo_id = " + hers + " AND key = (SELECT key FROM blob_ref WHERE repo_id = " + hers + " LIMIT 1)",
		want: []string{miscount, "reference to a blob by no record of that revision: ALICE", "ALICE: record"},
	},
	{
		name: "record too many", sql: "INSERT INTO record (repo_id, key, cid, rev, block) SELECT repo_id, key || 'x', cid, rev, block FROM record WHERE" + record,
		want: []string{miscount, "ALICE: record com.example.post/r0100x: the tree does not have it"},
	},
	{
		name: "record too many, the last", sql: "INSERT INTO record (repo_id, key, cid, rev, block) SELECT repo_id, 'com.example.z/z', cid, rev, block FROM record WHERE" + record,
		want: []string{miscount, "ALICE: record com.example.z/z: the tree does not have it"},
	},
	{
		name: "record replaced", sql: "UPDATE record SET block = flip(block) WHERE" + record + "; UPDATE record SET cid = cid(block) WHERE" + record,
		want: []string{"ALICE: record com.example.post/r0100: the tree has bafyrei"},
	},
	{
		name: "record that is none", sql: "UPDATE record SET block = x'01' WHERE" + record + "; UPDATE record SET cid = cid(block) WHERE" + record,
		want: []string{"ALICE: record com.example.post/r0100: the tree has bafyrei"},
	},
	{
		name: "blobs miscounted", sql: "UPDATE repo SET blobs = blobs + 1 WHERE id = " + hers,
		want: []string{"repository counts its blobs wrong: ALICE"}, repair: []string{"ALICE: counts corrected"},
	},
	{name: "records miscounted", sql: "UPDATE repo SET records = records + 1 WHERE id = " + hers, want: []string{miscount}, repair: []string{"ALICE: counts corrected"}},
	{
		name: "repository removed", sql: "DELETE FROM repo WHERE id = " + hers,
		want: []string{"node of no repository", "record of no repository", "reference to a blob of no repository", unmarked, "ALICE: repository: no such repository"},
	},
	{
		name: "reference lost", sql: "DELETE FROM blob_ref WHERE key LIKE '%picture/r0001'",
		want: []string{"ALICE: record com.example.picture/r0001: it refers to the blobs [\"bafkrei"}, repair: []string{"ALICE: 1 references to blobs corrected"},
	},
	{
		name: "references lost", sql: "DELETE FROM blob_ref; UPDATE blob SET unused_since = 1",
		want:   []string{"repository counts its blobs wrong: ALICE", "ALICE: record com.example.picture/r0000: it refers", "ALICE: record com.example.picture/r0001: it refers"},
		repair: []string{"ALICE: 2 references to blobs corrected, the use of 1 blobs corrected"},
	},
	{
		name: "reference too many", sql: "INSERT INTO blob_ref (repo_id, cid, key, rev) SELECT b.repo_id, b.cid, r.key, r.rev FROM blob_ref b JOIN record r USING (repo_id) WHERE r.key = 'com.example.post/r0100' LIMIT 1",
		want: []string{"ALICE: record com.example.post/r0100: it refers to the blobs [], the index says [\"bafkrei"}, repair: []string{"ALICE: 1 references"},
	},
	{
		name: "subjects lost", sql: "UPDATE record SET subject = NULL",
		want:   []string{"its subject is \"did:plc:", "its subject is \"did:plc:"},
		repair: []string{"ALICE: the subjects of 2 records corrected"},
	},
	{
		name: "another subject", sql: "UPDATE record SET subject = subject || 'x' WHERE key = (SELECT max(key) FROM record WHERE subject IS NOT NULL)",
		want: []string{"x\""}, repair: []string{"ALICE: the subjects of 1 records corrected"},
	},
	{
		name: "subject too many", sql: "UPDATE record SET subject = 'x' WHERE" + record,
		want: []string{`ALICE: record com.example.post/r0100: its subject is "", the index says "x"`}, repair: []string{"ALICE: the subjects of 1 records corrected"},
	},
	{
		name: "blob's use marked wrong", sql: "UPDATE blob SET unused_since = 1 WHERE unused_since IS NULL",
		want: []string{unmarked}, repair: []string{"ALICE: the use of 1 blobs corrected"},
	},
	{name: "blob's file changed", file: "blobs/??/*", do: flip, want: []string{"its content is bafkrei", "its content is bafkrei"}},
	{name: "blob's file cut off", file: "blobs/??/*", do: func(b []byte) []byte { return b[1:] }, want: []string{"bytes, its row says", "bytes, its row says"}},
	{name: "blob's file gone", file: "blobs/??/*", do: func([]byte) []byte { return nil }, want: []string{"it is missing", "it is missing"}},
	{name: "commit changed", sql: "UPDATE repo SET commit_block = flip(commit_block) WHERE id = " + hers, want: []string{"ALICE: commit bafyrei"}},
	{
		name: "commit signed by somebody else",
		sql:  "UPDATE repo SET commit_block = resigned(commit_block) WHERE id = " + hers + "; UPDATE repo SET cid = cid(commit_block) WHERE id = " + hers,
		want: []string{unsigned, untold},
	},
	{name: "revision changed", sql: "UPDATE repo SET rev = '3zzzzzzzzzz22' WHERE id = " + hers, want: []string{": its revision is ", untold}},
	{name: "event changed", sql: "UPDATE event SET body = flip(body) WHERE seq = (SELECT max(seq) - 1 FROM event)", want: []string{"#commit of ALICE: "}},
	{name: "event's split changed", sql: "UPDATE event SET split = split + 1 WHERE seq = 5", want: []string{"event 5, "}},
	{name: "event removed", sql: "DELETE FROM event WHERE seq = 5", want: []string{"event 6 follows event 4"}},
	{name: "log's size is wrong", sql: "UPDATE event SET total = total + 1 WHERE seq >= 5", want: []string{"event 5: the log has "}},
	{name: "numbers went back", sql: "UPDATE sqlite_sequence SET seq = seq - 1 WHERE name = 'event'", want: []string{"the last number that was given "}},
	{
		name: "last event lost", sql: "DELETE FROM event WHERE seq = (SELECT max(seq) FROM event); UPDATE sqlite_sequence SET seq = seq - 1 WHERE name = 'event'",
		want: []string{untold},
	},
	{
		name: "key file changed", file: "key_encryption_key", do: func([]byte) []byte { return []byte(hex.EncodeToString(make([]byte, 32))) },
		want: []string{"plc_rotation_key.sealed", "ALICE: signing key of", "signing key of", "signing key of", "signing key of"},
	},
	{name: "key file damaged", file: "key_encryption_key", do: func([]byte) []byte { return []byte("x") }, want: []string{"key file "}},
	{name: "key file lost", file: "key_encryption_key", do: func([]byte) []byte { return nil }, want: []string{"read key file: "}},
	{name: "keyring damaged", file: "keyring.json", do: func([]byte) []byte { return []byte("{}") }, want: []string{"it holds no key"}},
	{name: "keyring lost", file: "keyring.json", do: func([]byte) []byte { return nil }, want: []string{"key ring: "}},
	{
		name: "another's key", sql: "UPDATE account SET signing_key = (SELECT signing_key FROM account WHERE id = 2) WHERE id = 1",
		want: []string{"ALICE: signing key: the account's is did:key:", unsigned},
	},
	{
		name: "another's sealed key", sql: "UPDATE account SET signing_key_sealed = (SELECT signing_key_sealed FROM account WHERE id = 2) WHERE id = 1",
		want: []string{"ALICE: signing key of "},
	},
}

func (d damage) inflict(t *testing.T, dir string) {
	t.Helper()
	if d.sql != "" {
		sql(t, dir, d.sql+";")
	}
	if d.file == "" {
		return
	}
	paths, err := filepath.Glob(filepath.Join(dir, d.file))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: %q, %v", d.file, paths, err)
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if content = d.do(content); content == nil {
			err = os.Remove(path)
		} else {
			err = os.WriteFile(path, content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestVerify: a directory in which a server has lived is sound, and verify
// reports each kind of damage and nothing else. It repairs what follows from the
// records.
func TestVerify(t *testing.T) {
	t.Parallel()
	dir, alice := lived(t)
	f := verifyDir(t, dir, true)
	want := verify.Verified{Accounts: 4, Repositories: 4, Records: 20 + 2 + 199 + 2 + 20*3, Blobs: 2, Events: f.Events}
	if f.Verified != want || f.Events < 20 || len(f.faults)+len(f.remarks)+len(f.repaired) > 0 {
		t.Errorf("a sound directory: %+v, want %+v", f, want)
	}
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			damaged := t.TempDir()
			copyDir(t, dir, damaged)
			d.inflict(t, damaged)
			told := func(lines []string) []string {
				out := slices.Clone(lines)
				for i := range out {
					out[i] = strings.ReplaceAll(out[i], "ALICE", alice)
				}
				return out
			}
			f := verifyDir(t, damaged, false)
			sameLines(t, "faults", slices.Compact(withoutNumbers(f.faults)), told(d.want))
			const used = "SELECT (SELECT count(*) FROM blob_ref) * 1000 + (SELECT count(*) FROM blob WHERE unused_since IS NULL)"
			before := readDatabase(t, damaged, used)
			again := verifyDir(t, damaged, true)
			if d.repair == nil {
				if again.Faults == 0 {
					t.Errorf("repaired: %q", again.repaired)
				}
				if after := readDatabase(t, damaged, used); after < before {
					t.Errorf("the repair gave up references to blobs: %d, was %d", after, before)
				}
				return
			}
			sameLines(t, "repaired", again.repaired, told(d.repair))
			sameLines(t, "faults after the repair", again.faults, nil)
			sameLines(t, "faults after that", verifyDir(t, damaged, false).faults, nil)
		})
	}
}

// withoutNumbers makes lines of one kind, about many nodes, the same.
func withoutNumbers(lines []string) []string {
	out := slices.Clone(lines)
	for i, line := range out {
		if kind, rest, ok := strings.Cut(line, ": "); ok && kind == "node that is not numbered below the next" {
			did, _, _ := strings.Cut(rest, " ")
			out[i] = kind + ": " + did
		}
	}
	return out
}

// TestVerifyCommand: the command prints faults, remarks and repairs line by
// line, and its status shows whether there is a fault.
func TestVerifyCommand(t *testing.T) {
	t.Parallel()
	dir, alice := lived(t)
	run := func(code int, args ...string) pdstest.Result {
		t.Helper()
		r := pdstest.Exec(t, pdstest.Invocation{Args: append([]string{"verify", "--data", dir}, args...)})
		if r.Code != code {
			t.Errorf("verify %q: %+v, want status %d", args, r, code)
		}
		return r
	}
	if r := run(0); strings.Count(r.Stdout, "\n") != 1 || r.Stderr != "" {
		t.Errorf("a sound directory: %+v", r)
	} else {
		wantContains(t, r.Stdout, "4 accounts, 4 repositories, 283 records, 2 blobs, ", " s: 0 faults")
	}

	stray := filepath.Join(dir, "blobs", "notes.txt")
	if err := os.WriteFile(stray, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	sql(t, dir, "DELETE FROM blob_ref WHERE key LIKE '%picture/r0001'; UPDATE node SET block = flip(block) WHERE id = "+leaf+";")
	r := run(1)
	wantContains(t, r.Stdout, "fault: "+alice+": tree: ", "fault: "+alice+": record com.example.picture/r0001: ", ": 2 faults\n",
		"remark: file notes.txt in the folder of blobs belongs to no blob")
	wantContains(t, r.Stderr, "nestbox: the data directory is damaged")
	wantContains(t, run(0, "--repair=rebuild-index").Stdout, "repaired: "+alice+": 1 references to blobs corrected, tree rebuilt", ": 0 faults\n")
	wantContains(t, run(0).Stdout, ": 0 faults\n")

	// An account that moved in may still lack blobs.
	sql(t, dir, "DELETE FROM blob WHERE unused_since IS NULL;")
	wantContains(t, run(0).Stdout, "remark: "+alice+": record com.example.picture/r0000 refers to blob bafkrei")
	if err := os.Remove(stray); err != nil {
		t.Fatal(err)
	}

	run(1, "--repair=everything")
	p := pdstest.Launch(t, dir)
	wantContains(t, run(0).Stdout, ": 0 faults\n") // while it runs
	wantContains(t, run(1, "--repair=rebuild-index").Stderr, fmt.Sprintf("served by process %d", p.PID()), "stop that server first")
	p.Stop()
	old := t.TempDir()
	database, err := os.ReadFile(filepath.Join(dir, "nestbox.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(old, "nestbox.sqlite"), database, 0o600); err != nil {
		t.Fatal(err)
	}
	sql(t, old, "PRAGMA user_version = 1;")
	if r := pdstest.Exec(t, pdstest.Invocation{Args: []string{"verify", "--dev", "--data", old}}); r.Code != 1 || !strings.Contains(r.Stderr, "older nestbox") {
		t.Errorf("a database of an older nestbox: %+v", r)
	}
	if r := pdstest.Exec(t, pdstest.Invocation{Args: []string{"verify", "--dev", "--data", t.TempDir()}}); r.Code != 1 || !strings.Contains(r.Stderr, "there is no database") {
		t.Errorf("an empty folder: %+v", r)
	}
}
