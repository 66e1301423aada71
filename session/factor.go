package session

import (
	"context"
	"errors"
	"strings"
	"time"

	"nestbox/account"
	"nestbox/ratelimit"
	"nestbox/request"
)

// errCodeNeeded: the password was right; a code is on its way.
var errCodeNeeded = errors.New("a sign-in code is needed")

// wrongCode reports whether err is about the code that came with a sign-in.
func wrongCode(err error) bool {
	return errors.Is(err, account.ErrCodeInvalid) || errors.Is(err, account.ErrCodeExpired)
}

// codeMails bounds the codes that are sent to one account; only somebody who knows
// its password can cause them.
var codeMails = []ratelimit.Limit{
	{Name: "sign-in-codes-1h", Points: 10, Window: time.Hour},
	{Name: "sign-in-codes-1d", Points: 30, Window: 24 * time.Hour},
}

// sameCode is how long after sending a code we do not send another.
const sameCode = time.Minute

// factor checks the code that a sign-in needs besides the password. If none was
// given it sends one, and returns errCodeNeeded.
func (s *Service) factor(ctx context.Context, a *account.Account, code string) (*account.Proof, error) {
	if strings.TrimSpace(code) != "" {
		proof, err := s.Codes.Check(ctx, a, account.PurposeSignIn, code)
		if err != nil {
			return nil, err
		}
		return &proof, nil
	}
	recent, err := s.Codes.SentWithin(ctx, a, account.PurposeSignIn, sameCode)
	if err != nil {
		return nil, err
	}
	if !recent {
		if !request.ClientOf(ctx).Unlimited {
			if r := s.Limits.Take(a.DID.String(), codeMails...); !r.Allowed {
				return nil, &tooMany{wait: r.RetryAfter(s.Limits.Now())}
			}
		}
		if err := s.Codes.Send(ctx, a, account.PurposeSignIn); err != nil {
			return nil, err
		}
	}
	return nil, errCodeNeeded
}
