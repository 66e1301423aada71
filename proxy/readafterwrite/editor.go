package readafterwrite

import (
	"context"
	"net/url"
	"strings"
)

// The reads that can be changed. Above all getPostThreadV2 is not among them: the
// official app asks it after posting until the service has the post.
const (
	getProfile    = "app.bsky.actor.getProfile"
	getProfiles   = "app.bsky.actor.getProfiles"
	getTimeline   = "app.bsky.feed.getTimeline"
	getAuthorFeed = "app.bsky.feed.getAuthorFeed"
	getActorLikes = "app.bsky.feed.getActorLikes"
	getPostThread = "app.bsky.feed.getPostThread"
)

// The statuses of answers that can be changed.
const (
	statusOK         = 200
	statusBadRequest = 400
)

// invalidHandle stands for a handle that does not verify.
const invalidHandle = "handle.invalid"

// Reads reports whether answers of a method can be changed.
func Reads(method string) bool {
	switch method {
	case getProfile, getProfiles, getTimeline, getAuthorFeed, getActorLikes, getPostThread:
		return true
	}
	return false
}

// ShowsPosts reports whether new posts can come into answers of a method. Others need
// none in News.
func ShowsPosts(method string) bool {
	switch method {
	case getTimeline, getAuthorFeed, getPostThread:
		return true
	}
	return false
}

// Editor changes answers. It can be used at once by many.
type Editor struct {
	// Pictures is the pattern of the URLs of pictures, with %s for the preset, the DID
	// and the CID; empty: pictures come from PublicURL.
	Pictures string
	// PublicURL is the URL of this server, without a slash at its end.
	PublicURL string
}

// Call is a read and what a service answered.
type Call struct {
	Method string
	Query  url.Values
	// Status is 200, or 400 for an error of getPostThread; nothing else is changed.
	Status int
	// Body is the answer, decoded. It is not modified.
	Body []byte
}

// Edit returns an answer with what the caller's repository has and the service had
// not seen. It is an answer with status 200. If changed is false, the original must
// go out.
//
// What is added is at most 2 MiB, and what that costs follows it: of more new posts,
// the oldest are left out, and those that are too large for any app.
//
// An error is for the log: the original must go out, or, if changed is true, a part
// is missing since the service did not answer a further question.
func (e *Editor) Edit(
	ctx context.Context, call Call, caller Caller, news News, own Repository, up Upstream,
) (answer []byte, changed bool, err error) {
	c := &change{
		Editor: e, call: call, caller: caller, news: news, own: own, up: up, left: maxAdded,
		deleted: map[string]bool{}, found: map[string]value{},
	}
	answer, err = c.answer(ctx)
	if err == nil {
		err = ctx.Err()
	}
	if answer == nil || err != nil {
		return nil, false, err
	}
	return answer, true, c.missed
}

// change is the work on one answer.
type change struct {
	*Editor
	call   Call
	caller Caller
	news   News
	own    Repository
	up     Upstream

	left     int  // bytes that may still be added
	overfull bool // there was no room for a name: the original must go out

	profile []field          // what the caller's profile shows
	author  []byte           // the caller as the author of a post
	renamed bool             // own posts in the answer get the name and picture
	posts   []*post          // the new posts, oldest first
	byURI   map[string]*post // the same
	deleted map[string]bool  // what gone has found out
	found   map[string]value // views of what new posts refer to, by URI: see ask
	missed  error            // why a part is missing
}

// answer returns the changed answer, or nil if the original must go out.
func (c *change) answer(ctx context.Context) ([]byte, error) {
	method := c.call.Method
	unknown := method == getPostThread && c.call.Status == statusBadRequest
	if !Reads(method) || c.call.Status != statusOK && !unknown {
		return nil, nil
	}
	rules := c.rules()
	c.renamed = rules.names && c.news.profileChanged() && !c.news.profileTooLarge()
	posts, deleted := rules.posts && len(c.news.Posts) > 0, rules.feed && c.news.Deleted
	if !c.renamed && !posts && !deleted {
		return nil, nil
	}
	doc, err := parse(c.call.Body)
	if err != nil {
		return nil, nil //nolint:nilerr // the client gets what the service answers as it is
	}
	c.readProfile()
	if rules.posts {
		c.readPosts()
	}
	answer, err := c.edited(ctx, doc, rules)
	if c.overfull || err != nil {
		return nil, err
	}
	return answer, nil
}

// edited returns the document with what is new, or nil if that is nothing.
func (c *change) edited(ctx context.Context, doc *document, rules rules) (answer []byte, err error) {
	switch method := c.call.Method; {
	case c.call.Status == statusBadRequest:
		return c.unknownThread(ctx, doc.root())
	case method == getProfile, method == getProfiles:
		c.editProfiles(doc.root())
	case method == getPostThread:
		err = c.editThread(ctx, doc.root().member("thread"))
	default:
		err = c.editFeed(ctx, doc.root().member("feed"), rules)
	}
	if err != nil || !doc.changed() {
		return nil, err
	}
	return doc.bytes(), nil
}

// rules are what an answer gets.
type rules struct {
	feed   bool // it has posts, of which some may have been deleted
	posts  bool // new posts
	names  bool // the caller's name and picture
	filter string
}

// rules returns what the answer to the call gets.
func (c *change) rules() rules {
	firstPage := c.call.Query.Get("cursor") == ""
	switch c.call.Method {
	case getTimeline:
		return rules{feed: true, posts: firstPage, names: true}
	case getAuthorFeed:
		own := c.isCaller(c.call.Query.Get("actor"))
		return rules{feed: true, posts: own && firstPage, names: own, filter: c.call.Query.Get("filter")}
	case getPostThread:
		return rules{feed: true, posts: true, names: true}
	case getActorLikes:
		return rules{feed: true, names: true}
	default: // profiles
		return rules{names: true}
	}
}

// isCaller reports whether a DID or handle is the caller's.
func (c *change) isCaller(identifier string) bool {
	return identifier == c.caller.DID.String() ||
		c.caller.Handle != invalidHandle && strings.EqualFold(identifier, c.caller.Handle)
}
