package readafterwrite_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"

	raw "nestbox/proxy/readafterwrite"
)

const (
	// mostAdded is what an answer may grow by, mostMemory what one call of Edit may
	// allocate in all, whatever the posts are; beside these both follow the answer.
	mostAdded  = 2 << 20
	mostMemory = 64 << 20
)

// within is edit, and fails the test if the call costs more than it may.
func (s scene) within(t *testing.T) string {
	t.Helper()
	query, err := url.ParseQuery(s.query)
	if err != nil {
		t.Fatal(err)
	}
	if s.status == 0 {
		s.status = http.StatusOK
	}
	if s.up == nil {
		s.up = &upstream{}
	}
	call := raw.Call{Method: s.method, Query: query, Status: s.status, Body: []byte(s.body)}
	e := raw.Editor{Pictures: cdn, PublicURL: "https://pds.example.com"}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	answer, changed, err := e.Edit(t.Context(), call, raw.Caller{DID: alice, Handle: "alice.test"}, s.news, s.own, s.up)
	runtime.ReadMemStats(&after)
	if err != nil {
		t.Errorf("error %v", err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > mostMemory {
		t.Errorf("the call allocated %d MiB", used>>20)
	}
	if len(answer) > len(s.body)+mostAdded {
		t.Errorf("of %d bytes became %d", len(s.body), len(answer))
	}
	if !changed {
		return ""
	}
	asJSON(t, string(answer))
	return string(answer)
}

// chain returns posts of alice, p0 to the newest, each with more members; each replies to
// the one before, and quotes it.
func chain(n int, more string) (posts []raw.Record) {
	for i := range n {
		members := more
		if i > 0 {
			before := ownURI(fmt.Sprint("p", i-1))
			members += replyTo(ownURI("p0"), before) + embed(quoteOf(before))
		}
		posts = append(posts, post(fmt.Sprint("p", i), 2000+i, members))
	}
	return posts
}

// around returns a post with more members, and n others of what refers to it.
func around(n int, more string, of func(uri string) string) []raw.Record {
	posts := []raw.Record{post("p", 2000, more)}
	for i := range n {
		posts = append(posts, post(fmt.Sprint("p", i), 2001+i, of(ownURI("p"))))
	}
	return posts
}

// pictured returns n posts with so many pictures each.
func pictured(n, pictures int) (posts []raw.Record) {
	list := strings.TrimSuffix(strings.Repeat(`{"image":`+blobJSON+`,"alt":""},`, pictures), ",")
	for i := range n {
		posts = append(posts, post(fmt.Sprint("p", i), 2000+i, embed(`{"$type":"app.bsky.embed.images","images":[`+list+`]}`)))
	}
	return posts
}

// selfLabels are the labels that a post gives itself.
func selfLabels(values ...string) string {
	return `,"labels":{"$type":"com.atproto.label.defs#selfLabels","values":[{"val":"` + strings.Join(values, `"},{"val":"`) + `"}]}`
}

// filler is an unknown member of so many bytes.
func filler(size int) string { return `,"filler":"` + strings.Repeat("x", size) + `"` }

const (
	unknownPost = `{"error":"NotFound","message":"Post not found"}`
	empty       = `{"feed":[]}`
)

// TestBudgetPosts: whatever an account's own posts are, an answer with them is small, and
// so is what it costs; an answer of the service is one still.
func TestBudgetPosts(t *testing.T) {
	many := make([]string, 60_000)
	for i := range many {
		many[i] = fmt.Sprint("l", i)
	}
	long := strings.Split(strings.TrimSpace(strings.Repeat(strings.Repeat("l", 200)+" ", 1000)), " ")
	quotes := around(100, filler(250_000), func(uri string) string { return embed(quoteOf(uri)) })
	replies := around(100, filler(250_000), func(uri string) string { return replyTo(uri, uri) })
	usual := profileOf(1, `,"displayName":"Alice"`)
	named := profileOf(1, `,"displayName":"`+strings.Repeat("n", 30_000)+`"`)
	for what, n := range map[string]raw.News{
		"60,000 labels each":           {Posts: chain(10, selfLabels(many...)), Profile: usual},
		"1,000 labels of 200 bytes":    {Posts: chain(100, selfLabels(long...)), Profile: usual},
		"900 kB each":                  {Posts: chain(60, filler(900_000)), Profile: usual},
		"200 kB each":                  {Posts: chain(100, filler(200_000)), Profile: usual},
		"20 kB each":                   {Posts: chain(100, filler(20_000)), Profile: usual},
		"100,000 values each":          {Posts: chain(100, `,"filler":[`+strings.Repeat("0,", 100_000)+`0]`), Profile: usual},
		"600 pictures each":            {Posts: pictured(100, 600), Profile: usual},
		"100 quotes of a large one":    {Posts: quotes, Profile: usual},
		"100 replies to a large one":   {Posts: replies, Profile: usual},
		"a name of 30 kB":              {Posts: chain(100, ""), Profile: named, ProfileNew: true},
		"an old profile with such one": {Posts: chain(100, ""), Profile: named},
	} {
		first, last := ownURI(n.Posts[0].RecordKey), ownURI(n.Posts[len(n.Posts)-1].RecordKey)
		top := `{"thread":{"$type":"app.bsky.feed.defs#threadViewPost","post":` + view(first, 1000, "") + `,"replies":[]}}`
		for _, s := range []scene{
			{method: getTimeline, body: empty},
			{method: getTimeline, body: feedOf(feedItem(bobURI("b"), 1000))},
			{method: getAuthorFeed, query: "actor=" + alice, body: empty},
			{method: getPostThread, query: "depth=1000&uri=" + first, body: top},
			{method: getPostThread, query: "depth=1000&parentHeight=1000&uri=" + last, status: 400, body: unknownPost},
			{method: getPostThread, query: "depth=1000&parentHeight=1000&uri=" + first, status: 400, body: unknownPost},
		} {
			t.Run(what+"/"+s.method+"?"+s.query, func(t *testing.T) {
				s.news = n
				s.within(t)
			})
		}
	}
}

// TestBudgetProfile: a profile that no app would write changes nothing, and one that is
// shown everywhere does not make an answer large.
func TestBudgetProfile(t *testing.T) {
	var own []string
	for i := range 1000 {
		own = append(own, feedItem(ownURI(fmt.Sprint("a", i)), 3000-i))
	}
	for what, size := range map[string]int{"too large": 900_000, "large": 30_000} {
		for _, s := range []scene{
			{method: getTimeline, body: feedOf(own...)},
			{method: getProfile, body: author(alice, "Alice")},
			{method: getProfiles, body: `{"profiles":[` + strings.TrimSuffix(strings.Repeat(author(alice, "Alice")+",", 1000), ",") + `]}`},
		} {
			s.news = raw.News{Profile: profileOf(1, `,"displayName":"`+strings.Repeat("n", size)+`"`), ProfileNew: true}
			answer := s.within(t)
			if changes := what == "large" && s.method == getProfile; (answer != "") != changes {
				t.Errorf("%s, %s: an answer of %d bytes", what, s.method, len(answer))
			}
		}
	}
	// New posts come without it.
	n := raw.News{Posts: []raw.Record{post("a", 2000, "")}, Profile: profileOf(1, `,"displayName":"`+strings.Repeat("n", 900_000)+`"`)}
	answer := scene{method: getTimeline, body: feedOf(feedItem(ownURI("b"), 1000)), news: n}.within(t)
	wantKeys(t, answer, "a", "b")
	if name := in(t, answer, "feed", 0, "post", "author", "displayName"); name != nil {
		t.Errorf("the name is %.30q", name)
	}
}

// TestBudgetNewest: of posts that are too many for an answer the newest come, without a
// gap; one that is too large for any is none.
func TestBudgetNewest(t *testing.T) {
	var posts []raw.Record
	for i := range 30 {
		posts = append(posts, post(fmt.Sprintf("p%02d", i), 2000+i, filler(100_000)))
	}
	posts = append(posts, post("large", 3000, filler(256<<10)))
	answer := scene{method: getTimeline, body: feedOf(feedItem(bobURI("b"), 1000)), news: raw.News{Posts: posts}}.within(t)
	got := keys(t, answer)
	if len(got) != 21 || got[0] != "p29" || got[19] != "p10" || got[20] != "b" {
		t.Errorf("the feed has %q", got)
	}
	// 100 posts as large as an app writes them are all there.
	usual := chain(100, `,"langs":["en"],"more":"`+strings.Repeat("x", 600)+`"`)
	answer = scene{method: getTimeline, body: empty, news: raw.News{Posts: usual}}.within(t)
	if items, _ := in(t, answer, "feed").([]any); len(items) != 100 {
		t.Errorf("of usual posts the feed has %d", len(items))
	}
	labelled := post("a", 2000, selfLabels("0", "1", strings.Repeat("l", 129), "2", "3", "4", "5", "6", "7", "8", "9", "10"))
	answer = scene{method: getTimeline, body: empty, news: raw.News{Posts: []raw.Record{labelled}}}.within(t)
	labels, _ := in(t, answer, "feed", 0, "post", "labels").([]any)
	if val := in(t, answer, "feed", 0, "post", "labels", 9, "val"); len(labels) != 10 || val != "9" {
		t.Errorf("%d labels, the last %v", len(labels), val)
	}
}

// TestBudgetSide: an answer to a further question that is too large is none: what it was
// for is missing, and the log gets to know.
func TestBudgetSide(t *testing.T) {
	quoted := bobURI("q")
	posts := `{"posts":[` + view(quoted, 500, filler(512<<10)) + `]}`
	s := scene{
		method: getTimeline, body: empty, news: raw.News{Posts: []raw.Record{post("a", 2000, embed(quoteOf(quoted)))}},
		up: &upstream{answers: map[string]string{"app.bsky.feed.getPosts": posts}},
	}
	answer, err := s.edit(t)
	if err == nil || !strings.Contains(err.Error(), "getPosts") || in(t, answer, "feed", 0, "post", "embed") != nil {
		t.Errorf("%v, %.300s", err, answer)
	}
	s.up = &upstream{answers: map[string]string{"app.bsky.feed.getPosts": `{"posts":[` + view(quoted, 500, filler(500<<10)) + `]}`}}
	if answer := s.within(t); in(t, answer, "feed", 0, "post", "embed") == nil {
		t.Errorf("a large one is not quoted: %.300s", answer)
	}
}

// TestBudgetAnswer: a view in the answer that is large is not shown again and again: the
// service is asked for it. An answer with more than 262,144 values is not changed.
func TestBudgetAnswer(t *testing.T) {
	quoted := bobURI("q")
	item := `{"post":` + view(quoted, 500, filler(300_000)) + `}`
	s := scene{
		method: getTimeline, body: feedOf(item),
		news: raw.News{Posts: around(50, "", func(string) string { return embed(quoteOf(quoted)) })},
		up:   &upstream{answers: map[string]string{"app.bsky.feed.getPosts": `{"posts":[` + view(quoted, 500, "") + `]}`}},
	}
	answer := s.within(t)
	if added := len(answer) - len(s.body); added > 150_000 || len(s.up.asked) != 1 {
		t.Errorf("%d bytes more, asked %q", added, s.up.asked)
	}
	if text := in(t, answer, "feed", 0, "post", "embed", "record", "value", "text"); text != "old" {
		t.Errorf("the quote is %v", text)
	}
	for values, changes := range map[int]bool{262_000: true, 262_200: false} {
		body := `{"feed":[],"x":[` + strings.Repeat("0,", values-1) + `0]}`
		answer := scene{method: getTimeline, body: body, news: raw.News{Posts: []raw.Record{post("a", 2000, "")}}}.within(t)
		if (answer != "") != changes {
			t.Errorf("%d values: an answer of %d bytes", values, len(answer))
		}
	}
}

// lapsed is a context that ends when it was looked at so often.
type lapsed struct {
	context.Context //nolint:containedctx // it is one

	looks int
}

func (l *lapsed) Err() error {
	if l.looks--; l.looks < 0 {
		return context.DeadlineExceeded
	}
	return nil
}

// TestBudgetTime: the work ends between two posts when its time is over.
func TestBudgetTime(t *testing.T) {
	first, last := ownURI("p0"), ownURI("p49")
	top := `{"thread":{"$type":"app.bsky.feed.defs#threadViewPost","post":` + view(first, 1000, "") + `,"replies":[]}}`
	for _, c := range []raw.Call{
		{Method: getTimeline, Status: 200, Body: []byte(empty)},
		{Method: getPostThread, Status: 200, Query: url.Values{"depth": {"100"}, "uri": {first}}, Body: []byte(top)},
		{Method: getPostThread, Status: 400, Query: url.Values{"depth": {"100"}, "uri": {first}}, Body: []byte(unknownPost)},
		{Method: getPostThread, Status: 400, Query: url.Values{"parentHeight": {"100"}, "uri": {last}}, Body: []byte(unknownPost)},
	} {
		ctx := &lapsed{t.Context(), 20}
		_, changed, err := (&raw.Editor{}).Edit(ctx, c, raw.Caller{DID: alice}, raw.News{Posts: chain(50, "")}, repository{}, &upstream{})
		if changed || !errors.Is(err, context.DeadlineExceeded) || ctx.looks != -1 {
			t.Errorf("%s?%s: %v, looked at %d times more", c.Method, c.Query.Encode(), err, -1-ctx.looks)
		}
	}
}
