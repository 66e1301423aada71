package readafterwrite_test

import (
	"fmt"
	"strings"
	"testing"

	raw "nestbox/proxy/readafterwrite"
)

// timeline returns a timeline of 49 kB.
func timeline() string {
	var items []string
	for i := range 38 {
		items = append(items, feedItem(bobURI(fmt.Sprint("b", i)), 1000-i))
	}
	body := feedOf(items...)
	return strings.Replace(body, `"text":"old"`, `"text":"`+strings.Repeat("a", 49_000-len(body))+`"`, 1)
}

func BenchmarkEdit(b *testing.B) {
	profile := profileOf(1, `,"displayName":"Alice","avatar":`+blobJSON)
	for name, n := range map[string]raw.News{
		"one new post": {Posts: []raw.Record{post("a1", 2000, "")}, Profile: profile},
		"a profile":    {Profile: profile, ProfileNew: true},
	} {
		b.Run(name, func(b *testing.B) {
			call := raw.Call{Method: getTimeline, Status: 200, Body: []byte(timeline())}
			e := raw.Editor{Pictures: cdn}
			b.SetBytes(int64(len(call.Body)))
			b.ReportAllocs()
			for b.Loop() {
				_, _, err := e.Edit(b.Context(), call, raw.Caller{DID: alice, Handle: "alice.test"}, n, repository{}, &upstream{})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
