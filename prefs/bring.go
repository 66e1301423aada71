package prefs

import (
	"context"
	"errors"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json/jsontext"
)

// Bring replaces all preferences of an account by those that its owner brings from another
// server, and returns how many it kept. Those that could not be put here are left out: one
// that is malformed must not cost the others. If none is left, nothing is replaced. Errors:
// ErrTooMany, ErrNoAccount.
func (s *Service) Bring(ctx context.Context, did syntax.DID, list []jsontext.Value) (kept int, err error) {
	err = s.Store.ReplacePreferences(ctx, did, func(now []jsontext.Value) ([]jsontext.Value, error) {
		fit, _, err := s.fit(now, list)
		if err != nil || len(fit) == 0 {
			return now, err
		}
		next, err := replace(now, fit, true)
		kept = len(next)
		return next, err
	})
	return kept, err
}

// Fit returns how many preferences Bring would keep, and the types of those that it would
// leave out, empty for one without. It changes nothing. Errors: those of Bring.
func (s *Service) Fit(ctx context.Context, did syntax.DID, list []jsontext.Value) (kept int, odd []string, err error) {
	now, err := s.Store.Preferences(ctx, did)
	if err != nil {
		return 0, nil, err
	}
	fit, odd, err := s.fit(now, list)
	if err != nil {
		return 0, nil, err
	}
	_, err = replace(now, fit, true)
	return len(fit), odd, err
}

// fit returns the preferences of a list that could be put here, and the types of the others.
// What is derived from others is neither.
func (s *Service) fit(now, list []jsontext.Value) (fit []jsontext.Value, odd []string, err error) {
	for _, p := range list {
		kind := typeOf(p)
		err := checkNew(s.Lexicons, now, []jsontext.Value{p})
		switch {
		case errors.Is(err, errMalformed), !inNamespace(kind):
			odd = append(odd, kind)
		case err != nil:
			return nil, nil, err
		case kind != declaredAge:
			fit = append(fit, p)
		}
	}
	return fit, odd, nil
}
