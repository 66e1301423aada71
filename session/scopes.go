package session

import (
	"sync"

	"github.com/maypok86/otter/v2"

	"nestbox/oauth/scope"
)

const (
	// maxScopes bounds the scopes that are kept parsed, in bytes of their text. Parsed
	// they take several times as much.
	maxScopes = 4 << 20
	// scopeWeight is what a scope counts besides its text.
	scopeWeight = 256
)

// scopes are the parsed scopes of grants, by their text: the same app asks many people for
// the same.
type scopes struct {
	once   sync.Once
	parsed *otter.Cache[string, *scope.Set]
}

// of returns the parsed scope. It is shared, and must not be changed.
func (s *scopes) of(text string) *scope.Set {
	s.once.Do(func() {
		s.parsed = otter.Must(&otter.Options[string, *scope.Set]{
			MaximumWeight: maxScopes,
			Weigher:       func(text string, _ *scope.Set) uint32 { return uint32(len(text) + scopeWeight) }, //nolint:gosec // at most megabytes
		})
	})
	if set, ok := s.parsed.GetIfPresent(text); ok {
		return set
	}
	set := scope.Parse(text)
	s.parsed.Set(text, &set)
	return &set
}
