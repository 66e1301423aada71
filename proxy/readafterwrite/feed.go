package readafterwrite

import (
	"context"
	"slices"
	"time"
)

// item is an item of a feed.
type item struct {
	uri    string
	at     time.Time // by which feeds are sorted; zero: not known
	pinned bool
}

// editFeed plans the changes of a feed: own posts that were deleted go, new ones come,
// the caller's name and picture are the new ones.
func (c *change) editFeed(ctx context.Context, feed value, rules rules) error {
	if !feed.isArray() {
		return nil
	}
	l := listOf(feed)
	items := make([]item, len(l.parts))
	for i, part := range l.parts {
		items[i] = itemOf(part)
		gone, err := c.gone(ctx, items[i].uri)
		if err != nil {
			return err
		}
		if gone {
			l.leaveOut(i)
			continue
		}
		c.nameItem(part)
		if !rules.posts {
			continue
		}
		reply := part.member("reply")
		for _, view := range []value{part.member("post"), reply.member("root"), reply.member("parent")} {
			c.know(view)
		}
	}
	if rules.posts {
		if err := c.insert(ctx, l, items, rules.filter); err != nil {
			return err
		}
	}
	l.plan()
	return nil
}

// itemOf reads an item.
func itemOf(v value) item {
	post, reason := v.member("post"), v.member("reason")
	shown := reason.member("indexedAt")
	if !shown.there() {
		shown = post.member("indexedAt")
	}
	at, _ := time.Parse(time.RFC3339, shown.text()) // zero if it is not a time
	return item{uri: post.member("uri").text(), at: at, pinned: reason.member("$type").is("app.bsky.feed.defs#reasonPin")}
}

// nameItem plans the caller's name and picture wherever an item shows an author.
func (c *change) nameItem(v value) {
	if !c.renamed {
		return
	}
	reply := v.member("reply")
	c.namePost(v.member("post"))
	c.namePost(reply.member("root"))
	c.namePost(reply.member("parent"))
	c.nameAuthor(reply.member("grandparentAuthor"))
	c.nameAuthor(v.member("reason").member("by"))
}

// insert puts those new posts into a feed that are newer than its last item, each
// before the first item that is older. A pinned first item stays first. If there is no
// room for all, the newest come.
func (c *change) insert(ctx context.Context, l *list, items []item, filter string) error {
	first := 0
	if len(items) > 0 && items[0].pinned {
		first = 1
	}
	shown := map[string]bool{}
	var last time.Time
	for i, it := range items {
		shown[it.uri] = true
		if i >= first && !it.at.IsZero() {
			last = it.at
		}
	}
	if last.IsZero() && first < len(items) {
		return nil // not a feed that is sorted by time
	}
	var posts []*post // newest first, which decides what is asked for
	var refs references
	for _, p := range slices.Backward(c.posts) {
		if shown[p.uri] || !p.at.After(last) || !c.passes(p, filter) {
			continue
		}
		posts = append(posts, p)
		if err := c.refer(ctx, &refs, p, 0); err != nil {
			return err
		}
		if err := c.referReply(ctx, &refs, p); err != nil {
			return err
		}
	}
	c.ask(ctx, refs)
	at := first
	for _, p := range posts {
		for at < len(items) && (items[at].at.IsZero() || !items[at].at.Before(p.at)) {
			at++
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		text := c.feedItem(p)
		if !c.spend(len(text) + len(",")) {
			break
		}
		l.put(at, text)
	}
	return nil
}

// passes reports whether an author feed with a filter has a post.
func (c *change) passes(p *post, filter string) bool {
	reply := p.value.member("reply").there()
	switch filter {
	case "posts_no_replies":
		return !reply
	case "posts_and_author_threads":
		return !reply || c.isOwn(p.root)
	case "posts_with_media":
		return p.shows(images, gallery)
	case "posts_with_video":
		return p.shows(video)
	default:
		return true
	}
}
