package readafterwrite_test

import (
	"reflect"
	"strings"
	"testing"

	raw "nestbox/proxy/readafterwrite"
)

func news(posts ...raw.Record) raw.News { return raw.News{Posts: posts} }

func TestTimelineInserts(t *testing.T) {
	repost := `{"post":` + view(bobURI("old"), 1, "") + `,"reason":{"$type":"app.bsky.feed.defs#reasonRepost","by":` + author(bob, "Bob") + `,"indexedAt":"` + at(40) + `"}}`
	for _, c := range []struct {
		name, query string
		body        string
		posts       []raw.Record
		want        string // record keys; empty: unchanged
	}{
		{"newer than all", "", feedOf(feedItem(bobURI("b1"), 20), feedItem(bobURI("b0"), 10)), []raw.Record{post("a1", 30, ""), post("a2", 31, "")}, "a2 a1 b1 b0"},
		{"between", "limit=30", feedOf(feedItem(bobURI("b1"), 20), feedItem(bobURI("b0"), 10)), []raw.Record{post("a1", 15, ""), post("a2", 16, ""), post("a3", 25, "")}, "a3 b1 a2 a1 b0"},
		{"older than the last", "", feedOf(feedItem(bobURI("b1"), 20), feedItem(bobURI("b0"), 10)), []raw.Record{post("a1", 5, ""), post("a2", 12, "")}, "b1 a2 b0"},
		{"as old as the last", "", feedOf(feedItem(bobURI("b1"), 20)), []raw.Record{post("a1", 20, "")}, ""},
		{"as old as another", "", feedOf(feedItem(bobURI("b1"), 20), feedItem(bobURI("b0"), 10)), []raw.Record{post("a1", 20, "")}, "b1 a1 b0"},
		{"all older", "", feedOf(feedItem(bobURI("b1"), 20)), []raw.Record{post("a1", 5, "")}, ""},
		{"by the time of a repost", "", feedOf(repost, feedItem(bobURI("b0"), 10)), []raw.Record{post("a1", 30, "")}, "old a1 b0"},
		{"repost at the end", "", feedOf(feedItem(bobURI("b0"), 50), repost), []raw.Record{post("a1", 30, ""), post("a2", 45, "")}, "b0 a2 old"},
		{"empty", "", `{"feed":[ ]}`, []raw.Record{post("a1", 30, ""), post("a2", 31, "")}, "a2 a1"},
		{"there already", "", feedOf(feedItem(ownURI("a1"), 20), feedItem(bobURI("b0"), 10)), []raw.Record{post("a1", 21, ""), post("a2", 22, "")}, "a2 a1 b0"},
		{"second page", "cursor=x", feedOf(feedItem(bobURI("b1"), 20)), []raw.Record{post("a1", 30, "")}, ""},
		{"empty cursor", "cursor=", feedOf(feedItem(bobURI("b1"), 20)), []raw.Record{post("a1", 30, "")}, "a1 b1"},
		{"one commit", "", feedOf(feedItem(bobURI("b1"), 20)), []raw.Record{post("a2", 30, ""), post("a1", 30, ""), post("a0", 30, "")}, "a2 a1 a0 b1"},
		{"an item without a time", "", feedOf(feedItem(bobURI("b1"), 20), strings.ReplaceAll(feedItem(bobURI("b0"), 10), at(10), "soon")), []raw.Record{post("a1", 30, "")}, "a1 b1 b0"},
		{"no item with a time", "", feedOf(`{"post":{"uri":"x"}}`), []raw.Record{post("a1", 30, "")}, ""},
		{"not posts", "", feedOf(feedItem(bobURI("b1"), 20)), []raw.Record{
			record("app.bsky.feed.post", "x", 30, `{"$type":"app.bsky.feed.like"}`), record("app.bsky.feed.post", "y", 30, `{"$type":"app.bsky.feed.post","text":5,"createdAt":"x"}`),
			record("app.bsky.feed.post", "z", 30, `{`), post("a1", 30, ""),
		}, "a1 b1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := scene{method: getTimeline, query: c.query, body: c.body, news: news(c.posts...)}.must(t)
			if c.want == "" {
				if got != "" {
					t.Errorf("edited: %s", got)
				}
				return
			}
			wantKeys(t, got, strings.Fields(c.want)...)
			if in(t, got, "cursor") != in(t, c.body, "cursor") {
				t.Error("the cursor was changed")
			}
			// Without what came in, it is the original.
			for _, p := range c.posts {
				from := strings.Index(got, `{"post":{"uri":"`+ownURI(p.RecordKey)+`","cid":"`+cid+`","author":{"did":"`+alice+`","handle":"alice.test"}`)
				if from < 0 {
					continue
				}
				end := `"viewer":{"bookmarked":false,"threadMuted":false,"embeddingDisabled":false}}}`
				to := from + strings.Index(got[from:], end) + len(end)
				if got[to] == ',' {
					to++
				}
				got = got[:from] + got[to:]
			}
			if strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(c.body, " ", "") {
				t.Errorf("the rest is not the original:\n%s\n%s", got, c.body)
			}
		})
	}
}

func TestView(t *testing.T) {
	p := post("a1", 30, `,"labels":{"$type":"com.atproto.label.defs#selfLabels","values":[{"val":"porn"},{"val":"!no-unauthenticated"},{}]},"unknown":1.50`)
	s := scene{method: getTimeline, body: `{"feed":[]}`, news: raw.News{Posts: []raw.Record{p}, Profile: profileOf(1, `,"displayName":"Alice","avatar":`+blobJSON)}}
	label := `{"src":"` + alice + `","uri":"` + ownURI("a1") + `","cid":"` + cid + `","val":"%","cts":"` + at(30) + `"}`
	want := `{"feed":[{"post":{"uri":"` + ownURI("a1") + `","cid":"` + cid + `","author":{"did":"` + alice + `","handle":"alice.test","displayName":"Alice","avatar":"https://cdn.example.com/img/avatar/plain/` + alice + `/` + blob + `@jpeg"},` +
		`"record":` + string(p.Value) + `,"replyCount":0,"repostCount":0,"likeCount":0,"quoteCount":0,"bookmarkCount":0,"indexedAt":"` + at(30) + `","labels":[` +
		strings.Replace(label, "%", "porn", 1) + `,` + strings.Replace(label, "%", "!no-unauthenticated", 1) + `],"viewer":{"bookmarked":false,"threadMuted":false,"embeddingDisabled":false}}}]}`
	if got := s.must(t); got != want {
		t.Errorf("view:\n%s\nwant:\n%s", got, want)
	}
	s.news.Posts, s.news.Profile, s.handle = []raw.Record{post("a1", 30, "")}, nil, "handle.invalid"
	got := s.must(t)
	if a := in(t, got, "feed", 0, "post", "author"); !reflect.DeepEqual(a, asJSON(t, `{"did":"`+alice+`","handle":"handle.invalid"}`)) {
		t.Errorf("author without a profile: %v", a)
	}
	if l := in(t, got, "feed", 0, "post", "labels"); !reflect.DeepEqual(l, []any{}) {
		t.Errorf("labels: %v, want none", l)
	}
}

func TestFeedReply(t *testing.T) {
	old, older := bobURI("b1"), bobURI("b0")
	both := &upstream{answers: map[string]string{"app.bsky.feed.getPosts": `{"posts":[` + view(old, 5, "") + `,` + view(older, 4, "") + `]}`}}
	s := scene{method: getTimeline, body: `{"feed":[]}`, up: both, news: news(post("a1", 30, replyTo(older, old)), post("a2", 31, replyTo(older, ownURI("a1"))))}
	got := s.must(t)
	want := func(uri string, second int) any {
		return asJSON(t, `{"$type":"app.bsky.feed.defs#postView",`+view(uri, second, "")[1:])
	}
	for path, w := range map[string]any{"root": want(older, 4), "parent": want(old, 5)} {
		if v := in(t, got, "feed", 1, "reply", path); !reflect.DeepEqual(v, w) {
			t.Errorf("%s: %v, want %v", path, v, w)
		}
	}
	if v := in(t, got, "feed", 0, "reply", "parent", "uri"); v != ownURI("a1") {
		t.Errorf("the parent from here: %v", v)
	}
	if v := in(t, got, "feed", 0, "reply", "parent", "$type"); v != "app.bsky.feed.defs#postView" {
		t.Errorf("the type of the parent from here: %v", v)
	}
	if len(both.asked) != 1 || !strings.HasPrefix(both.asked[0], "app.bsky.feed.getPosts?uris=") {
		t.Errorf("asked: %q, want one call", both.asked)
	}

	// The answer has them already: nothing is asked.
	silent := &upstream{}
	s.up, s.body = silent, feedOf(feedItem(old, 5), `{"post":`+view(bobURI("c"), 3, "")+`,"reply":{"root":{"$type":"app.bsky.feed.defs#postView",`+view(older, 4, "")[1:]+`,"parent":{"$type":"app.bsky.feed.defs#notFoundPost","uri":"x","notFound":true}}}`)
	got = s.must(t)
	if v := in(t, got, "feed", 1, "reply", "root", "uri"); v != older || len(silent.asked) > 0 {
		t.Errorf("the root that is in the answer: %v; asked: %q", v, silent.asked)
	}

	// One is not known: no reply.
	s.body, s.up = `{"feed":[]}`, &upstream{answers: map[string]string{"app.bsky.feed.getPosts": `{"posts":[` + view(old, 5, "") + `]}`}}
	if v := in(t, s.must(t), "feed", 1, "reply"); v != nil {
		t.Errorf("reply although the root is not known: %v", v)
	}
	// The call fails: the same, and the log gets the reason.
	s.up = &upstream{fails: map[string]bool{"app.bsky.feed.getPosts": true}}
	got, err := s.edit(t)
	if err == nil || !strings.Contains(err.Error(), "getPosts") {
		t.Errorf("error: %v, want what failed", err)
	}
	wantKeys(t, got, "a2", "a1")
	if v := in(t, got, "feed", 1, "reply"); v != nil {
		t.Errorf("reply although the call failed: %v", v)
	}
}

func TestAuthorFeed(t *testing.T) {
	picture := embed(`{"$type":"app.bsky.embed.images","images":[{"image":` + blobJSON + `,"alt":"x"}]}`)
	posts := []raw.Record{
		post("plain", 20, ""),
		post("reply", 21, replyTo(bobURI("b"), bobURI("b"))),
		post("thread", 22, replyTo(ownURI("old"), bobURI("b"))),
		post("elsewhere", 22, replyTo(bobURI("b"), ownURI("old"))),
		post("picture", 23, picture),
		post("gallery", 24, embed(`{"$type":"app.bsky.embed.gallery","items":[]}`)),
		post("beside", 25, embed(`{"$type":"app.bsky.embed.recordWithMedia","record":`+quoteOf(bobURI("b"))+`,"media":{"$type":"app.bsky.embed.images","images":[]}}`)),
		post("video", 26, embed(`{"$type":"app.bsky.embed.video","video":`+blobJSON+`}`)),
	}
	all := "video beside gallery picture thread elsewhere reply plain old"
	for query, want := range map[string]string{
		"actor=" + alice:   all,
		"actor=alice.test": all,
		"actor=ALICE.test&filter=posts_with_replies":       all,
		"actor=alice.test&filter=posts_no_replies":         "video beside gallery picture plain old",
		"actor=alice.test&filter=posts_and_author_threads": "video beside gallery picture thread plain old",
		"actor=alice.test&filter=posts_with_media":         "beside gallery picture old",
		"actor=alice.test&filter=posts_with_video":         "video old",
		"actor=alice.test&cursor=x":                        "",
		"actor=" + bob:                                     "",
		"actor=bob.test":                                   "",
		"actor=handle.invalid":                             "",
	} {
		s := scene{method: getAuthorFeed, query: query, body: feedOf(feedItem(ownURI("old"), 10)), news: news(posts...), up: &upstream{answers: map[string]string{"app.bsky.feed.getPosts": `{"posts":[]}`}}}
		if query == "actor=handle.invalid" {
			s.handle = "handle.invalid"
		}
		got := s.must(t)
		if want == "" {
			if got != "" {
				t.Errorf("%s: edited: %s", query, got)
			}
			continue
		}
		t.Run(query, func(t *testing.T) { wantKeys(t, got, strings.Fields(want)...) })
	}
}

func TestPinned(t *testing.T) {
	pinned := `{"post":` + view(ownURI("pin"), 1, "") + `,"reason":{"$type":"app.bsky.feed.defs#reasonPin"}}`
	s := scene{method: getAuthorFeed, query: "actor=" + alice + "&includePins=true", body: feedOf(pinned, feedItem(ownURI("old"), 10)), news: news(post("a1", 5, ""), post("a2", 30, ""))}
	wantKeys(t, s.must(t), "pin", "a2", "old")
	s.body = feedOf(pinned)
	wantKeys(t, s.must(t), "pin", "a2", "a1")
}

func TestNamesInFeeds(t *testing.T) {
	quote := strings.Replace(view(bobURI("q"), 9, ""), `"bookmarkCount"`, `"embed":{"$type":"app.bsky.embed.record#view","record":{"$type":"app.bsky.embed.record#viewRecord","uri":"`+ownURI("x")+`","author":`+author(alice, "Alice")+`,"value":{"$type":"app.bsky.feed.post","author":`+author(alice, "Alice")+`},"embeds":[]}},"bookmarkCount"`, 1)
	beside := strings.Replace(view(bobURI("m"), 8, ""), `"bookmarkCount"`, `"embed":{"$type":"app.bsky.embed.recordWithMedia#view","media":{"author":`+author(alice, "Alice")+`},"record":{"record":{"uri":"`+ownURI("x")+`","author":`+author(alice, "Alice")+`,"embeds":[{"$type":"app.bsky.embed.record#view","record":{"author":`+author(alice, "Alice")+`}}]}}},"bookmarkCount"`, 1)
	body := feedOf(
		feedItem(ownURI("old"), 10), feedItem(bobURI("b"), 10), `{"post":`+quote+`}`, `{"post":`+beside+`}`,
		`{"post":`+view(bobURI("r"), 7, "")+`,"reply":{"root":`+view(ownURI("old"), 1, "")+`,"parent":`+view(ownURI("old"), 1, "")+`,"grandparentAuthor":`+author(alice, "Alice")+`}}`,
		`{"post":`+view(bobURI("r"), 7, "")+`,"reason":{"$type":"app.bsky.feed.defs#reasonRepost","by":`+author(alice, "Alice")+`,"indexedAt":"`+at(7)+`"}}`,
		`{"post":{"uri":"at://blocked","blocked":true,"author":{"did":"`+alice+`"}}}`,
	)
	profile := raw.News{Profile: profileOf(5, `,"displayName":"New"`), ProfileNew: true}
	old := `,"displayName":"Alice","avatar":"https://cdn.example.com/img/avatar/plain/` + alice + `/old"`
	keep := `"value":{"$type":"app.bsky.feed.post","author":` + author(alice, "Alice")
	keep2 := `"media":{"author":` + author(alice, "Alice")
	want := strings.NewReplacer(keep, keep, keep2, keep2, old, `,"displayName":"New"`).Replace(body)
	for query, edited := range map[string]bool{
		getTimeline + "?": true, getTimeline + "?cursor=x": true, getActorLikes + "?actor=" + alice: true,
		getAuthorFeed + "?actor=" + alice: true, getAuthorFeed + "?cursor=x&actor=" + alice: true, getAuthorFeed + "?actor=" + bob: false,
	} {
		method, q, _ := strings.Cut(query, "?")
		got := scene{method: method, query: q, body: body, news: profile}.must(t)
		if edited && got != want {
			t.Errorf("%s: edited:\n%s\nwant:\n%s", query, got, want)
		}
		if !edited && got != "" {
			t.Errorf("%s: edited: %s", query, got)
		}
	}
	got := scene{method: getActorLikes, body: body, news: news(post("a1", 30, ""))}.must(t)
	if got != "" {
		t.Errorf("likes with a new post: edited: %s", got)
	}
}

func TestDeletedInFeeds(t *testing.T) {
	body := feedOf(feedItem(ownURI("gone"), 20), feedItem(ownURI("kept"), 19), feedItem(bobURI("gone"), 18), feedItem(ownURI("gone2"), 17))
	own := repository{"kept": true}
	for _, query := range []string{getTimeline + "?cursor=x", getActorLikes + "?actor=" + bob, getAuthorFeed + "?actor=" + bob, getAuthorFeed + "?actor=" + alice} {
		method, q, _ := strings.Cut(query, "?")
		s := scene{method: method, query: q, body: body, own: own, news: raw.News{Deleted: true, Profile: profileOf(1, `,"displayName":"Alice"`)}}
		if got, want := s.must(t), feedOf(feedItem(ownURI("kept"), 19), feedItem(bobURI("gone"), 18)); got != want {
			t.Errorf("%s: edited:\n%s\nwant:\n%s", query, got, want)
		}
	}
	s := scene{method: getTimeline, body: body, news: news(post("a1", 30, ""))}
	wantKeys(t, s.must(t), "a1", "gone", "kept", "gone", "gone2") // nothing was deleted: nothing is asked
	s.news, s.own = raw.News{Posts: []raw.Record{post("gone", 20, ""), post("a1", 18, "")}, Deleted: true}, own
	wantKeys(t, s.must(t), "gone", "kept", "gone", "a1") // a new post is there
	s.body = feedOf(feedItem(ownURI("g1"), 20), feedItem(ownURI("g2"), 19))
	s.news.Posts = nil
	if got, want := s.must(t), feedOf(); got != want {
		t.Errorf("all are gone: edited %s, want %s", got, want)
	}
	s.body = feedOf(feedItem(ownURI("broken"), 20))
	if got, err := s.edit(t); got != "" || err == nil {
		t.Errorf("the repository fails: edited %s, error %v", got, err)
	}
}

func TestFeedUnchanged(t *testing.T) {
	for name, body := range map[string]string{
		"no feed": `{"cursor":"x"}`, "an object": `{"feed":{}}`, "null": `{"feed":null}`, "a text": `"feed"`, "an empty answer": ``,
		"deep":           `{"feed":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`,
		"many":           `{"feed":[` + strings.Repeat("0,", 600_000) + `0]}`,
		"feed twice":     `{"feed":[],"feed":[]}`,
		"feed twice, \\": `{"feed":[],"f\u0065ed":[]}`,
	} {
		if got := (scene{method: getTimeline, body: body, news: news(post("a1", 30, ""))}).must(t); got != "" {
			t.Errorf("%s: edited: %.100s", name, got)
		}
	}
	for _, method := range []string{"app.bsky.feed.getFeed", "app.bsky.feed.getListFeed", "app.bsky.feed.getPosts", "app.bsky.unspecced.getPostThreadV2"} {
		if raw.Reads(method) {
			t.Errorf("%s can be changed", method)
		}
		if got := (scene{method: method, body: `{"feed":[]}`, news: news(post("a1", 30, ""))}).must(t); got != "" {
			t.Errorf("%s: edited: %s", method, got)
		}
	}
}
