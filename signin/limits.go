package signin

import (
	"context"
	"errors"
	"time"

	"nestbox/account"
	"nestbox/ratelimit"
	"nestbox/request"
)

// The sign-in limits of the session contract. Failures are counted narrowly,
// successes ten times as wide. Failures with something that has the form of an
// app password have buckets of their own, so that one app with a revoked
// password does not lock the owner out.
var (
	failPerAccount = []ratelimit.Limit{
		{Name: "sign-in-failures-5m", Points: 30, Window: 5 * time.Minute},
		{Name: "sign-in-failures-1d", Points: 300, Window: 24 * time.Hour},
	}
	failPerNetwork    = []ratelimit.Limit{{Name: "sign-in-failures-network", Points: 100, Window: 5 * time.Minute}}
	appFailPerAccount = []ratelimit.Limit{
		{Name: "app-failures-5m", Points: 30, Window: 5 * time.Minute},
		{Name: "app-failures-1d", Points: 300, Window: 24 * time.Hour},
	}
	appFailPerNetwork = []ratelimit.Limit{{Name: "app-failures-network", Points: 100, Window: 5 * time.Minute}}
	passPerAccount    = []ratelimit.Limit{
		{Name: "sign-ins-5m", Points: 300, Window: 5 * time.Minute},
		{Name: "sign-ins-1d", Points: 3000, Window: 24 * time.Hour},
	}
	passPerNetwork = []ratelimit.Limit{{Name: "sign-ins-network", Points: 1000, Window: 5 * time.Minute}}
)

// attempt holds the points that a sign-in took before its outcome was known.
type attempt struct {
	limits               *ratelimit.Limiter
	account, network     []ratelimit.Key
	failAcct, failNet    []ratelimit.Limit
	shown                ratelimit.Result
	tell                 bool // the client gets headers about what is left
	passAccount, passNet []ratelimit.Limit
}

// maxUnknown bounds, in bytes, what is remembered of an identifier that names
// nobody: there are many buckets.
const maxUnknown = 256

// attempt takes a point from every bucket that the sign-in could count against.
// request.ErrTooMany if one is empty, with headers about it. If it is to sign in, the
// client always gets these headers; deleteAccount has a limit of its own to show.
func (s *Service) attempt(ctx context.Context, a *account.Account, identifier string, in Attempt) (*attempt, error) {
	client := request.ClientOf(ctx)
	who := identifier[:min(len(identifier), maxUnknown)]
	if a != nil {
		who = a.DID.String() // handle, e-mail and DID share one bucket
	}
	t := &attempt{
		limits: s.Limits, account: client.Network().Keys(who + "|"), network: client.Network().Keys(""),
		failAcct: failPerAccount, failNet: failPerNetwork, passAccount: passPerAccount, passNet: passPerNetwork,
		tell: in.For == Session || in.For == Page,
	}
	if account.LooksLikeAppPassword(in.Password) {
		t.failAcct, t.failNet = appFailPerAccount, appFailPerNetwork
	}
	if s.Limits == nil || client.Unlimited {
		t.limits = nil
		return t, nil
	}
	taken := []struct {
		keys   []ratelimit.Key
		limits []ratelimit.Limit
	}{{t.account, t.passAccount}, {t.network, t.passNet}, {t.network, t.failNet}, {t.account, t.failAcct}}
	for i, b := range taken {
		t.shown = s.Limits.TakeKeys(b.keys, 1, b.limits...)
		if t.shown.Allowed {
			continue
		}
		for _, back := range taken[:i] {
			s.Limits.GiveBackKeys(back.keys, 1, back.limits...)
		}
		t.shown.SetHeaders(request.Header(ctx))
		return nil, request.ErrTooMany{Wait: t.shown.RetryAfter(s.Limits.Now())}
	}
	return t, nil
}

// settle gives points back to the buckets that the outcome does not count against:
// a success leaves the failures as they were, a failure the successes, and what was
// nobody's fault both.
func (t *attempt) settle(ctx context.Context, err error) {
	failed := errors.Is(err, ErrWrong) || WrongCode(err)
	if failed {
		request.SetMark(ctx, request.SignInFailed)
	}
	if err == nil && t.tell {
		request.SetMark(ctx, request.SignedIn)
	}
	if t.limits == nil {
		return
	}
	if !failed {
		t.limits.GiveBackKeys(t.account, 1, t.failAcct...)
		t.limits.GiveBackKeys(t.network, 1, t.failNet...)
		t.shown.Remaining++
	}
	if t.tell {
		t.shown.SetHeaders(request.Header(ctx))
	}
	if _, needed := errors.AsType[*FactorNeeded](err); err != nil && !needed && !errors.Is(err, ErrAppsOff) { // the password was right
		t.limits.GiveBackKeys(t.account, 1, t.passAccount...)
		t.limits.GiveBackKeys(t.network, 1, t.passNet...)
	}
}
