package hosting

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/ratelimit"
	"nestbox/request"
	"nestbox/xrpc"
)

// createAccountMethod is what a service token takes for moving out.
const createAccountMethod = "com.atproto.server.createAccount"

// How long a service token may hold, from now: one for a method, one for any.
const (
	serviceTokenLife       = time.Minute // where nothing is asked for
	maxServiceTokenLife    = time.Hour
	maxMethodlessTokenLife = time.Minute
)

// protectedMethods are of the account and of nobody else: no service may call them
// for it.
func protectedMethods() []string {
	return []string{
		"com.atproto.admin.sendEmail", "com.atproto.identity.requestPlcOperationSignature", "com.atproto.identity.signPlcOperation",
		"com.atproto.identity.updateHandle", "com.atproto.server.activateAccount", "com.atproto.server.confirmEmail",
		"com.atproto.server.createAppPassword", "com.atproto.server.deactivateAccount", "com.atproto.server.getAccountInviteCodes",
		"com.atproto.server.getSession", "com.atproto.server.listAppPasswords", "com.atproto.server.requestAccountDelete",
		"com.atproto.server.requestEmailConfirmation", "com.atproto.server.requestEmailUpdate", "com.atproto.server.revokeAppPassword",
		"com.atproto.server.updateEmail",
	}
}

// privileged says whether a method is closed to app passwords that are not
// privileged: direct messages, and moving out.
func privileged(method string) bool {
	return method == createAccountMethod || strings.HasPrefix(method, "chat.bsky.")
}

// ServiceAuthParams and ServiceAuthOutput are of getServiceAuth. Expires is in
// seconds since 1970.
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

// GetServiceAuth is com.atproto.server.getServiceAuth: a token that speaks for the
// account to another server.
func (s *Service) GetServiceAuth(ctx context.Context, caller auth.StandardOrTakendownCaller, p ServiceAuthParams) (ServiceAuthOutput, error) {
	now := s.Now()
	expires, err := serviceAuth(caller.Scope, p, now)
	if err != nil {
		return ServiceAuthOutput{}, err
	}
	a, err := s.Accounts.ByDID(ctx, caller.DID)
	if err != nil {
		return ServiceAuthOutput{}, StatusError(err)
	}
	key, err := s.Keys.SigningKey(ctx, a.ID)
	if errors.Is(err, account.ErrNotFound) {
		return ServiceAuthOutput{}, auth.ErrExpired()
	}
	if err != nil {
		return ServiceAuthOutput{}, xrpc.Unavailable(err)
	}
	token, err := auth.NewServiceToken(key, a.DID, p.Audience, p.Method, now, expires)
	if err != nil {
		return ServiceAuthOutput{}, xrpc.Unavailable(err)
	}
	return ServiceAuthOutput{token}, nil
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
	if scope == auth.ScopeTakendown && p.Method != createAccountMethod {
		return time.Time{}, xrpc.BadRequest(xrpc.NameInvalidToken, "Bad token scope")
	}
	if privileged(p.Method) && scope == auth.ScopeAppPass {
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
	if slices.Contains(protectedMethods(), p.Method) {
		return time.Time{}, xrpc.InvalidRequest("cannot request a service auth token for the following protected method: %s", p.Method)
	}
	return expires, nil
}

// isAudience says whether text is a DID of the protocol's methods, with or without
// a service of it.
func isAudience(text string) bool {
	name, service, hasService := strings.Cut(text, "#")
	did, err := syntax.ParseDID(name)
	if err != nil || did.Method() != "plc" && did.Method() != "web" {
		return false
	}
	return !hasService || service != "" && !strings.ContainsAny(service, "#/?& ") && len(service) <= 128
}

// ReserveKeyInput and ReserveKeyOutput are of reserveSigningKey.
type (
	ReserveKeyInput struct {
		DID string `json:"did,omitzero"`
	}
	ReserveKeyOutput struct {
		SigningKey string `json:"signingKey"`
	}
)

// reservations limits signing keys that one client network has reserved.
var reservations = ratelimit.Limit{Name: "reserved-keys", Points: 100, Window: time.Hour}

// ReserveSigningKey is com.atproto.server.reserveSigningKey.
func (s *Service) ReserveSigningKey(ctx context.Context, _ auth.Anyone, in ReserveKeyInput) (ReserveKeyOutput, error) {
	did := syntax.DID(in.DID)
	if in.DID != "" {
		if _, err := syntax.ParseDID(in.DID); err != nil {
			return ReserveKeyOutput{}, xrpc.InvalidRequest("Invalid DID at $.did")
		}
	}
	if err := request.AdmitNetwork(ctx, s.Limits, 1, reservations); err != nil {
		return ReserveKeyOutput{}, err
	}
	key, err := s.ReserveKey(ctx, did)
	if err != nil {
		return ReserveKeyOutput{}, xrpc.Unavailable(err)
	}
	return ReserveKeyOutput{key}, nil
}
