package prefs

import (
	"context"
	"errors"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json/jsontext"
)

// Bring replaces all preferences of an account by those that its owner brings from another
// server, and returns how many it kept. Those that could not be put here are left out: one
// that is malformed must not cost the others. Errors: ErrTooMany, ErrNoAccount.
func (s *Service) Bring(ctx context.Context, did syntax.DID, list []jsontext.Value) (kept int, err error) {
	err = s.Store.ReplacePreferences(ctx, did, func(now []jsontext.Value) ([]jsontext.Value, error) {
		fit := []jsontext.Value{}
		for _, p := range list {
			err := checkNew(s.Lexicons, now, []jsontext.Value{p})
			if errors.Is(err, errMalformed) || !inNamespace(typeOf(p)) {
				continue
			}
			if err != nil {
				return nil, err
			}
			fit = append(fit, p)
		}
		next, err := replace(now, fit, true)
		kept = len(next)
		return next, err
	})
	return kept, err
}
