package e2e

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"nestbox/admin"
	"nestbox/auth"
	"nestbox/internal/pdstest"
)

// operator runs commands on a data directory: through the server that runs on
// it, or on the directory itself while none does.
type operator struct {
	server *pdstest.Process
	// stopped: commands find no server; down: there is none right now.
	stopped, down bool
}

// up is the server, started again if a command needed it stopped.
func (o *operator) up() *pdstest.Process {
	if o.down {
		o.server.Restart()
		o.down = false
	}
	return o.server
}

// onServedAndStopped runs a test both ways; the same must hold.
func onServedAndStopped(t *testing.T, test func(t *testing.T, o *operator)) {
	t.Helper()
	for name, stopped := range map[string]bool{"through the server": false, "on the directory": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, &operator{server: pdstest.Launch(t, ""), stopped: stopped})
		})
	}
}

func (o *operator) exec(t *testing.T, stdin string, args ...string) pdstest.Result {
	t.Helper()
	if o.stopped && !o.down {
		o.server.Stop()
		o.down = true
	}
	return pdstest.Exec(t, pdstest.Invocation{Args: append(args, "--data", o.server.Dir), Stdin: stdin})
}

// run runs a command that succeeds and returns what it prints for people.
func (o *operator) run(t *testing.T, args ...string) string {
	t.Helper()
	r := o.exec(t, "", args...)
	if r.Code != 0 || r.Stderr != "" || r.Stdout == "" {
		t.Fatalf("%q: %+v", args, r)
	}
	return r.Stdout
}

// get runs a command with --json and decodes what it prints.
func (o *operator) get(t *testing.T, result any, stdin string, args ...string) {
	t.Helper()
	r := o.exec(t, stdin, append(args, "--json")...)
	if r.Code != 0 || r.Stderr != "" {
		t.Fatalf("%q: %+v", args, r)
	}
	if err := json.Unmarshal([]byte(r.Stdout), result); err != nil {
		t.Fatalf("%q: %v in %q", args, err, r.Stdout)
	}
}

// wantFailure runs a command that fails and prints why.
func (o *operator) wantFailure(t *testing.T, why string, args ...string) {
	t.Helper()
	r := o.exec(t, "", args...)
	if r.Code != 1 || r.Stdout != "" || !strings.HasPrefix(r.Stderr, "nestbox: ") || !strings.Contains(r.Stderr, why) {
		t.Errorf("%q: %+v, want status 1 and %q on standard error", args, r, why)
	}
}

func (o *operator) wantLive(t *testing.T, s pdstest.Session) {
	t.Helper()
	o.wantAccess(t, s)
	o.up().MustRefresh(t, s.RefreshJwt)
}

func (o *operator) wantAccess(t *testing.T, s pdstest.Session) {
	t.Helper()
	if a := o.up().GetSession(t, s.AccessJwt); a.Status != http.StatusOK {
		t.Errorf("getSession: %d %s", a.Status, a.Body)
	}
}

func (o *operator) wantDead(t *testing.T, s pdstest.Session) {
	t.Helper()
	o.up().GetSession(t, s.AccessJwt).WantError(t, http.StatusBadRequest, "ExpiredToken", "Token has expired")
	o.up().Refresh(t, s.RefreshJwt).WantError(t, http.StatusBadRequest, "ExpiredToken", "Token has been revoked")
}

// wantDeadForGood fails the test unless a session is dead at once on the
// running server, and after a restart.
func (o *operator) wantDeadForGood(t *testing.T, s pdstest.Session) {
	t.Helper()
	o.wantDead(t, s)
	o.up().Kill()
	o.up().Restart()
	o.wantDead(t, s)
}

func (o *operator) info(t *testing.T, who string) (a admin.AccountInfo) {
	t.Helper()
	o.get(t, &a, "", "account", "info", who)
	return a
}

func TestCLIAccounts(t *testing.T) {
	onServedAndStopped(t, func(t *testing.T, o *operator) {
		t.Helper()
		var alice, bob admin.AccountLine
		o.get(t, &alice, pdstest.Password+"\n", "account", "create", "alice.test", "alice@example.com", "--password-stdin")
		if alice.Handle != "alice.test" || alice.Email != "alice@example.com" || alice.Status != "active" || alice.Password != "" {
			t.Errorf("made %+v", alice)
		}
		o.wantLive(t, o.up().SignIn(t, alice.DID, pdstest.Password))
		key := newDIDKey(t)
		o.get(t, &bob, "", "account", "create", "bob.test", "bob@example.com", "--recovery-key", key)
		o.wantLive(t, o.up().SignIn(t, "bob.test", bob.Password))

		if said := o.run(t, "account", "create", "carol.test", "carol@example.com"); !strings.Contains(said, "did:plc:") || !strings.Contains(said, "password") {
			t.Errorf("create says %q", said)
		}
		var all []admin.AccountLine
		o.get(t, &all, "", "account", "list")
		if len(all) != 3 || all[0] != alice || all[2].Handle != "carol.test" {
			t.Errorf("list: %+v", all)
		}
		if said := o.run(t, "account", "list"); strings.Count(said, "\n") != 4 || !strings.Contains(said, bob.DID) {
			t.Errorf("list says %q", said)
		}
		for _, who := range []string{"alice.test", "@Alice.Test", "ALICE@example.com", alice.DID} {
			if a := o.info(t, who); a.AccountLine != alice {
				t.Errorf("%s: %+v", who, a.AccountLine)
			}
		}

		s := o.up().SignIn(t, "alice.test", pdstest.Password)
		if said := o.run(t, "account", "delete", alice.DID); !strings.Contains(said, "deleted") {
			t.Errorf("delete says %q", said)
		}
		o.wantDeadForGood(t, s)
		o.wantFailure(t, `"alice.test": no such account`, "account", "info", "alice.test")
	})
}

func TestCLIPassword(t *testing.T) {
	onServedAndStopped(t, func(t *testing.T, o *operator) {
		t.Helper()
		s := o.up().SignUp(t, "alice")
		var line admin.AccountLine
		o.get(t, &line, "another-password\r\n", "account", "password", "alice@example.com", "--password-stdin")
		if line.DID != s.DID || line.Password != "" {
			t.Errorf("password answers %+v", line)
		}
		o.wantDeadForGood(t, s)
		signIn := pdstest.Request{NSID: "com.atproto.server.createSession", Body: map[string]string{"identifier": "alice.test", "password": pdstest.Password}}
		o.up().Do(t, signIn).WantError(t, http.StatusUnauthorized, "AuthenticationRequired", "Invalid identifier or password")
		o.wantLive(t, o.up().SignIn(t, "alice.test", "another-password"))
		o.get(t, &line, "", "account", "password", "alice.test")
		o.wantLive(t, o.up().SignIn(t, "alice.test", line.Password))
	})
}

func TestCLIStatus(t *testing.T) {
	onServedAndStopped(t, func(t *testing.T, o *operator) {
		t.Helper()
		s := o.up().SignUp(t, "alice")
		o.run(t, "account", "suspend", "alice.test")
		if again := o.up().MustRefresh(t, s.RefreshJwt); again.Status != "suspended" || *again.Active {
			t.Errorf("suspended: %+v", again)
		}
		o.run(t, "account", "unsuspend", "alice.test")
		o.wantLive(t, s)

		o.run(t, "account", "takedown", "alice.test", "--ref", "case 7")
		o.up().GetSession(t, s.AccessJwt).WantError(t, http.StatusUnauthorized, "AccountTakedown", "Account has been taken down")
		if a := o.info(t, s.DID); a.Status != "takendown" || a.TakedownRef != "case 7" || len(a.Sessions) != 0 {
			t.Errorf("taken down: %+v", a)
		}
		o.run(t, "account", "untakedown", "alice.test")
		o.wantDeadForGood(t, s)
		o.wantLive(t, o.up().SignIn(t, "alice.test", pdstest.Password))
	})
}

func TestCLISessions(t *testing.T) {
	onServedAndStopped(t, func(t *testing.T, o *operator) {
		t.Helper()
		first := o.up().SignUp(t, "alice")
		app := o.up().SignIn(t, "alice.test", newAppPassword(t, o.up().Client, first))
		other := o.up().SignUp(t, "bob")
		var list []admin.SessionLine
		o.get(t, &list, "", "session", "list", first.DID)
		if len(list) != 2 || list[0].AppPassword != "load" || list[1].AppPassword != "" || list[0].Network == "" {
			t.Fatalf("sessions: %+v", list)
		}
		if said := o.run(t, "session", "list", "alice.test"); strings.Count(said, "\n") != 3 || !strings.Contains(said, "Go program") {
			t.Errorf("list says %q", said)
		}

		id := strconv.FormatInt(list[0].ID, 10)
		o.wantFailure(t, "bob.test has no session "+id, "session", "revoke", "bob.test", id)
		o.run(t, "session", "revoke", "alice.test", id)
		o.wantDeadForGood(t, app)
		o.wantLive(t, first)
		o.wantFailure(t, "alice.test has no session "+id, "session", "revoke", "alice.test", id)

		var ended admin.Ended
		o.get(t, &ended, "", "account", "signout", "alice.test")
		if ended.Sessions != 1 || len(o.info(t, "alice.test").AppPasswords) != 1 {
			t.Errorf("ended %+v", ended)
		}
		o.wantDeadForGood(t, first)
		o.wantLive(t, other)
		o.run(t, "account", "signout", "alice.test", "--app-passwords")
		if left := o.info(t, "alice.test").AppPasswords; len(left) != 0 {
			t.Errorf("app passwords left: %q", left)
		}
	})
}

// TestCLITrail: account info answers "why was I signed out?".
func TestCLITrail(t *testing.T) {
	onServedAndStopped(t, func(t *testing.T, o *operator) {
		t.Helper()
		s := o.up().SignUp(t, "alice")
		session := o.info(t, "alice.test").Sessions[0].ID
		o.run(t, "session", "revoke", "alice.test", strconv.FormatInt(session, 10))
		o.wantDead(t, s)
		var told []string
		for _, e := range o.info(t, "alice.test").Trail {
			told = append(told, strings.Join([]string{e.Kind, e.By, e.Reason}, "/"))
			if e.At == "" {
				t.Errorf("no time: %+v", e)
			}
		}
		const want = "refresh-refused/server/session was ended session-revoked/admin/ sign-in/owner/password account-created/owner/"
		if got := strings.Join(told, " "); got != want {
			t.Errorf("trail:\n%s, want\n%s", got, want)
		}
		if said := o.run(t, "account", "info", "alice.test"); !strings.Contains(said, "session was ended") || !strings.Contains(said, s.DID) {
			t.Errorf("info says %q", said)
		}
	})
}

func TestCLIKeys(t *testing.T) {
	onServedAndStopped(t, func(t *testing.T, o *operator) {
		t.Helper()
		var rotation string
		list := func() (keys []admin.Key) {
			t.Helper()
			o.get(t, &keys, "", "keys", "list")
			last := len(keys) - 1
			if k := keys[last]; k.Purpose != admin.PurposePLC || k.Configured || rotation != "" && k.ID != rotation {
				t.Errorf("the PLC rotation key is %+v, was %s", k, rotation)
			}
			rotation = keys[last].ID
			return keys[:last]
		}
		old := list()
		if len(old) != 1 || !old[0].Signing {
			t.Fatalf("keys: %+v", old)
		}
		kept, lost := o.up().SignUp(t, "alice"), o.up().SignUp(t, "bob")
		o.wantFailure(t, "the signing key cannot be retired; rotate first", "keys", "retire", old[0].ID)

		var fresh auth.KeyInfo
		o.get(t, &fresh, "", "keys", "rotate")
		if keys := list(); len(keys) != 2 || keys[0].Signing || keys[1].ID != fresh.ID || !keys[1].Signing {
			t.Errorf("keys after a rotation: %+v", keys)
		}
		if said := o.run(t, "keys", "list"); !strings.Contains(said, fresh.ID) || !strings.Contains(said, rotation) {
			t.Errorf("list says %q", said)
		}
		o.wantAccess(t, lost)
		kept = o.up().MustRefresh(t, kept.RefreshJwt)

		o.run(t, "keys", "retire", old[0].ID)
		for _, a := range []pdstest.Answer{o.up().GetSession(t, lost.AccessJwt), o.up().Refresh(t, lost.RefreshJwt)} {
			a.WantError(t, http.StatusBadRequest, "InvalidToken", "Token could not be verified")
		}
		o.wantLive(t, kept)
		o.wantFailure(t, "no such key", "keys", "retire", old[0].ID)
	})
}

func TestCLIErrors(t *testing.T) {
	onServedAndStopped(t, func(t *testing.T, o *operator) {
		t.Helper()
		o.up().SignUp(t, "alice")
		for _, c := range []struct{ args, why string }{
			{"account info nobody.test", `"nobody.test": no such account`},
			{"account info did:plc:ewvi7nxzyoun6zhxrhs64oiz", "no such account"},
			{"account delete nobody@example.com", "no such account"},
			{"account create alice.test a@example.com", "handle is taken"},
			{"account create bob.test alice@example.com", "e-mail address is taken"},
			{"account create bob.example.com b@example.com", "Not a supported handle domain"},
			{"account create bob.test nobody", "not an e-mail address"},
			{"account create bob.test b@example.com --password short", "password is too short"},
			{"account create bob.test b@example.com --password-stdin", "the password is empty"},
			{"account create bob.test b@example.com --recovery-key did:key:nonsense", "ecovery"},
			{"session revoke alice.test 99", "alice.test has no session 99"},
			{"session revoke alice.test one", "one"},
			{"keys retire k-nonsense", "no such key"},
			{"acount list", "acount"},
			{"account info", `expected "<account>"`},
			{"account list --nonsense", "--nonsense"},
		} {
			o.wantFailure(t, c.why, strings.Fields(c.args)...)
		}
		var all []admin.AccountLine
		if o.get(t, &all, "", "account", "list"); len(all) != 1 {
			t.Errorf("a command that failed made %+v", all)
		}
	})
}

func TestCLIWithoutData(t *testing.T) {
	r := pdstest.Exec(t, pdstest.Invocation{Args: []string{"account", "list", "--dev", "--data", t.TempDir() + "/missing"}})
	if r.Code != 1 || !strings.Contains(r.Stderr, "data directory: ") || !strings.Contains(r.Stderr, "missing") || r.Stdout != "" {
		t.Errorf("%+v", r)
	}
	r = pdstest.Exec(t, pdstest.Invocation{Args: []string{"account", "list", "--data", t.TempDir()}})
	if r.Code != 1 || !strings.Contains(r.Stderr, "PDS_HOSTNAME") || strings.Contains(r.Stderr, "PDS_EMAIL") {
		t.Errorf("a command on a directory that was never served: %+v", r)
	}
}

func TestCLIHelp(t *testing.T) {
	for _, args := range [][]string{nil, {"--help"}} {
		r := pdstest.Exec(t, pdstest.Invocation{Args: args})
		if r.Code != 0 || r.Stderr != "" {
			t.Errorf("%q: %+v", args, r)
		}
		for command := range strings.SplitSeq("serve,account create,account list,account info,account password,account signout,account takedown,"+
			"account untakedown,account suspend,account unsuspend,account delete,session list,session revoke,keys list,keys rotate,keys retire,keys reseal,version", ",") {
			if !strings.Contains(r.Stdout, "  "+command+" ") {
				t.Errorf("%q does not name %q", args, command)
			}
		}
	}
	var v struct{ Version, Go string }
	r := pdstest.Exec(t, pdstest.Invocation{Args: []string{"version", "--json"}})
	if err := json.Unmarshal([]byte(r.Stdout), &v); err != nil || v.Version == "" || !strings.HasPrefix(v.Go, "go1.") {
		t.Errorf("version: %v, %+v", err, r)
	}
	if r := pdstest.Exec(t, pdstest.Invocation{Args: []string{"version"}}); r.Stdout != "nestbox "+v.Version+" ("+v.Go+")\n" {
		t.Errorf("version says %q", r.Stdout)
	}
}
