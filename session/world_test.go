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
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"golang.org/x/crypto/argon2"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/hosting"
	"nestbox/ratelimit"
	"nestbox/request"
	"nestbox/session"
	"nestbox/signin"
	"nestbox/store/storetest"
	"nestbox/xrpc"
)

const (
	audience = "did:web:pds.test"
	password = "correct-horse-battery"
	day      = 24 * time.Hour
)

// world is a session.Service on a database of its own, without a server.
type world struct {
	*session.Service
	*storetest.World

	t     storetest.Tester
	clock *storetest.Clock // World.Clock
}

// newWorld makes an empty world in dir.
func newWorld(t storetest.Tester, dir string) *world {
	t.Helper()
	return newWorldBefore(t, dir, nil)
}

// newWorldBefore is newWorld for storetest.Interleave.
func newWorldBefore(t storetest.Tester, dir string, before func()) *world {
	t.Helper()
	w := &world{t: t, World: storetest.NewWorld(t, storetest.Options{Dir: dir, Before: before})}
	w.clock = w.Clock
	keys, err := auth.OpenKeyring(filepath.Join(dir, "keyring.json"), "", w.clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	w.Service = &session.Service{
		Settings: session.Settings{
			Rules:     session.Rules{ReuseWindow: day, RefreshTTL: 90 * day, Policy: session.PolicyReport},
			AccessTTL: 2 * time.Hour, Limit: 200, Audience: audience,
		},
		Keyring: keys,
		SignIns: &signin.Service{
			Hasher: account.NewHasher(2), Limits: ratelimit.New(10_000, w.clock.Now), Noted: ratelimit.New(10_000, w.clock.Now),
			Now: w.clock.Now, Log: slog.New(slog.DiscardHandler),
		},
		Noted:    ratelimit.New(10_000, w.clock.Now),
		Document: func(a *account.Account) []byte { return []byte(`{"id":"` + a.DID.String() + `"}`) },
		Now:      w.clock.Now, Log: slog.New(slog.DiscardHandler),
	}
	w.wire()
	return w
}

// wire gives the service the stores of the database that is open.
func (w *world) wire() {
	w.Accounts, w.Store, w.SignIns.Accounts = w.World.Accounts, w.World.Sessions, w.World.Accounts
	w.SignIns.Factors = w.World.Factors
}

// account makes the account NAME.test with a stored password hash.
func (w *world) account(name, hash string) *account.Account {
	w.t.Helper()
	return w.Account(hosting.Pending{Handle: syntax.Handle(name + ".test"), PasswordHash: hash})
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
		account.AppPassword{Name: name, Hash: hash, Privileged: privileged, CreatedAt: w.Now()}, w.entry(account.EntryAppPasswordCreated))
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) entry(kind account.EntryKind) account.Entry {
	return account.Entry{At: w.Now(), Kind: kind, By: account.ActorAdmin}
}

// setStatus changes the hosting status.
func (w *world) setStatus(a *account.Account, c account.StatusChange, kind account.EntryKind) {
	w.t.Helper()
	if _, err := w.Accounts.SetStatus(w.t.Context(), a.ID, c, w.entry(kind)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) takedown(a *account.Account, applied bool) {
	w.t.Helper()
	kind := account.EntryTakedown
	if !applied {
		kind = account.EntryTakedownLifted
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
		return w.Open(ctx, signin.Proven{Account: a, Epoch: cred.Epoch})
	}
	for i, p := range cred.AppPasswords {
		if p.Name == app {
			return w.Open(ctx, signin.Proven{Account: a, Epoch: cred.Epoch, AppPassword: &cred.AppPasswords[i]})
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
func (w *world) signIn(ctx context.Context, identifier, password string) (session.CreateSessionOutput, error) {
	w.t.Helper()
	return w.CreateSession(ctx, auth.Anyone{}, session.CreateSessionInput{Identifier: identifier, Password: password})
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
		auth.ScopeAccess, auth.ScopeAppPass, auth.ScopeAppPassPrivileged, auth.ScopeTakenDown)
	if err != nil {
		w.t.Fatal(err)
	}
	return t
}

// refresh calls refreshSession.
func (w *world) refresh(ctx context.Context, refresh string) (session.CreateSessionOutput, error) {
	w.t.Helper()
	return w.RefreshSession(ctx, auth.RefreshCaller{Token: w.token(refresh)}, xrpc.None{})
}

// mustRefresh is refresh, and fails the test on an error.
func (w *world) mustRefresh(refresh string) session.CreateSessionOutput {
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
func (w *world) trail(a *account.Account) []account.Entry {
	w.t.Helper()
	entries, err := w.Accounts.Trail(w.t.Context(), a.ID, 2*account.TrailLimit)
	if err != nil {
		w.t.Fatal(err)
	}
	return entries
}

// reasons returns those of the trail's entries of a kind, newest first.
func (w *world) reasons(a *account.Account, kind account.EntryKind) []string {
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
