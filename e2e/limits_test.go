package e2e

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"nestbox/internal/pdstest"
)

// limited is a server that counts attempts, behind a proxy on loopback.
type limited struct {
	subject

	now *clock
	t   *testing.T
}

func newLimited(t *testing.T, settings ...string) limited {
	t.Helper()
	s, now := aged(t, append([]string{"PDS_RATE_LIMITS_ENABLED=true", "PDS_TRUSTED_PROXIES=127.0.0.0/8,10.0.0.0/8"}, settings...)...)
	return limited{s, now, t}
}

// signIn is an attempt as the proxy passes it on.
func (l limited) signIn(from, identifier, password string) pdstest.Answer {
	l.t.Helper()
	return l.Do(l.t, pdstest.Request{
		NSID: createSession, Body: map[string]string{"identifier": identifier, "password": password}, Header: forwarded(from),
	})
}

// fail makes n failed attempts.
func (l limited) fail(n int, from, identifier, password string) {
	l.t.Helper()
	for range n {
		wrongPassword.want(l.t, l.signIn(from, identifier, password))
	}
}

// wantRefused fails the test unless an attempt was one too many.
func (l limited) wantRefused(a pdstest.Answer) {
	l.t.Helper()
	wireError{429, "RateLimitExceeded", "Rate Limit Exceeded"}.want(l.t, a)
	wantHeader(l.t, a, "RateLimit-Remaining", "0")
}

func number(t *testing.T, a pdstest.Answer, name string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(a.Header.Get(name), 10, 64)
	if err != nil {
		t.Fatalf("%s: %q", name, a.Header.Get(name))
	}
	return n
}

const (
	here  = "192.0.2.1"
	there = "198.51.100.1"
	// appForm has the form of an app password, but is not one.
	appForm = "abcd-efgh-2345-wxyz"
)

// TestLimitSignIns: 30 failures in five minutes, counted per account whatever
// its name, and per client; all headers are exact.
func TestLimitSignIns(t *testing.T) {
	l := newLimited(t)
	made := l.SignUp(t, "alice")
	start := l.now.now().Unix()
	names := []string{"alice.test", "ALICE.test", "@alice.test", "alice@example.com", "Alice@Example.com", made.DID}
	for i := range 30 {
		a := l.signIn(here, names[i%len(names)], "wrong")
		wrongPassword.want(t, a)
		wantHeader(t, a, "RateLimit-Limit", "30")
		wantHeader(t, a, "RateLimit-Remaining", strconv.Itoa(29-i))
		wantHeader(t, a, "RateLimit-Policy", "30;w=300")
		if reset := number(t, a, "RateLimit-Reset"); reset < start+300 || reset > l.now.now().Unix()+301 {
			t.Errorf("reset at %d, started at %d", reset, start)
		}
	}
	for _, name := range names {
		a := l.signIn(here, name, pdstest.Password) // the right one, too late
		l.wantRefused(a)
		wantHeader(t, a, "RateLimit-Limit", "30")
		if wait, left := number(t, a, "Retry-After"), number(t, a, "RateLimit-Reset")-l.now.now().Unix(); wait < 1 || wait > 300 || wait < left-1 || wait > left+1 {
			t.Errorf("Retry-After %d, %d s until the reset", wait, left)
		}
	}
	// Others are not affected: another client, another account, a client that is
	// signed in.
	wantStatus(t, l.signIn(there, "alice.test", pdstest.Password), http.StatusOK)
	l.SignUp(t, "bob")
	wantStatus(t, l.signIn(here, "bob.test", pdstest.Password), http.StatusOK)
	l.wantLive(t, made)
	l.now.add(5*time.Minute + time.Second)
	a := l.signIn(here, "alice.test", pdstest.Password)
	wantStatus(t, a, http.StatusOK)
	wantHeader(t, a, "RateLimit-Remaining", "30")
}

// TestLimitOwner: an app with a wrong or revoked password does not lock its
// owner out, neither from the same network nor by many apps.
func TestLimitOwner(t *testing.T) {
	l := newLimited(t)
	l.SignUp(t, "alice")
	l.fail(30, here, "alice.test", appForm)
	l.wantRefused(l.signIn(here, "alice.test", appForm))
	for range 3 {
		wantStatus(t, l.signIn(here, "alice.test", pdstest.Password), http.StatusOK)
	}
	// Successes do not count as failures.
	a := l.signIn(here, "alice.test", "wrong")
	wantHeader(t, a, "RateLimit-Remaining", "29")
}

// TestLimitNetwork: 100 failures in five minutes from one network, whichever
// accounts they concern; a network is an IPv4 address or an IPv6 /64.
func TestLimitNetwork(t *testing.T) {
	l := newLimited(t)
	l.SignUp(t, "alice")
	address := func(i int) string { return fmt.Sprintf("2001:db8:1:2::%x", i+1) }
	for i := range 100 {
		wrongPassword.want(t, l.signIn(address(i), fmt.Sprintf("nobody%d.test", i), "wrong"))
	}
	a := l.signIn(address(500), "alice.test", pdstest.Password)
	l.wantRefused(a)
	wantHeader(t, a, "RateLimit-Limit", "100")
	wantHeader(t, a, "RateLimit-Policy", "100;w=300")
	wantStatus(t, l.signIn("2001:db8:1:3::1", "alice.test", pdstest.Password), http.StatusOK)
}

// signUp is an attempt at an account that cannot succeed and costs little: 100
// are allowed in five minutes.
func (l limited) signUp(header http.Header) pdstest.Answer {
	l.t.Helper()
	return l.Do(l.t, pdstest.Request{NSID: "com.atproto.server.createAccount", Body: `{"handle":"alice"}`, Header: header})
}

func forwarded(from string) http.Header { return http.Header{"X-Forwarded-For": {from}} }

// TestLimitSignUps: 100 accounts, or attempts at one, in five minutes.
func TestLimitSignUps(t *testing.T) {
	l := newLimited(t)
	for i := range 100 {
		a := l.signUp(forwarded(here))
		wantStatus(t, a, http.StatusBadRequest)
		wantHeader(t, a, "RateLimit-Policy", "100;w=300")
		wantHeader(t, a, "RateLimit-Remaining", strconv.Itoa(99-i))
	}
	l.wantRefused(l.signUp(forwarded(here)))
	wantStatus(t, l.signUp(forwarded(there)), http.StatusBadRequest)
}

// TestLimitProxy: behind a trusted proxy the client is the nearest address that
// is not a proxy of ours; addresses that the client wrote before it are
// ignored.
func TestLimitProxy(t *testing.T) {
	l := newLimited(t)
	for i := range 100 {
		from := []string{
			here, "203.0.113." + strconv.Itoa(i) + ", " + here, "127.0.0.1, " + here, here + ", 10.1.2.3", "nonsense, " + here,
			"203.0.113.9," + here + ":4711 , 10.0.0.1, 127.0.0.1", "::ffff:" + here,
		}[i%7]
		wantStatus(t, l.signUp(forwarded(from)), http.StatusBadRequest)
	}
	l.wantRefused(l.signUp(forwarded(here)))
	l.wantRefused(l.signUp(forwarded("198.51.100.7, " + here)))
	l.wantRefused(l.signUp(http.Header{"X-Forwarded-For": {"198.51.100.7", here}}))
	wantStatus(t, l.signUp(forwarded(there)), http.StatusBadRequest)

	// Without a trusted proxy the header is ignored.
	direct := newLimited(t, "PDS_TRUSTED_PROXIES=10.0.0.0/8")
	for i := range 100 {
		wantStatus(t, direct.signUp(forwarded("203.0.113."+strconv.Itoa(i))), http.StatusBadRequest)
	}
	direct.wantRefused(direct.signUp(forwarded(there)))
}

// TestLimitBypass: the operator's key and networks are not limited.
func TestLimitBypass(t *testing.T) {
	l := newLimited(t, "PDS_RATE_LIMIT_BYPASS_KEY=open sesame", "PDS_RATE_LIMIT_BYPASS_IPS=192.0.2.0/28,2001:db8::/32")
	l.SignUp(t, "alice")
	for range 102 {
		a := l.signUp(forwarded(here))
		wantStatus(t, a, http.StatusBadRequest)
		wantHeader(t, a, "RateLimit-Limit", "")
	}
	a := l.signIn(here, "alice.test", "wrong")
	wrongPassword.want(t, a)
	wantHeader(t, a, "RateLimit-Limit", "")

	for range 100 {
		wantStatus(t, l.signUp(forwarded(there)), http.StatusBadRequest)
	}
	withKey := func(key string) pdstest.Answer {
		t.Helper()
		return l.signUp(http.Header{"X-Forwarded-For": {there}, "X-Ratelimit-Bypass": {key}})
	}
	wantStatus(t, withKey("open sesame"), http.StatusBadRequest)
	for _, key := range []string{"", "open", "open sesame!", "OPEN SESAME"} {
		l.wantRefused(withKey(key))
	}
	// A client that writes an address of the operator's before its own is
	// limited.
	l.wantRefused(l.signUp(forwarded(here + ", " + there)))
}

// TestLimitEverything: 3,000 requests in five minutes from one client, even those that cost no work;
// exports are counted apart. A refresh beyond the limit gets 429, which costs no session.
func TestLimitEverything(t *testing.T) {
	l := newLimited(t)
	made := l.SignUp(t, "alice")
	request := pdstest.Request{NSID: getSession, Header: forwarded(here)}
	first := l.Do(t, request)
	wantHeader(t, first, "RateLimit-Policy", "3000;w=300")
	wantHeader(t, first, "RateLimit-Remaining", "2999")
	for range 2999 {
		l.Do(t, request)
	}
	l.wantRefused(l.Do(t, request))
	// Downloads of repositories have a limit of their own.
	export := l.Do(t, pdstest.Request{Method: http.MethodGet, NSID: "com.atproto.sync.getRepo?did=" + made.DID, Header: forwarded(here)})
	wantStatus(t, export, http.StatusOK)
	wantHeader(t, export, "RateLimit-Policy", "6000;w=300")
	export = l.Do(t, pdstest.Request{Method: http.MethodGet, NSID: "com.atproto.sync.getRepo?did=" + made.DID, Header: forwarded(here), Auth: "Bearer wrong"})
	wantStatus(t, export, http.StatusBadRequest)
	wantHeader(t, export, "RateLimit-Remaining", "5998")
	r := refreshRequest(made.RefreshJwt)
	r.Header = forwarded(here)
	l.wantRefused(l.Do(t, r))
	l.wantLive(t, made)
	l.now.add(5 * time.Minute)
	wantStatus(t, l.Do(t, r), http.StatusOK)
}

// TestLimitsOff: by default a development server counts nothing.
func TestLimitsOff(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	for range 110 {
		a := s.Do(t, pdstest.Request{NSID: "com.atproto.server.createAccount", Body: `{"handle":"alice"}`})
		wantStatus(t, a, http.StatusBadRequest)
		wantHeader(t, a, "RateLimit-Limit", "")
	}
	a := s.Do(t, pdstest.Request{NSID: createSession, Body: `{"identifier":"nobody.test","password":"wrong"}`})
	wrongPassword.want(t, a)
	wantHeader(t, a, "RateLimit-Limit", "")
}
