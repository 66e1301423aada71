package oauth

import (
	"context"
	"errors"
	"strings"

	"nestbox/auth"
	"nestbox/session"
)

// The refresh tokens of the server that this one took over from (@atproto/oauth-provider,
// refresh-token.ts): no JWTs, ref- and 64 hexadecimal digits.
const (
	inheritedRefresh = "ref-"
	inheritedLength  = len(inheritedRefresh) + 64
)

func isInherited(token string) bool {
	return len(token) == inheritedLength && strings.HasPrefix(token, inheritedRefresh)
}

// refreshToken verifies a refresh token: ours, or one of the server that this one took over
// from, which is then returned as the token of ours that means the same. Errors:
// auth.ErrOAuthExpired, auth.ErrOAuthInvalid; any other is the store's.
func (s *Service) refreshToken(ctx context.Context, token string) (auth.OAuthToken, error) {
	if !isInherited(token) {
		return s.Keyring.VerifyOAuthRefresh(token, s.Issuer, s.now())
	}
	t, err := s.inherit(ctx, token)
	if err == nil && !s.now().Before(t.Expires) {
		err = auth.ErrOAuthExpired
	}
	return t, err
}

// endingToken returns the content of an access or refresh token, expired or not, of either
// server: auth.ErrOAuthInvalid; any other error is the store's.
func (s *Service) endingToken(ctx context.Context, token string) (auth.OAuthToken, error) {
	if isInherited(token) {
		return s.inherit(ctx, token)
	}
	t, err := s.Keyring.VerifyOAuthEnding(token, s.Issuer, s.Audience)
	if err == nil && t.SID == "" {
		return s.inherit(ctx, t.JTI)
	}
	return t, err
}

func (s *Service) inherit(ctx context.Context, token string) (auth.OAuthToken, error) {
	t, err := s.Sessions.InheritGrant(ctx, token)
	if errors.Is(err, session.ErrUnknown) {
		err = auth.ErrOAuthInvalid
	}
	return t, err
}
