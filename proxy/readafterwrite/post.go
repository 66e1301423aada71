package readafterwrite

import (
	"context"
	"strings"
	"time"
)

// post is a new post of the caller.
type post struct {
	Record
	uri          string
	at           time.Time // when it was written, in milliseconds as it is shown
	value        value     // the record
	root, parent string    // the URIs to which it replies
	view         []byte    // see members; nil: not made yet
}

// readPosts reads the new posts. A record that is not a post as the Lexicon has it is
// none: the service will not show it. Neither is one that is too large.
func (c *change) readPosts() {
	c.byURI = map[string]*post{}
	for _, r := range c.news.inOrder() {
		if len(r.Value) > maxPost {
			continue
		}
		doc, err := parseUpTo(r.Value, maxPostValues)
		if err != nil {
			continue
		}
		record := doc.root()
		if !record.member("$type").is(postCollection) || !record.member("text").isString() || !record.member("createdAt").isString() {
			continue
		}
		reply := record.member("reply")
		p := &post{
			Record: r,
			uri:    c.ownURI(r.RecordKey),
			at:     r.Rev.Time().Truncate(time.Millisecond),
			value:  record,
			root:   reply.member("root").member("uri").text(),
			parent: reply.member("parent").member("uri").text(),
		}
		c.posts = append(c.posts, p)
		c.byURI[p.uri] = p
	}
}

// ownURI returns the URI of a post of the caller.
func (c *change) ownURI(rkey string) string {
	return "at://" + c.caller.DID.String() + "/" + postCollection + "/" + rkey
}

// isOwn reports whether a URI is that of a record of the caller.
func (c *change) isOwn(uri string) bool {
	return strings.HasPrefix(uri, "at://"+c.caller.DID.String()+"/")
}

// gone reports whether a URI is that of a post of the caller that was deleted.
func (c *change) gone(ctx context.Context, uri string) (bool, error) {
	if !c.news.Deleted || c.byURI[uri] != nil {
		return false, nil
	}
	rkey, own := strings.CutPrefix(uri, c.ownURI(""))
	if !own {
		return false, nil
	}
	if deleted, ok := c.deleted[uri]; ok {
		return deleted, nil
	}
	_, there, err := c.own.Record(ctx, postCollection, rkey)
	if err == nil {
		c.deleted[uri] = !there
	}
	return !there && err == nil, err
}

// collection returns the collection that a URI names, or nothing.
func collection(uri string) string {
	rest, _ := strings.CutPrefix(uri, "at://")
	_, rest, _ = strings.Cut(rest, "/")
	name, _, _ := strings.Cut(rest, "/")
	return name
}
