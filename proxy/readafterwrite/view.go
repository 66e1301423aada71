package readafterwrite

import (
	"bytes"
	"time"
)

const (
	postView     = "app.bsky.feed.defs#postView"
	feedView     = "app.bsky.feed.defs#generatorView"
	listView     = "app.bsky.graph.defs#listView"
	threadView   = "app.bsky.feed.defs#threadViewPost"
	milliseconds = "2006-01-02T15:04:05.000Z"
)

// appendView appends the view of a new post; typed: with its $type, as a member of a
// union has it.
func (c *change) appendView(b []byte, p *post, typed bool) []byte {
	b = append(b, '{')
	if typed {
		b = append(quote(append(b, `"$type":`...), postView), ',')
	}
	return append(b, c.members(p)...)
}

// members returns the members of the view of a new post, and the bracket behind them.
// They are made once, after ask.
func (c *change) members(p *post) []byte {
	if p.view == nil {
		p.view = c.makeMembers(p)
	}
	return p.view
}

func (c *change) makeMembers(p *post) []byte {
	b := c.appendIdentity(make([]byte, 0, len(p.Value)+len(c.author)+2*nodeFrame), p)
	b = append(append(b, `,"record":`...), p.Value...)
	if embed := c.embed(p.value.member("embed"), 0); embed != nil {
		b = append(append(b, `,"embed":`...), embed...)
	}
	b = append(b, `,"replyCount":0,"repostCount":0,"likeCount":0,"quoteCount":0,"bookmarkCount":0,"indexedAt":`...)
	b = quote(b, p.at.Format(milliseconds))
	b = append(append(b, `,"labels":`...), c.labels(p)...)
	return append(b, `,"viewer":{"bookmarked":false,"threadMuted":false,"embeddingDisabled":false}}`...)
}

// appendIdentity appends the first members of a view: which post, and whose.
func (c *change) appendIdentity(b []byte, p *post) []byte {
	b = quote(append(b, `"uri":`...), p.uri)
	b = quote(append(b, `,"cid":`...), p.CID)
	return append(append(b, `,"author":`...), c.author...)
}

// labels returns the labels that the author gave the post, as many as the Lexicon permits.
func (c *change) labels(p *post) []byte {
	at := p.at
	if t, err := time.Parse(time.RFC3339, p.value.member("createdAt").text()); err == nil {
		at = t.UTC()
	}
	b := []byte{'['}
	labels := p.value.member("labels")
	if labels.member("$type").is("com.atproto.label.defs#selfLabels") && labels.member("values").isArray() {
		n := 0
		for v := range labels.member("values").parts() {
			if n == maxLabels {
				break
			}
			if val := v.member("val"); !val.isString() || len(val.text()) > maxLabel {
				continue
			}
			if n++; n > 1 {
				b = append(b, ',')
			}
			b = quote(append(b, `{"src":`...), c.caller.DID.String())
			b = quote(append(b, `,"uri":`...), p.uri)
			b = quote(append(b, `,"cid":`...), p.CID)
			b = append(append(b, `,"val":`...), v.member("val").raw()...)
			b = append(quote(append(b, `,"cts":`...), at.Format(milliseconds)), '}')
		}
	}
	return append(b, ']')
}

// feedItem returns a new post as an item of a feed. The official app hides replies
// without what they reply to.
func (c *change) feedItem(p *post) []byte {
	b := c.appendView([]byte(`{"post":`), p, false)
	if root, parent := c.typedView(p.root), c.typedView(p.parent); root != nil && parent != nil {
		b = append(append(b, `,"reply":{"root":`...), root...)
		b = append(append(append(b, `,"parent":`...), parent...), '}')
	}
	return append(b, '}')
}

// typedView returns the view of a post with its $type, or nil if it is not known.
func (c *change) typedView(uri string) []byte {
	if p := c.byURI[uri]; p != nil {
		return c.appendView(nil, p, true)
	}
	if v := c.found[uri]; v.there() {
		return typed(v, postView)
	}
	return nil
}

// typed returns the text of an object with its edits and with a $type.
func typed(v value, name string) []byte {
	text := v.rendered()
	if v.member("$type").there() {
		return text
	}
	b := quote([]byte(`{"$type":`), name)
	rest := bytes.TrimLeft(text[1:], " \t\r\n")
	if rest[0] != '}' {
		b = append(b, ',')
	}
	return append(b, rest...)
}
