package lexicon_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atdata"
	foreign "github.com/bluesky-social/indigo/atproto/lexicon"

	"nestbox/dagcbor"
	"nestbox/lexicon"
)

// TestAgainstIndigo changes good records at random and asks another
// implementation. It differs where it looks into what an open union does not name, so
// no change puts such a thing there; and it accepts most words as a CID.
func TestAgainstIndigo(t *testing.T) {
	cat := foreign.NewBaseCatalog()
	for _, folder := range []string{"com/atproto", "app/bsky", "chat/bsky"} {
		if err := cat.LoadDirectory(indigo(t, "lexicons/"+folder)); err != nil {
			t.Fatal(err)
		}
	}
	const rounds = 6_000
	rng := rand.New(rand.NewPCG(3, 2))
	collections := slices.Sorted(maps.Keys(good()))
	compared, refused := 0, 0
	for range rounds {
		collection := collections[rng.IntN(len(collections))]
		v := record(t, collection)
		mutate(t, rng, v)
		text, err := dagcbor.ToJSON(v)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := atdata.UnmarshalJSON(text)
		if err != nil {
			continue // a malformed blob, say
		}
		want := foreign.ValidateRecord(cat, theirs, collection, 0)
		_, err = lexicon.Known().ValidateRecord(collection, v)
		if err != nil && strings.HasPrefix(err.Error(), "Invalid CID string ") {
			continue
		}
		if (err == nil) != (want == nil) {
			t.Errorf("%s: %v, but indigo says %v\n%s", collection, err, want, text)
		}
		compared++
		if want != nil {
			refused++
		}
	}
	t.Logf("%d compared, %d refused by both", compared, refused)
	if compared < rounds*3/4 || refused < compared/4 || refused > compared*4/5 {
		t.Errorf("%d compared, %d refused: the changes say little", compared, refused)
	}
}

// mutate replaces, removes, repeats or adds something somewhere in v.
func mutate(t *testing.T, rng *rand.Rand, v map[string]any) {
	t.Helper()
	values := []string{
		`null`, `true`, `0`, `-1`, `1`, `5000000`, `""`, `"x"`, `"en"`, `"a.b.c"`, `"did:web:x.com"`, `"alice.example.com"`, `"at://alice.example.com"`, aDID, aPost, aCID,
		`"https://x"`, `"image/gif"`, `"image/png"`, `"2026-01-01T00:00:00Z"`, `"2026-01-01T00:00:00"`, `"2026-02-30T00:00:00Z"`, `"3jzfcijpj2z2a"`,
		quoted("x", 64), quoted("x", 65), quoted("ä", 301), quoted("👩‍👩‍👦‍👦", 25), quoted("y", 3001),
		`[]`, `{}`, `["en","de","fr","it"]`, strong, `{"$type":"com.example.own"}`, `{"$bytes":"YQ"}`, aLink,
	}
	to, err := dagcbor.FromJSON([]byte(values[rng.IntN(len(values))]))
	if err != nil {
		t.Fatal(err)
	}
	var spots []func()
	var walk func(v any, put func(any), inBlob bool)
	walk = func(v any, put func(any), inBlob bool) {
		switch v := v.(type) {
		case map[string]any:
			inBlob = inBlob || v["$type"] == "blob"
			for _, name := range slices.Sorted(maps.Keys(v)) {
				spots = append(spots, func() { v[name] = to })
				if !inBlob || name == "$type" {
					spots = append(spots, func() { delete(v, name) })
				}
				walk(v[name], func(x any) { v[name] = x }, inBlob)
			}
			if !inBlob {
				spots = append(spots, func() { v["own"] = to })
			}
		case []any:
			for i := range v {
				spots = append(spots, func() { v[i] = to })
				walk(v[i], func(x any) { v[i] = x }, inBlob)
			}
			spots = append(spots, func() { put(append(slices.Clone(v), to)) }, func() { put(slices.Repeat(v, 2+rng.IntN(5))) })
		}
	}
	walk(v, func(any) {}, false)
	spots[rng.IntN(len(spots))]()
}

// FuzzValidate: foreign bytes never cause a panic; a record that comes back from its
// encoding gets the same answer again.
func FuzzValidate(f *testing.F) {
	collections := slices.Sorted(maps.Keys(good()))
	add := func(collection string, v map[string]any) {
		raw, err := dagcbor.Encode(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(slices.Index(collections, collection)), raw)
	}
	for _, collection := range collections {
		add(collection, record(f, collection))
	}
	for _, c := range changes() {
		v := record(f, c.collection)
		set(f, v, c.path, c.to)
		add(c.collection, v)
	}
	f.Fuzz(func(t *testing.T, n byte, raw []byte) {
		collection := collections[int(n)%len(collections)]
		decoded, err := dagcbor.Decode(raw)
		v, ok := decoded.(map[string]any)
		if err != nil || !ok {
			return
		}
		known, err := lexicon.Known().ValidateRecord(collection, v)
		if !known {
			t.Fatalf("%s is not known", collection)
		}
		if err != nil && len(err.Error()) > 4096 {
			t.Fatalf("%d bytes of error", len(err.Error()))
		}
		blobs := lexicon.Known().BlobRefs(collection, v)
		if err == nil {
			for _, b := range blobs {
				if !b.Rules.Takes(b.MimeType) || !b.Rules.Fits(b.Size) {
					t.Fatalf("%s is valid, but %s is against its rules", collection, b.Path)
				}
			}
		}
		again, encodeErr := dagcbor.Encode(v)
		if encodeErr != nil {
			t.Fatal(encodeErr)
		}
		back, decodeErr := dagcbor.Decode(again)
		if decodeErr != nil {
			t.Fatal(decodeErr)
		}
		if _, e := lexicon.Known().ValidateRecord(collection, back.(map[string]any)); fmt.Sprint(e) != fmt.Sprint(err) {
			t.Fatalf("first %v, then %v", err, e)
		}
		if b := lexicon.Known().BlobRefs(collection, back.(map[string]any)); !reflect.DeepEqual(b, blobs) {
			t.Fatalf("first %v, then %v", blobs, b)
		}
	})
}

func BenchmarkPost(b *testing.B) {
	const post = "app.bsky.feed.post"
	plain := value(b, `{"$type":"app.bsky.feed.post","text":"A post of usual length, with a link to https://example.com and a mention.",`+aTime+`,"langs":["en"],
		"facets":[{"index":{"byteStart":41,"byteEnd":60},"features":[{"$type":"app.bsky.richtext.facet#link","uri":"https://example.com"}]}]}`)
	long := record(b, post)
	long["text"] = strings.Repeat("Grüße 👩‍👩‍👦‍👦 ", 37)
	for name, v := range map[string]map[string]any{"usual": plain, "full": record(b, post), "long": long} {
		b.Run("ValidateRecord/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := lexicon.Known().ValidateRecord(post, v); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("BlobRefs/"+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				lexicon.Known().BlobRefs(post, v)
			}
		})
	}
}
