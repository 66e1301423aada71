package e2e

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/scrypt"

	"nestbox/internal/pdstest"
)

// TestContractIdentifiers is the table of what people type as identifier.
func TestContractIdentifiers(t *testing.T) {
	onBoth(t, func(t *testing.T, s subject) {
		made := s.SignUp(t, "alice")
		for _, identifier := range []string{
			"alice.test", "ALICE.Test", "@alice.test", "@ALICE.test", " alice.test ", "alice.test\n", "\talice.test", "\u00a0alice.test",
			"\u202aalice.test\u202c", "ali\u200bce.test", "\ufeff@alice.test", "al ice.test", "alice@example.com", "Alice@EXAMPLE.com",
			" alice@example.com", made.DID, strings.ToUpper(made.DID[:4]) + made.DID[4:], made.DID + " ",
		} {
			a := s.signIn(t, map[string]string{"identifier": identifier, "password": pdstest.Password})
			if a.Status != http.StatusOK {
				t.Errorf("%q: %d %s", identifier, a.Status, a.Body)
			}
		}
	})
}

// TestContractRefusedSignIns shows createSession's error rows.
func TestContractRefusedSignIns(t *testing.T) {
	onBoth(t, func(t *testing.T, s subject) {
		s.SignUp(t, "alice")
		for _, c := range []struct{ identifier, password string }{
			{"alice.test", "wrong"},
			{"alice.test", ""},
			{"alice.test", pdstest.Password + "\x00"},
			{"alice.test", pdstest.Password + " "},
			{"alice.test", strings.ToUpper(pdstest.Password)},
			{"nobody.test", pdstest.Password},
			{"nobody@example.com", pdstest.Password},
			{"did:plc:ragtjsm2j2vknwkz3zp4oxrd", pdstest.Password},
			{"did:nonsense", pdstest.Password},
			{"", pdstest.Password},
			{"@", pdstest.Password},
			{strings.Repeat("a", 5000), pdstest.Password},
			{"alice.test", strings.Repeat("ü", 512)},
		} {
			wrongPassword.want(t, s.signIn(t, map[string]string{"identifier": c.identifier, "password": c.password}))
		}
		for _, password := range []string{strings.Repeat("x", 513), strings.Repeat("ü", 513)} {
			wireError{401, "AuthenticationRequired", "Password too long. Consider resetting your password."}.
				want(t, s.signIn(t, map[string]string{"identifier": "alice.test", "password": password}))
		}
		for body, message := range map[string]string{
			`{"identifier":"alice.test"}`:     `Missing required key "password" at $`,
			`{"password":"x"}`:                `Missing required key "identifier" at $`,
			`{}`:                              `Missing required key "identifier" at $`,
			`{"identifier":5,"password":"x"}`: "Expected string value type (got integer) at $.identifier",
			`{"identifier":"alice.test","password":null}`:              "Expected string value type (got null) at $.password",
			`{"identifier":"a","password":"x","allowTakendown":"yes"}`: "Expected boolean value type (got string) at $.allowTakendown",
			`[]`:     "Expected object value type (got array) at $",
			`"text"`: "Expected object value type (got string) at $",
			`null`:   "Expected object value type (got null) at $",
			`{`:      "Malformed JSON: unexpected end of input",
			`{} {}`:  "Malformed JSON: trailing data after the value",
			`{"identifier":"alice.test","password":"x","password":"y"}`: "Malformed JSON: duplicate object member name",
		} {
			wireError{400, "InvalidRequest", message}.want(t, s.signIn(t, body))
		}
		good := `{"identifier":"alice.test","password":"` + pdstest.Password + `"}`
		for contentType, message := range map[string]string{
			"":           "Request encoding (Content-Type) required but not provided",
			"text/plain": "Wrong request encoding (Content-Type): text/plain",
			"nonsense":   "Wrong request encoding (Content-Type): nonsense",
		} {
			a := s.Do(t, pdstest.Request{NSID: createSession, Body: good, Header: http.Header{"Content-Type": {contentType}}})
			wireError{400, "InvalidRequest", message}.want(t, a)
		}
		for _, contentType := range []string{"application/json; charset=utf-8", "Application/JSON"} {
			a := s.Do(t, pdstest.Request{NSID: createSession, Body: good, Header: http.Header{"Content-Type": {contentType}}})
			wantStatus(t, a, http.StatusOK)
		}
		wireError{400, "InvalidRequest", "A request body is expected but none was provided"}.
			want(t, s.Do(t, pdstest.Request{Method: http.MethodPost, NSID: createSession}))
	})
}

// TestContractTakedown: before the session's state, on every route; only the
// owner's password with allowTakendown gets in, to leave.
func TestContractTakedown(t *testing.T) {
	onBoth(t, func(t *testing.T, s subject) {
		made := s.SignUp(t, "alice")
		app := s.appPassword(t, made.AccessJwt, "app", true)
		signed := s.SignIn(t, "alice.test", app)
		f := newForger(t, s.dir)
		s.takedown(t, made.DID, true)
		everyRoute := func(pair pdstest.Session) {
			t.Helper()
			takenDown.want(t, s.Refresh(t, pair.RefreshJwt))
			takenDown.want(t, s.GetSession(t, pair.AccessJwt))
			for _, nsid := range []string{"checkAccountStatus", "listAppPasswords"} {
				takenDown.want(t, s.Do(t, pdstest.Request{NSID: "com.atproto.server." + nsid, Auth: pdstest.Bearer(pair.AccessJwt)}))
			}
			takenDown.want(t, s.Do(t, pdstest.Request{
				NSID: "com.atproto.server.revokeAppPassword", Auth: pdstest.Bearer(pair.AccessJwt), Body: map[string]string{"name": "app"},
			}))
		}
		everyRoute(made)
		everyRoute(signed)
		takenDown.want(t, s.post(t, "com.atproto.server.activateAccount", made.AccessJwt))
		// The takedown prevails over a session that never existed, exp over the
		// takedown.
		takenDown.want(t, s.Refresh(t, f.forge(t, made.RefreshJwt, claim("sid", "zzzz-x"), claim("jti", "zzzz-x.0"))))
		expired.want(t, s.Refresh(t, f.forge(t, made.RefreshJwt, claim("exp", seconds(-time.Minute)))))
		wantEmpty(t, s.post(t, deleteSession, made.RefreshJwt))

		in := map[string]any{"identifier": "alice.test", "password": pdstest.Password}
		takenDown.want(t, s.signIn(t, in))
		wrongPassword.want(t, s.signIn(t, map[string]any{"identifier": "alice.test", "password": "wrong", "allowTakendown": true}))
		wrongPassword.want(t, s.signIn(t, map[string]any{"identifier": "alice.test", "password": app}))
		wrongPassword.want(t, s.signIn(t, map[string]any{"identifier": "alice.test", "password": app, "allowTakendown": true}))
		in["allowTakendown"] = true
		a := s.signIn(t, in)
		wantStatus(t, a, http.StatusOK)
		var leaving pdstest.Session
		a.Decode(t, &leaving)
		_, claims := readToken(t, leaving.AccessJwt)
		if claims["scope"] != "com.atproto.takendown" || *leaving.Active || leaving.Status != "takendown" {
			t.Errorf("scope %v, %s", claims["scope"], a.Body)
		}
		badScope.want(t, s.GetSession(t, leaving.AccessJwt))
		takenDown.want(t, s.Refresh(t, leaving.RefreshJwt))
		wantStatus(t, s.Do(t, pdstest.Request{NSID: "com.atproto.server.deactivateAccount", Auth: pdstest.Bearer(leaving.AccessJwt), Body: "{}"}), http.StatusOK)

		s.takedown(t, made.DID, false)
		s.wantEnded(t, made)
		s.wantEnded(t, signed)
		s.SignIn(t, "alice.test", app)
	})
}

// TestContractAppPasswords: their sessions keep their scope across refreshes.
func TestContractAppPasswords(t *testing.T) {
	onBoth(t, func(t *testing.T, s subject) {
		made := s.SignUp(t, "alice")
		for scope, privileged := range map[string]bool{"com.atproto.appPass": false, "com.atproto.appPassPrivileged": true} {
			pair := s.SignIn(t, "alice.test", s.appPassword(t, made.AccessJwt, scope, privileged))
			for range 3 {
				if _, claims := readToken(t, pair.AccessJwt); claims["scope"] != scope {
					t.Errorf("scope %v, want %s", claims["scope"], scope)
				}
				if _, claims := readToken(t, pair.RefreshJwt); claims["scope"] != "com.atproto.refresh" {
					t.Errorf("refresh token's scope %v", claims["scope"])
				}
				a := s.Do(t, pdstest.Request{NSID: "com.atproto.server.createAppPassword", Auth: pdstest.Bearer(pair.AccessJwt), Body: `{"name":"x"}`})
				badScope.want(t, a)
				badScope.want(t, s.Do(t, pdstest.Request{NSID: "com.atproto.server.deactivateAccount", Auth: pdstest.Bearer(pair.AccessJwt), Body: "{}"}))
				pair = s.wantLive(t, pair)
			}
		}
	})
}

// TestContractImported: a password hash in the reference's form signs in, even
// of a password that is too short today, and is then replaced.
func TestContractImported(t *testing.T) {
	dir := t.TempDir()
	first := pdstest.Start(t, pdstest.Options{Dir: dir})
	first.SignUp(t, "alice")
	first.Stop()
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		t.Fatal(err)
	}
	text := hex.EncodeToString(salt)
	key, err := scrypt.Key([]byte("short"), []byte(text), 16384, 8, 1, 64)
	if err != nil {
		t.Fatal(err)
	}
	alterDatabase(t, dir, "UPDATE account SET password_hash = '"+text+":"+hex.EncodeToString(key)+"';")
	s := pdstest.Start(t, pdstest.Options{Dir: dir})
	s.SignIn(t, "alice.test", "short")
	alterDatabase(t, dir, "UPDATE account SET password_hash = 'the old hash is still here' WHERE password_hash LIKE '"+text+"%';")
	s.SignIn(t, "alice.test", "short")
	wrongPassword.want(t, subject{s.Client, dir}.signIn(t, map[string]string{"identifier": "alice.test", "password": "shorter"}))
}

// TestContractTiming: the time that a refusal takes does not show whether an
// identifier exists. The factor is generous: a miss without the work of a hit
// takes less than a tenth.
func TestContractTiming(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	s.SignUp(t, "alice")
	took := map[string][]time.Duration{}
	for range 9 {
		for _, who := range []string{"alice.test", "nobody.test", "nobody@example.com", "did:plc:ragtjsm2j2vknwkz3zp4oxrd", "nonsense"} {
			start := time.Now()
			a := s.Do(t, pdstest.Request{NSID: createSession, Body: map[string]string{"identifier": who, "password": "wrong-password"}})
			took[who] = append(took[who], time.Since(start))
			wrongPassword.want(t, a)
		}
	}
	median := func(who string) time.Duration {
		slices.Sort(took[who])
		return took[who][len(took[who])/2]
	}
	hit := median("alice.test")
	for who := range took {
		if m := median(who); m > 3*hit || hit > 3*m {
			t.Errorf("%s took %s, an account that exists %s", who, m, hit)
		}
	}
}

// TestContractKeys: rotating the signing key signs nobody out, retiring a key
// ends the tokens that only it signed.
func TestContractKeys(t *testing.T) {
	onBoth(t, func(t *testing.T, s subject) {
		made := s.SignUp(t, "alice")
		old := newForger(t, s.dir)
		s.command(t, "keys.rotate", struct{}{}, nil)
		wantStatus(t, s.GetSession(t, made.AccessJwt), http.StatusOK)
		next := s.MustRefresh(t, made.RefreshJwt)
		if header, _ := readToken(t, next.RefreshJwt); header["kid"] == old.kid || header["kid"] != newForger(t, s.dir).kid {
			t.Errorf("signed with %v", header["kid"])
		}
		s.command(t, "keys.retire", map[string]string{"kid": old.kid}, nil)
		unverified.want(t, s.GetSession(t, made.AccessJwt))
		unverified.want(t, s.Refresh(t, made.RefreshJwt))
		s.wantLive(t, next)
	})
}

// TestContractLegacy: under PDS_JWT_SECRET tokens of another server, which have
// no kid, are tried against it.
func TestContractLegacy(t *testing.T) {
	const secret = "a secret that was configured"
	srv := pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_JWT_SECRET=" + secret}})
	s := subject{srv.Client, srv.DataDir}
	made := s.SignUp(t, "alice")
	f := forger{secret: []byte(secret)}
	wantStatus(t, s.GetSession(t, f.forge(t, made.AccessJwt, header("kid", nil))), http.StatusOK)
	now := time.Now()
	foreign := f.forge(t, made.AccessJwt, header("kid", nil), claim("sid", nil), claim("iat", now.Add(-time.Hour).Unix()), claim("exp", now.Add(time.Hour).Unix()))
	wantStatus(t, s.GetSession(t, foreign), http.StatusOK)
	unverified.want(t, s.GetSession(t, f.forge(t, made.AccessJwt, header("kid", nil), claim("sid", nil)))) // issued since the secret came here
	s.MustRefresh(t, f.forge(t, made.RefreshJwt, header("kid", nil)))
	unverified.want(t, s.GetSession(t, forger{secret: []byte(base64.RawURLEncoding.EncodeToString([]byte(secret)))}.forge(t, made.AccessJwt, header("kid", nil))))
	s.command(t, "account.signout", map[string]string{"account": made.DID}, nil)
	expired.want(t, s.GetSession(t, foreign))
}
