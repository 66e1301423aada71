package web

import (
	"strings"

	"nestbox/oauth/scope"
)

// Permissions returns the lines of a scope, as scope.Set.Permissions lists it, for the
// consent page and the lists of sessions and apps. Each that has a tick box is ticked.
func Permissions(list []scope.Permission, who *Account) []Permission {
	out, chat := make([]Permission, 0, len(list)), false
	for i := range list {
		out = append(out, permissionOf(&list[i], who))
		chat = chat || list[i].Kind == scope.TransitionChat
	}
	for i := range list {
		if list[i].Kind == scope.TransitionGeneric && !chat {
			out[i].Detail = Msg("may.generic-detail")
		}
	}
	return out
}

func permissionOf(p *scope.Permission, who *Account) Permission {
	out := Permission{
		Scope: p.Raw, Fixed: !p.CanBeUnticked(), Ticked: true, Broad: p.Broad(), Danger: p.Dangerous(),
	}
	switch p.Kind {
	case scope.Atproto:
		out.Line = Msg("may.identity", "handle", who.label())
	case scope.TransitionGeneric:
		out.Line = Msg("may.generic")
	case scope.TransitionChat:
		out.Line = Msg("may.chat")
	case scope.TransitionEmail:
		out.Line = Msg("may.email")
	case scope.Repo:
		out.Line = repoLine(p)
	case scope.RPC:
		out.Line = rpcLine(p)
	case scope.Blob:
		out.Line = blobLine(p)
	case scope.Account:
		out.Line = accountLine(p)
	case scope.Identity:
		out.Line = Msg("may.handle")
		if p.Attr == scope.Any {
			out.Line = Msg("may.identity-all")
		}
	case scope.Include:
		includeLines(p, &out)
	}
	return out
}

// label returns the account's name for a sentence.
func (a *Account) label() any {
	if a.Handle == "" {
		return Codes{a.DID}
	}
	return Host(a.Handle)
}

func repoLine(p *scope.Permission) Text {
	actions := strings.Join(p.Actions.Names(), "-")
	if p.Actions == scope.AllActions {
		actions = "all"
	}
	if p.Collections[0] == scope.Any {
		return Msg("may.repo-any-" + actions)
	}
	return Msg("may.repo-"+actions, "collections", collections(p.Collections))
}

func rpcLine(p *scope.Permission) Text {
	switch {
	case p.Methods[0] == scope.Any:
		return Msg("may.rpc-any-method", "service", service(p.Audience))
	case p.Audience == scope.Any:
		return Msg("may.rpc-any-service", "methods", Codes(p.Methods))
	default:
		return Msg("may.rpc", "methods", Codes(p.Methods), "service", service(p.Audience))
	}
}

// service returns the name of a service: its host where the DID has one.
func service(audience string) any {
	did, _, _ := strings.Cut(audience, "#")
	if host, ok := strings.CutPrefix(did, "did:web:"); ok {
		return Host(host)
	}
	return Codes{audience}
}

func blobLine(p *scope.Permission) Text {
	var kinds []any
	for _, accept := range p.Accept {
		main, sub, _ := strings.Cut(accept, "/")
		switch {
		case main == scope.Any:
			return Msg("may.blob-any")
		case sub == scope.Any && (main == "image" || main == "video" || main == "audio" || main == "text"):
			kinds = append(kinds, Msg("blob."+main))
		default:
			kinds = append(kinds, Msg("blob.other", "kind", Codes{accept}))
		}
	}
	return Msg("may.blob", "kinds", List(kinds))
}

func accountLine(p *scope.Permission) Text {
	id := "may.account-" + p.Attr // repo, status
	if p.Attr == scope.Email {
		id = "may.email"
	}
	if p.Manage {
		id += "-manage"
	}
	return Msg(id)
}

// includeLines describes a permission set in its publisher's words, which are a
// stranger's.
func includeLines(p *scope.Permission, out *Permission) {
	title := setWords{p, false}
	out.Line, out.Detail = Msg("may.set", "title", title), Msg("may.set", "title", setWords{p, true})
	if p.Set == nil {
		out.Detail = Msg("may.set-unknown")
		return
	}
	out.Publisher = p.Set.Publisher()
	for i := range p.Members {
		out.Members = append(out.Members, p.Members[i].String())
	}
	if len(p.Members) == 0 {
		out.Line, out.Detail = Msg("may.set-empty", "set", title), Text{}
	}
	if _, detail := p.Set.Words("en"); detail == "" {
		out.Detail = Text{}
	}
}

// setWords are the words of a permission set, in the language of the page.
type setWords struct {
	of     *scope.Permission
	detail bool
}

// maxWords is how many characters of a permission set's description are shown.
const maxWords = 300

func (s setWords) in(language string) string {
	title, detail := string(s.of.NSID), ""
	if s.of.Set != nil {
		if t, d := s.of.Set.Words(language); t != "" {
			title, detail = t, d
		} else {
			detail = d
		}
	}
	if s.detail {
		return cut(clean(detail), maxWords)
	}
	return cut(clean(title), maxStranger)
}

// known are the words for collections that many apps have, as ids of messages.
func known(collection string) string {
	switch collection {
	case "app.bsky.actor.profile":
		return "collection.profile"
	case "app.bsky.feed.post":
		return "collection.posts"
	case "app.bsky.feed.like":
		return "collection.likes"
	case "app.bsky.feed.repost":
		return "collection.reposts"
	case "app.bsky.graph.follow":
		return "collection.follows"
	case "app.bsky.graph.block":
		return "collection.blocks"
	case "app.bsky.graph.list":
		return "collection.lists"
	case "app.bsky.graph.listitem":
		return "collection.list-members"
	case "app.bsky.graph.starterpack":
		return "collection.starter-packs"
	case "app.bsky.feed.generator":
		return "collection.feeds"
	default:
		return ""
	}
}

// collections returns the names of collections: a word, or the NSID.
func collections(nsids []string) List {
	var out List
	for _, nsid := range nsids {
		if id := known(nsid); id != "" {
			out = append(out, Msg(id))
		} else {
			out = append(out, Codes{nsid})
		}
	}
	return out
}
