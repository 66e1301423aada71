package e2e

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"nestbox/control"
	"nestbox/internal/pdstest"
)

// The endpoints of the session contract.
const (
	createSession  = "com.atproto.server.createSession"
	refreshSession = "com.atproto.server.refreshSession"
	getSession     = "com.atproto.server.getSession"
	deleteSession  = "com.atproto.server.deleteSession"
	updateStatus   = "com.atproto.admin.updateSubjectStatus"
)

// The contract's errors, as status, name and message.
var (
	authMissing    = wireError{401, "AuthMissing", "Authentication Required"}
	unverified     = wireError{400, "InvalidToken", "Token could not be verified"}
	malformed      = wireError{400, "InvalidToken", "Malformed token"}
	badHeader      = wireError{400, "InvalidToken", "Malformed authorization header"}
	badScope       = wireError{400, "InvalidToken", "Bad token scope"}
	expired        = wireError{400, "ExpiredToken", "Token has expired"}
	revoked        = wireError{400, "ExpiredToken", "Token has been revoked"}
	takenDown      = wireError{401, "AccountTakedown", "Account has been taken down"}
	wrongPassword  = wireError{401, "AuthenticationRequired", "Invalid identifier or password"}
	bodyUnexpected = wireError{400, "InvalidRequest", "A request body was provided when none was expected"}
)

type wireError struct {
	status        int
	name, message string
}

// want fails the test unless a is that error, with the headers that every error
// of an auth-checked route has.
func (e wireError) want(t *testing.T, a pdstest.Answer) {
	t.Helper()
	a.WantError(t, e.status, e.name, e.message)
	wantHeader(t, a, "Content-Type", "application/json")
	wantHeader(t, a, "Access-Control-Allow-Origin", "*")
}

func wantHeader(t *testing.T, a pdstest.Answer, name, want string) {
	t.Helper()
	if got := a.Header.Get(name); got != want {
		t.Errorf("%s: got %q, want %q", name, got, want)
	}
}

func wantStatus(t *testing.T, a pdstest.Answer, status int) {
	t.Helper()
	if a.Status != status {
		t.Errorf("status %d, want %d: %s", a.Status, status, a.Body)
	}
}

// subject is a running server and its data directory.
type subject struct {
	pdstest.Client

	dir string
}

// onBoth runs a test against a server in process and against the binary.
func onBoth(t *testing.T, test func(t *testing.T, s subject), settings ...string) {
	t.Helper()
	t.Run("in process", func(t *testing.T) {
		s := pdstest.Start(t, pdstest.Options{Settings: settings})
		test(t, subject{s.Client, s.DataDir})
	})
	t.Run("binary", func(t *testing.T) {
		s := pdstest.Launch(t, "", settings...)
		test(t, subject{s.Client, s.Dir})
	})
}

// command runs a command of the operator on the running server.
func (s subject) command(t *testing.T, name string, args, result any) {
	t.Helper()
	if result == nil {
		result = &struct{}{}
	}
	if err := control.Send(t.Context(), s.dir, name, args, result); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// admin makes a call as the operator. It succeeds.
func (s subject) admin(t *testing.T, nsid string, body any) pdstest.Answer {
	t.Helper()
	a := s.Do(t, pdstest.Request{NSID: nsid, Auth: basic("admin:admin"), Body: body})
	wantStatus(t, a, http.StatusOK)
	return a
}

func basic(userPassword string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(userPassword))
}

func (s subject) takedown(t *testing.T, did string, applied bool) {
	t.Helper()
	s.admin(t, updateStatus, map[string]any{
		"subject":  map[string]string{"$type": "com.atproto.admin.defs#repoRef", "did": did},
		"takedown": map[string]bool{"applied": applied},
	})
}

// post makes a call without a body.
func (s subject) post(t *testing.T, nsid, token string) pdstest.Answer {
	t.Helper()
	return s.Do(t, pdstest.Request{Method: http.MethodPost, NSID: nsid, Auth: pdstest.Bearer(token)})
}

func (s subject) signIn(t *testing.T, body any) pdstest.Answer {
	t.Helper()
	return s.Do(t, pdstest.Request{NSID: createSession, Body: body})
}

// appPassword makes an app password for the holder of an access token.
func (s subject) appPassword(t *testing.T, access, name string, privileged bool) string {
	t.Helper()
	a := s.Do(t, pdstest.Request{
		NSID: "com.atproto.server.createAppPassword", Auth: pdstest.Bearer(access),
		Body: map[string]any{"name": name, "privileged": privileged},
	})
	var made struct{ Password string }
	a.Decode(t, &made)
	if made.Password == "" {
		t.Fatalf("no app password: %d %s", a.Status, a.Body)
	}
	return made.Password
}

// wantLive fails the test unless a session works; it returns its next pair.
func (s subject) wantLive(t *testing.T, was pdstest.Session) pdstest.Session {
	t.Helper()
	wantStatus(t, s.GetSession(t, was.AccessJwt), http.StatusOK)
	return s.MustRefresh(t, was.RefreshJwt)
}

// wantEnded fails the test unless both tokens of a session are dead.
func (s subject) wantEnded(t *testing.T, was pdstest.Session) {
	t.Helper()
	expired.want(t, s.GetSession(t, was.AccessJwt))
	revoked.want(t, s.Refresh(t, was.RefreshJwt))
}

// clock is a time that a test sets.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time      { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) add(d time.Duration) { c.ahead.Add(int64(d)) }

// forger signs tokens of any content with the server's own key.
type forger struct {
	kid    string
	secret []byte
}

func newForger(t *testing.T, dir string) forger {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "keyring.json"))
	if err != nil {
		t.Fatal(err)
	}
	var ring struct {
		Keys []struct {
			Kid, Secret string
			Signing     bool
		}
	}
	if err := json.Unmarshal(raw, &ring); err != nil {
		t.Fatal(err)
	}
	for _, k := range ring.Keys {
		if !k.Signing {
			continue
		}
		secret, err := base64.RawURLEncoding.DecodeString(k.Secret)
		if err != nil {
			t.Fatal(err)
		}
		return forger{k.Kid, secret}
	}
	t.Fatal("no signing key")
	return forger{}
}

// change is what a forgery does to a real token's header and claims.
type change func(header map[string]any, claims jwt.MapClaims)

// forge changes a real token and signs it again.
func (f forger) forge(t *testing.T, token string, changes ...change) string {
	t.Helper()
	header, claims := readToken(t, token)
	for _, c := range changes {
		c(header, claims)
	}
	made := jwt.NewWithClaims(jwt.SigningMethodHS256, claims)
	made.Header = header
	signed, err := made.SignedString(f.secret)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func readToken(t *testing.T, token string) (map[string]any, jwt.MapClaims) {
	t.Helper()
	parsed, _, err := jwt.NewParser().ParseUnverified(token, jwt.MapClaims{})
	if err != nil {
		t.Fatal(err)
	}
	claims, ok := parsed.Claims.(jwt.MapClaims)
	if !ok {
		t.Fatalf("claims are %T", parsed.Claims)
	}
	return maps.Clone(parsed.Header), claims
}

// jti is the ID of a refresh token.
func jti(t *testing.T, token string) string {
	t.Helper()
	_, claims := readToken(t, token)
	id, ok := claims["jti"].(string)
	if !ok {
		t.Fatalf("jti is %v", claims["jti"])
	}
	return id
}

func claim(name string, value any) change {
	return func(_ map[string]any, claims jwt.MapClaims) {
		if value == nil {
			delete(claims, name)
			return
		}
		claims[name] = value
	}
}

func header(name string, value any) change {
	return func(header map[string]any, _ jwt.MapClaims) {
		if value == nil {
			delete(header, name)
			return
		}
		header[name] = value
	}
}

func seconds(fromNow time.Duration) int64 { return time.Now().Add(fromNow).Unix() }

// alterDatabase runs SQL on a data directory's database, on a connection of its
// own, even under a running server.
func alterDatabase(t *testing.T, dir, script string) {
	t.Helper()
	conn := openDatabase(t, dir)
	defer conn.Close()
	if err := sqlitex.ExecuteScript(conn, script, nil); err != nil {
		t.Fatal(err)
	}
}

// readDatabase returns the number that a query returns.
func readDatabase(t *testing.T, dir, query string) (n int64) {
	t.Helper()
	conn := openDatabase(t, dir)
	defer conn.Close()
	err := sqlitex.ExecuteTransient(conn, query, &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error { n = s.ColumnInt64(0); return nil }})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func openDatabase(t *testing.T, dir string) *sqlite.Conn {
	t.Helper()
	conn, err := sqlite.OpenConn(filepath.Join(dir, "nestbox.sqlite"), sqlite.OpenReadWrite|sqlite.OpenWAL)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetBusyTimeout(10 * time.Second)
	return conn
}
