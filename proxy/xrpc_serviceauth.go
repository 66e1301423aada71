package proxy

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/xrpc"
)

// How long a service token may be valid, from now: one for a method, one for any.
const (
	serviceTokenLife       = time.Minute // if no time is asked for
	maxServiceTokenLife    = time.Hour
	maxMethodlessTokenLife = time.Minute
)

// ServiceAuth makes tokens that speak for an account to another service.
type ServiceAuth struct {
	Accounts Accounts
	Keys     Keys
	Now      func() time.Time
}

// ServiceAuthParams and ServiceAuthOutput are the input and output of
// getServiceAuth. Expires is in seconds since 1970.
type (
	ServiceAuthParams struct {
		Audience string `json:"aud"`
		Expires  *int64 `json:"exp,omitzero"`
		Method   string `json:"lxm,omitzero"`
	}
	ServiceAuthOutput struct {
		Token string `json:"token"`
	}
)

// Get is com.atproto.server.getServiceAuth.
func (s *ServiceAuth) Get(ctx context.Context, caller auth.StandardOrTakenDownCaller, p ServiceAuthParams) (ServiceAuthOutput, error) {
	now := s.Now()
	expires, err := serviceAuth(caller.Scope, p, now)
	if err != nil {
		return ServiceAuthOutput{}, err
	}
	a, err := s.Accounts.ByDID(ctx, caller.DID)
	if err == nil {
		var key atcrypto.PrivateKey
		if key, err = s.Keys.SigningKey(ctx, a.ID); err == nil {
			var token string
			if token, err = auth.NewServiceToken(key, a.DID, p.Audience, p.Method, now, expires); err == nil {
				return ServiceAuthOutput{token}, nil
			}
		}
	}
	if errors.Is(err, account.ErrNotFound) {
		return ServiceAuthOutput{}, auth.Expired() // deleted since the caller was authenticated
	}
	return ServiceAuthOutput{}, xrpc.Unavailable(err)
}

// serviceAuth decides whether a session may have the token, and until when. The
// errors, and their order, are the reference's.
func serviceAuth(scope auth.Scope, p ServiceAuthParams, now time.Time) (expires time.Time, err error) {
	if p.Method != "" {
		if _, err := syntax.ParseNSID(p.Method); err != nil {
			return time.Time{}, xrpc.InvalidRequest("Invalid NSID at $.lxm")
		}
	}
	if !isAudience(p.Audience) {
		return time.Time{}, xrpc.InvalidRequest("aud must be a valid atproto DID or did#serviceId reference")
	}
	if scope == auth.ScopeTakenDown && p.Method != createAccount {
		return time.Time{}, xrpc.BadRequest(xrpc.NameInvalidToken, "Bad token scope")
	}
	if !open(scope, p.Method) {
		return time.Time{}, xrpc.InvalidRequest("insufficient access to request a service auth token for the following method: %s", p.Method)
	}
	expires = now.Add(serviceTokenLife)
	if p.Expires != nil && *p.Expires != 0 {
		expires = time.Unix(*p.Expires, 0)
		switch life := expires.Sub(now); {
		case life < 0:
			return time.Time{}, xrpc.BadRequest("BadExpiration", "expiration is in past")
		case life > maxServiceTokenLife:
			return time.Time{}, xrpc.BadRequest("BadExpiration", "cannot request a token with an expiration more than an hour in the future")
		case p.Method == "" && life > maxMethodlessTokenLife:
			return time.Time{}, xrpc.BadRequest("BadExpiration", "cannot request a method-less token with an expiration more than a minute in the future")
		}
	}
	if protected(p.Method) {
		return time.Time{}, xrpc.InvalidRequest("cannot request a service auth token for the following protected method: %s", p.Method)
	}
	return expires, nil
}

// isAudience reports whether text is a DID of the protocol's methods, in a form
// that can exist, alone or with the id of one of its services
// (https://atproto.com/specs/did).
func isAudience(text string) bool {
	name, service, hasService := strings.Cut(text, "#")
	if hasService && (service == "" || len(service) > 128 || strings.Trim(service, fragment) != "") {
		return false
	}
	if id, ok := strings.CutPrefix(name, "did:plc:"); ok {
		return len(id) == 24 && strings.Trim(id, "abcdefghijklmnopqrstuvwxyz234567") == ""
	}
	host, ok := strings.CutPrefix(name, "did:web:")
	if !ok {
		return false
	}
	if port, local := strings.CutPrefix(host, "localhost%3A"); local {
		n, err := strconv.ParseUint(port, 10, 16)
		return err == nil && n > 0
	}
	if host == "localhost" {
		return true
	}
	_, err := syntax.ParseHandle(host) // a host name, not an address
	return err == nil
}

// fragment are the characters of a service's id.
const fragment = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-"
