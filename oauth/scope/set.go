package scope

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// The limits of a scope that a client asks for.
const (
	MaxBytes    = 16 << 10
	MaxTokens   = 200
	MaxIncludes = 20
	// MaxExpanded bounds the collections and methods that the permission sets of a
	// scope hold together.
	MaxExpanded = 5000
)

// ErrLimit: a scope has more than its limits allow. The error's text names which, in
// printable ASCII.
var ErrLimit = errors.New("the scope is too large")

// Check returns ErrLimit if a client may not ask for a scope because of its size.
func Check(text string) error {
	if len(text) > MaxBytes {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrLimit, len(text), MaxBytes)
	}
	tokens, includes := 0, 0
	for token := range strings.FieldsSeq(text) {
		tokens++
		if strings.HasPrefix(token, string(Include)+":") || strings.HasPrefix(token, string(Include)+"?") {
			includes++
		}
	}
	switch {
	case tokens > MaxTokens:
		return fmt.Errorf("%w: %d tokens, at most %d are allowed", ErrLimit, tokens, MaxTokens)
	case includes > MaxIncludes:
		return fmt.Errorf("%w: %d permission sets, at most %d are allowed", ErrLimit, includes, MaxIncludes)
	}
	return nil
}

// Set is a scope: permissions, each once. The zero Set holds and allows nothing.
type Set struct {
	permissions []Permission // Atproto first, then by their text
	dropped     []string
	index       *index
}

// Parse reads a scope: tokens with spaces between. It drops what it does not know.
// Its cost is that of the text, so check its size before if it is a stranger's.
func Parse(text string) Set {
	var list []Permission
	var dropped []string
	for raw := range strings.SplitSeq(text, " ") {
		if raw == "" {
			continue
		}
		if p, ok := parseToken(raw); ok {
			list = append(list, p)
		} else {
			dropped = append(dropped, raw)
		}
	}
	return newSet(list, dropped)
}

func newSet(list []Permission, dropped []string) Set {
	slices.SortStableFunc(list, func(a, b Permission) int {
		switch {
		case a.text == b.text:
			return 0
		case a.Kind == Atproto:
			return -1
		case b.Kind == Atproto:
			return 1
		}
		return strings.Compare(a.text, b.text)
	})
	list = slices.CompactFunc(list, func(a, b Permission) bool { return a.text == b.text })
	return Set{permissions: list, dropped: dropped, index: newIndex(list)}
}

// String returns the scope in its normal form. Sets of the same permissions have the
// same, in whatever order and form they were asked for.
func (s Set) String() string {
	var b strings.Builder
	for i := range s.permissions {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(s.permissions[i].text)
	}
	return b.String()
}

// Dropped returns the tokens that Parse did not know, as they were.
func (s Set) Dropped() []string { return s.dropped }

// Len returns how many permissions the set holds.
func (s Set) Len() int { return len(s.permissions) }

// Has reports whether the set holds a token without parameters.
func (s Set) Has(static Kind) bool {
	return slices.ContainsFunc(s.permissions, func(p Permission) bool { return p.text == string(static) })
}

// Includes returns the permission sets that the scope names, each once.
func (s Set) Includes() []syntax.NSID {
	var list []syntax.NSID
	for i := range s.permissions {
		if p := &s.permissions[i]; p.Kind == Include && !slices.Contains(list, p.NSID) {
			list = append(list, p.NSID)
		}
	}
	return list
}

// Missing returns which permissions of asked the set lacks, as they were asked for.
// They are compared by their meaning, one by one: a wider permission does not stand for
// a narrower one.
func (s Set) Missing(asked Set) []string {
	var missing []string
	for i := range asked.permissions {
		if p := &asked.permissions[i]; !s.holds(p.text) {
			missing = append(missing, p.Raw)
		}
	}
	return missing
}

// With returns the permissions of both sets.
func (s Set) With(other Set) Set {
	return newSet(slices.Concat(s.permissions, other.permissions), nil)
}

func (s Set) holds(text string) bool {
	return slices.ContainsFunc(s.permissions, func(p Permission) bool { return p.text == text })
}

// Untick returns the set without a permission, compared by its meaning. One that cannot be
// unticked stays.
func (s Set) Untick(permission string) Set {
	gone := Parse(permission)
	return newSet(slices.DeleteFunc(slices.Clone(s.permissions), func(p Permission) bool {
		return p.CanBeUnticked() && gone.holds(p.text)
	}), nil)
}

// Granted returns what the account grants of the set if it ticked those permissions:
// them, and what cannot be unticked. What it ticked and nobody asked for counts for
// nothing.
func (s Set) Granted(ticked []string) Set {
	chosen := Parse(strings.Join(ticked, " "))
	var list []Permission
	for i := range s.permissions {
		if p := s.permissions[i]; !p.CanBeUnticked() || chosen.holds(p.text) {
			list = append(list, p)
		}
	}
	return newSet(list, nil)
}

// Permissions returns what the consent page shows of the set, one line each, in an
// order that does not depend on the client's. It fills in the permission sets that are
// known. What means nothing beside the rest is left out.
func (s Set) Permissions(sets map[syntax.NSID]*PermissionSet) []Permission {
	list := slices.Clone(s.permissions)
	for i := range list {
		if p := &list[i]; p.Kind == Include {
			p.Set = sets[p.NSID]
			p.Members = p.Set.members(p.Audience)
		}
	}
	return slices.DeleteFunc(list, func(p Permission) bool { return p.Kind == TransitionChat && !s.index.generic })
}

// Expand returns the scope with permission sets replaced by what they hold. One that
// sets lacks remains, and allows nothing. Error: ErrLimit.
func (s Set) Expand(sets map[syntax.NSID]*PermissionSet) (Set, error) {
	var list []Permission
	size := 0
	for _, p := range s.permissions {
		known := sets[p.NSID]
		if p.Kind != Include || known == nil {
			list = append(list, p)
			continue
		}
		members := known.members(p.Audience)
		for i := range members {
			size += len(members[i].Collections) + len(members[i].Methods)
		}
		if size > MaxExpanded {
			return Set{}, fmt.Errorf("%w: its permission sets hold more than %d permissions", ErrLimit, MaxExpanded)
		}
		list = append(list, members...)
	}
	return newSet(list, nil), nil
}
