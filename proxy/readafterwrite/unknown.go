package readafterwrite

import (
	"context"
	"net/url"
	"strconv"
	"strings"
)

// unknownThread returns the thread of a new post that the service does not know yet,
// or nil if it is not one: the post, the new replies below, its parents above.
func (c *change) unknownThread(ctx context.Context, root value) ([]byte, error) {
	authority, rkey, ok := strings.Cut(strings.TrimPrefix(c.call.Query.Get("uri"), "at://"), "/"+postCollection+"/")
	p := c.byURI[c.ownURI(rkey)]
	if !ok || p == nil || !c.isCaller(authority) || !root.member("error").is("NotFound") {
		return nil, nil
	}
	top := &place{post: p}
	t := &thread{change: c, places: map[string]*place{p.uri: top}}
	if err := c.refer(ctx, &t.refs, p, 0); err != nil {
		return nil, err
	}
	own, err := c.parents(ctx, &t.refs, p)
	if err != nil {
		return nil, err
	}
	if err := t.grow(ctx, p.uri, p.root); err != nil {
		return nil, err
	}
	above := c.highest(c.ask(ctx, t.refs))
	b := c.appendPost([]byte(`{"thread":`), p)
	if !c.spend(len(b) + nodeFrame) {
		return nil, nil
	}
	if b, err = c.appendParents(ctx, b, own, above); err != nil {
		return nil, err
	}
	if err := t.fit(ctx, top); err != nil {
		return nil, err
	}
	b = t.appendReplies(append(b, `,"replies":`...), top)
	return append(b, "}}"...), nil
}

// parents returns the new posts above a new post, the nearest first, and adds what
// they refer to and the question for the parents above them.
func (c *change) parents(ctx context.Context, r *references, p *post) ([]*post, error) {
	var own []*post
	height := c.parameter("parentHeight", defaultParentHeight)
	seen := map[string]bool{p.uri: true}
	uri := p.parent
	for len(own) < height && c.byURI[uri] != nil && !seen[uri] {
		q := c.byURI[uri]
		if err := c.refer(ctx, r, q, 0); err != nil {
			return nil, err
		}
		seen[uri], own, uri = true, append(own, q), q.parent
	}
	if collection(uri) != postCollection || seen[uri] || len(own) >= height {
		return own, nil
	}
	gone, err := c.gone(ctx, uri)
	if err == nil && !gone {
		// The post that is asked for is a parent itself.
		left := strconv.Itoa(height - len(own) - 1)
		r.above = url.Values{"uri": {uri}, "parentHeight": {left}, "depth": {"0"}}
	}
	return own, err
}

// highest returns the parents that the service has, as a node, or nil.
func (c *change) highest(node value) []byte {
	if !node.isObject() || !node.member("$type").isString() {
		return nil
	}
	c.nameParents(node)
	return node.rendered()
}

// appendParents appends the parents of a node that is not closed yet, as many as there
// is room for: own, the nearest first, and above them the node of the service, if any.
func (c *change) appendParents(ctx context.Context, b []byte, own []*post, above []byte) ([]byte, error) {
	n := 0
	for ; n < len(own); n++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !c.spend(len(c.members(own[n])) + nodeFrame) {
			break
		}
		b = c.appendPost(append(b, `,"parent":`...), own[n])
	}
	if above != nil && n == len(own) && c.spend(len(above)+nodeFrame) {
		b = append(append(b, `,"parent":`...), above...)
	}
	return append(b, strings.Repeat("}", n)...), nil
}
