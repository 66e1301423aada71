package scope

import (
	"strings"
)

// Need is what a request needs of a scope. The zero Need is never met.
type Need struct {
	kind     Kind
	name     string // the collection, method, media type or attribute
	audience string
	actions  Actions
	manage   bool
}

// NeedRepo returns the need of a write: all of the actions.
func NeedRepo(collection string, all Actions) Need {
	return Need{kind: Repo, name: collection, actions: all}
}

// NeedRPC returns the need of a call, as Set.AllowsRPC has it.
func NeedRPC(method, audience string) Need {
	if method == "" {
		method = Any
	}
	return Need{kind: RPC, name: method, audience: audience}
}

// NeedBlob returns the need of an upload.
func NeedBlob(mediaType string) Need { return Need{kind: Blob, name: mediaType} }

// NeedAccount returns the need of reading an attribute, or of managing it.
func NeedAccount(attr string, manage bool) Need {
	return Need{kind: Account, name: attr, manage: manage}
}

// NeedIdentity returns the need of changing the handle, or with Any the identity.
func NeedIdentity(attr string) Need { return Need{kind: Identity, name: attr} }

// Allows reports whether the set meets a need.
func (s Set) Allows(n Need) bool {
	switch n.kind {
	case Repo:
		return s.AllowsRepo(n.name, n.actions)
	case RPC:
		return s.AllowsRPC(n.name, n.audience)
	case Blob:
		return s.AllowsBlob(n.name)
	case Account:
		return s.AllowsAccount(n.name, n.manage)
	case Identity:
		return s.AllowsIdentity(n.name)
	case Atproto, TransitionGeneric, TransitionChat, TransitionEmail, Include:
	}
	return false
}

// String returns the narrowest scope that meets the need, in its normal form.
func (n Need) String() string {
	p := Permission{Kind: n.kind, Actions: n.actions, Attr: n.name, Manage: n.manage}
	switch n.kind {
	case Repo:
		p.Collections = []string{n.name}
	case RPC:
		p.Methods, p.Audience = []string{n.name}, n.audience
		if !isAudience(n.audience) {
			if n.name == Any { // no permission of this language allows it
				return string(TransitionChat) + " " + string(TransitionGeneric)
			}
			p.Audience = Any
		}
	case Blob:
		p.Accept = []string{anyType}
		if t := strings.ToLower(withoutParams(n.name)); isRange(t) {
			p.Accept[0] = t
		}
	case Account, Identity, Atproto, TransitionGeneric, TransitionChat, TransitionEmail, Include:
	}
	return p.normal()
}
