package readafterwrite

import (
	"context"
	"strconv"
)

// The defaults of getPostThread.
const (
	defaultDepth        = 6
	defaultParentHeight = 80
)

// place is a post of a thread to which new posts can be replies.
type place struct {
	depth   int // below the thread's post
	node    value
	replies *list // of node; nil: it has none
	post    *post // if there is no node: the place is new
	added   []*place
}

// thread is a thread to which new posts are added.
type thread struct {
	*change
	places map[string]*place // by URI
	all    []*place          // in the order of the answer
	refs   references
}

// editThread plans the changes of a thread: the caller's replies that were deleted go,
// new ones come, the caller's name and picture are the new ones.
func (c *change) editThread(ctx context.Context, top value) error {
	if !isThread(top) {
		return nil
	}
	t := &thread{change: c, places: map[string]*place{}}
	if err := t.read(ctx, top, 0); err != nil {
		return err
	}
	c.nameParents(top.member("parent"))
	post := top.member("post")
	root := post.member("record").member("reply").member("root").member("uri")
	if err := t.grow(ctx, post.member("uri").text(), root.text()); err != nil {
		return err
	}
	c.ask(ctx, t.refs)
	for _, p := range t.all {
		if err := t.fit(ctx, p); err != nil {
			return err
		}
		t.plan(p)
	}
	return nil
}

// fit leaves out the new replies below a place for which there is no room, the oldest.
func (t *thread) fit(ctx context.Context, p *place) error {
	for i, added := range p.added {
		if err := ctx.Err(); err != nil {
			return err
		}
		if t.left == 0 || !t.spend(len(t.members(added.post))+nodeFrame) {
			p.added = p.added[:i]
			return nil
		}
		if err := t.fit(ctx, added); err != nil {
			return err
		}
	}
	return nil
}

// nameParents plans the caller's name and picture in a node and its parents.
func (c *change) nameParents(node value) {
	for ; isThread(node); node = node.member("parent") {
		c.namePost(node.member("post"))
	}
}

// isThread reports whether a node shows a post: not one that is blocked or missing.
func isThread(node value) bool {
	return node.member("$type").is(threadView) && isPostView(node.member("post"))
}

// read reads a node and those below it into places.
func (t *thread) read(ctx context.Context, node value, depth int) error {
	post := node.member("post")
	t.namePost(post)
	p := &place{depth: depth, node: node}
	t.all = append(t.all, p)
	if uri := post.member("uri").text(); t.places[uri] == nil {
		t.places[uri] = p
		t.know(post)
	}
	replies := node.member("replies")
	if !replies.isArray() {
		return nil
	}
	p.replies = listOf(replies)
	for i, reply := range p.replies.parts {
		if !isThread(reply) {
			continue
		}
		gone, err := t.gone(ctx, reply.member("post").member("uri").text())
		if err != nil {
			return err
		}
		if gone {
			p.replies.leaveOut(i)
			continue
		}
		if err := t.read(ctx, reply, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// grow adds the new posts of the thread to the places of their parents, and what they
// refer to. A thread is of a post, which has a root if it is a reply.
func (t *thread) grow(ctx context.Context, uri, root string) error {
	depth := t.parameter("depth", defaultDepth)
	for _, p := range t.posts {
		parent := t.places[p.parent]
		if p.root != uri && p.root != root || p.root == "" || parent == nil || parent.depth >= depth || t.places[p.uri] != nil {
			continue
		}
		added := &place{depth: parent.depth + 1, post: p}
		t.places[p.uri] = added
		parent.added = append([]*place{added}, parent.added...)
		if err := t.refer(ctx, &t.refs, p, 0); err != nil {
			return err
		}
	}
	return nil
}

// plan plans the replies of a place that was there.
func (t *thread) plan(p *place) {
	if p.replies == nil {
		if len(p.added) > 0 && !p.node.member("replies").there() {
			p.node.set([]field{{"replies", t.appendReplies(nil, p)}})
		}
		return
	}
	for _, added := range p.added {
		p.replies.put(0, t.appendNode(nil, added))
	}
	p.replies.plan()
}

// appendNode appends a new post as a node of a thread, with those below it.
func (t *thread) appendNode(b []byte, p *place) []byte {
	b = t.appendPost(b, p.post)
	if len(p.added) > 0 {
		b = t.appendReplies(append(b, `,"replies":`...), p)
	}
	return append(b, '}')
}

// appendPost appends a node of a new post without the bracket at its end.
func (c *change) appendPost(b []byte, p *post) []byte {
	b = quote(append(b, `{"$type":`...), threadView)
	return c.appendView(append(b, `,"post":`...), p, false)
}

func (t *thread) appendReplies(b []byte, p *place) []byte {
	b = append(b, '[')
	for i, added := range p.added {
		if i > 0 {
			b = append(b, ',')
		}
		b = t.appendNode(b, added)
	}
	return append(b, ']')
}

// parameter returns a number of the query.
func (c *change) parameter(name string, absent int) int {
	n, err := strconv.Atoi(c.call.Query.Get(name))
	if err != nil {
		return absent
	}
	return n
}
