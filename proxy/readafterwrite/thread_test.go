package readafterwrite_test

import (
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	raw "nestbox/proxy/readafterwrite"
)

// thread is a node as the AppView shows it; replies are nodes.
func thread(uri string, more string, replies ...string) string {
	return `{"$type":"app.bsky.feed.defs#threadViewPost","post":` + view(uri, 1, more) + `,"replies":[` + strings.Join(replies, ",") + `],"threadContext":{}}`
}

func answerOf(node string) string { return `{"thread":` + node + `,"threadgate":{"n":1.0}}` }

// tree returns the record keys of a thread: "key(reply reply(...))".
func tree(node any) string {
	object, _ := node.(map[string]any)
	post, _ := object["post"].(map[string]any)
	uri, _ := post["uri"].(string)
	if uri == "" {
		uri = fmt.Sprint("/", object["$type"])
	}
	text := uri[strings.LastIndexAny(uri, "/#")+1:]
	var below []string
	replies, _ := object["replies"].([]any)
	for _, r := range replies {
		below = append(below, tree(r))
	}
	if len(below) > 0 {
		text += "(" + strings.Join(below, " ") + ")"
	}
	return text
}

func TestThreadReplies(t *testing.T) {
	anchor, other := bobURI("top"), bobURI("other")
	blocked := `{"$type":"app.bsky.feed.defs#blockedPost","uri":"` + bobURI("blocked") + `","blocked":true,"author":{"did":"` + bob + `"}}`
	plain := answerOf(thread(anchor, "", thread(bobURI("b1"), "", thread(bobURI("b2"), "")), blocked))
	reply := func(key string, second int, root, parent string) raw.Record {
		return post(key, second, replyTo(root, parent))
	}
	for _, c := range []struct {
		name, query, body string
		posts             []raw.Record
		want              string // empty: unchanged
	}{
		{"to the post", "", plain, []raw.Record{reply("a1", 5, anchor, anchor)}, "top(a1 b1(b2) blockedPost)"},
		{"newest first", "", plain, []raw.Record{reply("a1", 5, anchor, anchor), reply("a2", 6, anchor, anchor)}, "top(a2 a1 b1(b2) blockedPost)"},
		{"further down", "", plain, []raw.Record{reply("a1", 5, anchor, bobURI("b2"))}, "top(b1(b2(a1)) blockedPost)"},
		{"to a new one", "", plain, []raw.Record{reply("a1", 5, anchor, bobURI("b1")), reply("a2", 6, anchor, ownURI("a1")), reply("a3", 7, anchor, ownURI("a2")), reply("a4", 8, anchor, ownURI("a1"))}, "top(b1(a1(a4 a2(a3)) b2) blockedPost)"},
		{"in one commit", "", plain, []raw.Record{reply("a2", 5, anchor, ownURI("a1")), reply("a1", 5, anchor, anchor)}, "top(a1(a2) b1(b2) blockedPost)"},
		{"of another thread", "", plain, []raw.Record{reply("a1", 5, other, anchor)}, ""},
		{"to a blocked post", "", plain, []raw.Record{reply("a1", 5, anchor, bobURI("blocked"))}, ""},
		{"to a post that is not there", "", plain, []raw.Record{reply("a1", 5, anchor, bobURI("b9"))}, ""},
		{"not a reply", "", plain, []raw.Record{post("a1", 5, "")}, ""},
		{"below the depth", "depth=2", plain, []raw.Record{reply("a1", 5, anchor, bobURI("b1")), reply("a2", 6, anchor, bobURI("b2")), reply("a3", 7, anchor, ownURI("a1"))}, "top(b1(a1 b2) blockedPost)"},
		{"depth 0", "depth=0", plain, []raw.Record{reply("a1", 5, anchor, anchor)}, ""},
		{"there already", "", answerOf(thread(anchor, "", thread(ownURI("a1"), ""))), []raw.Record{reply("a1", 5, anchor, anchor), reply("a2", 6, anchor, ownURI("a1"))}, "top(a1(a2))"},
		{"the post is a reply itself", "", answerOf(thread(anchor, replyTo(other, other))), []raw.Record{reply("a1", 5, other, anchor), reply("a2", 6, anchor, anchor), reply("a3", 7, bobURI("x"), anchor)}, "top(a2 a1)"},
		{"a list to come", "", answerOf(strings.Replace(thread(anchor, ""), `,"replies":[]`, "", 1)), []raw.Record{reply("a1", 5, anchor, anchor)}, "top(a1)"},
		{"replies are not a list", "", answerOf(strings.Replace(thread(anchor, ""), `"replies":[]`, `"replies":null`, 1)), []raw.Record{reply("a1", 5, anchor, anchor)}, ""},
		{"a blocked thread", "", answerOf(blocked), []raw.Record{reply("a1", 5, bobURI("blocked"), bobURI("blocked"))}, ""},
		{"without a type", "", answerOf(strings.Replace(thread(anchor, ""), `"$type":"app.bsky.feed.defs#threadViewPost",`, "", 1)), []raw.Record{reply("a1", 5, anchor, anchor)}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := scene{method: getPostThread, query: "uri=" + anchor + "&" + c.query, body: c.body, news: news(c.posts...)}.must(t)
			if c.want == "" {
				if got != "" {
					t.Errorf("edited: %s", got)
				}
				return
			}
			if tree := tree(in(t, got, "thread")); tree != c.want {
				t.Errorf("the thread is %s, want %s", tree, c.want)
			}
			if v := in(t, got, "thread", "post", "replyCount"); v != 1.0 {
				t.Errorf("replyCount: %v, want the old one", v)
			}
			if !strings.HasSuffix(got, `,"threadgate":{"n":1.0}}`) {
				t.Errorf("the end was changed: %s", got)
			}
		})
	}

	got := scene{method: getPostThread, body: answerOf(thread(anchor, "")), news: news(reply("a1", 5, anchor, anchor))}.must(t)
	node := in(t, got, "thread", "replies", 0)
	want := asJSON(t, `{"$type":"app.bsky.feed.defs#threadViewPost"}`).(map[string]any)
	want["post"] = in(t, got, "thread", "replies", 0, "post")
	if !reflect.DeepEqual(node, want) {
		t.Errorf("a new node has more than a type and a post: %v", node)
	}
}

func TestThreadDeletedAndNames(t *testing.T) {
	parent := `{"parent":` + thread(ownURI("gone-parent"), "")
	body := answerOf(parent + "," + thread(ownURI("gone-anchor"), "", thread(ownURI("gone1"), "", thread(bobURI("b2"), "")), thread(bobURI("gone"), "", thread(ownURI("gone2"), ""), thread(ownURI("kept"), "")))[1:])
	s := scene{method: getPostThread, body: body, own: repository{"kept": true}, news: raw.News{Deleted: true, Profile: profileOf(1, `,"displayName":"New"`)}}
	got := s.must(t)
	if tree := tree(in(t, got, "thread")); tree != "gone-anchor(gone(kept))" || in(t, got, "thread", "parent") == nil {
		t.Errorf("the thread is %s", tree)
	}
	s.news.ProfileNew = true
	got = s.must(t)
	for _, path := range [][]any{{"thread"}, {"thread", "parent"}, {"thread", "replies", 0, "replies", 0}} {
		if v := in(t, got, append(path, "post", "author", "displayName")...); v != "New" {
			t.Errorf("the name at %v is %v", path, v)
		}
	}
	if v := in(t, got, "thread", "replies", 0, "post", "author", "displayName"); v != "Bob" {
		t.Errorf("the other's name is %v", v)
	}
}

const notFound = `{"error":"NotFound","message":"Post not found: at://…"}`

func TestUnknownThread(t *testing.T) {
	top, up := bobURI("top"), bobURI("up")
	parents := thread(up, "")
	posts := []raw.Record{
		post("a1", 5, replyTo(top, up)),
		post("a2", 6, replyTo(top, ownURI("a1"))),
		post("a3", 7, replyTo(top, ownURI("a2"))),
		post("a4", 8, replyTo(top, ownURI("a3"))),
		post("root", 9, ""),
		post("below", 10, replyTo(ownURI("root"), ownURI("root"))),
		post("loop", 11, replyTo(ownURI("loop"), ownURI("loop"))),
	}
	for _, c := range []struct {
		name, query    string
		height         string // parentHeight of the question; empty: none
		parents, below string // empty: the 400 as it came
	}{
		{"a post", "uri=" + ownURI("root"), "", "root", "root(below)"},
		{"by handle", "uri=at://Alice.test/app.bsky.feed.post/root", "", "root", "root(below)"},
		{"depth 0", "depth=0&uri=" + ownURI("root"), "", "root", "root"},
		{"a reply", "uri=" + ownURI("a1"), "79", "a1 up", "a1(a2(a3(a4)))"},
		{"in the midst", "depth=1&uri=" + ownURI("a3"), "77", "a3 a2 a1 up", "a3(a4)"},
		{"height of the new", "parentHeight=2&uri=" + ownURI("a3"), "", "a3 a2 a1", "a3(a4)"},
		{"height of one more", "parentHeight=3&uri=" + ownURI("a3"), "0", "a3 a2 a1 up", "a3(a4)"},
		{"no height", "parentHeight=0&uri=" + ownURI("a3"), "", "a3", "a3(a4)"},
		{"its own parent", "uri=" + ownURI("loop"), "", "loop", "loop"},
		{"not here", "uri=" + ownURI("old"), "", "", ""},
		{"another's", "uri=" + bobURI("root"), "", "", ""},
		{"no URI", "", "", "", ""},
		{"another collection", "uri=at://" + alice + "/app.bsky.feed.like/root", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := &upstream{answers: map[string]string{getPostThread: `{"thread":` + parents + `}`}}
			got := scene{method: getPostThread, status: 400, query: c.query, body: notFound, news: news(posts...), up: u}.must(t)
			if c.below == "" {
				if got != "" {
					t.Errorf("edited: %s", got)
				}
				return
			}
			if tree := tree(in(t, got, "thread")); tree != c.below {
				t.Errorf("the thread is %s, want %s", tree, c.below)
			}
			var above []string
			for path := []any{"thread"}; in(t, got, path...) != nil; path = append(path, "parent") {
				key, _, _ := strings.Cut(tree(in(t, got, path...)), "(")
				above = append(above, key)
			}
			if !slices.Equal(above, strings.Fields(c.parents)) {
				t.Errorf("above are %q, want %q", above, c.parents)
			}
			var want []string
			if c.height != "" {
				want = []string{getPostThread + "?" + url.Values{"uri": {up}, "parentHeight": {c.height}, "depth": {"0"}}.Encode()}
			}
			if !slices.Equal(u.asked, want) {
				t.Errorf("asked %q, want %q", u.asked, want)
			}
		})
	}
}

func TestUnknownThreadUnchanged(t *testing.T) {
	s := scene{method: getPostThread, status: 400, query: "uri=" + ownURI("a1"), news: news(post("a1", 5, ""))}
	for _, body := range []string{`{"error":"InvalidRequest"}`, `{"error":5}`, `[]`, `<html>`, ``} {
		s.body = body
		if got := s.must(t); got != "" {
			t.Errorf("%s: edited: %s", body, got)
		}
	}
	s.body, s.status = notFound, 404
	if got := s.must(t); got != "" {
		t.Errorf("another status: edited: %s", got)
	}
	s.status, s.query, s.handle = 400, "uri=at://handle.invalid/app.bsky.feed.post/a1", "handle.invalid"
	if got := s.must(t); got != "" {
		t.Errorf("a handle that does not verify: edited: %s", got)
	}
	s = scene{method: getTimeline, status: 400, body: notFound, news: news(post("a1", 5, ""))}
	if got := s.must(t); got != "" {
		t.Errorf("another method: edited: %s", got)
	}
}

// What the service says of the parents is a part of the thread, or it is left out.
func TestUnknownThreadParents(t *testing.T) {
	up := bobURI("up")
	for name, c := range map[string]struct {
		u    *upstream
		want any
	}{
		"missing":   {&upstream{}, nil},
		"not found": {&upstream{answers: map[string]string{getPostThread: `{"thread":{"$type":"app.bsky.feed.defs#blockedPost","uri":"x"}}`}}, map[string]any{"$type": "app.bsky.feed.defs#blockedPost", "uri": "x"}},
		"fails":     {&upstream{fails: map[string]bool{getPostThread: true}}, nil},
		"nonsense":  {&upstream{answers: map[string]string{getPostThread: `{"thread":{"uri":5}}`}}, nil},
		"no JSON":   {&upstream{answers: map[string]string{getPostThread: `{"thread":{`}}, nil},
	} {
		got, err := scene{method: getPostThread, status: 400, query: "uri=" + ownURI("a1"), body: notFound, news: news(post("a1", 5, replyTo(up, up))), up: c.u}.edit(t)
		if v := in(t, got, "thread", "parent"); !reflect.DeepEqual(v, c.want) {
			t.Errorf("%s: the parent is %v, want %v", name, v, c.want)
		}
		if (name == "fails" || name == "no JSON") && err == nil {
			t.Errorf("%s: the log gets no reason", name)
		}
	}
	s := scene{method: getPostThread, status: 400, query: "uri=" + ownURI("a1"), body: notFound, news: raw.News{Posts: []raw.Record{post("a1", 5, replyTo(ownURI("gone"), ownURI("gone")))}, Deleted: true}, own: repository{}}
	if v := in(t, s.must(t), "thread", "parent"); v != nil {
		t.Errorf("a deleted parent: %v", v)
	}
	s.news = raw.News{Posts: s.news.Posts, Profile: profileOf(5, `,"displayName":"New"`), ProfileNew: true}
	s.up = &upstream{answers: map[string]string{getPostThread: `{"thread":` + thread(ownURI("gone"), "") + `}`}}
	if v := in(t, s.must(t), "thread", "parent", "post", "author", "displayName"); v != "New" {
		t.Errorf("the name on an own parent: %v", v)
	}
}
