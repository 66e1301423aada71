package xrpc

import (
	"context"

	"nestbox/ratelimit"
)

// Admit counts a request as so many points against the limits of a key, and tells the
// client what is left. Too many: TooManyRequests, and nothing was taken. A client that
// the operator exempted is not counted, nor is anything by a nil Limiter.
func Admit(ctx context.Context, l *ratelimit.Limiter, key string, points int, limits ...ratelimit.Limit) error {
	if l == nil || ClientOf(ctx).Unlimited {
		return nil
	}
	r := l.TakeN(key, points, limits...)
	r.SetHeaders(Header(ctx))
	if !r.Allowed {
		return TooManyRequests(r.RetryAfter(l.Now()))
	}
	return nil
}
