package xrpc

import (
	"context"

	"nestbox/ratelimit"
)

// Admit counts a request as so many points against the limits of a key, and tells the
// client what is left. Too many: TooManyRequests, and nothing was taken. A client that
// the operator exempted is not counted, nor is anything by a nil Limiter.
func Admit(ctx context.Context, l *ratelimit.Limiter, key string, points int, limits ...ratelimit.Limit) error {
	return takePoints(ctx, l, key, points, limits, true)
}

// Charge is Admit for what a request turns out to cost: unless it is too much, the
// client is told nothing.
func Charge(ctx context.Context, l *ratelimit.Limiter, key string, points int, limits ...ratelimit.Limit) error {
	return takePoints(ctx, l, key, points, limits, false)
}

func takePoints(ctx context.Context, l *ratelimit.Limiter, key string, points int, limits []ratelimit.Limit, tell bool) error {
	if l == nil || ClientOf(ctx).Unlimited {
		return nil
	}
	r := l.TakeN(key, points, limits...)
	if tell || !r.Allowed {
		r.SetHeaders(Header(ctx))
	}
	if !r.Allowed {
		return TooManyRequests(r.RetryAfter(l.Now()))
	}
	return nil
}
