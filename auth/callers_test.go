package auth_test

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/auth"
	"nestbox/firehose/event"
	"nestbox/ratelimit"
	"nestbox/request"
	"nestbox/xrpc"
)

// TestAuthorization is the contract's table of headers, for each family of
// routes. The token is a good one of the family's kind.
func TestAuthorization(t *testing.T) {
	v := verifier(t)
	pair := mint(t, v.Keyring)
	const token = "TOKEN"
	families := map[string]struct {
		token string
		prove func(r *http.Request) error
	}{
		"refresh": {pair.Refresh, func(r *http.Request) error { _, err := v.Refresh(r.Context(), r); return err }},
		"ending":  {pair.Refresh, func(r *http.Request) error { _, err := v.Ending(r.Context(), r); return err }},
		"access":  {pair.Access, func(r *http.Request) error { _, err := v.Standard(r.Context(), r); return err }},
		"admin":   {pair.Access, func(r *http.Request) error { _, err := v.Admin(r.Context(), r); return err }},
		"viewer":  {pair.Access, func(r *http.Request) error { _, err := v.Viewer(r.Context(), r); return err }},
		"signup":  {pair.Access, func(r *http.Request) error { _, err := v.SignUp(r.Context(), r); return err }},
	}
	moving := fault{401, "BadJwtType", `Invalid jwt type "at+jwt"`} // it requires a service token
	// A viewer need not prove anything, but credentials that prove nothing are refused.
	viewer := func(header string, access fault) fault {
		switch {
		case header == "":
			return fault{}
		case access == wrongKind:
			return notAdmin // the password is wrong
		}
		return access
	}
	invalid := fault{401, "AuthenticationRequired", "Invalid authorization header"}
	for _, c := range []struct {
		header                  string
		refresh, access, signup fault
	}{
		{"", authMissing, authMissing, fault{}},
		{"Bearer " + token, fault{}, fault{}, moving},
		{"bearer " + token, fault{}, fault{}, moving},
		{"BEARER " + token, fault{}, fault{}, moving},
		{"Basic YWRtaW46YWRtaW4=", authMissing, wrongKind, invalid},
		{"basic YWRtaW46YWRtaW4=", authMissing, wrongKind, invalid},
		{"DPoP " + token, authMissing, authMissing, invalid},
		{"dpop " + token, authMissing, authMissing, invalid},
		{"Bearer", badHeader, badHeader, badHeader},
		{"Bearer ", badHeader, badHeader, badHeader},
		{"Basic", badHeader, badHeader, badHeader},
		{" ", badHeader, badHeader, badHeader},
		{token, badHeader, badHeader, badHeader},
		{"Bearer " + token + " more", badHeader, badHeader, badHeader},
		{"Bearer  " + token, badHeader, badHeader, badHeader},
		{"Bearer " + token + " ", badHeader, badHeader, badHeader},
		{"Bearer\t" + token, badHeader, badHeader, badHeader},
		{"Foo x", unsupportedX, unsupportedX, unsupportedX},
	} {
		want := map[string]fault{"refresh": c.refresh, "ending": c.refresh, "access": c.access, "admin": notAdmin, "signup": c.signup, "viewer": viewer(c.header, c.access)}
		for name, family := range families {
			err := family.prove(bearing(t, strings.Replace(c.header, token, family.token, 1)))
			if got := faultOf(t, err); got != want[name] {
				t.Errorf("%q on %s: got %v, want %v", c.header, name, got, want[name])
			}
		}
	}
	if _, err := v.Anyone(t.Context(), bearing(t, "Bearer Bearer Bearer")); err != nil {
		t.Errorf("Anyone: %v", err)
	}
}

// TestUnsupportedIsPrintable: the part of a header that an answer repeats is short
// and printable, whatever was sent.
func TestUnsupportedIsPrintable(t *testing.T) {
	v := verifier(t)
	for scheme, shown := range map[string]string{
		"Foo":                    "Foo",
		"F\x1b[31m\xff\u202e":    "F?[31m??",
		strings.Repeat("x", 100): strings.Repeat("x", 32),
	} {
		_, err := v.Refresh(t.Context(), bearing(t, scheme+" x"))
		want := fault{400, "InvalidToken", "Unsupported authorization type: " + shown}
		if got := faultOf(t, err); got != want {
			t.Errorf("%q: got %v, want %v", scheme, got, want)
		}
	}
}

// TestAdminGuesses: after 20 wrong passwords from one network in five minutes the
// right one is refused too; right ones do not count, nor do exempt clients.
func TestAdminGuesses(t *testing.T) {
	now := noon()
	v := verifier(t)
	v.Limits = ratelimit.New(1000, func() time.Time { return now })
	try := func(c request.Client, password string) (fault, http.Header) {
		t.Helper()
		ctx := request.WithClient(t.Context(), c)
		_, err := v.Viewer(ctx, bearing(t, "Basic "+base64.StdEncoding.EncodeToString([]byte("admin:"+password))))
		return faultOf(t, err), request.Header(ctx)
	}
	here, there := request.Client{Addr: netip.MustParseAddr("192.0.2.1")}, request.Client{Addr: netip.MustParseAddr("192.0.2.2")}
	exempt := request.Client{Addr: here.Addr, Unlimited: true}
	tooMany := fault{429, "RateLimitExceeded", "Rate Limit Exceeded"}
	for i := range 20 {
		if got, h := try(here, "wrong"); got != notAdmin || h.Get("RateLimit-Remaining") != strconv.Itoa(19-i) {
			t.Errorf("guess %d: %v %v", i, got, h)
		}
		if i == 19 {
			break
		}
		for range 2 {
			if got, h := try(here, password); got != (fault{}) || len(h) > 0 {
				t.Errorf("after guess %d: %v %v", i, got, h)
			}
		}
	}
	for _, p := range []string{"wrong", password} {
		if got, h := try(here, p); got != tooMany || h.Get("RateLimit-Policy") != "20;w=300" {
			t.Errorf("a guess too many: %v %v", got, h)
		}
	}
	for _, c := range []request.Client{there, exempt} {
		if got, _ := try(c, password); got != (fault{}) {
			t.Errorf("%+v: %v", c, got)
		}
	}
	now = now.Add(5 * time.Minute)
	if got, _ := try(here, password); got != (fault{}) {
		t.Errorf("five minutes later: %v", got)
	}
}

func TestAdmin(t *testing.T) {
	v := verifier(t)
	plain := func(credentials string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(credentials))
	}
	for _, c := range []struct {
		name, header string
		want         fault
	}{
		{"right", plain("admin:" + password), fault{}},
		{"scheme without case", strings.Replace(plain("admin:"+password), "Basic", "bAsIc", 1), fault{}},
		{"wrong password", plain("admin:admin"), notAdmin},
		{"a longer password", plain("admin:" + password + "x"), notAdmin},
		{"a shorter password", plain("admin:" + password[:3]), notAdmin},
		{"empty password", plain("admin:"), notAdmin},
		{"wrong user", plain("root:" + password), notAdmin},
		{"user in capitals", plain("Admin:" + password), notAdmin},
		{"empty user", plain(":" + password), notAdmin},
		{"no colon", plain("admin"), notAdmin},
		{"nothing at all", plain(":"), notAdmin},
		{"not UTF-8", plain("admin:p\xe4ss"), notAdmin},
		{"no base64", "Basic admin:admin", notAdmin},
		{"no padding", "Basic YWRtaW46YWRtaW4", notAdmin},
	} {
		_, adminErr := v.Admin(t.Context(), bearing(t, c.header))
		_, moderatorErr := v.Moderator(t.Context(), bearing(t, c.header))
		if got := faultOf(t, adminErr); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
		if got := faultOf(t, moderatorErr); got != c.want {
			t.Errorf("%s, moderator: got %v, want %v", c.name, got, c.want)
		}
	}

	// Without a password nobody is the admin, not even with an empty password.
	v.AdminPassword = ""
	for _, credentials := range []string{"admin:", "admin", "admin:" + password, ":"} {
		if _, err := v.Admin(t.Context(), bearing(t, plain(credentials))); faultOf(t, err) != notAdmin {
			t.Errorf("no password configured, %q: %v", credentials, err)
		}
	}
	// A password need not be UTF-8: it is bytes.
	v.AdminPassword = "p\xe4ss"
	if _, err := v.Admin(t.Context(), bearing(t, plain("admin:p\xe4ss"))); err != nil {
		t.Errorf("password in Latin-1: %v", err)
	}
}

// TestViewer: a viewer is nobody, the owner whatever the account's status, or the
// admin.
func TestViewer(t *testing.T) {
	v := verifier(t)
	token := func(changes object) string {
		return "Bearer " + forge(t, secret, accessHeader(), accessClaims().with(changes))
	}
	basic := func(credentials string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(credentials))
	}
	for _, c := range []struct {
		name, header string
		standing     auth.Standing
		storeErr     error
		want         auth.Viewer
		refused      fault
	}{
		{name: "nobody"},
		{name: "admin", header: basic("admin:" + password), want: auth.Viewer{Admin: true}},
		{name: "wrong password", header: basic("admin:x"), refused: notAdmin},
		{name: "owner", header: token(nil), standing: auth.Standing{Live: true}, want: auth.Viewer{DID: alice}},
		{name: "app password", header: token(object{"scope": auth.ScopeAppPass}), standing: auth.Standing{Live: true}, want: auth.Viewer{DID: alice}},
		{name: "privileged", header: token(object{"scope": auth.ScopeAppPassPrivileged}), standing: auth.Standing{Live: true}, want: auth.Viewer{DID: alice}},
		{name: "taken down since", header: token(nil), standing: auth.Standing{Status: event.StatusTakenDown, Live: true}, refused: takendown},
		{name: "signed in while taken down", header: token(object{"scope": auth.ScopeTakenDown}), standing: auth.Standing{Status: event.StatusTakenDown, Live: true}, want: auth.Viewer{DID: alice}},
		{name: "ended", header: token(nil), refused: expired},
		{name: "ended and taken down", header: token(nil), standing: auth.Standing{Status: event.StatusTakenDown}, refused: takendown},
		{name: "expired", header: token(object{"exp": 1}), standing: auth.Standing{Live: true}, refused: expired},
		{name: "refresh scope", header: token(object{"scope": auth.ScopeRefresh}), standing: auth.Standing{Live: true}, refused: badScope},
		{name: "a refresh token", header: "Bearer " + mint(t, v.Keyring).Refresh, standing: auth.Standing{Live: true}, refused: unverified},
		{name: "store fails", header: token(nil), storeErr: errors.New("disk on fire"), refused: unavailable},
	} {
		v.Sessions = standing(func(auth.Token) (auth.Standing, error) { return c.standing, c.storeErr })
		got, err := v.For(auth.UseLeave).Viewer(t.Context(), bearing(t, c.header))
		if f := faultOf(t, err); f != c.refused || got != c.want {
			t.Errorf("%s: got %+v, %v; want %+v, %v", c.name, got, f, c.want, c.refused)
		}
	}

	for _, c := range []struct {
		viewer auth.Viewer
		did    syntax.DID
		sees   bool
	}{
		{auth.Viewer{}, alice, false},
		{auth.Viewer{}, "", false},
		{auth.Viewer{DID: alice}, alice, true},
		{auth.Viewer{DID: alice}, "did:plc:other", false},
		{auth.Viewer{Admin: true}, alice, true},
	} {
		if got := c.viewer.Sees(c.did); got != c.sees {
			t.Errorf("%+v sees %q: %v", c.viewer, c.did, got)
		}
	}
}

// TestCauseIsNoAnswer: an answer of this package contains nothing beyond its
// message.
func TestCauseIsNoAnswer(t *testing.T) {
	v := verifier(t)
	token := forge(t, "another secret", refreshHeader(), refreshClaims())
	_, err := v.Refresh(t.Context(), bearing(t, "Bearer "+token))
	if err == nil || strings.Contains(err.Error(), token[:20]) {
		t.Errorf("the error shows the token, or there is none: %v", err)
	}
	if e, ok := err.(*xrpc.Error); !ok || e.Cause != nil { //nolint:errorlint // the very value that is sent
		t.Errorf("a cause where the token alone is to blame: %#v", err)
	}
}

// TestViewerRefused is the table of which viewer sees what of an account.
func TestViewerRefused(t *testing.T) {
	const did = "did:plc:alice"
	names := map[string]string{
		"": "", event.StatusTakenDown: "RepoTakendown", event.StatusSuspended: "RepoSuspended", event.StatusDeactivated: "RepoDeactivated",
		"anything else": "RepoDeactivated", // an unknown status hides, too
	}
	for status, name := range names {
		for _, v := range []auth.Viewer{{}, {DID: "did:plc:bob"}} {
			var e *xrpc.Error
			if err := v.Refused(did, status); (err == nil) != (name == "") || err != nil && (!errors.As(err, &e) || e.Name != name || e.Status != 400) {
				t.Errorf("%+v of a %q account: %v, want %q", v, status, err, name)
			}
		}
		for _, v := range []auth.Viewer{{DID: did}, {Admin: true}} {
			if err := v.Refused(did, status); err != nil {
				t.Errorf("%+v of a %q account: %v", v, status, err)
			}
		}
	}
}
