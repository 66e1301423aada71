package scope

import (
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Kind is what a token of a scope is about. That of a token without parameters is the
// token itself.
type Kind string

// The kinds.
const (
	// Atproto is in every scope: the client learns who the account is.
	Atproto Kind = "atproto"
	// The transitional scopes, which stand for what app passwords can do.
	// TransitionChat means nothing without TransitionGeneric.
	TransitionGeneric Kind = "transition:generic"
	TransitionChat    Kind = "transition:chat.bsky"
	TransitionEmail   Kind = "transition:email"

	Repo     Kind = "repo"
	RPC      Kind = "rpc"
	Blob     Kind = "blob"
	Account  Kind = "account"
	Identity Kind = "identity"
	Include  Kind = "include"
)

// Any stands for every collection, method, service or attribute.
const Any = "*"

// anyType stands for every kind of file.
const anyType = "*/*"

// Attributes of accounts and identities.
const (
	Email  = "email"
	OfRepo = "repo"
	Status = "status"
	Handle = "handle"
)

// Actions are what may be done to a collection's records.
type Actions uint8

// The actions.
const (
	Create Actions = 1 << iota
	Update
	Delete
	AllActions = Create | Update | Delete
)

// Names of parameters and of their values.
const (
	paramCollection = "collection"
	paramAction     = "action"
	paramMethod     = "lxm"
	paramAudience   = "aud"
	paramAccept     = "accept"
	paramAttr       = "attr"
	paramNSID       = "nsid"

	actionRead   = "read"
	actionManage = "manage"
)

// Names returns the actions as the language names them.
func (a Actions) Names() []string {
	var names []string
	for i, name := range []string{"create", "update", "delete"} {
		if a&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return names
}

func parseActions(names []string) (a Actions, ok bool) {
	for _, name := range names {
		switch name {
		case "create":
			a |= Create
		case "update":
			a |= Update
		case "delete":
			a |= Delete
		default:
			return 0, false
		}
	}
	return a, a != 0
}

// Permission is one token of a scope. Its lists are sorted, without duplicates and
// without what another member covers.
type Permission struct {
	Kind Kind
	// Raw is the token as it was requested.
	Raw string

	// Collections and Actions are those of a Repo. Collections may be Any alone.
	Collections []string
	Actions     Actions
	// Methods are those of an RPC; they may be Any alone.
	Methods []string
	// Audience is the service of an RPC, "did#service" or Any, and what an Include
	// hands down to its members; empty if it has none.
	Audience string
	// Accept are the media ranges of a Blob, in lower case.
	Accept []string
	// Attr is what an Account (Email, OfRepo, Status) or Identity (Handle, Any) is
	// about. Manage: an Account may also change it.
	Attr   string
	Manage bool
	// NSID names the permission set of an Include. Set and Members are what it was
	// found to hold; Set is nil if it is not known. Only Set.Permissions fills them.
	NSID    syntax.NSID
	Set     *PermissionSet
	Members []Permission

	text string // the normal form
}

// String returns the normal form: permissions of one meaning have one.
func (p *Permission) String() string { return p.text }

// CanBeUnticked reports whether the account may grant the rest without this.
func (p *Permission) CanBeUnticked() bool {
	switch p.Kind {
	case Atproto, TransitionGeneric, TransitionChat, TransitionEmail:
		return false
	case Repo, RPC, Blob, Account, Identity, Include:
	}
	return true
}

// Dangerous reports whether whoever has the permission can replace the account's data,
// switch the account off or take it over.
func (p *Permission) Dangerous() bool {
	return p.Kind == Account && p.Manage && p.Attr != Email || p.Kind == Identity && p.Attr == Any
}

// Broad reports whether the permission is for nearly all that the account has.
func (p *Permission) Broad() bool {
	return p.Kind == TransitionGeneric || p.Kind == Repo && p.Collections[0] == Any
}

// param is a parameter of a kind.
type param struct {
	name string
	many bool
}

// paramsOf returns the parameters of a kind; the first can be positional.
func paramsOf(k Kind) []param {
	switch k {
	case Repo:
		return []param{{paramCollection, true}, {paramAction, true}}
	case RPC:
		return []param{{paramMethod, true}, {paramAudience, false}}
	case Blob:
		return []param{{paramAccept, true}}
	case Account:
		return []param{{paramAttr, false}, {paramAction, true}}
	case Identity:
		return []param{{paramAttr, false}}
	case Include:
		return []param{{paramNSID, false}, {paramAudience, false}}
	case Atproto, TransitionGeneric, TransitionChat, TransitionEmail:
	}
	return nil
}

// parseToken reads one token of a scope.
func parseToken(raw string) (Permission, bool) {
	p := Permission{Kind: Kind(raw), Raw: raw}
	switch p.Kind {
	case Atproto, TransitionGeneric, TransitionChat, TransitionEmail:
		p.text = raw
		return p, true
	case Repo, RPC, Blob, Account, Identity, Include: // without parameters, which each of them needs
		return p, false
	}
	head, query, _ := strings.Cut(raw, "?")
	kind, positional, isPositional := strings.Cut(head, ":")
	p.Kind = Kind(kind)
	values := values{}
	params := paramsOf(p.Kind)
	if len(params) == 0 || isPositional && !values.add(params[0], positional) {
		return p, false
	}
	if query != "" {
		for pair := range strings.SplitSeq(query, "&") {
			name, value, _ := strings.Cut(pair, "=")
			i := slices.IndexFunc(params, func(known param) bool { return known.name == name })
			if i < 0 || i == 0 && isPositional || !values.add(params[i], value) {
				return p, false
			}
		}
	}
	if !p.fill(values) {
		return p, false
	}
	p.text = p.normal()
	return p, true
}

// values are the decoded values of a token's parameters, in their order.
type values map[string][]string

// add decodes a value, and reports whether the parameter may have it.
func (v values) add(p param, encoded string) bool {
	value, ok := decode(encoded)
	if !ok || value == "" || !p.many && len(v[p.name]) > 0 {
		return false
	}
	v[p.name] = append(v[p.name], value)
	return true
}

// one returns the value of a parameter that has one, "" if it is absent.
func (v values) one(name string) string {
	if len(v[name]) == 0 {
		return ""
	}
	return v[name][0]
}

// fill takes over values, and reports whether they make a permission.
func (p *Permission) fill(v values) (ok bool) {
	switch p.Kind {
	case Repo:
		p.Collections, ok = names(v[paramCollection])
		p.Actions = AllActions
		if actions := v[paramAction]; ok && len(actions) > 0 {
			p.Actions, ok = parseActions(actions)
		}
	case RPC:
		p.Methods, ok = names(v[paramMethod])
		p.Audience = v.one(paramAudience)
		ok = ok && isAudience(p.Audience) && (p.Methods[0] != Any || p.Audience != Any)
	case Blob:
		p.Accept, ok = ranges(v[paramAccept])
	case Account:
		p.Attr, ok = v.one(paramAttr), true
		for _, action := range v[paramAction] {
			p.Manage = p.Manage || action == actionManage
			ok = ok && (action == actionManage || action == actionRead)
		}
		ok = ok && (p.Attr == Email || p.Attr == OfRepo || p.Attr == Status)
	case Identity:
		p.Attr = v.one(paramAttr)
		ok = p.Attr == Handle || p.Attr == Any
	case Include:
		id, err := syntax.ParseNSID(v.one(paramNSID))
		p.NSID, p.Audience = id, v.one(paramAudience)
		ok = err == nil && (p.Audience == "" || isAudience(p.Audience))
	case Atproto, TransitionGeneric, TransitionChat, TransitionEmail:
	}
	return ok
}

// names returns NSIDs in their normal form, Any alone if it is among them.
func names(list []string) ([]string, bool) {
	if len(list) == 0 {
		return nil, false
	}
	for _, name := range list {
		if name != Any && !isNSID(name) {
			return nil, false
		}
	}
	if slices.Contains(list, Any) {
		return []string{Any}, true
	}
	slices.Sort(list)
	return slices.Compact(list), true
}

func isNSID(text string) bool {
	_, err := syntax.ParseNSID(text)
	return err == nil
}

// isAudience reports whether text names a service of a DID, or is Any.
func isAudience(text string) bool {
	did, service, _ := strings.Cut(text, "#")
	if text == Any || service == "" || strings.Contains(service, "#") {
		return text == Any
	}
	_, err := syntax.ParseDID(did)
	return err == nil
}

// ranges returns media ranges in their normal form.
func ranges(list []string) ([]string, bool) {
	if len(list) == 0 {
		return nil, false
	}
	kept := make([]string, len(list))
	for i, r := range list {
		kept[i] = strings.ToLower(r)
		if !isRange(kept[i]) {
			return nil, false
		}
	}
	if slices.Contains(kept, anyType) {
		return []string{anyType}, true
	}
	slices.Sort(kept)
	kept = slices.Compact(kept)
	all := slices.Clone(kept)
	return slices.DeleteFunc(kept, func(r string) bool {
		major, sub, _ := strings.Cut(r, "/")
		return sub != Any && slices.Contains(all, major+"/*")
	}), true
}

// isRange reports whether text is type/subtype, type/* or */*.
func isRange(text string) bool {
	major, sub, ok := strings.Cut(text, "/")
	if major == Any {
		return sub == Any
	}
	return ok && isMediaName(major) && (sub == Any || isMediaName(sub))
}

// isMediaName reports whether text is a token of RFC 9110 §5.6.2 without "*", which
// media ranges keep for themselves.
func isMediaName(text string) bool {
	for i := range len(text) {
		c := text[i]
		if !isAlphanumeric(c) && strings.IndexByte("!#$%&'+-.^_`|~", c) < 0 {
			return false
		}
	}
	return text != ""
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
