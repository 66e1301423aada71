package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nestbox/admin"
	"nestbox/internal/pdstest"
)

// aged is a server whose clock the test sets.
func aged(t *testing.T, settings ...string) (subject, *clock) {
	t.Helper()
	c := &clock{}
	srv := pdstest.Start(t, pdstest.Options{Settings: settings, Now: c.now})
	return subject{srv.Client, srv.DataDir}, c
}

// trail counts the kinds of events of an account.
func (s subject) trail(t *testing.T, who string) map[string]int {
	t.Helper()
	var info admin.AccountInfo
	s.command(t, "account.info", map[string]string{"account": who}, &info)
	kinds := map[string]int{}
	for _, e := range info.Trail {
		kinds[e.Kind]++
	}
	return kinds
}

func day(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }

// TestContractRotation walks through refreshSession's first table.
func TestContractRotation(t *testing.T) {
	s, now := aged(t)
	zero := s.SignUp(t, "alice")
	sid := strings.TrimSuffix(jti(t, zero.RefreshJwt), ".0")
	want := func(token string, generation int) pdstest.Session {
		t.Helper()
		got := s.MustRefresh(t, token)
		if id := jti(t, got.RefreshJwt); id != fmt.Sprintf("%s.%d", sid, generation) {
			t.Errorf("got %s, want generation %d", id, generation)
		}
		wantStatus(t, s.GetSession(t, got.AccessJwt), http.StatusOK)
		return got
	}
	one := want(zero.RefreshJwt, 1) // n = h
	want(zero.RefreshJwt, 1)        // n = h-1: the answer was lost
	now.add(day(60))
	again := want(zero.RefreshJwt, 1) // at any time
	two := want(one.RefreshJwt, 2)    // n = h: zero is superseded for good
	want(again.RefreshJwt, 2)         // the twin of one is the same generation
	now.add(20 * time.Hour)
	want(zero.RefreshJwt, 2) // n < h-1, within the window
	three := want(two.RefreshJwt, 3)
	now.add(3 * time.Hour)
	want(zero.RefreshJwt, 3) // converges on the newest, whatever that is
	if kinds := s.trail(t, zero.DID); kinds["suspected-reuse"] > 0 || kinds["refresh-refused"] > 0 {
		t.Errorf("nothing of that is suspicious: %v", kinds)
	}
	now.add(5 * time.Hour)
	revoked.want(t, s.Refresh(t, zero.RefreshJwt)) // n < h-1, later
	revoked.want(t, s.Refresh(t, zero.RefreshJwt))
	if kinds := s.trail(t, zero.DID); kinds["suspected-reuse"] != 1 {
		t.Errorf("a reuse is recorded once: %v", kinds)
	}
	want(one.RefreshJwt, 3) // superseded later than zero
	want(two.RefreshJwt, 3) // the session lives on
	want(three.RefreshJwt, 4)
}

// TestContractReuse shows the settings of the reuse window and policy.
func TestContractReuse(t *testing.T) {
	for policy, ends := range map[string]bool{"report": false, "revoke": true} {
		t.Run(policy, func(t *testing.T) {
			s, now := aged(t, "PDS_SESSION_REUSE_WINDOW=1h", "PDS_SESSION_REUSE_POLICY="+policy)
			zero := s.SignUp(t, "alice")
			other := s.SignIn(t, "alice.test", pdstest.Password)
			one := s.MustRefresh(t, zero.RefreshJwt)
			two := s.MustRefresh(t, one.RefreshJwt)
			now.add(50 * time.Minute)
			s.MustRefresh(t, zero.RefreshJwt)
			now.add(20 * time.Minute)
			revoked.want(t, s.Refresh(t, zero.RefreshJwt))
			if ends {
				s.wantEnded(t, two)
				revoked.want(t, s.Refresh(t, one.RefreshJwt))
			} else {
				s.wantLive(t, two)
			}
			s.wantLive(t, other)
		})
	}
	t.Run("no window", func(t *testing.T) {
		s, now := aged(t, "PDS_SESSION_REUSE_WINDOW=0s")
		zero := s.SignUp(t, "alice")
		one := s.MustRefresh(t, zero.RefreshJwt)
		now.add(time.Hour)
		s.MustRefresh(t, zero.RefreshJwt) // a lost answer needs no window
		s.MustRefresh(t, one.RefreshJwt)
		revoked.want(t, s.Refresh(t, zero.RefreshJwt))
	})
}

// TestContractBurst: the window forgets no token, however many refreshes come.
func TestContractBurst(t *testing.T) {
	s, now := aged(t)
	tokens := []string{s.SignUp(t, "alice").RefreshJwt}
	for i := range 500 {
		if i == 250 {
			now.add(8 * time.Hour)
		}
		tokens = append(tokens, s.MustRefresh(t, tokens[i]).RefreshJwt)
	}
	now.add(8 * time.Hour)
	for _, i := range []int{0, 1, 249, 250, 251, 498, 499} {
		if got := s.MustRefresh(t, tokens[i]).RefreshJwt; jti(t, got) != jti(t, tokens[500]) {
			t.Errorf("generation %d got %s", i, jti(t, got))
		}
	}
}

// TestContractLives: access tokens live two hours, refresh tokens 90 days, each
// for itself.
func TestContractLives(t *testing.T) {
	s, now := aged(t)
	zero := s.SignUp(t, "alice")
	now.add(2*time.Hour - time.Minute)
	wantStatus(t, s.GetSession(t, zero.AccessJwt), http.StatusOK)
	now.add(2 * time.Minute)
	expired.want(t, s.GetSession(t, zero.AccessJwt))
	now.add(day(80))
	one := s.MustRefresh(t, zero.RefreshJwt)
	now.add(day(11))
	expired.want(t, s.Refresh(t, zero.RefreshJwt))
	now.add(day(78))
	s.MustRefresh(t, one.RefreshJwt)

	short, now := aged(t, "PDS_ACCESS_TOKEN_TTL=1500ms", "PDS_REFRESH_TOKEN_TTL=3d")
	zero = short.SignUp(t, "alice")
	now.add(3 * time.Second)
	expired.want(t, short.GetSession(t, zero.AccessJwt))
	now.add(day(3))
	expired.want(t, short.Refresh(t, zero.RefreshJwt))
}

// TestContractConcurrent: any number of concurrent refreshes with one token
// give one successor, and tabs that go on by themselves stay in one session.
func TestContractConcurrent(t *testing.T) {
	onBoth(t, func(t *testing.T, s subject) {
		token := s.SignUp(t, "alice").RefreshJwt
		if ids := refreshAll(t, s, slices.Repeat([]string{token}, 50)); len(countIDs(t, ids)) != 1 {
			t.Errorf("50 concurrent refreshes gave %v", countIDs(t, ids))
		}
		// Eight tabs resume, each with the token that it had, five times.
		tabs := slices.Repeat([]string{s.MustRefresh(t, token).RefreshJwt}, 8)
		for range 5 {
			tabs = refreshAll(t, s, tabs)
		}
		for _, tab := range tabs {
			s.MustRefresh(t, tab)
		}
		var sessions []admin.SessionLine
		s.command(t, "session.list", map[string]string{"account": "alice.test"}, &sessions)
		if len(sessions) != 1 {
			t.Errorf("%d sessions", len(sessions))
		}
	})
}

func refreshAll(t *testing.T, s subject, tokens []string) []string {
	t.Helper()
	next := make([]string, len(tokens))
	var all sync.WaitGroup
	for i, token := range tokens {
		all.Go(func() {
			a, err := s.Try(t, refreshRequest(token))
			var got pdstest.Session
			if err != nil || a.Status != http.StatusOK || json.Unmarshal(a.Body, &got) != nil {
				t.Errorf("%v %d %s", err, a.Status, a.Body)
			}
			next[i] = got.RefreshJwt
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return next
}

func countIDs(t *testing.T, tokens []string) map[string]int {
	t.Helper()
	ids := map[string]int{}
	for _, token := range tokens {
		ids[jti(t, token)]++
	}
	return ids
}

// TestContractRestore puts yesterday's copy of the data directory back. Clients
// stay signed in; sessions made since are gone, sessions ended since are back.
func TestContractRestore(t *testing.T) {
	dir, copied := t.TempDir(), t.TempDir()
	start := func() (subject, func()) {
		srv := pdstest.Start(t, pdstest.Options{Dir: dir})
		return subject{srv.Client, dir}, srv.Stop
	}
	s, stop := start()
	alice := s.MustRefresh(t, s.SignUp(t, "alice").RefreshJwt)
	lazy := s.SignIn(t, "alice.test", pdstest.Password)
	ended := s.SignIn(t, "alice.test", pdstest.Password)
	stop()
	copyDir(t, dir, copied)

	s, stop = start()
	behind := alice
	for range 5 {
		behind, alice = alice, s.MustRefresh(t, alice.RefreshJwt)
	}
	young := s.SignIn(t, "alice.test", pdstest.Password)
	wantEmpty(t, s.post(t, deleteSession, ended.RefreshJwt))
	stop()
	copyDir(t, copied, dir)

	s, _ = start()
	wantStatus(t, s.GetSession(t, alice.AccessJwt), http.StatusOK)
	next := s.MustRefresh(t, alice.RefreshJwt)
	if got, had := generation(t, next.RefreshJwt), generation(t, alice.RefreshJwt); got != had+1 {
		t.Errorf("generation %d was answered with %d", had, got)
	}
	for _, token := range []string{alice.RefreshJwt, behind.RefreshJwt} {
		if got := s.MustRefresh(t, token); jti(t, got.RefreshJwt) != jti(t, next.RefreshJwt) {
			t.Errorf("a replay after the restore got %s", jti(t, got.RefreshJwt))
		}
	}
	s.wantLive(t, next)
	s.wantLive(t, lazy)
	s.wantLive(t, ended)
	s.wantEnded(t, young)
	if n := s.trail(t, "alice.test")["session-ahead-of-database"]; n != 1 {
		t.Errorf("the restore is on the trail %d times", n)
	}
	// A session made after the restore may have young's number, not its nonce.
	s.SignIn(t, "alice.test", pdstest.Password)
	s.wantEnded(t, young)
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	entries, err := os.ReadDir(to)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(to + "/" + e.Name()); err != nil {
			t.Fatal(err)
		}
	}
	// A socket cannot be copied, and a stopped server's is useless.
	if err := os.Remove(from + "/control.sock"); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// TestContractSharing: a replay is recorded if both network and user agent
// differ, not if only one does.
func TestContractSharing(t *testing.T) {
	srv := pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_TRUSTED_PROXIES=127.0.0.0/8,::1/128"}})
	s := subject{srv.Client, srv.DataDir}
	made := s.SignUp(t, "alice")
	from := func(address, agent string) {
		t.Helper()
		r := refreshRequest(made.RefreshJwt)
		r.Header = http.Header{"X-Forwarded-For": {address}, "User-Agent": {agent}}
		wantStatus(t, s.Do(t, r), http.StatusOK)
	}
	count := func(want int) {
		t.Helper()
		if n := s.trail(t, made.DID)["suspected-sharing"]; n != want {
			t.Errorf("recorded %d times, want %d", n, want)
		}
	}
	from("192.0.2.1", "app/1")
	from("192.0.2.1", "app/1")
	from("192.0.2.1", "app/2")
	from("198.51.100.1", "app/1")
	count(0)
	from("198.51.100.1", "thief/1")
	from("198.51.100.1", "thief/1")
	count(1)
}

// TestContractOutput: the members of every successful answer.
func TestContractOutput(t *testing.T) {
	onBoth(t, func(t *testing.T, s subject) {
		info := []string{"active", "did", "didDoc", "email", "emailAuthFactor", "emailConfirmed", "handle"}
		pair := append([]string{"accessJwt", "refreshJwt"}, info...)
		made := s.SignUp(t, "alice")
		check := func(a pdstest.Answer, members []string, status string) {
			t.Helper()
			wantStatus(t, a, http.StatusOK)
			wantHeader(t, a, "Content-Type", "application/json; charset=utf-8")
			wantHeader(t, a, "Access-Control-Allow-Origin", "*")
			wantPrivate(t, a)
			var got map[string]any
			a.Decode(t, &got)
			if status != "" {
				members = append(slices.Clone(members), "status")
			}
			if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, slices.Sorted(slices.Values(members))) {
				t.Errorf("members %v", names)
			}
			doc, ok := got["didDoc"].(map[string]any)
			if !ok || doc["id"] != made.DID || !bytes.Contains(a.Body, []byte(s.Base)) {
				t.Errorf("didDoc %v", got["didDoc"])
			}
			if got["did"] != made.DID || got["handle"] != "alice.test" || got["email"] != "alice@example.com" ||
				got["emailConfirmed"] != false || got["emailAuthFactor"] != false || got["active"] != (status == "") {
				t.Errorf("%s", a.Body)
			}
			if status != "" && got["status"] != status {
				t.Errorf("status %v, want %s", got["status"], status)
			}
		}
		all := func(status string) {
			t.Helper()
			check(s.signIn(t, map[string]string{"identifier": "alice.test", "password": pdstest.Password}), pair, status)
			check(s.Refresh(t, made.RefreshJwt), pair, status)
			check(s.GetSession(t, made.AccessJwt), info, status)
		}
		all("")
		wantStatus(t, s.Do(t, pdstest.Request{NSID: "com.atproto.server.deactivateAccount", Auth: pdstest.Bearer(made.AccessJwt), Body: "{}"}), http.StatusOK)
		all("deactivated")
		s.command(t, "account.suspend", map[string]string{"account": made.DID}, nil)
		all("suspended")
		s.command(t, "account.unsuspend", map[string]string{"account": made.DID}, nil)
		wantStatus(t, s.post(t, "com.atproto.server.activateAccount", made.AccessJwt), http.StatusOK)
		all("")
	})
}

// TestContractIdentity: sessions wait for no directory. They show the known
// document, and handle.invalid if the last check found the handle invalid.
func TestContractIdentity(t *testing.T) {
	dir := t.TempDir()
	first := pdstest.Start(t, pdstest.Options{Dir: dir})
	made := first.SignUp(t, "alice")
	first.Stop()
	alterDatabase(t, dir, "UPDATE identity SET handle_invalid = 1;")

	var lc net.ListenConfig
	silent, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	var asked atomic.Int32
	go func() {
		for {
			c, err := silent.Accept()
			if err != nil {
				return
			}
			asked.Add(1)
			_, _ = io.Copy(io.Discard, c) // never answers
		}
	}()
	s := pdstest.Start(t, pdstest.Options{Dir: dir, Settings: []string{"PDS_DID_PLC_URL=http://" + silent.Addr().String()}})
	got := s.MustRefresh(t, made.RefreshJwt)
	if got.Handle != "handle.invalid" || got.DID != made.DID || !bytes.Contains(got.DIDDoc, []byte(made.DID)) {
		t.Errorf("%+v", got)
	}
	s.SignIn(t, "alice.test", pdstest.Password)
	wantStatus(t, s.GetSession(t, got.AccessJwt), http.StatusOK)
	if n := asked.Load(); n != 0 {
		t.Errorf("the directory was asked %d times", n)
	}
}
