package request

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"nestbox/ratelimit"
)

// ErrTooMany is the error of a rate limit, or of a place that is taken: the
// client may try again after Wait.
type ErrTooMany struct{ Wait time.Duration }

// RetryAfter returns the header of that name: whole seconds, rounded up, so that
// a client that waits so long does not come too early.
func (e ErrTooMany) RetryAfter() string {
	s := int64((e.Wait + time.Second - 1) / time.Second)
	return strconv.FormatInt(max(s, 1), 10)
}

func (e ErrTooMany) Error() string { return fmt.Sprintf("too many requests, try again in %s", e.Wait) }

// Admit counts a request as so many points against the limits of a key, and sends the
// client what is left. If that is too many it returns ErrTooMany and takes nothing. A
// client that the operator exempted is not counted, nor is anything if l is nil.
func Admit(ctx context.Context, l *ratelimit.Limiter, key string, points int, limits ...ratelimit.Limit) error {
	return takePoints(ctx, l, key, points, limits, true)
}

// Charge is Admit for what a request turns out to cost: the client gets no headers
// unless it is too much.
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
		return ErrTooMany{r.RetryAfter(l.Now())}
	}
	return nil
}
