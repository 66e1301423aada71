package readafterwrite_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	raw "nestbox/proxy/readafterwrite"
)

// ordered is an object with its members in their order; elements have no names.
// Scalars are the texts that they had.
type ordered struct {
	names  []string
	values []any
	array  bool
}

func readOrdered(tb testing.TB, text []byte) any {
	tb.Helper()
	d := jsontext.NewDecoder(bytes.NewReader(text))
	v, err := readNext(d)
	if err != nil {
		tb.Fatalf("not valid JSON: %v: %s", err, text)
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		tb.Fatalf("more behind the JSON: %s", text)
	}
	return v
}

func readNext(d *jsontext.Decoder) (any, error) {
	switch d.PeekKind() {
	case '{', '[':
		open, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		o := &ordered{array: open.Kind() == '['}
		for d.PeekKind() != '}' && d.PeekKind() != ']' {
			if !o.array {
				name, err := d.ReadToken()
				if err != nil {
					return nil, err
				}
				o.names = append(o.names, name.String())
			}
			v, err := readNext(d)
			if err != nil {
				return nil, err
			}
			o.values = append(o.values, v)
		}
		_, err = d.ReadToken()
		return o, err
	default:
		v, err := d.ReadValue()
		return string(v), err
	}
}

// get returns a member.
func (o *ordered) get(name string) any {
	if i := slices.Index(o.names, name); i >= 0 {
		return o.values[i]
	}
	return nil
}

func unquoted(v any) string {
	s, _ := v.(string)
	b, err := jsontext.AppendUnquote(nil, s)
	if err != nil {
		return ""
	}
	return string(b)
}

// foreign returns what is not the caller's: without posts of the caller in lists, and
// without the profile in views of the caller.
func foreign(v any) any {
	o, ok := v.(*ordered)
	if !ok {
		return v
	}
	out := &ordered{array: o.array}
	view := unquoted(o.get("did")) == alice
	for i, v := range o.values {
		if o.array {
			if e, ok := v.(*ordered); ok {
				post, _ := e.get("post").(*ordered)
				if post != nil && strings.HasPrefix(unquoted(post.get("uri")), ownURI("")) {
					continue
				}
			}
			out.values = append(out.values, foreign(v))
			continue
		}
		if view && slices.Contains([]string{"displayName", "description", "avatar", "banner", "pronouns", "website", "pinnedPost"}, o.names[i]) {
			continue
		}
		v = foreign(v)
		if list, ok := v.(*ordered); ok && list.array && len(list.values) == 0 && o.names[i] == "replies" {
			continue // the list may have come with the first reply
		}
		out.names, out.values = append(out.names, o.names[i]), append(out.values, v)
	}
	return out
}

// FuzzEdit: whatever a service answers, what is not the caller's stays as it is and in
// its order, the result is valid JSON, and the same input makes the same result. The
// service answers further questions with the same bytes.
func FuzzEdit(f *testing.F) {
	anchor := bobURI("top")
	pinned := `{"post":` + view(ownURI("pin"), 1, "") + `,"reason":{"$type":"app.bsky.feed.defs#reasonPin"}}`
	for _, body := range []string{
		fullProfile, `{"profiles":[` + fullProfile + `,{"did":"` + bob + `"}]}`, notFound, `{}`, `{"feed":[]}`, `{"feed":[{}],"thread":{"$type":"app.bsky.feed.defs#threadViewPost"}}`,
		feedOf(pinned, feedItem(ownURI("gone"), 20), feedItem(bobURI("b1"), 15), feedItem(ownURI("old"), 10)),
		feedOf(`{"post":` + view(bobURI("b1"), 15, replyTo(anchor, anchor)) + `,"reply":{"root":` + view(ownURI("old"), 1, "") + `,"parent":{}},"reason":{"by":` + author(alice, "Alice") + `,"indexedAt":"` + at(7) + `"}}`),
		answerOf(thread(anchor, "", thread(ownURI("gone"), ""), thread(bobURI("b1"), "", thread(ownURI("old"), "")))),
		answerOf(strings.Replace(thread(anchor, ""), `,"replies":[]`, "", 1)),
		`{"posts":[` + view(bobURI("q"), 1, "") + `],"view":{},"list":{"a":1},"feed":[]}`,
	} {
		for method := range uint8(6) {
			f.Add([]byte(body), method, uint8(63))
			f.Add([]byte(body), method, uint8(7))
		}
	}
	posts := []raw.Record{
		post("a1", 12, replyTo(anchor, anchor)), post("a2", 16, replyTo(anchor, ownURI("a1"))+embed(quoteOf(bobURI("q")))),
		post("a3", 17, replyTo(anchor, bobURI("b1"))+embed(quoteOf(ownURI("a2")))), post("a4", 18, embed(quoteOf("at://"+bob+"/app.bsky.graph.list/l"))),
	}
	methods := []string{getProfile, getProfiles, getTimeline, getAuthorFeed, getActorLikes, getPostThread}
	f.Fuzz(func(t *testing.T, body []byte, method, how uint8) {
		has := func(bit uint8) bool { return how&(1<<bit) != 0 }
		n := raw.News{ProfileNew: has(0), Deleted: has(1)}
		if has(2) {
			n.Posts = posts
		}
		if has(3) || n.ProfileNew {
			n.Profile = profileOf(5, `,"displayName":"New","avatar":`+blobJSON)
		}
		query := url.Values{"actor": {alice}, "uri": {ownURI("a2")}}
		if has(4) {
			query.Set("depth", "2")
		}
		status := 200
		if !has(5) {
			status = 400
		}
		call := raw.Call{Method: methods[int(method)%len(methods)], Query: query, Status: status, Body: body}
		edit := func() ([]byte, bool, error) {
			u := &upstream{answers: map[string]string{}}
			for _, m := range []string{getPostThread, "app.bsky.feed.getPosts", "app.bsky.graph.getList"} {
				u.answers[m] = string(body)
			}
			e := raw.Editor{Pictures: cdn}
			return e.Edit(t.Context(), call, raw.Caller{DID: alice, Handle: "alice.test"}, n, repository{"old": true, "pin": true}, u)
		}
		before := bytes.Clone(body)
		answer, changed, err := edit()
		again, changedAgain, _ := edit()
		if !bytes.Equal(answer, again) || changed != changedAgain {
			t.Fatalf("not the same twice:\n%s\n%s", answer, again)
		}
		if !bytes.Equal(body, before) {
			t.Fatal("the original was modified")
		}
		if !changed {
			if answer != nil {
				t.Fatalf("unchanged, with an answer: %v", err)
			}
			return
		}
		edited := readOrdered(t, answer)
		if status == 400 {
			return // a new answer
		}
		if want, got := foreign(readOrdered(t, body)), foreign(edited); !reflect.DeepEqual(got, want) {
			t.Fatalf("something else was changed:\n%s\n%s\n%s", body, answer, fmt.Sprint(got, want))
		}
	})
}
