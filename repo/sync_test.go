package repo_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	indigo "github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
	"nestbox/internal/pdstest"
	"nestbox/repo"
	"nestbox/repo/mst"
)

// admin returns the Authorization header of a development server's admin.
func admin() string { return "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:admin")) }

// query makes a call of com.atproto.sync. params are pairs.
func query(t *testing.T, s *pdstest.InProcess, auth, method string, params ...string) pdstest.Answer {
	t.Helper()
	q := url.Values{}
	for i := 0; i < len(params); i += 2 {
		q.Add(params[i], params[i+1])
	}
	return s.Do(t, pdstest.Request{NSID: "com.atproto.sync." + method + "?" + q.Encode(), Auth: auth})
}

// note makes a record and returns its CID.
func note(t *testing.T, s *pdstest.InProcess, who pdstest.Session, rkey, text string) string {
	t.Helper()
	var out struct{ CID string }
	s.Do(t, pdstest.Request{NSID: "com.atproto.repo.putRecord", Auth: pdstest.Bearer(who.AccessJwt), Body: map[string]any{
		"repo": who.DID, "collection": "com.example.note", "rkey": rkey, "record": map[string]any{"text": text},
	}}).Decode(t, &out)
	if out.CID == "" {
		t.Fatalf("no record %s", rkey)
	}
	return out.CID
}

// publicKey returns the account's key in its DID document.
func publicKey(t *testing.T, s pdstest.Session) atcrypto.PublicKey {
	t.Helper()
	_, multibase, _ := strings.Cut(string(s.DIDDoc), `"publicKeyMultibase":"`)
	multibase, _, _ = strings.Cut(multibase, `"`)
	key, err := atcrypto.ParsePublicMultibase(multibase)
	if err != nil {
		t.Fatalf("%v in %s", err, s.DIDDoc)
	}
	return key
}

// wantCAR reads the CAR file of an answer and checks the answer's headers.
func wantCAR(t *testing.T, a pdstest.Answer) archive {
	t.Helper()
	if a.Status != http.StatusOK || a.Header.Get("Content-Type") != "application/vnd.ipld.car" || a.Header.Get("Content-Length") != fmt.Sprint(len(a.Body)) {
		t.Fatalf("status %d, headers %v, %.200q", a.Status, a.Header, a.Body)
	}
	return readArchive(t, a.Body)
}

// TestSync: every endpoint of com.atproto.sync that reads a repository, on a
// whole server.
func TestSync(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice := s.SignUp(t, "alice")
	var ids []string
	for i := range 50 {
		ids = append(ids, note(t, s, alice, fmt.Sprintf("note%02d", i), fmt.Sprint("text ", i)))
	}
	var latest struct{ CID, Rev string }
	query(t, s, "", "getLatestCommit", "did", alice.DID).Decode(t, &latest)

	// The whole repository, as indigo reads it.
	got := query(t, s, "", "getRepo", "did", alice.DID)
	whole := wantCAR(t, got)
	commit, loaded, err := indigo.LoadRepoFromCAR(t.Context(), bytes.NewReader(got.Body))
	if err != nil {
		t.Fatal(err)
	}
	if err := commit.VerifyStructure(); err != nil {
		t.Error(err)
	}
	if err := commit.VerifySignature(publicKey(t, alice)); err != nil {
		t.Error(err)
	}
	if commit.DID != alice.DID || commit.Rev != latest.Rev || whole.root.String() != latest.CID || whole.blocks[0].CID != whole.root {
		t.Errorf("the commit is %s %s of %s, the latest %+v", whole.root, commit.Rev, commit.DID, latest)
	}
	for i, want := range ids {
		id, err := loaded.GetRecordCID(t.Context(), "com.example.note", syntax.RecordKey(fmt.Sprintf("note%02d", i)))
		if err != nil || id.String() != want {
			t.Errorf("record %d: %s, %v", i, id, err)
		}
	}
	if same := query(t, s, "", "getCheckout", "did", alice.DID); !bytes.Equal(same.Body, got.Body) || same.Header.Get("Content-Type") != got.Header.Get("Content-Type") {
		t.Error("getCheckout is not getRepo")
	}

	var head struct{ Root string }
	query(t, s, "", "getHead", "did", alice.DID).Decode(t, &head)
	if head.Root != latest.CID {
		t.Errorf("getHead %q, getLatestCommit %q", head.Root, latest.CID)
	}
	if a := query(t, s, "", "getRepoStatus", "did", alice.DID); string(a.Body) != `{"did":"`+alice.DID+`","active":true,"rev":"`+latest.Rev+`"}` {
		t.Errorf("getRepoStatus: %s", a.Body)
	}

	// A HEAD request costs nothing and returns the length.
	a := s.Do(t, pdstest.Request{Method: http.MethodHead, NSID: "com.atproto.sync.getRepo?did=" + alice.DID})
	if a.Status != http.StatusOK || len(a.Body) != 0 || a.Header.Get("Content-Length") != fmt.Sprint(len(got.Body)) {
		t.Errorf("HEAD: %d %v", a.Status, a.Header)
	}
}

// TestSyncProof: getRecord proves that a record exists, and that one does not,
// without superfluous blocks.
func TestSyncProof(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice := s.SignUp(t, "alice")
	prove := func(rkey, want string) {
		t.Helper()
		a := wantCAR(t, query(t, s, "", "getRecord", "did", alice.DID, "collection", "com.example.note", "rkey", rkey))
		byCID := map[cid.Cid][]byte{}
		used := 1 // the commit
		for _, b := range a.blocks {
			byCID[b.CID] = b.Data
		}
		commit, err := repo.DecodeCommit(byCID[a.root])
		if err != nil || a.blocks[0].CID != a.root {
			t.Fatalf("%s: %v", rkey, err)
		}
		if err := commit.Verify(publicKey(t, alice)); err != nil {
			t.Error(err)
		}
		tree, err := mst.Open(mst.Link{CID: commit.Data}, 0, func(l *mst.Link) (*mst.Node, error) {
			block, ok := byCID[l.CID]
			if !ok {
				return nil, fmt.Errorf("node %s is missing", l.CID)
			}
			used++
			return mst.Decode(block)
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := tree.Get("com.example.note/" + rkey)
		switch {
		case want == "" && err != mst.ErrNotFound: //nolint:errorlint // the very value
			t.Errorf("%s: %s, %v, want a proof that it does not exist", rkey, got, err)
		case want != "" && (err != nil || got.String() != want || byCID[got] == nil):
			t.Errorf("%s: %s, %v, want %s and its block", rkey, got, err, want)
		case want != "":
			used++
		}
		if used != len(a.blocks) {
			t.Errorf("%s: %d blocks, %d are needed", rkey, len(a.blocks), used)
		}
	}
	prove("note", "") // of an empty repository
	for i := range 40 {
		note(t, s, alice, fmt.Sprintf("note%02d", 2*i), "text")
	}
	for i := range 40 {
		id := note(t, s, alice, fmt.Sprintf("note%02d", 2*i), "text")
		prove(fmt.Sprintf("note%02d", 2*i), id)
		prove(fmt.Sprintf("note%02d", 2*i+1), "")
	}
	prove("a", "")
	prove("z", "")
}

// TestSyncBlocks: getBlocks finds the commit, nodes and records, each once.
func TestSyncBlocks(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice := s.SignUp(t, "alice")
	for i := range 30 {
		note(t, s, alice, fmt.Sprintf("note%02d", i), fmt.Sprint("text ", i%3)) // some are there more than once
	}
	blocks := func(ids ...string) pdstest.Answer {
		params := []string{"did", alice.DID}
		for _, id := range ids {
			params = append(params, "cids", id)
		}
		return query(t, s, "", "getBlocks", params...)
	}
	whole := wantCAR(t, query(t, s, "", "getRepo", "did", alice.DID))
	all, distinct := []string{}, map[cid.Cid]bool{}
	for _, b := range whole.blocks {
		all = append(all, b.CID.String())
		distinct[b.CID] = true
		one := wantCAR(t, blocks(b.CID.String()))
		if one.root.Defined() || len(one.blocks) != 1 || !bytes.Equal(one.blocks[0].Data, b.Data) {
			t.Errorf("%s: %+v", b.CID, one)
		}
	}
	got := wantCAR(t, blocks(all...))
	for _, b := range got.blocks {
		if !distinct[b.CID] {
			t.Errorf("%s was not asked for, or came twice", b.CID)
		}
		delete(distinct, b.CID)
	}
	if len(distinct) > 0 {
		t.Errorf("%d blocks are missing", len(distinct))
	}
	blocks().WantError(t, 400, "InvalidRequest", `Missing required key "cids" at $`)
	missing := []string{dagcbor.CID([]byte{0xf6}).String(), "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"}
	blocks(missing[0], all[1], missing[1], missing[0]).WantError(t, 400, "InvalidRequest", "Could not find cids: "+missing[0]+","+missing[1])
	blocks(all[0], "x").WantError(t, 400, "InvalidRequest", "Invalid CID at $.cids")
	// A block of another account is not found in this one.
	bob := s.SignUp(t, "bob")
	note(t, s, bob, "note", "of bob")
	of := wantCAR(t, query(t, s, "", "getRepo", "did", bob.DID))
	for _, b := range of.blocks {
		blocks(b.CID.String()).WantError(t, 400, "InvalidRequest", "Could not find cids: "+b.CID.String())
	}
}

// TestSyncSince: the answer has what commits after a revision wrote, and the commit;
// applied to the older file it makes the newer one.
func TestSyncSince(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice := s.SignUp(t, "alice")
	var revs []string
	var files []archive
	snapshot := func() {
		var latest struct{ Rev string }
		query(t, s, "", "getLatestCommit", "did", alice.DID).Decode(t, &latest)
		revs = append(revs, latest.Rev)
		files = append(files, wantCAR(t, query(t, s, "", "getRepo", "did", alice.DID)))
	}
	snapshot()
	for i := range 40 {
		switch i % 7 {
		case 6:
			s.Do(t, pdstest.Request{NSID: "com.atproto.repo.deleteRecord", Auth: pdstest.Bearer(alice.AccessJwt), Body: map[string]any{
				"repo": alice.DID, "collection": "com.example.note", "rkey": fmt.Sprintf("note%02d", i/2),
			}})
		default:
			note(t, s, alice, fmt.Sprintf("note%02d", i*11%40), fmt.Sprint("text ", i))
		}
		snapshot()
	}
	last := files[len(files)-1]
	for i, rev := range revs {
		diff := wantCAR(t, query(t, s, "", "getRepo", "did", alice.DID, "since", rev))
		if diff.root != last.root || len(diff.blocks) == 0 || diff.blocks[0].CID != last.root {
			t.Fatalf("since %d: root %s", i, diff.root)
		}
		// It keeps the order of the whole file, and holds nothing else.
		rest := last.blocks
		for _, b := range diff.blocks {
			for len(rest) > 0 && rest[0].CID != b.CID {
				rest = rest[1:]
			}
		}
		if len(rest) == 0 {
			t.Errorf("since %d: blocks out of order, or of no use", i)
		}
		have := map[cid.Cid]bool{}
		for _, b := range append(files[i].blocks, diff.blocks...) {
			have[b.CID] = true
		}
		for _, b := range last.blocks {
			if !have[b.CID] {
				t.Errorf("since %d: block %s is neither in the file of then nor in the difference", i, b.CID)
			}
		}
		// What was always there is not sent again.
		always := map[cid.Cid]int{}
		for _, file := range files[i:] {
			for _, b := range file.blocks {
				always[b.CID]++
			}
		}
		for _, b := range diff.blocks[1:] {
			if i < len(files)-1 && always[b.CID] == len(files)-i {
				t.Errorf("since %d: block %s was there already", i, b.CID)
			}
		}
	}
	for since, want := range map[string]int{"2222222222222": len(last.blocks), revs[len(revs)-1]: 1, "7777777777777": 1} {
		if got := wantCAR(t, query(t, s, "", "getRepo", "did", alice.DID, "since", since)); len(got.blocks) != want {
			t.Errorf("since %s: %d blocks, want %d", since, len(got.blocks), want)
		}
	}
	query(t, s, "", "getRepo", "did", alice.DID, "since", "yesterday").WantError(t, 400, "InvalidRequest", "Invalid TID at $.since")
}

// TestSyncStates: the answers about inactive accounts, by caller.
func TestSyncStates(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice, bob := s.SignUp(t, "alice"), s.SignUp(t, "bob")
	id := note(t, s, alice, "note", "text")
	calls := map[string][]string{
		"getRepo": {}, "getCheckout": {}, "getLatestCommit": {}, "getHead": {},
		"getRecord": {"collection", "com.example.note", "rkey", "note"}, "getBlocks": {"cids", id},
	}
	subject := func(member string, applied bool) {
		t.Helper()
		a := s.Do(t, pdstest.Request{NSID: "com.atproto.admin.updateSubjectStatus", Auth: admin(), Body: map[string]any{
			"subject": map[string]any{"$type": "com.atproto.admin.defs#repoRef", "did": alice.DID}, member: map[string]any{"applied": applied},
		}})
		if a.Status != http.StatusOK {
			t.Fatalf("%d %s", a.Status, a.Body)
		}
	}
	check := func(status, name, message string) {
		t.Helper()
		for method, params := range calls {
			params := append([]string{"did", alice.DID}, params...)
			for _, auth := range []string{"", pdstest.Bearer(bob.AccessJwt)} {
				a := query(t, s, auth, method, params...)
				if name == "" && a.Status != http.StatusOK {
					t.Errorf("%s of an active account: %d %s", method, a.Status, a.Body)
				}
				if name != "" {
					a.WantError(t, 400, name, message+alice.DID)
				}
			}
			for _, auth := range []string{admin(), pdstest.Bearer(alice.AccessJwt)} {
				if a := query(t, s, auth, method, params...); a.Status != http.StatusOK {
					t.Errorf("%s while %q for owner and admin: %d %s", method, status, a.Status, a.Body)
				}
			}
		}
		var got struct {
			Active      bool
			Status, Rev string
		}
		query(t, s, "", "getRepoStatus", "did", alice.DID).Decode(t, &got)
		if got.Active != (status == "") || got.Status != status || (got.Rev == "") != (status != "") {
			t.Errorf("getRepoStatus while %q: %+v", status, got)
		}
		var list struct {
			Repos []struct {
				DID, Status string
				Active      bool
			}
		}
		query(t, s, "", "listRepos").Decode(t, &list)
		if len(list.Repos) != 2 || list.Repos[0].DID != alice.DID || list.Repos[0].Active != (status == "") || list.Repos[0].Status != status || !list.Repos[1].Active {
			t.Errorf("listRepos while %q: %+v", status, list)
		}
	}
	check("", "", "")
	subject("deactivated", true)
	check("deactivated", "RepoDeactivated", "Repo has been deactivated: ")
	subject("deactivated", false)
	subject("takedown", true)
	alice.AccessJwt = signInTakenDown(t, s, alice) // the old sessions have ended
	check("takendown", "RepoTakendown", "Repo has been takendown: ")
	subject("takedown", false)
	alice = s.SignIn(t, "alice.test", pdstest.Password)
	check("", "", "")
	if err := s.Run(t.Context(), "account.suspend", map[string]string{"account": alice.DID}, new(any)); err != nil {
		t.Fatal(err)
	}
	check("suspended", "RepoSuspended", "Repo has been suspended: ")

	// A caller that sends credentials must send good ones.
	for method, params := range calls {
		a := query(t, s, "Bearer x", method, append([]string{"did", bob.DID}, params...)...)
		a.WantError(t, 400, "InvalidToken", "Token could not be verified")
	}
}

func signInTakenDown(t *testing.T, s *pdstest.InProcess, who pdstest.Session) string {
	t.Helper()
	var in pdstest.Session
	s.Do(t, pdstest.Request{NSID: "com.atproto.server.createSession", Body: map[string]any{
		"identifier": who.Handle, "password": pdstest.Password, "allowTakendown": true,
	}}).Decode(t, &in)
	return in.AccessJwt
}

// TestSyncRefuses: parameters that name nothing, or are malformed.
func TestSyncRefuses(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	alice := s.SignUp(t, "alice")
	const nobody = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
	for method, params := range map[string][]string{
		"getRepo": {}, "getCheckout": {}, "getLatestCommit": {}, "getHead": {}, "getRepoStatus": {},
		"getRecord": {"collection", "com.example.note", "rkey", "note"}, "getBlocks": {"cids", dagcbor.CID(nil).String()},
	} {
		query(t, s, "", method, append([]string{"did", nobody}, params...)...).WantError(t, 400, "RepoNotFound", "Could not find repo for DID: "+nobody)
		query(t, s, "", method, append([]string{"did", "alice.test"}, params...)...).WantError(t, 400, "InvalidRequest", "Invalid DID at $.did")
		query(t, s, "", method, params...).WantError(t, 400, "InvalidRequest", `Missing required key "did" at $`)
	}
	query(t, s, "", "getRecord", "did", alice.DID, "collection", "note", "rkey", "x").WantError(t, 400, "InvalidRequest", "Invalid NSID at $.collection")
	query(t, s, "", "getRecord", "did", alice.DID, "collection", "com.example.note", "rkey", "..").WantError(t, 400, "InvalidRequest", "Invalid record key at $.rkey")
	for _, limit := range []string{"0", "1001", "-1"} {
		query(t, s, "", "listRepos", "limit", limit).WantError(t, 400, "InvalidRequest", "limit must be from 1 to 1000")
	}
	for _, cursor := range []string{"x", "-1", "1.5", "99999999999999999999"} {
		query(t, s, "", "listRepos", "cursor", cursor).WantError(t, 400, "InvalidRequest", "Malformed cursor")
	}
}

// TestListRepos: page by page, each once, in the order of creation.
func TestListRepos(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	var want []string
	for i := range 7 {
		want = append(want, s.SignUp(t, fmt.Sprint("user", i)).DID)
	}
	for _, limit := range []string{"1", "3", "7", "1000"} {
		var got []string
		for cursor := ""; ; {
			var page struct {
				Cursor string
				Repos  []struct {
					DID, Head, Rev string
					Active         bool
				}
			}
			query(t, s, "", "listRepos", "limit", limit, "cursor", cursor).Decode(t, &page)
			for _, r := range page.Repos {
				got = append(got, r.DID)
				var latest struct{ CID, Rev string }
				query(t, s, "", "getLatestCommit", "did", r.DID).Decode(t, &latest)
				if r.Head != latest.CID || r.Rev != latest.Rev || !r.Active {
					t.Errorf("%+v, the latest commit is %+v", r, latest)
				}
			}
			if cursor = page.Cursor; cursor == "" {
				break
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("by %s: %s, want %s", limit, got, want)
		}
	}
	if a := query(t, s, "", "listRepos", "cursor", "1000000"); strings.TrimSpace(string(a.Body)) != `{"repos":[]}` {
		t.Errorf("behind the last: %s", a.Body)
	}
}
