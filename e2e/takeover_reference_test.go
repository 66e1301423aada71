//go:build reference

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/internal/pdstest"
)

// TestReferenceTakeOver is the switch as an operator makes it: the reference with everything of
// the contract's list, stopped, taken over, Nestbox on the same env file and address, and the
// way back; with clients that hold their sessions meanwhile.
func TestReferenceTakeOver(t *testing.T) {
	for _, c := range []struct {
		name   string
		signal syscall.Signal
	}{{"stopped", syscall.SIGTERM}, {"killed", syscall.SIGKILL}} {
		t.Run(c.name, func(t *testing.T) {
			s := newSwitch(t, c.signal)
			runScript(t, []string{"takeover.mjs"}, []string{
				"SERVICE=" + s.old.Base, "PLC=" + s.old.plc, "REDIRECT=" + refRedirect, "BUSY=20",
			}, handlers{
				"people": func(string) any { return s.people() },
				"allow":  func(request string) any { return s.allow(request) },
				"switch": func(string) any { s.over(); return nil },
				"back":   func(string) any { s.back(); return nil },
			})
			if t.Failed() && s.nestbox != nil {
				t.Logf("the server's log:\n%s", s.nestbox.Log())
			}
		})
	}
}

// switching is one switch.
type switching struct {
	t       *testing.T
	old     *referencePDS
	signal  syscall.Signal
	mail    *pdstest.Mailbox
	facts   *sourceFacts
	envFile string
	nestbox *pdstest.Process
	// seen is how many events there were at the switch.
	seen int
}

func newSwitch(t *testing.T, signal syscall.Signal) *switching {
	t.Helper()
	return newSwitchOf(t, newReferencePDS(t, startPLC(t)), signal)
}

// newSwitchOf is newSwitch for an old server with settings of its own.
func newSwitchOf(t *testing.T, old *referencePDS, signal syscall.Signal) *switching {
	t.Helper()
	s := &switching{t: t, old: old, signal: signal, mail: pdstest.NewMailbox(t, pdstest.MailboxOptions{})}
	s.old.start(t, s.mail.Settings()...)
	s.facts = fillSource(t, s.old.Client, s.mail)
	s.envFile = filepath.Join(pdstest.TempDir(t), "pds.env")
	lines := append(s.old.settings(), s.mail.Settings()...)
	if err := os.WriteFile(s.envFile, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *switching) people() any {
	person := func(name, handle string) map[string]string {
		return map[string]string{"did": s.facts.sessions[name].DID, "handle": handle}
	}
	return map[string]any{
		"alice": person("alice", "alice.test"), "heidi": person("heidi", "heidi2.test"), "password": pdstest.Password,
		"app": s.facts.apps["phone"], "privileged": s.facts.apps["watch"], "revoked": s.facts.apps["old"],
	}
}

func (s *switching) allow(request string) string {
	var r struct{ URL, Identifier, Scope string }
	if err := json.Unmarshal([]byte(request), &r); err != nil {
		s.t.Fatal(err)
	}
	return referencePerson(s.t, s.old.Base, r.URL, r.Identifier, s.facts.sessions["heidi"].DID, r.Scope)
}

// sourceCode is a code in a mail of the reference.
var sourceCode = regexp.MustCompile(`[A-Z2-7]{5}-[A-Z2-7]{5}`)

// sourceHash is the form of the reference's hashes of passwords.
var sourceHash = regexp.MustCompile(`^[0-9a-f]{32}:[0-9a-f]{128}$`)

// over stops the old server, takes its directory over, and starts Nestbox there.
func (s *switching) over() {
	t := s.t
	t.Helper()
	alice := pdstest.Bearer(s.old.SignIn(t, "alice.test", pdstest.Password).AccessJwt)
	mustCall(t, s.old.Client, alice, "com.atproto.server.revokeAppPassword", map[string]any{"name": "old"})
	mustCall(t, s.old.Client, "", "com.atproto.server.requestPasswordReset", map[string]any{"email": "grace@example.com"})
	s.facts.resetCode = sourceCode.FindString(s.mail.Wait(t, "grace@example.com").Text)
	mustCall(t, s.old.Client, "", "com.atproto.server.requestPasswordReset", map[string]any{"email": "frank@example.com"})
	late := sourceCode.FindString(s.mail.Wait(t, "frank@example.com").Text)
	s.beside()
	before, stream := snapshot(t, s.old.Client, s.facts), frames(t, s.old.Base)

	s.old.stop(t, s.signal)
	files := sums(t, s.old.dir, filepath.Join(s.old.dir, "nestbox"))
	out, err := pdstest.Run(t, "", "takeover", "--env-file", s.envFile, "--json")
	if err != nil {
		t.Fatalf("take over: %v\n%s", err, out)
	}
	same(t, "files of the source", sums(t, s.old.dir, filepath.Join(s.old.dir, "nestbox")), files)

	// Frank's code is a quarter of an hour old by now.
	alterDatabase(t, filepath.Join(s.old.dir, "nestbox"), `UPDATE email_code SET made_at = made_at - 901000, expires = expires - 901000
		WHERE account_id = (SELECT id FROM account WHERE did = '`+s.facts.sessions["frank"].DID+`')`)
	s.nestbox = pdstest.LaunchArgs(t, []string{"serve", "--env-file", s.envFile, "--listen", "127.0.0.1:" + s.old.port}, "PDS_LOG_LEVEL=warn")
	t.Cleanup(s.nestbox.Stop)
	same(t, "what the server shows", snapshot(t, s.nestbox.Client, s.facts), before)
	s.compareStream(stream)
	s.checkStatuses()
	s.checkRest(alice)
	expired := s.nestbox.Do(t, pdstest.Request{NSID: "com.atproto.server.resetPassword", Body: map[string]string{"token": late, "password": "another-long-password"}})
	if name, _ := expired.Error(t); late == "" || expired.Status == http.StatusOK || name != "ExpiredToken" {
		t.Errorf("a code that is too old: %d %s", expired.Status, expired.Body)
	}
}

// beside is what can be done beside the running old server: nothing starts on its directory,
// a dry run writes nothing there, and the first pass only the new directory.
func (s *switching) beside() {
	t := s.t
	t.Helper()
	target := filepath.Join(s.old.dir, "nestbox")
	if _, err := pdstest.Run(t, "", "serve", "--env-file", s.envFile, "--listen", freeAddress(t)); err == nil || !strings.Contains(err.Error(), "nestbox takeover") {
		t.Errorf("a server starts on what was not taken over: %v", err)
	}
	if out, err := pdstest.Run(t, "", "takeover", "--env-file", s.envFile, "--dry-run", "--json"); err != nil {
		t.Errorf("dry run: %v\n%s", err, out)
	}
	if _, err := os.Stat(target); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the dry run made %s: %v", target, err)
	}
	if out, err := pdstest.Run(t, "", "takeover", "--env-file", s.envFile, "--prepare", "--json"); err != nil {
		t.Errorf("first pass: %v\n%s", err, out)
	}
	if out, err := pdstest.Run(t, "", "takeover", "--env-file", s.envFile, "--json"); err == nil {
		t.Errorf("the final pass beside the running server:\n%s", out)
	}
}

// compareStream: the event stream from the beginning is byte for byte the old one; the next
// event has the next number.
func (s *switching) compareStream(want [][]byte) {
	s.t.Helper()
	got := frames(s.t, s.nestbox.Base)
	if len(got) < len(want) {
		s.t.Fatalf("%d frames, %d before", len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			s.t.Fatalf("frame %d differs:\n got  %q\n want %q", i, got[i], want[i])
		}
	}
	s.seen = len(want)
}

// checkStatuses: takedowns and deactivations go on.
func (s *switching) checkStatuses() {
	t, c, f := s.t, s.nestbox.Client, s.facts
	t.Helper()
	status := func(nsid string) int { return c.Do(t, pdstest.Request{NSID: nsid}).Status }
	signIn := func(name string) pdstest.Answer {
		return c.Do(t, pdstest.Request{NSID: "com.atproto.server.createSession", Body: map[string]string{"identifier": name + ".test", "password": pdstest.Password}})
	}
	if name, _ := signIn("bob").Error(t); name != "AccountTakedown" {
		t.Errorf("bob, who is taken down, signs in: %s", name)
	}
	if a := signIn("dave"); a.Status == http.StatusOK {
		t.Error("dave, who was deleted, signs in")
	}
	for _, name := range []string{"alice", "carol", "erin", "frank", "grace"} {
		if a := signIn(name); a.Status != http.StatusOK {
			t.Errorf("%s signs in: %d %s", name, a.Status, a.Body)
		}
	}
	var carol struct{ Active bool }
	signIn("carol").Decode(t, &carol)
	if carol.Active {
		t.Error("carol is active")
	}
	erin := f.sessions["erin"].DID
	record := "com.atproto.repo.getRecord?collection=app.bsky.feed.post&repo=" + erin + "&rkey=" + f.erinPost[strings.LastIndexByte(f.erinPost, '/')+1:]
	blob := "com.atproto.sync.getBlob?did=" + erin + "&cid=" + f.erinBlob
	if status(record) == http.StatusOK || status(blob) == http.StatusOK {
		t.Error("erin's record and blob, which are taken down, show")
	}
	lift := func(subject map[string]any) {
		mustCall(t, c, adminBasic, "com.atproto.admin.updateSubjectStatus", map[string]any{"subject": subject, "takedown": map[string]any{"applied": false}})
	}
	var shown struct {
		Takedown struct{ Ref string }
	}
	c.Do(t, pdstest.Request{NSID: "com.atproto.admin.getSubjectStatus?uri=" + f.erinPost, Auth: adminBasic}).Decode(t, &shown)
	if shown.Takedown.Ref != "case-1" {
		t.Errorf("the record's takedown is %q", shown.Takedown.Ref)
	}
	lift(map[string]any{"$type": "com.atproto.repo.strongRef", "uri": f.erinPost, "cid": f.erinCID})
	lift(map[string]any{"$type": "com.atproto.admin.defs#repoBlobRef", "did": erin, "cid": f.erinBlob})
	if status(record) != http.StatusOK || status(blob) != http.StatusOK {
		t.Errorf("lifted: record %d, blob %d", status(record), status(blob))
	}
}

// checkRest: codes, uploads, invite codes, access tokens.
func (s *switching) checkRest(oldAccess string) {
	t, c, f := s.t, s.nestbox.Client, s.facts
	t.Helper()
	if a := c.Do(t, pdstest.Request{NSID: "com.atproto.server.getSession", Auth: oldAccess}); a.Status != http.StatusOK {
		t.Errorf("an access token of the old server: %d %s", a.Status, a.Body)
	}
	mustCall(t, c, "", "com.atproto.server.resetPassword", map[string]any{"token": f.resetCode, "password": "another-long-password"})
	c.SignIn(t, "grace.test", "another-long-password")
	writePost(t, c, oldAccess, f.sessions["alice"].DID, pictured(f.temporary))
	signUp := func(name string) int {
		return c.Do(t, pdstest.Request{NSID: "com.atproto.server.createAccount", Body: map[string]string{
			"handle": name + ".test", "email": name + "@example.com", "password": pdstest.Password, "inviteCode": f.invite,
		}}).Status
	}
	if first, second := signUp("ivan"), signUp("judy"); first != http.StatusOK || second == http.StatusOK {
		t.Errorf("an invite code with one use left: %d, %d", first, second)
	}
}

// checkDatabase: nobody is to be deleted whom the old server never deletes.
func (s *switching) checkDatabase() {
	s.t.Helper()
	c, err := sqlite.OpenConn(filepath.Join(s.old.dir, "nestbox", "nestbox.sqlite"), sqlite.OpenReadOnly)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	err = sqlitex.Execute(c, "SELECT handle FROM account WHERE delete_after IS NOT NULL", &sqlitex.ExecOptions{ResultFunc: func(r *sqlite.Stmt) error {
		s.t.Errorf("%s is to be deleted", r.ColumnText(0))
		return nil
	}})
	if err != nil {
		s.t.Fatal(err)
	}
	// Alice has signed in by each of her passwords: their hashes are ours by now. Heidi's is not.
	err = sqlitex.Execute(c, `SELECT 'password', handle, password_hash FROM account
		UNION ALL SELECT 'app password', a.handle, p.hash FROM app_password p JOIN account a ON a.id = p.account_id`,
		&sqlitex.ExecOptions{ResultFunc: func(r *sqlite.Stmt) error {
			if old := sourceHash.MatchString(r.ColumnText(2)); old && r.ColumnText(1) == "alice.test" {
				s.t.Errorf("%s of alice still has the old server's hash", r.ColumnText(0))
			}
			return nil
		}})
	if err != nil {
		s.t.Fatal(err)
	}
}

// back stops Nestbox, makes a directory for the old server, and starts that there.
func (s *switching) back() {
	t := s.t
	t.Helper()
	all := frames(t, s.nestbox.Base)
	last := numberOf(t, all[:s.seen])
	for i := s.seen; i < len(all); i++ { // the numbers go on without a gap
		if n := numberOf(t, all[:i+1]); n != last+1 {
			t.Errorf("event %d follows %d", n, last)
		}
		last++
	}
	s.nestbox.Stop()
	s.checkDatabase()
	dir := filepath.Join(pdstest.TempDir(t), "back")
	files := sums(t, s.old.dir, filepath.Join(s.old.dir, "nestbox"))
	out, err := pdstest.Run(t, "", "takeover", "--env-file", s.envFile, "--back", dir, "--json")
	if err != nil {
		t.Fatalf("go back: %v\n%s", err, out)
	}
	same(t, "files of the source, on the way back", sums(t, s.old.dir, filepath.Join(s.old.dir, "nestbox")), files)
	var report struct{ Moved, New []string }
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatal(err)
	}
	if len(report.Moved) == 0 || len(report.New) != 1 {
		t.Errorf("moved %v, new %v", report.Moved, report.New)
	}
	s.old.dir = dir
	s.old.start(t, s.mail.Settings()...)
	alice := s.old.SignIn(t, "alice.test", pdstest.Password)
	car, err := os.ReadFile(filepath.Join(dir, "moved", alice.DID+".car"))
	if err != nil {
		t.Fatal(err)
	}
	a := s.old.Do(t, pdstest.Request{
		Method: http.MethodPost, NSID: "com.atproto.repo.importRepo", Auth: pdstest.Bearer(alice.AccessJwt), Body: string(car),
		Header: http.Header{"Content-Type": {"application/vnd.ipld.car"}},
	})
	if a.Status != http.StatusOK {
		t.Errorf("import what was written here: %d %s", a.Status, a.Body)
	}
	uri, _ := writePost(t, s.old.Client, pdstest.Bearer(alice.AccessJwt), alice.DID, newPost("at home again"))
	if number := numberOf(t, frames(t, s.old.Base)); number <= last {
		t.Errorf("%s has the number %d, and ours went up to %d", uri, number, last)
	}
}

// numberOf returns the number of the last of some frames.
func numberOf(t *testing.T, all [][]byte) int64 {
	t.Helper()
	_, m, err := readFrame(all[len(all)-1])
	if err != nil {
		t.Fatal(err)
	}
	switch m := m.(type) {
	case *comatproto.SyncSubscribeRepos_Commit:
		return m.Seq
	case *comatproto.SyncSubscribeRepos_Sync:
		return m.Seq
	case *comatproto.SyncSubscribeRepos_Identity:
		return m.Seq
	case *comatproto.SyncSubscribeRepos_Account:
		return m.Seq
	default:
		t.Fatalf("a frame of kind %T", m)
		return 0
	}
}
