package session

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"log/slog"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/internal/pause"
	"nestbox/mail"
	"nestbox/ratelimit"
	"nestbox/request"
	"nestbox/signin"
)

// Settings of a Service.
type Settings struct {
	Rules

	AccessTTL time.Duration
	// Limit caps an account's live sessions.
	Limit int
	// Audience is the server's DID.
	Audience string
	// OAuth is for the sessions of OAuth clients.
	OAuth GrantRules
}

// Service is what the endpoints and the command line act through. Its fields
// are set once.
type Service struct {
	Settings

	Store    Store
	Accounts account.Store
	Keyring  *auth.Keyring
	// SignIns proves the people who open sessions.
	SignIns *signin.Service
	// Notices notifies owners of sign-ins by clients that they did not use before.
	Notices *account.Notices
	// Noted keeps the trail from being filled by a client that repeats a refused
	// refresh.
	Noted *ratelimit.Limiter
	// Document is the DID document to show to an account's clients, nil for none.
	Document func(*account.Account) []byte
	// Calls queues sessions of OAuth clients whose last call WriteCalls writes down; nil
	// for none.
	Calls chan int64
	Now   func() time.Time
	// Doubt returns an error while Now cannot be trusted: then no session is collected. If
	// it is nil, Now is always trusted.
	Doubt func() error
	Log   *slog.Logger

	scopes scopes
}

// Signed is a session's newest pair of tokens and the account they are for.
type Signed struct {
	auth.Pair

	Account *account.Account
}

// now returns the time in the precision that is stored.
func (s *Service) now() time.Time { return s.Now().UTC().Truncate(time.Millisecond) }

// Standing implements auth.Sessions.
func (s *Service) Standing(ctx context.Context, t auth.Token) (auth.Standing, error) {
	a, err := s.Accounts.ByDID(ctx, t.DID)
	if errors.Is(err, account.ErrNotFound) {
		return auth.Standing{}, nil
	}
	if err != nil {
		return auth.Standing{}, err
	}
	st := auth.Standing{Status: string(a.Status())}
	if t.SID == "" {
		// Another server issued it, under a secret that we took over with the account: it
		// stays valid for its two hours, unless something ended all sessions.
		st.Live = t.IssuedAt.After(a.TokensValidAfter)
		return st, nil
	}
	switch state, err := s.find(ctx, t.SID, a); {
	case err == nil && state.Grant != nil: // no token of this kind is for it
	case err == nil:
		st.Live, st.AppPassword = true, state.AppPasswordID
	case !errors.Is(err, ErrUnknown):
		return auth.Standing{}, err
	}
	return st, nil
}

// find returns the account's session that sid names.
func (s *Service) find(ctx context.Context, sid string, a *account.Account) (*State, error) {
	id, nonce, ok := parseSID(sid)
	if !ok {
		return nil, ErrUnknown
	}
	st, err := s.Store.Load(ctx, id)
	if err != nil {
		return nil, err
	}
	if st.Nonce != nonce || st.AccountID != a.ID {
		return nil, ErrUnknown
	}
	return st, nil
}

// SignIn proves a person for a session, and opens it. Errors: those of
// signin.Service.Prove and Open, except ErrUnknown.
func (s *Service) SignIn(ctx context.Context, in signin.Attempt) (Signed, error) {
	in.For, in.Flow = signin.Session, rand.Text() // a second try below may use its code again
	const tries = 2
	for range tries {
		proven, err := s.SignIns.Prove(ctx, in)
		if err != nil {
			return Signed{}, err
		}
		signed, err := s.Open(ctx, proven)
		if !errors.Is(err, ErrUnknown) {
			return signed, err
		}
		// Password, app password or status changed meanwhile: judge by what is true now.
	}
	return Signed{}, signin.ErrWrong // overtaken each time
}

// Open makes a session for a person who was just proven. ErrUnknown: what proved them
// has changed meanwhile; account.ErrCodeInvalid: their code was used up.
func (s *Service) Open(ctx context.Context, p signin.Proven) (Signed, error) {
	now, client := s.now(), request.ClientOf(ctx)
	nonce := make([]byte, 9)
	_, _ = rand.Read(nonce) // never fails: crypto/rand ends the process instead
	n := New{
		AccountID: p.Account.ID, Scope: auth.ScopeAccess, Epoch: p.Epoch, At: now, Expires: now.Add(s.RefreshTTL),
		Nonce: base64.RawURLEncoding.EncodeToString(nonce), Network: client.Network().String(), UserAgent: client.UserAgent,
		Limit: s.Limit, Entry: p.Entry(ctx, now), Code: p.Code,
	}
	if app := p.AppPassword; app != nil {
		n.AppPasswordID, n.Scope = app.ID, auth.ScopeAppPass
		if app.Privileged {
			n.Scope = auth.ScopeAppPassPrivileged
		}
	}
	var err error
	if n.Mails, err = s.notice(ctx, p.Account, n.Entry, p.AppPassword != nil); err != nil {
		return Signed{}, err
	}
	st, err := s.Store.Create(ctx, n)
	if err != nil {
		s.Notices.Unsent(p.Account, mail.NoticeSignIn, n.Entry, n.Mails)
		return Signed{}, err
	}
	request.SetMark(ctx, request.SessionCreated)
	return s.mint(p.Account, st, 0, now)
}

// OpenFirst makes the first session of an account that was just made: its maker has
// just chosen its password.
func (s *Service) OpenFirst(ctx context.Context, a *account.Account) (auth.Pair, error) {
	cred, err := s.Accounts.Credentials(ctx, a.ID)
	if err != nil {
		return auth.Pair{}, err
	}
	signed, err := s.Open(ctx, signin.Proven{Account: a, Epoch: cred.Epoch})
	return signed.Pair, err
}

// mint signs the pair of a generation. A taken-down account gets an access token
// that allows leaving only.
func (s *Service) mint(a *account.Account, st *State, generation int64, now time.Time) (Signed, error) {
	scope := st.Scope
	if a.Status() == account.TakenDown {
		scope = auth.ScopeTakenDown
	}
	pair, err := s.Keyring.MintPair(auth.Issue{
		Audience: s.Audience, DID: a.DID, Scope: scope, SID: st.SID(), JTI: st.JTI(generation),
		Now: now, AccessTTL: s.AccessTTL, RefreshTTL: s.RefreshTTL,
	})
	if err != nil {
		return Signed{}, err
	}
	return Signed{Pair: pair, Account: a}, nil
}

// Refresh gives the holder of a refresh token the session's newest pair, as the
// table in rotate.go says. Errors: ErrUnknown, ErrReused, ErrMismatch,
// account.ErrTakenDown; any other is a dependency that failed.
func (s *Service) Refresh(ctx context.Context, t auth.Token) (Signed, error) {
	a, err := s.Accounts.ByDID(ctx, t.DID)
	if errors.Is(err, account.ErrNotFound) {
		return Signed{}, ErrUnknown
	}
	if err != nil {
		return Signed{}, err
	}
	if err := s.checkTakedown(ctx, a, t); err != nil {
		return Signed{}, err
	}
	signed, err := s.turn(ctx, a, t)
	if errors.Is(err, ErrUnknown) {
		// It may be one of another server, or of a session here that went back there and came again.
		var of auth.Token
		if of, err = s.inherit(ctx, t); err == nil {
			signed, err = s.turn(ctx, a, of)
		}
	}
	if _, _, ok := parseSID(t.SID); errors.Is(err, ErrUnknown) && !ok {
		s.noteRefusal(ctx, a, t.SID, "token of another server")
		return Signed{}, ErrUnknown
	}
	if errors.Is(err, ErrUnknown) {
		return Signed{}, s.ended(ctx, t)
	}
	return signed, err
}

// turn moves the session that a refresh token names. Errors: those of Refresh.
func (s *Service) turn(ctx context.Context, a *account.Account, t auth.Token) (Signed, error) {
	id, nonce, ok := parseSID(t.SID)
	if !ok {
		return Signed{}, ErrUnknown
	}
	generation, ok := parseJTI(t.JTI, t.SID)
	if !ok {
		return Signed{}, ErrMismatch
	}
	client := request.ClientOf(ctx)
	p := Presentation{Generation: generation, At: s.now(), Network: client.Network().String(), UserAgent: client.UserAgent}
	r, err := s.Store.Rotate(ctx, id, func(st State) (Rotation, error) {
		if st.Nonce != nonce || st.AccountID != a.ID || st.Grant != nil {
			return Rotation{}, ErrUnknown
		}
		return rotate(st, p, s.Rules), nil
	})
	if err != nil {
		return Signed{}, err
	}
	if r.Outcome == Stale {
		request.SetMark(ctx, request.RefreshStale)
		s.noteRefusal(ctx, a, t.SID, "token was superseded before the reuse window")
		return Signed{}, ErrReused
	}
	mark(ctx, r.Outcome)
	return s.mint(a, &r.Next, r.Next.Head, p.At)
}

// ended returns why the session of a refresh token is gone, as the account is now: it may
// have been taken down, or deleted, since the refresh began.
func (s *Service) ended(ctx context.Context, t auth.Token) error {
	a, err := s.Accounts.ByDID(ctx, t.DID)
	if errors.Is(err, account.ErrNotFound) {
		return ErrUnknown
	}
	if err == nil {
		err = s.checkTakedown(ctx, a, t)
	}
	if err != nil {
		return err
	}
	s.noteRefusal(ctx, a, t.SID, "session was ended")
	return ErrUnknown
}

// checkTakedown refuses the refresh of an account that is taken down:
// account.ErrTakenDown.
func (s *Service) checkTakedown(ctx context.Context, a *account.Account, t auth.Token) error {
	if a.Status() != account.TakenDown {
		return nil
	}
	s.noteRefusal(ctx, a, t.SID, "account is taken down")
	return account.ErrTakenDown
}

// mark marks the request as a refresh that was answered.
func mark(ctx context.Context, o Outcome) {
	switch o {
	case Repeat:
		request.SetMark(ctx, request.RefreshRepeated)
	case Converge:
		request.SetMark(ctx, request.RefreshRepeated|request.RefreshConverged)
	case Ahead:
		request.SetMark(ctx, request.RefreshMoved|request.RefreshAhead)
	case Advance, Stale, Theft:
		request.SetMark(ctx, request.RefreshMoved)
	}
}

// noted limits how often one refusal of one session is written to the trail.
var noted = ratelimit.Limit{Name: "refusal", Points: 1, Window: time.Hour}

// noteRefusal records the answer to "why was I signed out?". A failure to write it
// does not change the answer to the client.
func (s *Service) noteRefusal(ctx context.Context, a *account.Account, sid, why string) {
	request.SetMark(ctx, request.RefreshRefused)
	if !s.Noted.Take(a.DID.String()+sid+why, noted).Allowed {
		return
	}
	e := account.NewEntry(ctx, s.now(), account.EntryRefreshRefused, account.ActorServer)
	e.Reason = why
	e.Session, _, _ = parseSID(sid)
	if err := s.Accounts.AddEntry(ctx, a.ID, e); err != nil {
		s.Log.LogAttrs(ctx, slog.LevelError, "trail not written", slog.String("cause", err.Error()))
	}
}

// SignOut ends the session that a refresh token, expired or not, belongs to. It is
// not an error if the session is gone already; a token whose jti does not fit is
// ErrMismatch.
func (s *Service) SignOut(ctx context.Context, t auth.Token) error {
	err := s.signOut(ctx, t)
	if errors.Is(err, ErrUnknown) {
		if t, err = s.inherit(ctx, t); err == nil {
			err = s.signOut(ctx, t)
		}
	}
	if errors.Is(err, ErrUnknown) {
		return nil
	}
	return err
}

// signOut ends the session that a refresh token names: ErrUnknown if there is none.
func (s *Service) signOut(ctx context.Context, t auth.Token) error {
	if _, _, ok := parseSID(t.SID); !ok {
		return ErrUnknown
	}
	if _, ok := parseJTI(t.JTI, t.SID); !ok {
		return ErrMismatch
	}
	a, err := s.Accounts.ByDID(ctx, t.DID)
	if errors.Is(err, account.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	st, err := s.find(ctx, t.SID, a)
	if err == nil && st.Grant == nil {
		err = s.Store.End(ctx, st.ID, account.NewEntry(ctx, s.now(), account.EntrySignOut, account.ActorOwner))
	}
	return err
}

// List returns an account's sessions, latest used first.
func (s *Service) List(ctx context.Context, did syntax.DID) ([]State, error) {
	a, err := s.Accounts.ByDID(ctx, did)
	if err != nil {
		return nil, err
	}
	return s.Store.List(ctx, a.ID)
}

// Revoke ends one session by its number. ErrUnknown if it is not one of the
// account's.
func (s *Service) Revoke(ctx context.Context, did syntax.DID, id int64, by account.Actor) error {
	a, err := s.Accounts.ByDID(ctx, did)
	if err != nil {
		return err
	}
	st, err := s.Store.Load(ctx, id)
	if err != nil {
		return err
	}
	if st.AccountID != a.ID {
		return ErrUnknown
	}
	return s.Store.End(ctx, id, account.NewEntry(ctx, s.now(), account.EntrySessionRevoked, by))
}

// RevokeAll ends every session of an account, and with appPasswords the app
// passwords too, and returns how many sessions there were.
func (s *Service) RevokeAll(ctx context.Context, did syntax.DID, appPasswords bool, by account.Actor) (int, error) {
	a, err := s.Accounts.ByDID(ctx, did)
	if err != nil {
		return 0, err
	}
	return s.Store.EndAll(ctx, a.ID, appPasswords, account.NewEntry(ctx, s.now(), account.EntryAllSignedOut, by))
}

// Collection of expired sessions.
const (
	collectEvery = time.Hour
	collectPause = 50 * time.Millisecond
	// endedKept is how long an OAuth session is kept after its end.
	endedKept = 24 * time.Hour
)

// Collect removes expired sessions in the background until ctx ends: a first
// round some time after the start, then one an hour, in small steps.
//
// The head's refresh token can be minted again, by a replay, until its
// predecessor has expired: a session is dead for sure one token's life after
// its stored expiry. The newest token of an OAuth session always expires with what is
// stored: a day later it is collected.
func (s *Service) Collect(ctx context.Context) {
	for pause.For(ctx, collectEvery) {
		s.forgetInherited(ctx)
		for after := int64(0); ; {
			now := s.now()
			if s.Doubt != nil && s.Doubt() != nil {
				break
			}
			next, removed, err := s.Store.Collect(ctx, after, now.Add(-s.RefreshTTL), now.Add(-endedKept))
			if err != nil && ctx.Err() == nil {
				s.Log.LogAttrs(ctx, slog.LevelError, "collecting expired sessions failed", slog.String("cause", err.Error()))
			}
			if removed > 0 {
				s.Log.LogAttrs(ctx, slog.LevelInfo, "expired sessions collected", slog.Int("removed", removed))
			}
			if err != nil || next == 0 || !pause.For(ctx, collectPause) {
				break
			}
			after = next
		}
	}
}
