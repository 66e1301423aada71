package scope

import (
	"slices"
	"strings"
)

// Without returns the set without the permissions that allow something which another set
// allows too. What a permission set holds is not known here: it counts as all that it may
// hold.
func (s Set) Without(other Set) Set {
	kept := slices.DeleteFunc(slices.Clone(s.permissions), func(p Permission) bool {
		return slices.ContainsFunc(other.permissions, func(q Permission) bool { return p.text == q.text || p.overlaps(&q) || q.overlaps(&p) })
	})
	return newSet(kept, nil)
}

// overlaps reports whether two permissions allow something in common, as far as p's kind
// can tell: that of q is the same, or one that p's stands for.
func (p *Permission) overlaps(q *Permission) bool {
	switch p.Kind {
	case TransitionGeneric:
		return q.Kind == Repo || q.Kind == Blob || q.Kind == Include || q.Kind == RPC && q.calls((&index{generic: true}).transitional)
	case TransitionChat:
		return q.Kind == Include || q.Kind == RPC && q.calls(func(m string) bool {
			return (&index{generic: true, chat: true}).transitional(m) && !(&index{generic: true}).transitional(m)
		})
	case TransitionEmail:
		return q.Kind == Account && q.Attr == Email
	case Repo:
		return q.Kind == Repo && p.Actions&q.Actions != 0 && common(p.Collections, q.Collections)
	case RPC:
		return q.Kind == RPC && common(p.Methods, q.Methods) && meets(didOf(p.Audience), didOf(q.Audience))
	case Blob:
		return q.Kind == Blob && slices.ContainsFunc(p.Accept, func(a string) bool {
			return slices.ContainsFunc(q.Accept, func(b string) bool { return a == anyType || b == anyType || covers(a, b) || covers(b, a) })
		})
	case Account:
		return q.Kind == Account && p.Attr == q.Attr
	case Identity:
		return q.Kind == Identity
	case Include:
		return p.mayHold(q)
	case Atproto:
	}
	return false
}

// calls reports whether an RPC is for a method that a predicate selects; every method is
// among those of Any.
func (p *Permission) calls(which func(method string) bool) bool {
	return p.Methods[0] == Any || slices.ContainsFunc(p.Methods, which)
}

// mayHold reports whether the set of an Include may hold something that q allows, by the
// names that it reaches: see PermissionSet.
func (p *Permission) mayHold(q *Permission) bool {
	within := namespace(p.NSID.String())
	reached := func(id string) bool { return id == Any || strings.HasPrefix(id, within) }
	switch q.Kind {
	case Repo:
		return slices.ContainsFunc(q.Collections, reached)
	case RPC:
		return slices.ContainsFunc(q.Methods, reached)
	case Include:
		other := namespace(q.NSID.String())
		return strings.HasPrefix(other, within) || strings.HasPrefix(within, other)
	case TransitionGeneric, TransitionChat, Atproto, TransitionEmail, Blob, Account, Identity: // the first two see to it themselves
	}
	return false
}

// namespace returns what the names that a permission set reaches begin with.
func namespace(nsid string) string { return nsid[:strings.LastIndexByte(nsid, '.')+1] }

// common reports whether two lists of names have one in common.
func common(a, b []string) bool {
	return a[0] == Any || b[0] == Any || slices.ContainsFunc(a, func(one string) bool { return slices.Contains(b, one) })
}

func meets(a, b string) bool { return a == Any || b == Any || a == b }

// didOf returns the DID of an audience. A DID alone is matched by permissions for any of
// its services: see AllowsRPC.
func didOf(audience string) string {
	did, _, _ := strings.Cut(audience, "#")
	return did
}
