package prefs

import (
	"context"
	"errors"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json/jsontext"

	"nestbox/auth"
	"nestbox/xrpc"
)

// The inputs and outputs of the two endpoints. DID is for the moderation service alone,
// which may ask for any account's.
type (
	GetPreferencesParams struct {
		DID string `json:"did,omitzero"`
	}
	GetPreferencesOutput struct {
		Preferences []jsontext.Value `json:"preferences"`
	}
	PutPreferencesInput struct {
		Preferences []jsontext.Value `json:"preferences"`
	}
)

// Get is app.bsky.actor.getPreferences.
func (s *Service) Get(ctx context.Context, caller auth.OwnerOrServiceCaller, p GetPreferencesParams) (GetPreferencesOutput, error) {
	did, full := caller.DID, caller.Scope == auth.ScopeAccess
	if caller.Service != "" {
		var err error
		if did, err = syntax.ParseDID(p.DID); err != nil {
			return GetPreferencesOutput{}, xrpc.InvalidRequest("Invalid or missing did parameter")
		}
		full = true
	}
	all, err := s.Store.Preferences(ctx, did)
	if err != nil {
		return GetPreferencesOutput{}, wireError(err)
	}
	return GetPreferencesOutput{visible(all, full, s.Now())}, nil
}

// Put is app.bsky.actor.putPreferences.
func (s *Service) Put(ctx context.Context, caller auth.StandardCaller, in PutPreferencesInput) (xrpc.None, error) {
	full := caller.Scope == auth.ScopeAccess
	var forbidden []string
	for _, p := range in.Preferences {
		switch kind := typeOf(p); {
		case kind == "":
			return xrpc.None{}, xrpc.InvalidRequest("Preference is missing a $type")
		case !inNamespace(kind):
			return xrpc.None{}, xrpc.InvalidRequest("Some preferences are not in the %s namespace", namespace)
		case kind == personalDetails && !full:
			forbidden = append(forbidden, kind)
		}
	}
	if forbidden != nil {
		return xrpc.None{}, xrpc.InvalidRequest("Do not have authorization to set preferences: %s", strings.Join(forbidden, ", "))
	}
	return xrpc.None{}, wireError(s.Store.ReplacePreferences(ctx, caller.DID, func(now []jsontext.Value) ([]jsontext.Value, error) {
		if err := checkNew(s.Lexicons, now, in.Preferences); err != nil {
			return nil, err
		}
		return replace(now, in.Preferences, full)
	}))
}

func wireError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errMalformed):
		return xrpc.InvalidRequest("%s", err)
	case errors.Is(err, ErrTooMany):
		return xrpc.InvalidRequest("Preferences are too many or too large: at most %d, and %d bytes", maxCount, MaxSize)
	case errors.Is(err, ErrNoAccount):
		return xrpc.InvalidRequest("Could not find account")
	default:
		return xrpc.Unavailable(err)
	}
}
