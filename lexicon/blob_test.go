package lexicon_test

import (
	"fmt"
	"strings"
	"testing"

	"nestbox/dagcbor"
	"nestbox/lexicon"
)

// TestBlobRefs: each reference is found at its path, with the rules for it.
func TestBlobRefs(t *testing.T) {
	const (
		rawCID = "bafkreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq"
		old    = `{"cid":` + aCID + `,"mimeType":"image/png"}`
		text   = `{"$type":"blob","ref":` + aLink + `,"mimeType":"text/vtt","size":7}`
	)
	video := `{"$type":"app.bsky.embed.video","video":` + png + `,"captions":[{"lang":"en","file":` + text + `}]}`
	for _, c := range []struct {
		collection, properties string
		want                   []string // path type size accept maxSize, "legacy"
	}{
		{"app.bsky.feed.post", `"text":"x"`, nil},
		{"app.bsky.feed.post", `"embed":` + images, []string{".embed.images[0].image image/png 1000 [image/*] 2000000"}},
		{"app.bsky.feed.post", `"embed":` + strings.Replace(images, "images", "images#main", 1), []string{".embed.images[0].image image/png 1000 [image/*] 2000000"}},
		{"app.bsky.feed.post", `"embed":` + video, []string{
			".embed.captions[0].file text/vtt 7 [text/vtt] 20000", ".embed.video image/png 1000 [video/mp4] 100000000",
		}},
		{"app.bsky.feed.post", `"embed":{"$type":"com.example.own","image":` + png + `}`, []string{".embed.image image/png 1000 [] 0"}},
		{"app.bsky.feed.post", `"embed":` + png, []string{".embed image/png 1000 [] 0"}},
		{"app.bsky.feed.post", `"own":[[` + png + `,{"a":` + text + `}]]`, []string{".own[0][0] image/png 1000 [] 0", ".own[0][1].a text/vtt 7 [] 0"}},
		{"app.bsky.actor.profile", `"avatar":` + png + `,"banner":` + text, []string{
			".avatar image/png 1000 [image/png image/jpeg] 1000000", ".banner text/vtt 7 [image/png image/jpeg] 1000000",
		}},
		{"app.bsky.actor.profile", `"avatar":` + old, []string{".avatar image/png -1 [image/png image/jpeg] 1000000 legacy"}},
		{"com.example.unknown", `"b":` + png + `,"a":` + old, []string{".a image/png -1 [] 0 legacy", ".b image/png 1000 [] 0"}},
		{"com.example.unknown", `"cid":` + aCID + `,"mimeType":"image/png"`, nil}, // with a $type it is not a reference
		{"com.example.unknown", `"a":{"cid":"x","mimeType":"image/png"},"b":{"cid":` + aCID + `,"mimeType":""},"c":{"cid":` + aCID + `},"d":` + aLink, nil},
		{"com.example.unknown", `"a":` + strings.Replace(png, "1000", "-1", 1) + `,"b":` + strings.Replace(png, "}}", `}}`, 1)[:len(png)-1] + `,"x":1}`, []string{".a image/png -1 [] 0"}},
		{"com.example.unknown", `"a":` + strings.Replace(png, "1000", "-2", 1), nil},
	} {
		v := value(t, `{"$type":"`+c.collection+`",`+c.properties+`}`)
		var got []string
		for _, b := range lexicon.Known().BlobRefs(c.collection, v) {
			line := fmt.Sprint(b.Path, " ", b.MimeType, " ", b.Size, " ", b.Rules.Accept, " ", b.Rules.MaxSize)
			if b.Legacy {
				line += " legacy"
			} else if b.CID.String() != rawCID {
				t.Errorf("%s: %s", b.Path, b.CID)
			}
			got = append(got, line)
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s, %s: %q, want %q", c.collection, c.properties, got, c.want)
		}
	}

	deep := any(value(t, png))
	for range dagcbor.MaxDepth - 2 {
		deep = []any{deep}
	}
	if got := lexicon.Known().BlobRefs("x", map[string]any{"a": deep}); len(got) != 1 {
		t.Errorf("as deep as may be: %d references", len(got))
	}
	if got := lexicon.Known().BlobRefs("x", map[string]any{"a": []any{deep}}); len(got) != 0 {
		t.Errorf("deeper: %d references", len(got))
	}
}

// TestBlobRefsPath: the memory that the paths of many references take is bounded,
// however long the names above them are.
func TestBlobRefsPath(t *testing.T) {
	many := make([]any, 1000)
	for i := range many {
		many[i] = value(t, png)
	}
	long := map[string]any{strings.Repeat("x", 100_000): many}
	refs := lexicon.Known().BlobRefs("com.example.unknown", map[string]any{"a": long})
	if len(refs) != len(many) {
		t.Fatalf("%d references", len(refs))
	}
	for _, r := range refs {
		if r.Path != ".a…" {
			t.Fatalf("a path of %d bytes: %.20s", len(r.Path), r.Path)
		}
	}
}

func TestBlobRules(t *testing.T) {
	for _, c := range []struct {
		accept string
		mime   string
		want   bool
	}{
		{"", "text/plain", true},
		{"*/*", "text/plain", true},
		{"image/*", "image/png", true},
		{"image/*", "image", false},
		{"image/*", "imagery/png", false},
		{"image/png image/jpeg", "image/jpeg", true},
		{"image/png image/jpeg", "image/gif", false},
		{"image/png", "image/png2", false},
		{"image*", "image/png", false},
		{"*", "image/png", false},
		{"image/png", "", false},
	} {
		if got := (lexicon.BlobRules{Accept: strings.Fields(c.accept)}).Takes(c.mime); got != c.want {
			t.Errorf("%q takes %q: %t", c.accept, c.mime, got)
		}
	}
	for _, c := range []struct {
		limit, size int64
		want        bool
	}{{0, 1 << 40, true}, {5, 5, true}, {5, 6, false}} {
		if got := (lexicon.BlobRules{MaxSize: c.limit}).Fits(c.size); got != c.want {
			t.Errorf("%d fits %d: %t", c.size, c.limit, got)
		}
	}
}
