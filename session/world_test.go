package session_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"golang.org/x/crypto/argon2"
	"pgregory.net/rapid"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/hosting"
	"nestbox/ratelimit"
	"nestbox/request"
	"nestbox/session"
	"nestbox/store/sqlite"
	"nestbox/xrpc"
)

const (
	audience = "did:web:pds.test"
	password = "correct-horse-battery"
	day      = 24 * time.Hour
)

// tester is what *testing.T, *testing.B and *rapid.T have in common.
type tester interface {
	rapid.TB
	Context() context.Context
	Cleanup(func())
}

// clock is a settable clock.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is a session.Service on a database of its own, without a server.
type world struct {
	*session.Service

	t     tester
	path  string
	db    *sqlite.DB
	clock *clock
}

// newWorld makes an empty world in dir. It is closed, and its database
// verified, at the end of the test.
func newWorld(t tester, dir string) *world {
	t.Helper()
	w := &world{t: t, clock: &clock{now: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)}}
	keys, err := auth.OpenKeyring(filepath.Join(dir, "keyring.json"), "", w.clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	w.Service = &session.Service{
		Settings: session.Settings{
			Rules:     session.Rules{ReuseWindow: day, RefreshTTL: 90 * day, Policy: session.PolicyReport},
			AccessTTL: 2 * time.Hour, Limit: 200, Audience: audience,
		},
		Keyring: keys, Hasher: account.NewHasher(2),
		Limits: ratelimit.New(10_000, w.clock.Now), Noted: ratelimit.New(10_000, w.clock.Now),
		Document: func(a *account.Account) []byte { return []byte(`{"id":"` + a.DID.String() + `"}`) },
		Now:      w.clock.Now, Log: slog.New(slog.DiscardHandler),
	}
	w.open(filepath.Join(dir, "nestbox.sqlite"))
	t.Cleanup(func() {
		w.close()
		faults, err := sqlite.Verify(w.path)
		if err != nil || len(faults) > 0 {
			t.Errorf("verify: %v, %q", err, faults)
		}
	})
	return w
}

// open puts the world on the database at path.
func (w *world) open(path string) {
	w.t.Helper()
	db, err := sqlite.Open(context.WithoutCancel(w.t.Context()), path, sqlite.Options{
		Log:   slog.New(slog.DiscardHandler),
		Fatal: func(err error) { w.t.Errorf("the outcome of a commit is unknown: %v", err) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.path, w.db = path, db
	w.Accounts, w.Store = sqlite.Accounts{DB: db}, sqlite.Sessions{DB: db}
}

func (w *world) close() {
	w.t.Helper()
	if err := w.db.Close(); err != nil {
		w.t.Errorf("close: %v", err)
	}
}

// account makes the account NAME.test with a stored password hash.
func (w *world) account(name, hash string) *account.Account {
	w.t.Helper()
	ctx, h := w.t.Context(), sqlite.Hosting{DB: w.db}
	id, err := h.Reserve(ctx, hosting.Pending{
		DID: syntax.DID("did:plc:" + name), Handle: syntax.Handle(name + ".test"), Email: name + "@example.com",
		PasswordHash: hash, SigningKey: "did:key:z", SigningKeySealed: []byte("sealed"), Operation: []byte("{}"), CreatedAt: w.Now(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	a, err := h.Activate(ctx, id, []byte(`{"id":"did:plc:`+name+`"}`), nil, account.NewEvent(ctx, w.Now(), account.EventSignUp, account.ActorOwner))
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// appPassword gives an account an app password.
func (w *world) appPassword(a *account.Account, name string, privileged bool) string {
	w.t.Helper()
	p := account.NewAppPassword()
	w.storeAppPassword(a, name, account.HashAppPassword(a.DID, p), privileged)
	return p
}

func (w *world) storeAppPassword(a *account.Account, name, hash string, privileged bool) {
	w.t.Helper()
	err := w.Accounts.AddAppPassword(w.t.Context(), a.ID,
		account.AppPassword{Name: name, Hash: hash, Privileged: privileged, CreatedAt: w.Now()}, w.event(account.EventAppPasswordCreated))
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) event(kind account.EventKind) account.Event {
	return account.Event{At: w.Now(), Kind: kind, By: account.ActorAdmin}
}

// setStatus changes the hosting status.
func (w *world) setStatus(a *account.Account, c account.StatusChange, kind account.EventKind) {
	w.t.Helper()
	if _, err := w.Accounts.SetStatus(w.t.Context(), a.ID, c, w.event(kind)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) takedown(a *account.Account, applied bool) {
	w.t.Helper()
	kind := account.EventTakedown
	if !applied {
		kind = account.EventTakedownLifted
	}
	w.setStatus(a, account.StatusChange{Takedown: &account.Applied{Applied: applied}}, kind)
}

// begin starts a session without the cost of a password.
func (w *world) begin(ctx context.Context, a *account.Account, app string) (session.Signed, error) {
	w.t.Helper()
	cred, err := w.Accounts.Credentials(ctx, a.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	if a, err = w.Accounts.ByDID(ctx, a.DID); err != nil {
		w.t.Fatal(err)
	}
	if app == "" {
		return w.Start(ctx, a, cred, nil, nil)
	}
	for i, p := range cred.AppPasswords {
		if p.Name == app {
			return w.Start(ctx, a, cred, &cred.AppPasswords[i], nil)
		}
	}
	w.t.Fatalf("no app password %q", app)
	return session.Signed{}, nil
}

// mustBegin is begin, and fails the test on an error.
func (w *world) mustBegin(a *account.Account, app string) session.Signed {
	w.t.Helper()
	signed, err := w.begin(w.t.Context(), a, app)
	if err != nil {
		w.t.Fatal(err)
	}
	return signed
}

// signIn calls createSession.
func (w *world) signIn(ctx context.Context, identifier, password string) (session.Output, error) {
	w.t.Helper()
	return w.CreateSession(ctx, auth.Anyone{}, session.CreateInput{Identifier: identifier, Password: password})
}

// token returns what the auth package reads from a refresh token.
func (w *world) token(refresh string) auth.Token {
	w.t.Helper()
	t, err := w.Keyring.VerifyRefresh(refresh, audience, w.Now(), true)
	if err != nil {
		w.t.Fatal(err)
	}
	return t
}

// access returns what the auth package reads from an access token.
func (w *world) access(access string) auth.Token {
	w.t.Helper()
	t, err := w.Keyring.VerifyAccess(access, audience, w.Now(),
		auth.ScopeAccess, auth.ScopeAppPass, auth.ScopeAppPassPrivileged, auth.ScopeTakendown)
	if err != nil {
		w.t.Fatal(err)
	}
	return t
}

// refresh calls refreshSession.
func (w *world) refresh(ctx context.Context, refresh string) (session.Output, error) {
	w.t.Helper()
	return w.RefreshSession(ctx, auth.RefreshCaller{Token: w.token(refresh)}, xrpc.None{})
}

// mustRefresh is refresh, and fails the test on an error.
func (w *world) mustRefresh(refresh string) session.Output {
	w.t.Helper()
	out, err := w.refresh(w.t.Context(), refresh)
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// live reports whether an access token's session is live.
func (w *world) live(token auth.Token) bool {
	w.t.Helper()
	st, err := w.Standing(w.t.Context(), token)
	if err != nil {
		w.t.Fatal(err)
	}
	return st.Live
}

// number returns the store's number of the session that a refresh token belongs to.
func (w *world) number(a *account.Account, refresh string) int64 {
	w.t.Helper()
	for _, st := range w.sessions(a) {
		if st.SID() == w.token(refresh).SID {
			return st.ID
		}
	}
	w.t.Fatal("no such session")
	return 0
}

func (w *world) sessions(a *account.Account) []session.State {
	w.t.Helper()
	list, err := w.Store.List(w.t.Context(), a.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

// trail returns an account's trail, newest first.
func (w *world) trail(a *account.Account) []account.Event {
	w.t.Helper()
	events, err := w.Accounts.Trail(w.t.Context(), a.ID, 2*account.TrailLimit)
	if err != nil {
		w.t.Fatal(err)
	}
	return events
}

// reasons returns those of the trail's events of a kind, newest first.
func (w *world) reasons(a *account.Account, kind account.EventKind) []string {
	w.t.Helper()
	var out []string
	for _, e := range w.trail(a) {
		if e.Kind == kind {
			out = append(out, e.Reason)
		}
	}
	return out
}

// from returns the context of a request from a client.
func from(ctx context.Context, addr, userAgent string) context.Context {
	return request.WithClient(ctx, request.Client{Addr: netip.MustParseAddr(addr), UserAgent: userAgent})
}

// cheapHash returns a stored hash that takes next to nothing to verify.
func cheapHash(password string) string {
	salt, b64 := []byte("sixteen bytes it"), base64.RawStdEncoding
	key := argon2.IDKey([]byte(password), salt, 1, 8, 1, 32)
	return fmt.Sprintf("$argon2id$v=19$m=8,t=1,p=1$%s$%s", b64.EncodeToString(salt), b64.EncodeToString(key))
}

// wire returns an error as a client sees it.
func wire(err error) string {
	if err == nil {
		return "200"
	}
	e, ok := errors.AsType[*xrpc.Error](err)
	if !ok {
		return "not an answer: " + err.Error()
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s: %s", e.Status, e.Name, e.Message))
}

// What clients see, as the session contract words it.
const (
	wireOK       = "200"
	wireWrong    = "401 AuthenticationRequired: Invalid identifier or password"
	wireTooLong  = "401 AuthenticationRequired: Password too long. Consider resetting your password."
	wireTakedown = "401 AccountTakedown: Account has been taken down"
	wireRevoked  = "400 ExpiredToken: Token has been revoked"
	wireExpired  = "400 ExpiredToken: Token has expired"
	wireUnproven = "400 InvalidToken: Token could not be verified"
	wireTooMany  = "429 RateLimitExceeded: Rate Limit Exceeded"
)
