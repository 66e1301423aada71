package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"nestbox/admin"
	"nestbox/internal/pdstest"
)

// The size of the load under which the server is killed.
const (
	killAccounts = 4
	killDevices  = 8 // sessions that are refreshed, of each account
	killVisitors = 2 // workers that sign in and out, of each of as many more
)

// killRounds returns how many times a test kills the server: a few, or as many as
// `make soak` asks for.
func killRounds(t *testing.T) int {
	t.Helper()
	text := os.Getenv("NESTBOX_KILL_ROUNDS")
	if text == "" {
		return 25
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("NESTBOX_KILL_ROUNDS: %v", err)
	}
	return n
}

// TestKill kills the real binary at random moments under load, again and again,
// and starts it on what is left. Every answered change is there: every session
// goes on, whether its last answer was received or lost; an ended session stays
// ended.
func TestKill(t *testing.T) {
	dir := pdstest.TempDir(t)
	server := launchAt(t, dir, "127.0.0.1:0")
	address := mustParse(t, server.Base).Host
	var devices []*device
	var visitors []*visitor
	for i := range killAccounts {
		name := fmt.Sprintf("account%d", i)
		s := server.SignUp(t, name)
		app := newAppPassword(t, server.Client, s)
		for range killDevices {
			devices = append(devices, &device{token: server.SignIn(t, s.DID, app).RefreshJwt})
		}
		// Sign-ins have accounts of their own: their events would push the
		// devices' out of the trail.
		s = server.SignUp(t, fmt.Sprintf("visitor%d", i))
		app = newAppPassword(t, server.Client, s)
		for range killVisitors {
			visitors = append(visitors, &visitor{did: s.DID, password: app})
		}
	}
	for round := range killRounds(t) {
		load(t, server, devices, visitors, time.Duration(20+rand.IntN(180))*time.Millisecond)
		server = launchAt(t, dir, address)
		for _, d := range devices {
			d.check(t, server.Client)
		}
		for _, v := range visitors {
			v.check(t, server.Client)
		}
		if t.Failed() {
			t.Fatalf("in round %d; the server says:\n%s", round, server.Log())
		}
	}
	for i := range killAccounts {
		checkNotAhead(t, dir, fmt.Sprintf("account%d.test", i))
	}
	refreshes, signIns := 0, 0
	for _, v := range visitors {
		signIns += v.signIns
		if v.ended.DID == "" {
			t.Error("a visitor never signed out: it shows nothing")
		}
	}
	for _, d := range devices {
		refreshes += d.answered
		if d.answered == 0 {
			t.Error("a device never got an answer: it shows nothing")
		}
	}
	t.Logf("%d answered refreshes, %d sign-ins", refreshes, signIns)
	server.Stop()
	pdstest.Verify(t, dir)
}

// launchAt starts the server on an address that stays the same over restarts.
func launchAt(t *testing.T, dir, address string, settings ...string) *pdstest.Process {
	t.Helper()
	p := pdstest.LaunchArgs(t, []string{"serve", "--dev", "--listen", address, "--data", dir}, append(settings, "PDS_LOG_LEVEL=warn", "PDS_SESSION_LIMIT=10000")...)
	p.HTTP = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}, Timeout: 30 * time.Second}
	t.Cleanup(p.Kill)
	return p
}

// load lets all workers run until the server is killed.
func load(t *testing.T, server *pdstest.Process, devices []*device, visitors []*visitor, after time.Duration) {
	t.Helper()
	var workers sync.WaitGroup
	for _, d := range devices {
		workers.Go(func() { d.run(t, server.Client) })
	}
	for _, v := range visitors {
		workers.Go(func() { v.run(t, server.Client) })
	}
	kill := time.NewTimer(after)
	<-kill.C
	server.Kill()
	workers.Wait()
}

// device is a client that follows the rules: it presents the newest refresh
// token that it was given.
type device struct {
	token    string
	answered int
}

func refreshRequest(token string) pdstest.Request {
	return pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.refreshSession", Auth: pdstest.Bearer(token)}
}

// run refreshes until the server is gone.
func (d *device) run(t *testing.T, c pdstest.Client) {
	for {
		a, err := c.Try(t, refreshRequest(d.token))
		if err != nil {
			return // the answer is lost, or there never was one
		}
		if !d.take(t, a) {
			return
		}
	}
}

// check presents the newest token after a restart. Whether it was the head, or
// the answer with the head was lost, the answer must be the next generation.
func (d *device) check(t *testing.T, c pdstest.Client) {
	t.Helper()
	d.take(t, c.Do(t, refreshRequest(d.token)))
}

func (d *device) take(t *testing.T, a pdstest.Answer) bool {
	if a.Status != http.StatusOK {
		t.Errorf("signed out: %d %s", a.Status, a.Body)
		return false
	}
	var s pdstest.Session
	a.Decode(t, &s)
	if had, got := generation(t, d.token), generation(t, s.RefreshJwt); got != had+1 {
		t.Errorf("generation %d was answered with %d", had, got)
		return false
	}
	d.token = s.RefreshJwt
	d.answered++
	return true
}

// generation reads the number of a refresh token out of its jti.
func generation(t *testing.T, token string) int {
	parts := strings.Split(token, ".")
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct{ JTI string }
	if err == nil {
		err = json.Unmarshal(raw, &claims)
	}
	n, nerr := strconv.Atoi(claims.JTI[strings.LastIndexByte(claims.JTI, '.')+1:])
	if err != nil || nerr != nil {
		t.Errorf("token %s: %v, %v", token, err, nerr)
	}
	return n
}

// visitor signs in and out again.
type visitor struct {
	did, password string
	// live is a session whose sign-in was answered and whose sign-out was not
	// asked for; ended one whose sign-out was answered.
	live, ended pdstest.Session
	signIns     int
}

func (v *visitor) run(t *testing.T, c pdstest.Client) {
	for {
		a, err := c.Try(t, pdstest.Request{NSID: "com.atproto.server.createSession", Body: map[string]string{"identifier": v.did, "password": v.password}})
		if err != nil {
			return
		}
		if a.Status != http.StatusOK {
			t.Errorf("sign-in: %d %s", a.Status, a.Body)
			return
		}
		var s pdstest.Session
		a.Decode(t, &s)
		gone := v.live
		v.live = s
		v.signIns++
		if gone.RefreshJwt == "" {
			continue
		}
		a, err = c.Try(t, pdstest.Request{Method: http.MethodPost, NSID: "com.atproto.server.deleteSession", Auth: pdstest.Bearer(gone.RefreshJwt)})
		if err != nil {
			return
		}
		if a.Status != http.StatusOK {
			t.Errorf("sign-out: %d %s", a.Status, a.Body)
			return
		}
		v.ended = gone
	}
}

func (v *visitor) check(t *testing.T, c pdstest.Client) {
	t.Helper()
	if v.live.AccessJwt != "" {
		if a := c.GetSession(t, v.live.AccessJwt); a.Status != http.StatusOK {
			t.Errorf("a session whose sign-in was answered: %d %s", a.Status, a.Body)
		}
	}
	if v.ended.AccessJwt != "" {
		c.GetSession(t, v.ended.AccessJwt).WantError(t, 400, "ExpiredToken", "Token has expired")
		c.Refresh(t, v.ended.RefreshJwt).WantError(t, 400, "ExpiredToken", "Token has been revoked")
	}
}

func newAppPassword(t *testing.T, c pdstest.Client, s pdstest.Session) string {
	t.Helper()
	var made struct{ Password string }
	c.Do(t, pdstest.Request{NSID: "com.atproto.server.createAppPassword", Auth: pdstest.Bearer(s.AccessJwt), Body: map[string]string{"name": "load"}}).Decode(t, &made)
	if made.Password == "" {
		t.Fatal("no app password")
	}
	return made.Password
}

// checkNotAhead checks the account's trail: had the database ever been older
// than an answer, a client would have presented a token from its future.
func checkNotAhead(t *testing.T, dir, handle string) {
	t.Helper()
	out, err := pdstest.Run(t, "", "account", "info", "--json", "--dev", "--data", dir, handle)
	if err != nil {
		t.Fatal(err)
	}
	var info admin.AccountInfo
	if err := json.Unmarshal([]byte(out), &info); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if len(info.Trail) == 0 {
		t.Error("the trail is empty")
	}
	for _, e := range info.Trail {
		if e.Kind != "account-created" && e.Kind != "sign-in" && e.Kind != "app-password-created" {
			t.Errorf("%s: %s %s", handle, e.Kind, e.Reason)
		}
	}
}

func mustParse(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
