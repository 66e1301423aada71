package auth

import (
	"context"
	"strconv"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/ratelimit"
	"nestbox/request"
)

// Holder is the credential behind a request, as limits count it: the account's
// password, one of its app passwords, an OAuth client, or a service that acts for it. Each has
// buckets of its own, so that an app does not use up what the owner may do.
type Holder struct {
	DID syntax.DID
	// Via is empty for the account's own password.
	Via string
}

// viaService is the Via that all services acting for an account share.
const viaService = "service"

// Holder returns the credential behind the token.
func (a Access) Holder() Holder {
	h := Holder{DID: a.DID}
	switch {
	case a.IsOAuth():
		h.Via = "client " + a.ClientID
	case a.Scope == ScopeAppPass, a.Scope == ScopeAppPassPrivileged:
		h.Via = "app " + strconv.FormatInt(a.AppPassword, 10)
	}
	return h
}

// Key returns the holder's key in a ratelimit.Limiter.
func (h Holder) Key() string {
	if h.Via == "" {
		return h.DID.String()
	}
	return h.DID.String() + " " + h.Via
}

// delegates is how many times a limit all app passwords, OAuth clients and services of one
// account may use together: an owner can make many of them, which must not multiply the
// limit.
const delegates = 4

// Admit counts a request against limits of its holder; headers show clients what is
// left.
func Admit(ctx context.Context, l *ratelimit.Limiter, h Holder, points int, limits ...ratelimit.Limit) error {
	if err := request.Admit(ctx, l, h.Key(), points, limits...); err != nil || h.Via == "" {
		return err
	}
	all := make([]ratelimit.Limit, len(limits))
	for i, limit := range limits {
		all[i] = ratelimit.Limit{Name: limit.Name + "-delegates", Points: delegates * limit.Points, Window: limit.Window}
	}
	return request.Charge(ctx, l, h.DID.String(), points, all...)
}
