package proxy

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/auth"
	"nestbox/oauth/scope"
	"nestbox/request"
	"nestbox/xrpc"
)

// How long a service token may be valid, from now: one for a method, one for any.
const (
	serviceTokenLife       = time.Minute // if no time is asked for
	maxServiceTokenLife    = time.Hour
	maxMethodlessTokenLife = time.Minute
)

// GetServiceAuthParams and GetServiceAuthOutput are the input and output of
// getServiceAuth. Expires is in seconds since 1970.
type (
	GetServiceAuthParams struct {
		Audience string `json:"aud"`
		Expires  *int64 `json:"exp,omitzero"`
		Method   string `json:"lxm,omitzero"`
	}
	GetServiceAuthOutput struct {
		Token string `json:"token"`
	}
)

// GetServiceAuth is com.atproto.server.getServiceAuth.
func (s *Service) GetServiceAuth(
	ctx context.Context, calling auth.Scoped[auth.StandardOrTakenDownCaller], p GetServiceAuthParams,
) (GetServiceAuthOutput, error) {
	if err := checkServiceAuth(p); err != nil {
		return GetServiceAuthOutput{}, err
	}
	caller, err := calling.For(scope.NeedRPC(p.Method, p.Audience))
	if err != nil {
		return GetServiceAuthOutput{}, err
	}
	now := s.Now()
	expires, err := serviceAuth(caller.Scope, p, now)
	if err != nil {
		return GetServiceAuthOutput{}, err
	}
	token, err := s.serviceToken(ctx, caller.DID, p, now, expires)
	if err != nil {
		return GetServiceAuthOutput{}, wireError(request.Header(ctx), err)
	}
	request.Note(ctx, slog.String("aud", p.Audience), slog.String("lxm", p.Method), slog.Duration("life", expires.Sub(now)))
	return GetServiceAuthOutput{token}, nil
}

func (s *Service) serviceToken(ctx context.Context, did syntax.DID, p GetServiceAuthParams, now, expires time.Time) (string, error) {
	a, err := s.Accounts.ByDID(ctx, did)
	if err != nil {
		return "", err
	}
	key, err := s.Keys.SigningKey(ctx, a.ID)
	if err != nil {
		return "", err
	}
	return auth.NewServiceToken(key, a.DID, p.Audience, p.Method, now, expires)
}

// checkServiceAuth checks the form of what is asked for.
func checkServiceAuth(p GetServiceAuthParams) error {
	if p.Method != "" {
		if _, err := syntax.ParseNSID(p.Method); err != nil {
			return xrpc.InvalidRequest("Invalid NSID at $.lxm")
		}
	}
	if !isAudience(p.Audience) {
		return xrpc.InvalidRequest("aud must be a valid atproto DID or did#serviceId reference")
	}
	return nil
}

// serviceAuth decides whether a session may have the token, and until when. The
// errors, and their order, are the reference's.
func serviceAuth(of auth.Scope, p GetServiceAuthParams, now time.Time) (expires time.Time, err error) {
	if of == auth.ScopeTakenDown && p.Method != createAccount {
		return time.Time{}, xrpc.BadRequest(xrpc.NameInvalidToken, "Bad token scope")
	}
	if !open(of, p.Method) {
		return time.Time{}, xrpc.InvalidRequest("insufficient access to request a service auth token for the following method: %s", p.Method)
	}
	expires = now.Add(serviceTokenLife)
	if p.Expires != nil && *p.Expires != 0 {
		expires = time.Unix(min(*p.Expires, now.Add(2*maxServiceTokenLife).Unix()), 0) // of more, the difference would overflow
		switch life := expires.Sub(now); {
		case life < 0:
			return time.Time{}, xrpc.BadRequest("BadExpiration", "expiration is in past")
		case life > maxServiceTokenLife:
			return time.Time{}, xrpc.BadRequest("BadExpiration", "cannot request a token with an expiration more than an hour in the future")
		case p.Method == "" && life > maxMethodlessTokenLife:
			return time.Time{}, xrpc.BadRequest("BadExpiration",
				"cannot request a method-less token with an expiration more than a minute in the future")
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
	return isServiceDID(name)
}

// isServiceDID reports whether text is a DID that a service can have: of the protocol's
// methods, and in a form that can exist.
func isServiceDID(name string) bool {
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
