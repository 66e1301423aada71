package xrpc

import (
	"context"
	"strconv"

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
	ShowLimit(ctx, r)
	if !r.Allowed {
		return TooManyRequests(r.RetryAfter(l.Now()))
	}
	return nil
}

// ShowLimit writes the RateLimit headers of the answer, unless they are of another
// limit already of which less is left: of all that count a request, clients are told
// of the one that they reach first.
func ShowLimit(ctx context.Context, r ratelimit.Result) {
	h := Header(ctx)
	if shown := h["Ratelimit-Remaining"]; r.Allowed && len(shown) > 0 {
		if left, err := strconv.Atoi(shown[0]); err == nil && left < r.Remaining {
			return
		}
	}
	r.SetHeaders(h)
}
