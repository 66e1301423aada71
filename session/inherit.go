package session

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/auth"
	"nestbox/internal/pause"
)

// What the server that this one took over from has signed goes on here: each of its tokens
// stands for a generation of a session, and is answered as our own of that generation is.

// ForeignLife is how long an access token of the reference is valid, in the case of a
// session that no OAuth client has: it names no session, so it ends with its account's others.
const ForeignLife = 2 * time.Hour

// inheritedKept is how long after a take-over tokens of the other server are known: no
// refresh token of it lives longer.
const inheritedKept = 90 * 24 * time.Hour

// Inherited is what a token of the other server stands for: a generation of an account's
// session.
type Inherited struct {
	DID            syntax.DID
	ID, Generation int64
}

// TokenHash names a token of the server that this one took over from: a refresh token's jti,
// or what an OAuth client presents.
func TokenHash(token string) [sha256.Size]byte { return sha256.Sum256([]byte(token)) }

// EndsForeign reports whether the end of a session that was taken over ends the access
// tokens, too, that the other server has issued to its account. It is pure.
func EndsForeign(takenOver, at time.Time) bool { return at.Sub(takenOver) < ForeignLife }

// Replayed returns a session that another server kept: as s, whose head then moved at each
// of the given times, which are in order. It is pure.
func Replayed(s State, moves []time.Time, rules Rules) State {
	r := Rotation{Next: s}
	for _, at := range moves {
		r.advance(Presentation{Network: s.Network, UserAgent: s.UserAgent}, at, r.Next.Head+1, rules)
	}
	return r.Next
}

// inherited returns the account and the session that a token of the other server stands for,
// and the name of its generation: ErrUnknown.
func (s *Service) inherited(ctx context.Context, token string) (did syntax.DID, st *State, jti string, err error) {
	in, err := s.Store.Inherited(ctx, TokenHash(token))
	if err != nil {
		return "", nil, "", err
	}
	if st, err = s.Store.Load(ctx, in.ID); err != nil {
		return "", nil, "", err
	}
	return in.DID, st, st.JTI(in.Generation), nil
}

// inherit returns the token of ours that means the same as one that names no session, or none
// that there is: ErrUnknown if there is none.
func (s *Service) inherit(ctx context.Context, t auth.Token) (auth.Token, error) {
	_, st, jti, err := s.inherited(ctx, t.JTI)
	if err == nil {
		t.SID, t.JTI = st.SID(), jti
	}
	return t, err
}

// InheritGrant returns the refresh token of ours that means the same as what an OAuth client
// got from the other server: a refresh token, or the jti of an access token. ErrUnknown if
// there is none.
func (s *Service) InheritGrant(ctx context.Context, token string) (auth.OAuthToken, error) {
	did, st, jti, err := s.inherited(ctx, token)
	if err != nil {
		return auth.OAuthToken{}, err
	}
	if st.Grant == nil {
		return auth.OAuthToken{}, ErrUnknown
	}
	return auth.OAuthToken{
		DID: did, ClientID: st.Grant.ClientID, SID: st.SID(), JTI: jti, IssuedAt: st.RotatedAt, Expires: st.Expires,
	}, nil
}

// inheritAccess returns an access token of the other server with the session that it stands
// for: ErrUnknown.
func (s *Service) inheritAccess(ctx context.Context, t auth.OAuthToken) (auth.OAuthToken, error) {
	of, err := s.InheritGrant(ctx, t.JTI)
	t.SID = of.SID
	return t, err
}

// forgetInherited forgets the tokens of the other server, in steps, once none can be valid.
func (s *Service) forgetInherited(ctx context.Context) {
	for s.Doubt == nil || s.Doubt() == nil {
		n, err := s.Store.ForgetInherited(ctx, s.now().Add(-inheritedKept))
		if err != nil && ctx.Err() == nil {
			s.Log.LogAttrs(ctx, slog.LevelError, "forgetting tokens of another server failed", slog.String("cause", err.Error()))
		}
		if err != nil || n == 0 || !pause.For(ctx, collectPause) {
			return
		}
	}
}
