package readafterwrite

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

const (
	getPosts = "app.bsky.feed.getPosts"
	// maxPosts is how many posts getPosts returns in one call.
	maxPosts = 25
	// maxRecords is how many feeds and lists are asked for, each with a call.
	maxRecords = 5
)

// references are what new posts refer to and is not known yet.
type references struct {
	posts, records []string   // URIs
	above          url.Values // the question for the parents of a thread
}

// refer adds what the embed of a new post refers to, in the order of importance.
// level counts the quotes around it.
func (c *change) refer(ctx context.Context, r *references, p *post, level int) error {
	uri := quoted(p.value.member("embed"))
	if own := c.byURI[uri]; own != nil {
		if level < maxQuotes {
			return c.refer(ctx, r, own, level+1)
		}
		return nil
	}
	return c.need(ctx, r, uri)
}

// referReply adds what a new post replies to.
func (c *change) referReply(ctx context.Context, r *references, p *post) error {
	if p.root == "" || p.parent == "" {
		return nil
	}
	for _, uri := range []string{p.parent, p.root} {
		own, err := c.byURI[uri], error(nil)
		if own != nil {
			err = c.refer(ctx, r, own, 0)
		} else if collection(uri) == postCollection {
			err = c.need(ctx, r, uri)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// need adds the URI of a record that is not new here.
func (c *change) need(ctx context.Context, r *references, uri string) error {
	if uri == "" {
		return nil
	}
	gone, err := c.gone(ctx, uri)
	if err != nil {
		return err
	}
	if gone {
		c.found[uri] = value{}
	}
	if _, known := c.found[uri]; known {
		return nil
	}
	to := &r.records
	switch collection(uri) {
	case postCollection:
		to = &r.posts
	case feedCollection, listCollection:
	default: // no service has a view for a quote of it
		c.found[uri] = value{}
		return nil
	}
	_, malformed := syntax.ParseATURI(uri)
	switch {
	case malformed != nil: // it would make the service refuse the others too
		c.found[uri] = value{}
	case !slices.Contains(*to, uri):
		*to = append(*to, uri)
	}
	return nil
}

// ask asks the service for views of what is referred to, in calls that run at once,
// and adds them to found: a value that is not there means that the service has no
// such record, no entry that it did not answer. It returns the parents of a thread.
func (c *change) ask(ctx context.Context, r references) (above value) {
	r.posts = r.posts[:min(len(r.posts), maxPosts)]
	r.records = r.records[:min(len(r.records), maxRecords)]
	views := make([]value, len(r.records))
	errs := make([]error, len(r.records)+2)
	var posts value
	var calls sync.WaitGroup
	for i, uri := range r.records {
		calls.Go(func() { views[i], errs[i] = c.askRecord(ctx, uri) })
	}
	if len(r.posts) > 0 {
		calls.Go(func() {
			posts, errs[len(r.records)] = c.get(ctx, getPosts, url.Values{"uris": r.posts}, "posts")
		})
	}
	if r.above != nil {
		calls.Go(func() {
			above, errs[len(r.records)+1] = c.get(ctx, getPostThread, r.above, "thread")
		})
	}
	calls.Wait()

	for i, uri := range r.records {
		if errs[i] == nil || errors.Is(errs[i], ErrMissing) {
			c.found[uri] = views[i]
			errs[i] = nil
		}
	}
	if posts.there() {
		c.take(posts, r.posts)
	}
	c.missed = errors.Join(errs...)
	return above
}

// take adds those views of posts that were asked for.
func (c *change) take(posts value, uris []string) {
	for _, uri := range uris {
		c.found[uri] = value{}
	}
	for view := range posts.parts() {
		uri := view.member("uri").text()
		if slices.Contains(uris, uri) && !c.found[uri].there() && isPostView(view) {
			c.namePost(view)
			c.found[uri] = view
		}
	}
}

// isPostView reports whether a value has what every view of a post has.
func isPostView(v value) bool {
	return v.member("uri").isString() && v.member("cid").isString() && v.member("author").isObject() &&
		v.member("record").isObject() && v.member("indexedAt").isString()
}

// askRecord returns the view of a feed or a list.
func (c *change) askRecord(ctx context.Context, uri string) (value, error) {
	if collection(uri) == listCollection {
		return c.get(ctx, "app.bsky.graph.getList", url.Values{"list": {uri}, "limit": {"1"}}, "list")
	}
	return c.get(ctx, "app.bsky.feed.getFeedGenerator", url.Values{"feed": {uri}}, "view")
}

// get returns a member of the service's answer to a query.
func (c *change) get(ctx context.Context, method string, query url.Values, member string) (value, error) {
	answer, err := c.up.Get(ctx, method, query)
	if err != nil {
		return value{}, fmt.Errorf("%s: %w", method, err)
	}
	most := maxSideAnswer
	if method == getPostThread {
		most = maxParents
	}
	if len(answer) > most {
		return value{}, fmt.Errorf("%s: the answer has %d bytes, more than %d", method, len(answer), most)
	}
	doc, err := parse(answer)
	if err != nil {
		return value{}, fmt.Errorf("%s: %w", method, err)
	}
	v := doc.root().member(member)
	if ok := v.isObject() || method == getPosts && v.isArray(); !ok {
		return value{}, fmt.Errorf("%s: the answer has no %s", method, member)
	}
	return v, nil
}
