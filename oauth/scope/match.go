package scope

import (
	"strings"
)

// index answers what a set allows.
type index struct {
	generic, chat    bool // transitional
	everywhere       Actions
	collections      map[string]Actions
	calls            map[call]struct{} // either may be Any, never both
	callsOfDID       map[call]struct{} // the audience is a DID without its service
	anyBlob          bool
	accept           []string
	managed          map[string]struct{}
	readable         map[string]struct{}
	handle, identity bool
}

// call is a method at an audience.
type call struct{ method, audience string }

func newIndex(list []Permission) *index {
	x := &index{
		collections: map[string]Actions{}, calls: map[call]struct{}{}, callsOfDID: map[call]struct{}{},
		managed: map[string]struct{}{}, readable: map[string]struct{}{},
	}
	for i := range list {
		x.add(&list[i])
	}
	return x
}

func (x *index) add(p *Permission) {
	switch p.Kind {
	case TransitionGeneric:
		x.generic = true
	case TransitionChat:
		x.chat = true
	case TransitionEmail:
		x.readable[Email] = struct{}{}
	case Repo:
		for _, c := range p.Collections {
			if c == Any {
				x.everywhere |= p.Actions
			} else {
				x.collections[c] |= p.Actions
			}
		}
	case RPC:
		for _, m := range p.Methods {
			x.calls[call{m, p.Audience}] = struct{}{}
			if did, _, ok := strings.Cut(p.Audience, "#"); ok {
				x.callsOfDID[call{m, did}] = struct{}{}
			}
		}
	case Blob:
		x.anyBlob = x.anyBlob || p.Accept[0] == anyType
		x.accept = append(x.accept, p.Accept...)
	case Account:
		x.readable[p.Attr] = struct{}{}
		if p.Manage {
			x.managed[p.Attr] = struct{}{}
		}
	case Identity:
		x.handle = true
		x.identity = x.identity || p.Attr == Any
	case Atproto, Include:
	}
}

// AllowsRepo reports whether all of the actions on a collection are allowed. An empty
// set of actions is not.
func (s Set) AllowsRepo(collection string, all Actions) bool {
	x := s.index
	if x == nil || all == 0 {
		return false
	}
	return x.generic || (x.everywhere|x.collections[collection])&all == all
}

// AllowsRPC reports whether a method may be called in the account's name at an
// audience, "did#service". The method "" or Any is a service token that is good for
// every method. A DID without a service, as com.atproto.server.getServiceAuth names
// it, is matched by permissions for any service of that DID, if there is a method.
func (s Set) AllowsRPC(method, audience string) bool {
	x := s.index
	if x == nil {
		return false
	}
	if method == "" {
		method = Any
	}
	if x.transitional(method) || has(x.calls, call{method, audience}) || has(x.calls, call{method, Any}) || has(x.calls, call{Any, audience}) {
		return true
	}
	return method != Any && (has(x.callsOfDID, call{method, audience}) || has(x.callsOfDID, call{Any, audience}))
}

func has[K comparable](m map[K]struct{}, k K) bool {
	_, ok := m[k]
	return ok
}

// transitional reports whether the transitional scopes allow a method. Their
// exceptions are compared without case, as servers route methods.
func (x *index) transitional(method string) bool {
	const chat, createAccount = "chat.bsky.", "com.atproto.server.createAccount"
	switch {
	case !x.generic:
		return false
	case method == Any, len(method) >= len(chat) && strings.EqualFold(method[:len(chat)], chat):
		return x.chat
	default:
		return !strings.EqualFold(method, createAccount)
	}
}

// AllowsBlob reports whether a file of a media type may be uploaded. The type's
// parameters and case do not matter.
func (s Set) AllowsBlob(mediaType string) bool {
	x := s.index
	switch {
	case x == nil:
		return false
	case x.generic, x.anyBlob:
		return true
	}
	mediaType = withoutParams(mediaType)
	for _, r := range x.accept {
		if covers(r, mediaType) {
			return true
		}
	}
	return false
}

func withoutParams(mediaType string) string {
	mediaType, _, _ = strings.Cut(mediaType, ";")
	return strings.TrimSpace(mediaType)
}

// covers reports whether a range in lower case holds a media type.
func covers(r, mediaType string) bool {
	if major, ok := strings.CutSuffix(r, Any); ok { // with the slash
		return len(mediaType) > len(major) && equalFold(mediaType[:len(major)], major)
	}
	return equalFold(mediaType, r)
}

// equalFold reports whether text is lower, but for the case of ASCII letters.
func equalFold(text, lower string) bool {
	if len(text) != len(lower) {
		return false
	}
	for i := range len(text) {
		c := text[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// AllowsAccount reports whether an attribute of the account may be read, or managed
// if manage is set.
func (s Set) AllowsAccount(attr string, manage bool) bool {
	x := s.index
	switch {
	case x == nil:
		return false
	case manage:
		return has(x.managed, attr)
	default:
		return has(x.readable, attr)
	}
}

// AllowsIdentity reports whether the handle, or with Any the whole identity, may be
// changed.
func (s Set) AllowsIdentity(attr string) bool {
	return s.index != nil && (s.index.identity || attr == Handle && s.index.handle)
}
