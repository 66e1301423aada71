package admin

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"time"

	"nestbox/account"
	"nestbox/request"
	"nestbox/signin"
)

// Lives of a session on the admin page.
const (
	// PresenceLife is how long it lasts, PresenceIdle how long it lasts unused.
	PresenceLife = 8 * time.Hour
	PresenceIdle = 30 * time.Minute
	// FreshLife is how long after the sign-in what cannot be undone may be done.
	FreshLife = 10 * time.Minute
	// seenStep is how exact the time of the last use is: each costs a write.
	seenStep = time.Minute
)

// Errors of the Entrance.
var (
	// ErrSignedOut: the cookie is nobody's, or its session is over.
	ErrSignedOut = errors.New("not signed in on the admin page")
	// ErrNoRole: the account does not help to run this server.
	ErrNoRole = errors.New("the account has no role on the admin page")
	// ErrWeak: a password alone, or with a code by mail or a recovery code, does not open
	// the admin page.
	ErrWeak = errors.New("the admin page wants a passkey, or the code of an authenticator app")
)

// Entrance lets people in to the admin page. Its fields are set once.
type Entrance struct {
	Store EntranceStore
	// ProveAdmin checks the admin password, and counts wrong ones.
	ProveAdmin func(ctx context.Context, password string) error
	// Key keys the hash of the password that is kept with a session; Password is the one
	// that holds now.
	Key, Password []byte
	Now           func() time.Time
}

// Visitor is a person who is signed in on the admin page.
type Visitor struct {
	// Who names the actor in the audit log: "admin", or the account's DID.
	Who string
	// Account is nil for the admin password.
	Account *account.Account
	Role    Role
	// Hash names the session. Fresh: it was opened less than FreshLife ago.
	Hash  [HashSize]byte
	Fresh bool
	// At is the time of the request.
	At time.Time
}

// ByPassword opens a session for the admin password, and returns its cookie. Errors: those
// of ProveAdmin.
func (e *Entrance) ByPassword(ctx context.Context, password string) (cookie string, err error) {
	if err := e.ProveAdmin(ctx, password); err != nil {
		return "", err
	}
	return e.enter(account.ActingAs(ctx, string(account.ActorAdmin)), Presence{Password: e.print()})
}

// ByAccount opens a session for an account that was proven by a passkey, or by password and
// authenticator app, and has a role: ErrWeak, ErrNoRole.
func (e *Entrance) ByAccount(ctx context.Context, p signin.Proven) (cookie string, err error) {
	if !p.By.Has(signin.ByPasskey) && !p.By.Has(signin.ByPassword|signin.ByTOTP) {
		return "", ErrWeak
	}
	holders, err := e.Store.Roles(ctx)
	if err != nil {
		return "", err
	}
	for _, h := range holders {
		if h.DID == p.Account.DID {
			return e.enter(account.ActingAs(ctx, h.DID.String()), Presence{AccountID: p.Account.ID, Epoch: p.Epoch})
		}
	}
	return "", ErrNoRole
}

func (e *Entrance) enter(ctx context.Context, p Presence) (cookie string, err error) {
	secret := make([]byte, HashSize)
	_, _ = rand.Read(secret) // never fails: crypto/rand ends the process instead
	p.Hash, p.MadeAt = sha256.Sum256(secret), e.Now().UTC().Truncate(time.Millisecond)
	p.SeenAt, p.Network = p.MadeAt, request.ClientOf(ctx).Network().String()
	return base64.RawURLEncoding.EncodeToString(secret), e.Store.Enter(ctx, p, actionAt(ctx, p.MadeAt, ActionEntered))
}

// print is the keyed hash of the admin password.
func (e *Entrance) print() []byte {
	h := hmac.New(sha256.New, e.Key)
	h.Write(e.Password)
	return h.Sum(nil)
}

// Visit returns the person that a cookie stands for, and notes that they are here:
// ErrSignedOut.
func (e *Entrance) Visit(ctx context.Context, cookie string) (Visitor, error) {
	secret, err := base64.RawURLEncoding.DecodeString(cookie)
	if err != nil || len(secret) != HashSize {
		return Visitor{}, ErrSignedOut
	}
	p, err := e.Store.Present(ctx, sha256.Sum256(secret))
	if err != nil {
		return Visitor{}, err
	}
	now := e.Now().UTC().Truncate(time.Millisecond)
	v, ok := p.visitor(now, e.print())
	if !ok {
		return Visitor{}, ErrSignedOut
	}
	if now.Sub(p.SeenAt).Abs() >= seenStep {
		err = e.Store.Seen(ctx, p.Hash, now, request.ClientOf(ctx).Network().String())
	}
	return v, err
}

// Leave signs a person out. One who is signed out already is not an error.
func (e *Entrance) Leave(ctx context.Context, v Visitor) error {
	return e.Store.Exit(ctx, v.Hash, actionAt(account.ActingAs(ctx, v.Who), e.Now().UTC(), ActionLeft))
}

// Expired reports whether a session is over now by the times of its sign-in and last use. A
// time in the future, of a clock that was wrong, does not prolong it.
func Expired(madeAt, seenAt, now time.Time) bool {
	return now.Sub(madeAt).Abs() >= PresenceLife || now.Sub(seenAt).Abs() >= PresenceIdle
}

// visitor returns whose session it is; ok is false if it is over: expired, the password or
// the account's credentials have changed, the account has lost its role or its standing.
func (p *Presence) visitor(now time.Time, password []byte) (v Visitor, ok bool) {
	if Expired(p.MadeAt, p.SeenAt, now) {
		return Visitor{}, false
	}
	v = Visitor{Who: string(account.ActorAdmin), Role: RoleAdmin, Hash: p.Hash, Fresh: now.Sub(p.MadeAt).Abs() < FreshLife, At: now}
	if p.AccountID == 0 {
		return v, subtle.ConstantTimeCompare(p.Password, password) == 1
	}
	if p.Account == nil || p.Account.Status() != account.Active || p.Epoch != p.Now || !p.Role.Holds(RoleModerator) {
		return Visitor{}, false
	}
	v.Who, v.Account, v.Role = p.Account.DID.String(), p.Account, p.Role
	return v, true
}
