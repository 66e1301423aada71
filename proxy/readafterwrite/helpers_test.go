package readafterwrite_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json/jsontext"

	raw "nestbox/proxy/readafterwrite"
)

const (
	alice = "did:plc:alicealicealicealicealic"
	bob   = "did:plc:bobbobbobbobbobbobbobbob"
	blob  = "bafkreibvjvcv745gig4mvqs4hctx4zfkono4rjejm2ta6gtyzkqxfjeily"
	cid   = "bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"
	cdn   = "https://cdn.example.com/img/%s/plain/%s/%s@jpeg"
)

// zero is the time to which the seconds of the tests are added.
var zero = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// at returns the time of a second as views show it.
func at(second int) string {
	return zero.Add(time.Duration(second) * time.Second).Format("2006-01-02T15:04:05.000Z")
}

func ownURI(rkey string) string { return "at://" + alice + "/app.bsky.feed.post/" + rkey }
func bobURI(rkey string) string { return "at://" + bob + "/app.bsky.feed.post/" + rkey }

// record returns a record of alice that was written at a second.
func record(collection, rkey string, second int, value string) raw.Record {
	return raw.Record{Collection: collection, RecordKey: rkey, CID: cid, Rev: syntax.NewTIDFromTime(zero.Add(time.Duration(second)*time.Second), 0), Value: jsontext.Value(value)}
}

// post returns a post of alice with more members.
func post(rkey string, second int, more string) raw.Record {
	return record("app.bsky.feed.post", rkey, second, `{"text":"text of `+rkey+`","$type":"app.bsky.feed.post"`+more+`,"createdAt":"`+at(second)+`"}`)
}

func replyTo(root, parent string) string {
	return fmt.Sprintf(`,"reply":{"root":{"uri":%q,"cid":%q},"parent":{"uri":%q,"cid":%q}}`, root, cid, parent, cid)
}

func embed(value string) string { return `,"embed":` + value }

func quoteOf(uri string) string {
	return fmt.Sprintf(`{"$type":"app.bsky.embed.record","record":{"uri":%q,"cid":%q}}`, uri, cid)
}

func profileOf(second int, members string) *raw.Record {
	r := record("app.bsky.actor.profile", "self", second, `{"$type":"app.bsky.actor.profile"`+members+`}`)
	return &r
}

const blobJSON = `{"$type":"blob","ref":{"$link":"` + blob + `"},"mimeType":"image/png","size":70}`

// author is a profile view as the AppView shows it with a post.
func author(did, name string) string {
	return fmt.Sprintf(`{"did":%q,"handle":"%s.test","displayName":%q,"avatar":"https://cdn.example.com/img/avatar/plain/%s/old","associated":{"chat":{"allowIncoming":"following"}},"viewer":{"muted":false,"blockedBy":false},"labels":[],"createdAt":"2024-01-01T00:00:00.000Z"}`, did, strings.ToLower(name), name, did)
}

// view is a view of a post as the AppView shows it.
func view(uri string, second int, more string) string {
	did, name := alice, "Alice"
	if strings.HasPrefix(uri, "at://"+bob) {
		did, name = bob, "Bob"
	}
	return fmt.Sprintf(`{"uri":%q,"cid":%q,"author":%s,"record":{"$type":"app.bsky.feed.post","createdAt":%q,"langs":["en"],"text":"old"%s},"bookmarkCount":0,"replyCount":1,"repostCount":2,"likeCount":3,"quoteCount":4,"indexedAt":%q,"viewer":{"bookmarked":false,"threadMuted":false,"embeddingDisabled":false},"labels":[]}`,
		uri, cid, author(did, name), at(second), more, at(second))
}

func feedItem(uri string, second int) string { return `{"post":` + view(uri, second, "") + `}` }

func feedOf(items ...string) string {
	return `{"feed":[` + strings.Join(items, ",") + `],"cursor":"2026-05-01T11:00:00.000Z"}`
}

// repository has records of alice, by key of a post.
type repository map[string]bool

func (r repository) Record(_ context.Context, collection, rkey string) (raw.Record, bool, error) {
	if rkey == "broken" {
		return raw.Record{}, false, fmt.Errorf("the disk is on fire")
	}
	return raw.Record{}, collection == "app.bsky.feed.post" && r[rkey], nil
}

// upstream answers by method, and keeps what it was asked.
type upstream struct {
	answers map[string]string // no entry: ErrMissing
	fails   map[string]bool
	mu      sync.Mutex
	asked   []string
}

func (u *upstream) Get(ctx context.Context, method string, query url.Values) ([]byte, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked = append(u.asked, method+"?"+query.Encode())
	if u.fails[method] {
		return nil, fmt.Errorf("status 502")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if a, ok := u.answers[method]; ok {
		return []byte(a), nil
	}
	return nil, raw.ErrMissing
}

// scene is one call of Edit; what is left out has a usual value.
type scene struct {
	method string
	query  string
	status int
	body   string
	news   raw.News
	own    repository
	up     *upstream
	handle string
	editor raw.Editor
}

// edit returns the answer, or an empty text if the original must go out.
func (s scene) edit(tb testing.TB) (string, error) {
	tb.Helper()
	query, err := url.ParseQuery(s.query)
	if err != nil {
		tb.Fatal(err)
	}
	if s.status == 0 {
		s.status = http.StatusOK
	}
	if s.up == nil {
		s.up = &upstream{}
	}
	if s.handle == "" {
		s.handle = "alice.test"
	}
	if s.editor == (raw.Editor{}) {
		s.editor = raw.Editor{Pictures: cdn, PublicURL: "https://pds.example.com"}
	}
	body := []byte(s.body)
	answer, changed, err := s.editor.Edit(tb.Context(), raw.Call{Method: s.method, Query: query, Status: s.status, Body: body}, raw.Caller{DID: alice, Handle: s.handle}, s.news, s.own, s.up)
	if string(body) != s.body {
		tb.Fatal("the original was modified")
	}
	if changed != (answer != nil) {
		tb.Fatalf("changed is %v, the answer %q", changed, answer)
	}
	if changed && !jsontext.Value(answer).IsValid() {
		tb.Fatalf("not valid JSON: %s", answer)
	}
	return string(answer), err
}

// must is edit without an error.
func (s scene) must(tb testing.TB) string {
	tb.Helper()
	answer, err := s.edit(tb)
	if err != nil {
		tb.Fatal(err)
	}
	return answer
}

// in returns the value at a path of names and indexes, nil if there is none.
func in(tb testing.TB, text string, path ...any) any {
	tb.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		tb.Fatalf("%v: %q", err, text)
	}
	for _, p := range path {
		switch p := p.(type) {
		case string:
			object, _ := v.(map[string]any)
			v = object[p]
		case int:
			list, _ := v.([]any)
			if p >= len(list) {
				return nil
			}
			v = list[p]
		}
	}
	return v
}

// asJSON returns the value of a JSON text.
func asJSON(tb testing.TB, text string) any { tb.Helper(); return in(tb, text) }

// keys returns the record keys of a feed's posts, in order.
func keys(tb testing.TB, text string) (found []string) {
	tb.Helper()
	items, _ := in(tb, text, "feed").([]any)
	for i := range items {
		uri, _ := in(tb, text, "feed", i, "post", "uri").(string)
		found = append(found, uri[strings.LastIndexByte(uri, '/')+1:])
	}
	return found
}

func wantKeys(tb testing.TB, text string, want ...string) {
	tb.Helper()
	if got := keys(tb, text); !slices.Equal(got, want) {
		tb.Errorf("the feed has %q, want %q", got, want)
	}
}
