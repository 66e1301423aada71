package readafterwrite_test

import (
	"context"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	raw "nestbox/proxy/readafterwrite"
)

const (
	pictureURL = "https://cdn.example.com/img/feed_thumbnail/plain/" + alice + "/" + blob + "@jpeg"
	fullURL    = "https://cdn.example.com/img/feed_fullsize/plain/" + alice + "/" + blob + "@jpeg"
)

// embedOf returns the embed in the view of a post, for which the service has answers.
func embedOf(t *testing.T, value string, answers map[string]string) (any, *upstream) {
	t.Helper()
	u := &upstream{answers: answers}
	got := scene{method: getTimeline, body: `{"feed":[]}`, news: news(post("a1", 30, embed(value))), up: u}.must(t)
	return in(t, got, "feed", 0, "post", "embed"), u
}

func TestMedia(t *testing.T) {
	image := `{"$type":"app.bsky.embed.gallery#image","image":` + blobJSON + `,"alt":"a \"dot\"","aspectRatio":{"width":2,"height":3}}`
	viewOf := func(thumb string) string {
		return `"` + thumb + `":"` + pictureURL + `","fullsize":"` + fullURL + `","alt":"a \"dot\"","aspectRatio":{"width":2,"height":3}}`
	}
	galleryView := `{"$type":"app.bsky.embed.gallery#viewImage",` + viewOf("thumbnail")
	link := `{"$type":"app.bsky.embed.external","external":{"uri":"https://example.com","title":"t","description":"d"%}}`
	for name, c := range map[string]struct{ value, want string }{
		"images":              {`{"$type":"app.bsky.embed.images","images":[` + image + `,{"image":` + blobJSON + `,"alt":""}]}`, `{"$type":"app.bsky.embed.images#view","images":[{` + viewOf("thumb") + `,{"thumb":"` + pictureURL + `","fullsize":"` + fullURL + `","alt":""}]}`},
		"no images":           {`{"$type":"app.bsky.embed.images","images":[]}`, `{"$type":"app.bsky.embed.images#view","images":[]}`},
		"an image, no blob":   {`{"$type":"app.bsky.embed.images","images":[{"image":5,"alt":"x"}]}`, ""},
		"an image, bad link":  {`{"$type":"app.bsky.embed.images","images":[{"image":{"ref":{"$link":"../x"}},"alt":"x"}]}`, ""},
		"an image, no alt":    {`{"$type":"app.bsky.embed.images","images":[{"image":` + blobJSON + `}]}`, ""},
		"images, no list":     {`{"$type":"app.bsky.embed.images","images":{}}`, ""},
		"gallery":             {`{"$type":"app.bsky.embed.gallery","items":[` + image + `,{"$type":"app.bsky.embed.gallery#sound"},` + image + `]}`, `{"$type":"app.bsky.embed.gallery#view","items":[` + galleryView + `,` + galleryView + `]}`},
		"a large gallery":     {`{"$type":"app.bsky.embed.gallery","items":[` + strings.Repeat(image+",", 11) + image + `]}`, `{"$type":"app.bsky.embed.gallery#view","items":[` + strings.Repeat(galleryView+",", 9) + galleryView + `]}`},
		"gallery, no list":    {`{"$type":"app.bsky.embed.gallery"}`, ""},
		"external":            {strings.Replace(link, "%", "", 1), `{"$type":"app.bsky.embed.external#view","external":{"uri":"https://example.com","title":"t","description":"d"}}`},
		"external, picture":   {strings.Replace(link, "%", `,"thumb":`+blobJSON, 1), `{"$type":"app.bsky.embed.external#view","external":{"uri":"https://example.com","title":"t","description":"d","thumb":"` + pictureURL + `"}}`},
		"external, odd":       {`{"$type":"app.bsky.embed.external","external":{"uri":"https://example.com","title":5,"description":"d"}}`, ""},
		"video":               {`{"$type":"app.bsky.embed.video","video":` + blobJSON + `}`, ""},
		"unknown":             {`{"$type":"app.bsky.embed.code","code":"x"}`, ""},
		"not an object":       {`"app.bsky.embed.images"`, ""},
		"a view in a record":  {`{"$type":"app.bsky.embed.images#view","images":[]}`, ""},
		"a quote of nothing":  {`{"$type":"app.bsky.embed.record"}`, ""},
		"a quote in a quote":  {`{"$type":"app.bsky.embed.recordWithMedia","record":` + quoteOf("at://x/y.z/1") + `,"media":` + quoteOf("at://x/y.z/1") + `}`, ""},
		"with unknown media":  {`{"$type":"app.bsky.embed.recordWithMedia","record":` + quoteOf("at://x/y.z/1") + `,"media":{"$type":"app.bsky.embed.video"}}`, ""},
		"another collection":  {quoteOf("at://" + bob + "/app.bsky.graph.starterpack/1"), `{"$type":"app.bsky.embed.record#view","record":{"$type":"app.bsky.embed.record#viewNotFound","uri":"at://` + bob + `/app.bsky.graph.starterpack/1","notFound":true}}`},
		"the same with media": {`{"$type":"app.bsky.embed.recordWithMedia","record":` + quoteOf("at://x/y.z/1") + `,"media":` + strings.Replace(link, "%", "", 1) + `}`, `{"$type":"app.bsky.embed.recordWithMedia#view","record":{"$type":"app.bsky.embed.record#view","record":{"$type":"app.bsky.embed.record#viewNotFound","uri":"at://x/y.z/1","notFound":true}},"media":{"$type":"app.bsky.embed.external#view","external":{"uri":"https://example.com","title":"t","description":"d"}}}`},
	} {
		got, u := embedOf(t, c.value, nil)
		if len(u.asked) > 0 {
			t.Errorf("%s: asked %q", name, u.asked)
		}
		if c.want == "" {
			if got != nil {
				t.Errorf("%s: embed %v, want none", name, got)
			}
		} else if !reflect.DeepEqual(got, asJSON(t, c.want)) {
			t.Errorf("%s: embed %v, want %s", name, got, c.want)
		}
	}
}

func TestQuotes(t *testing.T) {
	uri, feed, list := bobURI("q"), "at://"+bob+"/app.bsky.feed.generator/f", "at://"+bob+"/app.bsky.graph.list/l"
	quoted := strings.Replace(view(uri, 5, ""), `"bookmarkCount"`, `"embed":{"$type":"app.bsky.embed.images#view","images":[]},"bookmarkCount"`, 1)
	posts := map[string]string{"app.bsky.feed.getPosts": `{"posts":[` + view(bobURI("other"), 5, "") + `,` + quoted + `]}`}
	wanted := `{"$type":"app.bsky.embed.record#viewRecord","uri":"` + uri + `","cid":"` + cid + `","author":` + author(bob, "Bob") + `,"value":{"$type":"app.bsky.feed.post","createdAt":"` + at(5) + `","langs":["en"],"text":"old"},"labels":[],"likeCount":3,"replyCount":1,"repostCount":2,"quoteCount":4,"indexedAt":"` + at(5) + `","embeds":[{"$type":"app.bsky.embed.images#view","images":[]}]}`
	generator := `{"uri":"` + feed + `","cid":"` + cid + `","did":"did:web:feed.example.com","creator":` + author(bob, "Bob") + `,"displayName":"All","likeCount":0,"indexedAt":"` + at(1) + `"}`
	missing := func(uri string) string {
		return `{"$type":"app.bsky.embed.record#viewNotFound","uri":"` + uri + `","notFound":true}`
	}
	for name, c := range map[string]struct {
		uri     string
		answers map[string]string
		want    string
		asked   string
	}{
		"post":                    {uri, posts, wanted, "app.bsky.feed.getPosts?" + url.Values{"uris": {uri}}.Encode()},
		"post that is not there":  {bobURI("none"), posts, missing(bobURI("none")), "app.bsky.feed.getPosts?" + url.Values{"uris": {bobURI("none")}}.Encode()},
		"generator":               {feed, map[string]string{"app.bsky.feed.getFeedGenerator": `{"view":` + generator + `,"isOnline":true,"isValid":true}`}, `{"$type":"app.bsky.feed.defs#generatorView",` + generator[1:], "app.bsky.feed.getFeedGenerator?" + url.Values{"feed": {feed}}.Encode()},
		"generator, not there":    {feed, nil, missing(feed), "app.bsky.feed.getFeedGenerator?" + url.Values{"feed": {feed}}.Encode()},
		"list":                    {list, map[string]string{"app.bsky.graph.getList": `{"items":[],"list":{"$type":"app.bsky.graph.defs#listView","name":"List"}}`}, `{"$type":"app.bsky.graph.defs#listView","name":"List"}`, "app.bsky.graph.getList?" + url.Values{"list": {list}, "limit": {"1"}}.Encode()},
		"empty view":              {list, map[string]string{"app.bsky.graph.getList": `{"items":[],"list":{ }}`}, `{"$type":"app.bsky.graph.defs#listView"}`, "app.bsky.graph.getList?" + url.Values{"list": {list}, "limit": {"1"}}.Encode()},
		"a URI that is malformed": {"at://x y/app.bsky.feed.post/1", nil, missing("at://x y/app.bsky.feed.post/1"), ""},
	} {
		got, u := embedOf(t, quoteOf(c.uri), c.answers)
		if want := asJSON(t, `{"$type":"app.bsky.embed.record#view","record":`+c.want+`}`); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: embed %v, want %v", name, got, want)
		}
		if asked := strings.Join(u.asked, " "); asked != c.asked {
			t.Errorf("%s: asked %q, want %q", name, asked, c.asked)
		}
	}
	got, _ := embedOf(t, `{"$type":"app.bsky.embed.recordWithMedia","record":`+quoteOf(uri)+`,"media":{"$type":"app.bsky.embed.images","images":[]}}`, posts)
	if want := asJSON(t, `{"$type":"app.bsky.embed.recordWithMedia#view","record":{"$type":"app.bsky.embed.record#view","record":`+wanted+`},"media":{"$type":"app.bsky.embed.images#view","images":[]}}`); !reflect.DeepEqual(got, want) {
		t.Errorf("with media: embed %v, want %v", got, want)
	}
}

// A call that fails costs the embed, not the post; the reason is for the log.
func TestQuoteFails(t *testing.T) {
	for method, uri := range map[string]string{"app.bsky.feed.getPosts": bobURI("q"), "app.bsky.feed.getFeedGenerator": "at://" + bob + "/app.bsky.feed.generator/f", "app.bsky.graph.getList": "at://" + bob + "/app.bsky.graph.list/l"} {
		for _, u := range []*upstream{{fails: map[string]bool{method: true}}, {answers: map[string]string{method: `{`}}, {answers: map[string]string{method: `{"posts":5,"view":[],"list":null}`}}} {
			got, err := scene{method: getTimeline, body: `{"feed":[]}`, news: news(post("a1", 30, embed(quoteOf(uri)))), up: u}.edit(t)
			if v := in(t, got, "feed", 0, "post", "uri"); v != ownURI("a1") || in(t, got, "feed", 0, "post", "embed") != nil {
				t.Errorf("%s: the answer is %s", method, got)
			}
			if err == nil || !strings.Contains(err.Error(), method) {
				t.Errorf("%s: error: %v", method, err)
			}
		}
	}
}

func TestOwnQuotes(t *testing.T) {
	s := scene{method: getTimeline, body: `{"feed":[]}`, up: &upstream{}, news: news(
		post("a1", 30, embed(`{"$type":"app.bsky.embed.images","images":[]}`)), post("a2", 31, embed(quoteOf(ownURI("a1")))), post("a3", 32, embed(quoteOf(ownURI("a2")))), post("a4", 33, embed(quoteOf(ownURI("a4")))))}
	got := s.must(t)
	if len(s.up.asked) > 0 {
		t.Errorf("asked %q for what is here", s.up.asked)
	}
	quoted := func(item int, more ...any) any {
		return in(t, got, append([]any{"feed", item, "post", "embed", "record"}, more...)...)
	}
	want := asJSON(t, `{"$type":"app.bsky.embed.record#viewRecord","uri":"`+ownURI("a1")+`","cid":"`+cid+`","author":{"did":"`+alice+`","handle":"alice.test"},"value":`+string(s.news.Posts[0].Value)+`,"labels":[],"likeCount":0,"replyCount":0,"repostCount":0,"quoteCount":0,"indexedAt":"`+at(30)+`","embeds":[{"$type":"app.bsky.embed.images#view","images":[]}]}`)
	if v := quoted(2); !reflect.DeepEqual(v, want) {
		t.Errorf("an own new post: %v, want %v", v, want)
	}
	if v := quoted(1, "embeds", 0, "record", "uri"); v != ownURI("a1") {
		t.Errorf("a quote of a quote: %v", v)
	}
	if v := quoted(1, "embeds", 0, "record", "embeds"); v != nil {
		t.Errorf("a third level: %v", v)
	}
	if v := quoted(0, "embeds", 0, "record", "uri"); v != ownURI("a4") {
		t.Errorf("a post that quotes itself: %v", v)
	}

	// An older one of our own: the service has its counts, unless it was deleted.
	s.up = &upstream{answers: map[string]string{"app.bsky.feed.getPosts": `{"posts":[` + view(ownURI("old"), 1, "") + `]}`}}
	s.news = raw.News{Posts: []raw.Record{post("a1", 30, embed(quoteOf(ownURI("old"))))}, Profile: profileOf(5, `,"displayName":"New"`), ProfileNew: true}
	got = s.must(t)
	if quoted(0, "likeCount") != 3.0 || quoted(0, "author", "displayName") != "New" {
		t.Errorf("an older post: %v", quoted(0))
	}
	s.up, s.own, s.news.Deleted = &upstream{}, repository{}, true
	got = s.must(t)
	if quoted(0, "$type") != "app.bsky.embed.record#viewNotFound" || len(s.up.asked) > 0 {
		t.Errorf("a deleted post: %v, asked %q", quoted(0), s.up.asked)
	}
}

func TestLimitsOfQuestions(t *testing.T) {
	var posts []raw.Record
	for i := range 40 {
		posts = append(posts, post(fmt.Sprint("p", i), 10+i, embed(quoteOf(bobURI(fmt.Sprint("q", i))))))
	}
	for i := range 9 {
		posts = append(posts, post(fmt.Sprint("f", i), 60+i, embed(quoteOf(fmt.Sprint("at://", bob, "/app.bsky.feed.generator/f", i)))))
	}
	posts = append(posts, post("r", 80, replyTo(bobURI("q39"), bobURI("q39"))))
	u := &upstream{answers: map[string]string{"app.bsky.feed.getPosts": `{"posts":[]}`}}
	got := scene{method: getTimeline, body: `{"feed":[]}`, news: news(posts...), up: u}.must(t)
	if len(keys(t, got)) != len(posts) {
		t.Errorf("the feed has %d posts, want %d", len(keys(t, got)), len(posts))
	}
	var feeds []string
	for _, asked := range u.asked {
		method, query, _ := strings.Cut(asked, "?")
		values, _ := url.ParseQuery(query)
		if method == "app.bsky.feed.getFeedGenerator" {
			feeds = append(feeds, values.Get("feed")[len(values.Get("feed"))-1:])
			continue
		}
		if uris := values["uris"]; len(uris) != 25 || uris[0] != bobURI("q39") || uris[1] != bobURI("q38") {
			t.Errorf("getPosts has %q, want the newest 25", uris)
		}
	}
	slices.Sort(feeds)
	if !slices.Equal(feeds, []string{"4", "5", "6", "7", "8"}) || len(u.asked) != 6 {
		t.Errorf("feeds %q in %d calls, want the newest 5 in 6", feeds, len(u.asked))
	}
}

// slow answers nothing until the time is over.
type slow struct{}

func (slow) Get(ctx context.Context, _ string, _ url.Values) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestTimeOut: questions run at once; when the time is over the original goes out.
func TestTimeOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		start := time.Now()
		posts := news(post("a1", 5, embed(quoteOf(bobURI("q")))), post("a2", 6, embed(quoteOf("at://"+bob+"/app.bsky.graph.list/l"))))
		editor := raw.Editor{Pictures: cdn}
		answer, changed, err := editor.Edit(ctx, raw.Call{Method: getTimeline, Status: 200, Body: []byte(`{"feed":[]}`)}, raw.Caller{DID: alice, Handle: "alice.test"}, posts, repository{}, slow{})
		if changed || answer != nil || err == nil {
			t.Errorf("changed %v, answer %s, error %v", changed, answer, err)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestOldest(t *testing.T) {
	n := raw.News{Posts: []raw.Record{post("a", 7, ""), post("b", 9, "")}, Profile: profileOf(5, "")}
	if got := n.Oldest(); !got.Equal(zero.Add(7 * time.Second)) {
		t.Errorf("the oldest post: %v", got)
	}
	n.ProfileNew = true
	if got := n.Oldest(); !got.Equal(zero.Add(5 * time.Second)) {
		t.Errorf("the profile is older: %v", got)
	}
	if got := (raw.News{Deleted: true}).Oldest(); !got.IsZero() {
		t.Errorf("only deletions: %v", got)
	}
}
