package session

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"log/slog"
	"time"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/internal/pause"
	"nestbox/mail"
	"nestbox/ratelimit"
	"nestbox/request"
)

// GrantRules are the settings of the sessions of OAuth clients.
type GrantRules struct {
	// Issuer is the origin: iss of access tokens and aud of refresh tokens.
	Issuer string
	// AccessTTL and RefreshTTL are the lives of tokens; none outlives its session.
	AccessTTL  time.Duration
	RefreshTTL time.Duration
	// PublicTTL is the life of a public client's session, TTL that of any other.
	PublicTTL time.Duration
	TTL       time.Duration
}

// Authorization is what an owner allowed a client, to be made a session.
type Authorization struct {
	Account *account.Account
	// Epoch is that of the credentials when the owner allowed it: see account.Credentials.
	Epoch int64
	Grant Grant
	// Entry is the consent, as the trail records it: with the owner's network and browser,
	// not the client's.
	Entry account.Entry
}

// rules returns those of the sessions of OAuth clients.
func (s *Service) grantRules() Rules {
	r := s.Rules
	r.RefreshTTL = s.OAuth.RefreshTTL
	return r
}

// PrepareGrant returns the session that an authorization becomes, with the notice about
// it. If it is not made, call DropGrant.
func (s *Service) PrepareGrant(ctx context.Context, a Authorization) (New, error) {
	now, client := s.now(), request.ClientOf(ctx)
	nonce := make([]byte, 9)
	_, _ = rand.Read(nonce) // never fails: crypto/rand ends the process instead
	n := New{
		AccountID: a.Account.ID, Scope: auth.ScopeOAuth, Grant: &a.Grant, Epoch: a.Epoch, At: now,
		Expires: expires(&a.Grant, now, s.grantRules()),
		Nonce:   base64.RawURLEncoding.EncodeToString(nonce), Network: client.Network().String(), UserAgent: client.UserAgent,
		Limit: s.Limit, Entry: a.Entry,
	}
	if !s.Notices.Wanted(a.Account, mail.NoticeApp) {
		return n, nil
	}
	known, err := s.Store.Authorized(ctx, a.Account.ID, a.Entry.Reason, a.Entry.Network)
	if err == nil && !known {
		n.Mails = s.Notices.Of(a.Account, mail.NoticeApp, a.Entry, a.Entry.Reason)
	}
	return n, err
}

// DropGrant takes back what PrepareGrant has counted, for a session that was not made.
func (s *Service) DropGrant(a Authorization, n New) {
	s.Notices.Unsent(a.Account, mail.NoticeApp, n.Entry, n.Mails)
}

// SignedGrant is an OAuth session's newest pair of tokens, the account they are for, and the
// session's state.
type SignedGrant struct {
	auth.Pair

	Account *account.Account
	State   *State
	// AccessTTL is how long the access token is valid, in whole seconds.
	AccessTTL time.Duration
}

// MintGrant signs the pair of the head of an OAuth session.
func (s *Service) MintGrant(a *account.Account, st *State) (SignedGrant, error) {
	now := s.now()
	ends := now.Add(s.OAuth.AccessTTL)
	if st.Expires.Before(ends) {
		ends = st.Expires
	}
	pair, err := s.Keyring.MintOAuth(auth.OAuthIssue{
		Issuer: s.OAuth.Issuer, Audience: s.Audience, DID: a.DID, ClientID: st.Grant.ClientID, SID: st.SID(), JTI: st.JTI(st.Head),
		JKT: st.Grant.DPoPJKT, Now: now, AccessExpires: ends, RefreshExpires: st.Expires,
	})
	if err != nil {
		return SignedGrant{}, err
	}
	// At least a second: clients refuse a token that lives none.
	ttl := max(ends.Truncate(time.Second).Sub(now.Truncate(time.Second)), time.Second)
	return SignedGrant{Pair: pair, Account: a, State: st, AccessTTL: ttl}, nil
}

// Presented is a refresh token of an OAuth session, verified by the keyring, and the program
// that presents it.
type Presented struct {
	Token  auth.OAuthToken
	Holder Holder
	// Effective and Sets are what Granted, that of the grant, means now: see Grant.
	Granted   string
	Effective string
	Sets      string
}

// FindGrant returns the account and the session of an OAuth token. ErrUnknown if either is gone;
// account.ErrTakenDown.
func (s *Service) FindGrant(ctx context.Context, t auth.OAuthToken) (*account.Account, *State, error) {
	a, err := s.Accounts.ByDID(ctx, t.DID)
	if errors.Is(err, account.ErrNotFound) {
		return nil, nil, ErrUnknown
	}
	if err != nil {
		return nil, nil, err
	}
	if a.Status() == account.TakenDown {
		s.noteRefusal(ctx, a, t.SID, "account is taken down")
		return nil, nil, account.ErrTakenDown
	}
	st, err := s.find(ctx, t.SID, a)
	if err == nil && st.Grant == nil {
		err = ErrUnknown
	}
	if errors.Is(err, ErrUnknown) {
		s.noteRefusal(ctx, a, t.SID, "session was ended")
	}
	return a, st, err
}

// CheckGrant returns the error that RefreshGrant would return for a session as it is, and
// changes nothing, not even for a theft.
func (s *Service) CheckGrant(ctx context.Context, a *account.Account, st *State, p Presented) error {
	shown, err := s.presentation(ctx, p)
	if err != nil {
		return err
	}
	r, err := rotateGrant(*st, shown, s.grantRules())
	switch {
	case err != nil:
		return err
	case r.Outcome == Stale && !r.Changed:
		return s.refuseStale(ctx, a, p)
	default:
		return nil // a theft is recorded, so RefreshGrant returns it
	}
}

func (s *Service) presentation(ctx context.Context, p Presented) (GrantPresentation, error) {
	generation, ok := parseJTI(p.Token.JTI, p.Token.SID)
	if !ok {
		return GrantPresentation{}, ErrMismatch
	}
	client := request.ClientOf(ctx)
	return GrantPresentation{
		Presentation: Presentation{Generation: generation, At: s.now(), Network: client.Network().String(), UserAgent: client.UserAgent},
		Holder:       p.Holder, Granted: p.Granted, Effective: p.Effective, Sets: p.Sets,
	}, nil
}

func (s *Service) refuseStale(ctx context.Context, a *account.Account, p Presented) error {
	request.SetMark(ctx, request.RefreshStale)
	s.noteRefusal(ctx, a, p.Token.SID, "token was superseded before the reuse window")
	return ErrReused
}

// RefreshGrant gives the holder of a refresh token the session's newest pair, as the table
// in rotate.go says. Errors: ErrUnknown, ErrEnded, ErrReused, ErrMismatch, ErrTheft; any
// other is a dependency that failed.
func (s *Service) RefreshGrant(ctx context.Context, a *account.Account, p Presented) (SignedGrant, error) {
	id, nonce, ok := parseSID(p.Token.SID)
	if !ok {
		return SignedGrant{}, ErrUnknown
	}
	shown, err := s.presentation(ctx, p)
	if err != nil {
		return SignedGrant{}, err
	}
	var told theftNotice
	r, err := s.Store.Rotate(ctx, id, func(st State) (Rotation, error) {
		if st.Nonce != nonce || st.AccountID != a.ID {
			return Rotation{}, ErrUnknown
		}
		r, err := rotateGrant(st, shown, s.grantRules())
		if err == nil && r.Outcome == Theft && r.Changed {
			r.Mails = told.mails(s, a, r.Entries[0], st.Grant.ClientID)
		}
		return r, err
	})
	if err != nil || r.Outcome != Theft || !r.Changed {
		told.unsent(s, a)
	}
	switch {
	case errors.Is(err, ErrUnknown):
		s.noteRefusal(ctx, a, p.Token.SID, "session was ended")
		return SignedGrant{}, ErrUnknown
	case err != nil:
		return SignedGrant{}, err
	case r.Outcome == Stale:
		return SignedGrant{}, s.refuseStale(ctx, a, p)
	case r.Outcome == Theft:
		request.SetMark(ctx, request.RefreshRefused)
		return SignedGrant{}, ErrTheft
	}
	mark(ctx, r.Outcome)
	return s.MintGrant(a, &r.Next)
}

// theftNotice is the notice of a theft, made once however often the decision is.
type theftNotice struct {
	made  bool
	entry account.Entry
	mail  []mail.Message
}

func (n *theftNotice) mails(s *Service, a *account.Account, e account.Entry, clientID string) []mail.Message {
	if !n.made {
		n.made, n.entry, n.mail = true, e, s.Notices.Of(a, mail.NoticeTheft, e, clientID)
	}
	return n.mail
}

func (n *theftNotice) unsent(s *Service, a *account.Account) {
	s.Notices.Unsent(a, mail.NoticeTheft, n.entry, n.mail)
}

// Replayed ends the session of a code that was redeemed a second time, and tells the owner.
// It is not an error if the session is gone already.
func (s *Service) Replayed(ctx context.Context, a *account.Account, id int64, clientID string) error {
	e := account.NewEntry(ctx, s.now(), account.EntryCodeReplayed, account.ActorServer)
	e.Reason = clientID
	mails := s.Notices.Of(a, mail.NoticeReplay, e, clientID)
	err := s.Store.End(ctx, id, e, mails...)
	if err != nil {
		s.Notices.Unsent(a, mail.NoticeReplay, e, mails)
	}
	if errors.Is(err, ErrUnknown) {
		return nil
	}
	return err
}

// SignOutGrant ends the session of an OAuth token, expired or not, for a client. It is not
// an error if the session is gone already, or if it is not this client's.
func (s *Service) SignOutGrant(ctx context.Context, t auth.OAuthToken, clientID string) error {
	a, err := s.Accounts.ByDID(ctx, t.DID)
	if err == nil {
		var st *State
		if st, err = s.find(ctx, t.SID, a); err == nil && (st.Grant == nil || st.Grant.ClientID != clientID) {
			return nil
		}
		if err == nil {
			err = s.Store.End(ctx, st.ID, account.NewEntry(ctx, s.now(), account.EntrySignOut, account.ActorOwner))
		}
	}
	if errors.Is(err, account.ErrNotFound) || errors.Is(err, ErrUnknown) {
		return nil
	}
	return err
}

// EndKey ends the sessions of an OAuth client that are bound to a key which the client has
// taken out of its set.
func (s *Service) EndKey(ctx context.Context, clientID, thumbprint string) error {
	e := account.NewEntry(ctx, s.now(), account.EntryClientKeyRemoved, account.ActorServer)
	e.Reason = clientID
	for {
		if n, err := s.Store.EndKey(ctx, clientID, thumbprint, e); err != nil || n == 0 {
			return err
		}
	}
}

// Granted implements auth.Grants.
func (s *Service) Granted(ctx context.Context, t auth.OAuthToken) (auth.Granted, error) {
	a, err := s.Accounts.ByDID(ctx, t.DID)
	if errors.Is(err, account.ErrNotFound) {
		return auth.Granted{}, nil
	}
	if err != nil {
		return auth.Granted{}, err
	}
	out := auth.Granted{Status: string(a.Status())}
	if t.SID == "" {
		if t, err = s.inheritAccess(ctx, t); errors.Is(err, ErrUnknown) {
			return out, nil
		}
		if err != nil {
			return auth.Granted{}, err
		}
	}
	st, err := s.find(ctx, t.SID, a)
	if errors.Is(err, ErrUnknown) {
		return out, nil
	}
	if err != nil {
		return auth.Granted{}, err
	}
	g, now := st.Grant, s.now()
	if g == nil || g.ClientID != t.ClientID || !now.Before(g.EndsAt) {
		return out, nil
	}
	out.Live, out.ClientID, out.JKT, out.Scope = true, g.ClientID, g.DPoPJKT, s.scopes.of(g.Effective)
	if now.Sub(g.LastCallAt) >= callInterval {
		s.called(st.ID, t.SID)
	}
	return out, nil
}

// callInterval is how exact Grant.LastCallAt is.
const callInterval = time.Hour

// calls limits how often one session's call is written down while that has not succeeded yet.
var calls = ratelimit.Limit{Name: "last-call", Points: 1, Window: time.Minute}

// called has a session's call written down, not in the caller's way. When many wait, one that is
// left out comes again with the next call.
func (s *Service) called(id int64, sid string) {
	if !s.Noted.Take("call "+sid, calls).Allowed {
		return
	}
	select {
	case s.Calls <- id:
	default:
	}
}

// WriteCalls writes down what Calls gets, until ctx ends.
func (s *Service) WriteCalls(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case id := <-s.Calls:
			if err := s.Store.Called(ctx, id, s.now()); err != nil && ctx.Err() == nil {
				s.Log.LogAttrs(ctx, slog.LevelError, "last call not written", slog.String("cause", err.Error()))
				pause.For(ctx, time.Second)
			}
		}
	}
}
