package lexicon_test

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"nestbox/dagcbor"
	"nestbox/lexicon"
)

const (
	aCID   = `"bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq"`
	aLink  = `{"$link":"bafkreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq"}`
	aTime  = `"createdAt":"2026-11-24T20:00:00.000Z"`
	strong = `{"uri":"at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3jzfcijpj2z2a","cid":` + aCID + `}`
	aDID   = `"did:plc:ewvi7nxzyoun6zhxrhs64oiz"`
	aList  = `"at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.graph.list/3jzfcijpj2z2a"`
	aPost  = `"at://did:plc:ewvi7nxzyoun6zhxrhs64oiz/app.bsky.feed.post/3jzfcijpj2z2a"`
	labels = `{"$type":"com.atproto.label.defs#selfLabels","values":[{"val":"nudity"}]}`
	facets = `[{"index":{"byteStart":0,"byteEnd":3},"features":[{"$type":"app.bsky.richtext.facet#link","uri":"https://example.com"},` +
		`{"$type":"app.bsky.richtext.facet#mention","did":` + aDID + `},{"$type":"app.bsky.richtext.facet#tag","tag":"x"}]}]`
	png    = `{"$type":"blob","ref":` + aLink + `,"mimeType":"image/png","size":1000}`
	images = `{"$type":"app.bsky.embed.images","images":[{"image":` + png + `,"alt":"","aspectRatio":{"width":4,"height":3}}]}`
)

// good returns a full record of each collection that the catalogue knows.
func good() map[string]string {
	return map[string]string{
		"app.bsky.actor.contentVisibilityDeclaration": `"hideFromAlgorithmicRecommendations":true`,
		"app.bsky.actor.profile": `"displayName":"Alice 👩‍👩‍👦‍👦","description":"d","pronouns":"she","website":"https://example.com","avatar":` + png +
			`,"banner":` + strings.Replace(png, "png", "jpeg", 1) + `,"labels":` + labels + `,"joinedViaStarterPack":` + strong + `,"pinnedPost":` + strong + `,` + aTime,
		"app.bsky.actor.status": `"status":"app.bsky.actor.status#live","durationMinutes":1,` + aTime +
			`,"embed":{"$type":"app.bsky.embed.external","external":{"uri":"https://example.com","title":"t","description":"","thumb":` + png + `}}`,
		"app.bsky.feed.generator": `"did":"did:web:feed.example.com","displayName":"Feed","description":"d","descriptionFacets":` + facets +
			`,"avatar":` + png + `,"acceptsInteractions":false,"labels":` + labels + `,"contentMode":"x",` + aTime,
		"app.bsky.feed.like": `"subject":` + strong + `,"via":` + strong + `,` + aTime,
		"app.bsky.feed.post": `"text":"A post.","entities":[{"index":{"start":0,"end":1},"type":"link","value":"v"}],"facets":` + facets +
			`,"reply":{"root":` + strong + `,"parent":` + strong + `},"langs":["en","pt-BR"],"labels":` + labels + `,"tags":["a","b"],` + aTime +
			`,"embed":{"$type":"app.bsky.embed.recordWithMedia","record":{"record":` + strong + `},"media":` + images + `}`,
		"app.bsky.feed.postgate": `"post":` + aPost + `,"detachedEmbeddingUris":[` + aPost + `],"embeddingRules":[{"$type":"app.bsky.feed.postgate#disableRule"}],` + aTime,
		"app.bsky.feed.repost":   `"subject":` + strong + `,"via":` + strong + `,` + aTime,
		"app.bsky.feed.threadgate": `"post":` + aPost + `,"allow":[{"$type":"app.bsky.feed.threadgate#mentionRule"},{"$type":"app.bsky.feed.threadgate#listRule","list":` + aList + `}],` +
			`"hiddenReplies":[` + aPost + `],` + aTime,
		"app.bsky.graph.block":  `"subject":` + aDID + `,` + aTime,
		"app.bsky.graph.follow": `"subject":` + aDID + `,"via":` + strong + `,` + aTime,
		"app.bsky.graph.list": `"purpose":"app.bsky.graph.defs#curatelist","name":"List","description":"d","descriptionFacets":` + facets +
			`,"avatar":` + png + `,"labels":` + labels + `,` + aTime,
		"app.bsky.graph.listblock": `"subject":` + aList + `,` + aTime,
		"app.bsky.graph.listitem":  `"subject":` + aDID + `,"list":` + aList + `,` + aTime,
		"app.bsky.graph.starterpack": `"name":"Pack","description":"d","descriptionFacets":` + facets + `,"list":` + aList +
			`,"feeds":[{"uri":` + aPost + `}],` + aTime,
		"app.bsky.graph.verification": `"subject":` + aDID + `,"handle":"alice.example.com","displayName":"Alice",` + aTime,
		"app.bsky.labeler.service": `"policies":{"labelValues":["x"],"labelValueDefinitions":[{"identifier":"x","severity":"alert","blurs":"none","defaultSetting":"warn","adultOnly":false,` +
			`"locales":[{"lang":"en","name":"X","description":"x"}]}]},"labels":` + labels + `,"reasonTypes":["x"],"subjectTypes":["account"],"subjectCollections":["app.bsky.feed.post"],` + aTime,
		"app.bsky.notification.declaration": `"allowSubscriptions":"followers"`,
		"chat.bsky.actor.declaration":       `"allowIncoming":"all","allowGroupInvites":"none"`,
		"com.atproto.lexicon.schema":        `"lexicon":1`,
	}
}

// record returns the good record of a collection.
func record(tb testing.TB, collection string) map[string]any {
	tb.Helper()
	return value(tb, `{"$type":"`+collection+`",`+good()[collection]+`}`)
}

// set changes v at a path with dots, to a value in JSON, or to nothing.
func set(tb testing.TB, v map[string]any, path, text string) {
	tb.Helper()
	parts := strings.Split(path, ".")
	var at any = v
	for _, p := range parts[:len(parts)-1] {
		if list, ok := at.([]any); ok {
			i, _ := strconv.Atoi(p)
			at = list[i]
		} else {
			at = at.(map[string]any)[p]
		}
	}
	last := parts[len(parts)-1]
	if text == "" {
		delete(at.(map[string]any), last)
		return
	}
	to, err := dagcbor.FromJSON([]byte(text))
	if err != nil {
		tb.Fatal(err)
	}
	if list, ok := at.([]any); ok {
		i, _ := strconv.Atoi(last)
		list[i] = to
	} else {
		at.(map[string]any)[last] = to
	}
}

// TestGood: a full record of every collection passes, with what no schema names.
func TestGood(t *testing.T) {
	for _, collection := range slices.Sorted(maps.Keys(good())) {
		v := record(t, collection)
		v["notInTheSchema"] = []any{nil, int64(1), map[string]any{"$type": "com.example.own"}}
		if known, err := lexicon.Known().ValidateRecord(collection, v); !known || err != nil {
			t.Errorf("%s: %t, %v", collection, known, err)
		}
	}
}

// TestRequired: a record is invalid without any of its required properties, and only
// then; and no property may be null.
func TestRequired(t *testing.T) {
	required := map[string]string{
		"app.bsky.feed.post": "text createdAt", "app.bsky.actor.profile": "", "app.bsky.feed.like": "subject createdAt",
		"app.bsky.graph.list": "name purpose createdAt", "app.bsky.graph.verification": "subject handle displayName createdAt",
		"chat.bsky.actor.declaration": "allowIncoming", "app.bsky.feed.threadgate": "post createdAt",
	}
	for collection, names := range required {
		for name := range record(t, collection) {
			if name == "$type" {
				continue
			}
			v := record(t, collection)
			delete(v, name)
			_, err := lexicon.Known().ValidateRecord(collection, v)
			if want := `Missing required key "` + name + `" at $.record`; slices.Contains(strings.Fields(names), name) {
				if err == nil || err.Error() != want {
					t.Errorf("%s without %s: %v, want %s", collection, name, err, want)
				}
			} else if err != nil {
				t.Errorf("%s without %s: %v", collection, name, err)
			}
			v[name] = nil
			if _, err := lexicon.Known().ValidateRecord(collection, v); err == nil || !strings.HasSuffix(err.Error(), " (got null) at $.record."+name) {
				t.Errorf("%s with %s null: %v", collection, name, err)
			}
		}
	}
}

type change struct{ collection, path, to, want string } // want: "" passes

func quoted(s string, n int) string { return strconv.Quote(strings.Repeat(s, n)) }

func changes() []change {
	const post, profile, list = "app.bsky.feed.post", "app.bsky.actor.profile", "app.bsky.graph.list"
	const family = "👩‍👩‍👦‍👦" // one grapheme of 25 bytes
	none := func(collection string, wants ...change) []change {
		for i := range wants {
			wants[i].collection = collection
		}
		return wants
	}
	return slices.Concat(none(post,
		change{path: "$type", want: `Expected "app.bsky.feed.post" (got null) at $.record.$type`},
		change{path: "$type", to: `"app.bsky.feed.like"`, want: `Expected "app.bsky.feed.post" (got "app.bsky.feed.like") at $.record.$type`},
		change{path: "$type", to: `"app.bsky.feed.post#main"`, want: `Expected "app.bsky.feed.post" (got "app.bsky.feed.post#main") at $.record.$type`},
		change{path: "text", to: `""`},
		change{path: "text", to: `1`, want: "Expected string value type (got 1) at $.record.text"},
		change{path: "text", to: `{}`, want: "Expected string value type (got {}) at $.record.text"},
		change{path: "text", to: quoted("x", 300)},
		change{path: "text", to: quoted("x", 301), want: "grapheme too big (maximum 300, got 301) at $.record.text"},
		change{path: "text", to: quoted(family, 120)},
		change{path: "text", to: quoted(family, 121), want: "string too big (maximum 3000, got 3025) at $.record.text"},
		change{path: "text", to: quoted("ä", 300)},
		change{path: "text", to: quoted("ä", 301), want: "grapheme too big (maximum 300, got 301) at $.record.text"},
		change{path: "text", to: quoted("\r\n", 300)},
		change{path: "text", to: quoted("\r\n", 301), want: "grapheme too big (maximum 300, got 301) at $.record.text"},
		change{path: "createdAt", to: `"2026-11-24"`, want: `Invalid datetime (got "2026-11-24") at $.record.createdAt`},
		change{path: "createdAt", to: `"2026-11-24T20:00:00"`, want: `Invalid datetime (got "2026-11-24T20:00:00") at $.record.createdAt`},
		change{path: "createdAt", to: `"2026-13-24T20:00:00Z"`, want: `Invalid datetime (got "2026-13-24T20:00:00Z") at $.record.createdAt`},
		change{path: "createdAt", to: `"2026-11-24T20:00:00+01:00"`},
		change{path: "langs", to: `"en"`, want: `Expected array value type (got "en") at $.record.langs`},
		change{path: "langs", to: `{"0":"en"}`, want: `Expected array value type (got {"0": ...}) at $.record.langs`},
		change{path: "langs", to: `[]`},
		change{path: "langs", to: `["en","de","fr"]`},
		change{path: "langs", to: `["en","de","fr","it"]`, want: "array too big (maximum 3, got 4) at $.record.langs"},
		change{path: "langs.1", to: `"not a language"`, want: `Invalid language (got "not a language") at $.record.langs[1]`},
		change{path: "langs.0", to: `null`, want: "Expected string value type (got null) at $.record.langs[0]"},
		change{path: "reply", to: `[]`, want: "Expected object value type (got []) at $.record.reply"},
		change{path: "reply.parent", want: `Missing required key "parent" at $.record.reply`},
		change{path: "reply.root.cid", to: `"abcdefghijkl"`, want: `Invalid CID string (got "abcdefghijkl") at $.record.reply.root.cid`},
		change{path: "reply.root.cid", to: aLink, want: `Expected "bafkreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq" (got cid) at $.record.reply.root.cid`},
		change{path: "reply.root.cid", to: `"QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n"`},
		change{path: "reply.root.cid", to: `"BAFYREICLP443LAVOGVHJ3D2OB2CXBFUSCNI2K5JK7BEBJZG7KHL3ESABWQ"`, want: `Invalid CID string (got "BAFYREICLP443LAVOGVHJ3D2OB2CXBFUSCNI2K5JK7BEBJZG7KHL3ESABWQ") at $.record.reply.root.cid`},
		change{path: "reply.root.uri", to: `"https://example.com"`, want: `Invalid at-uri (got "https://example.com") at $.record.reply.root.uri`},
		change{path: "entities.0.index.start", to: `-1`, want: "integer too small (minimum 0, got -1) at $.record.entities[0].index.start"},
		change{path: "entities.0.index.start", to: `"0"`, want: `Expected integer value type (got "0") at $.record.entities[0].index.start`},
		change{path: "facets.0.features.0.uri", to: `"no uri"`, want: `Invalid uri (got "no uri") at $.record.facets[0].features[0].uri`},
		change{path: "facets.0.features.1.did", to: `"alice.example.com"`, want: `Invalid DID (got "alice.example.com") at $.record.facets[0].features[1].did`},
		change{path: "facets.0.features.2.tag", to: quoted("x", 65), want: "grapheme too big (maximum 64, got 65) at $.record.facets[0].features[2].tag"},
		change{path: "facets.0.features.0", to: `{"uri":"https://example.com"}`, want: `Expected an object which includes the "$type" property value type (got {"uri": ...}) at $.record.facets[0].features[0]`},
		change{path: "facets.0.features.0", to: `{"$type":"com.example.own"}`},
		change{path: "facets.0.features.0", to: `"link"`, want: `Expected an object which includes the "$type" property value type (got "link") at $.record.facets[0].features[0]`},
		change{path: "embed", to: `{"$type":"app.bsky.feed.like"}`}, // known, but not of this union
		change{path: "reply.root.$type", to: `"com.atproto.repo.strongRef"`},
		change{path: "reply.root.$type", to: `"com.example.own"`, want: `Expected "com.atproto.repo.strongRef" (got "com.example.own") at $.record.reply.root.$type`},
		change{path: "langs.0", to: `"\u0001 \"\\\n\u2028<"`, want: `Invalid language (got "\u0001 \"\\\n` + "\u2028" + `<") at $.record.langs[0]`},
		change{path: "langs.0", to: quoted("x", 255), want: "Invalid language (got " + quoted("x", 255) + ") at $.record.langs[0]"},
		change{path: "langs.0", to: quoted("x", 256), want: `Invalid language (got "` + strings.Repeat("x", 255) + `…") at $.record.langs[0]`},
		change{path: "langs.0", to: quoted("😀", 128), want: `Invalid language (got "` + strings.Repeat("😀", 127) + `\ud83d…") at $.record.langs[0]`}, // JavaScript cuts it in half
		change{path: "text", to: `[true,[1,2,3],null]`, want: "Expected string value type (got [true, [1, 2, ...], ...]) at $.record.text"},
		change{path: "text", to: `{"$bytes":"YQ"}`, want: "Expected string value type (got object) at $.record.text"},
		change{path: "embed", to: `{"$type":"app.bsky.embed.record"}`, want: `Missing required key "record" at $.record.embed`},
		change{path: "embed", to: `{"$type":"app.bsky.embed.record#main"}`, want: `Missing required key "record" at $.record.embed`},
		change{path: "embed", to: `{"$type":"app.bsky.embed.images#main","images":[]}`},
		change{path: "embed.media.images.0.alt", to: `null`, want: "Expected string value type (got null) at $.record.embed.media.images[0].alt"},
		change{path: "embed.media.images.0.aspectRatio.width", to: `0`, want: "integer too small (minimum 1, got 0) at $.record.embed.media.images[0].aspectRatio.width"},
		change{path: "embed.media.images.0.image", to: `{"cid":` + aCID + `,"mimeType":"image/png"}`, want: `Expected blob value type (got {"cid": ..., "mimeType": ...}) at $.record.embed.media.images[0].image`},
		change{path: "labels.values.0.val", to: quoted("x", 129), want: "string too big (maximum 128, got 129) at $.record.labels.values[0].val"},
	), none(profile,
		change{path: "displayName", to: quoted(family, 25)},
		change{path: "displayName", to: quoted("é", 64)},
		change{path: "displayName", to: quoted("e\u0301", 65), want: "grapheme too big (maximum 64, got 65) at $.record.displayName"},
		change{path: "avatar", to: aLink, want: "Expected blob value type (got cid) at $.record.avatar"},
		change{path: "avatar.$type", want: `Expected blob value type (got {"ref": ..., "size": ..., ...}) at $.record.avatar`},
		change{path: "avatar.size", to: `-1`, want: `Expected blob value type (got {"ref": ..., "size": ..., ...}) at $.record.avatar`},
		change{path: "avatar.size", to: `"1"`, want: `Expected blob value type (got {"ref": ..., "size": ..., ...}) at $.record.avatar`},
		change{path: "avatar.size", to: `1000000`},
		change{path: "avatar.size", to: `1000001`, want: "blob too big (maximum 1000000, got 1000001) at $.record.avatar"},
		change{path: "avatar.ref", to: aCID, want: `Expected blob value type (got {"ref": ..., "size": ..., ...}) at $.record.avatar`},
		change{path: "avatar.extra", to: `1`, want: `Expected blob value type (got {"ref": ..., "size": ..., ...}) at $.record.avatar`},
		change{path: "avatar.mimeType", to: `"png"`, want: `Expected blob value type (got {"ref": ..., "size": ..., ...}) at $.record.avatar`},
		change{path: "avatar.mimeType", to: `"image/gif"`, want: `Expected one of "image/png" or "image/jpeg" (got "image/gif") at $.record.avatar.mimeType`},
	), none(list,
		change{path: "name", to: `""`, want: "string too small (minimum 1, got 0) at $.record.name"},
		change{path: "name", to: quoted("x", 64)},
		change{path: "name", to: quoted("x", 65), want: "string too big (maximum 64, got 65) at $.record.name"},
		change{path: "purpose", to: `"com.example#any"`}, // known values bind nobody
		change{path: "purpose", to: `{}`, want: "Expected string value type (got {}) at $.record.purpose"},
	), []change{
		{"app.bsky.graph.verification", "handle", `"alice"`, `Invalid handle (got "alice") at $.record.handle`},
		{"app.bsky.labeler.service", "subjectCollections.0", `"x"`, `Invalid NSID (got "x") at $.record.subjectCollections[0]`},
		{"app.bsky.feed.generator", "acceptsInteractions", `"yes"`, `Expected boolean value type (got "yes") at $.record.acceptsInteractions`},
		{"app.bsky.feed.threadgate", "allow.1.list", `"x"`, `Invalid at-uri (got "x") at $.record.allow[1].list`},
		{"app.bsky.feed.threadgate", "allow", `[]`, ""},
		{"com.atproto.lexicon.schema", "lexicon", `"1"`, `Expected integer value type (got "1") at $.record.lexicon`},
	})
}

// TestChanges: good records with one change.
func TestChanges(t *testing.T) {
	for _, c := range changes() {
		v := record(t, c.collection)
		set(t, v, c.path, c.to)
		known, err := lexicon.Known().ValidateRecord(c.collection, v)
		switch {
		case !known:
			t.Errorf("%s is not known", c.collection)
		case c.want == "" && err != nil:
			t.Errorf("%s, %s = %.60s: %v", c.collection, c.path, c.to, err)
		case c.want != "" && (err == nil || err.Error() != c.want):
			t.Errorf("%s, %s = %.60s: %v, want %s", c.collection, c.path, c.to, err, c.want)
		}
	}
}

// TestFirstFault: of several faults, the error is always that of the property which
// the schema names first.
func TestFirstFault(t *testing.T) {
	for range 20 {
		v := record(t, "app.bsky.feed.post")
		for _, name := range []string{"createdAt", "tags", "langs", "text"} {
			v[name] = nil
			want := " at $.record." + name
			if _, err := lexicon.Known().ValidateRecord("app.bsky.feed.post", v); err == nil || !strings.HasSuffix(err.Error(), want) {
				t.Fatalf("%v, want %s", err, want)
			}
		}
	}
}

// TestConstraints: constraints that no record of the catalogue has.
func TestConstraints(t *testing.T) {
	d, err := lexicon.ParseDocument([]byte(`{"id":"a.b.c","defs":{"main":{"type":"record","key":"any","record":{"type":"object","nullable":["null"],"required":["null"],"properties":{
		"null":{"type":"string"},"yes":{"type":"boolean","const":true},"one":{"type":"string","const":"one"},"many":{"type":"string","enum":["a","b","d"]},
		"number":{"type":"integer","enum":[1,2],"maximum":5},"max":{"type":"integer","maximum":5},"nothing":{"type":"string","const":""},"zero":{"type":"integer","const":0},
		"bytes":{"type":"bytes","minLength":2,"maxLength":3},"list":{"type":"array","items":{"type":"cid-link"},"minLength":1},
		"graphemes":{"type":"string","minGraphemes":2},"closed":{"type":"union","closed":true,"refs":["#o","#p"]},"token":{"type":"ref","ref":"#t"},
		"unknown":{"type":"unknown"},"tid":{"type":"string","format":"tid"},"key":{"type":"string","format":"record-key"},"who":{"type":"string","format":"at-identifier"},
		"blob":{"type":"blob"},"deep":{"type":"ref","ref":"#deep"},"odd name":{"type":"string"},"0":{"type":"string"},"$a_0":{"type":"string"}}}},
		"o":{"type":"object"},"p":{"type":"object"},"t":{"type":"token"},"deep":{"type":"array","items":{"type":"ref","ref":"#deep"}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	c, err := lexicon.New(d)
	if err != nil {
		t.Fatal(err)
	}
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, x := range []struct{ name, to, want string }{
		{"null", "", `Missing required key "null" at $.record`},
		{"null", `null`, ""},
		{"yes", `true`, ""},
		{"yes", `false`, "Expected true (got false) at $.record.yes"},
		{"one", `"one"`, ""},
		{"one", `"two"`, `Expected "one" (got "two") at $.record.one`},
		{"nothing", `"x"`, `Expected "" (got "x") at $.record.nothing`},
		{"zero", `1`, "Expected 0 (got 1) at $.record.zero"},
		{"many", `"b"`, ""},
		{"many", `"c"`, `Expected one of "a", "b" or "d" (got "c") at $.record.many`},
		{"number", `2`, ""},
		{"number", `3`, "Expected one of 1 or 2 (got 3) at $.record.number"},
		{"max", `5`, ""},
		{"max", `6`, "integer too big (maximum 5, got 6) at $.record.max"},
		{"bytes", `{"$bytes":"YWI"}`, ""},
		{"bytes", `"ab"`, `Expected bytes value type (got "ab") at $.record.bytes`},
		{"bytes", `{"$bytes":"YQ"}`, "bytes too small (minimum 2, got 1) at $.record.bytes"},
		{"bytes", `{"$bytes":"YWJjZA"}`, "bytes too big (maximum 3, got 4) at $.record.bytes"},
		{"list", `[` + aLink + `]`, ""},
		{"list", `[]`, "array too small (minimum 1, got 0) at $.record.list"},
		{"list", `[` + aLink + `,` + aCID + `]`, `Expected cid value type (got ` + aCID + `) at $.record.list[1]`},
		{"graphemes", `"ab"`, ""},
		{"graphemes", `"é"`, "grapheme too small (minimum 2, got 1) at $.record.graphemes"},
		{"closed", `{"$type":"a.b.c#p"}`, ""},
		{"closed", `{"$type":"a.b.c"}`, `Expected one of "a.b.c#o" or "a.b.c#p" (got "a.b.c") at $.record.closed.$type`},
		{"token", `"a.b.c#t"`, `Expected token value type (got "a.b.c#t") at $.record.token`},
		{"unknown", `{"$type":"x"}`, ""},
		{"unknown", `[]`, "Expected object value type (got []) at $.record.unknown"},
		{"unknown", `null`, "Expected object value type (got null) at $.record.unknown"},
		{"unknown", png, `Expected object value type (got {"ref": ..., "size": ..., ...}) at $.record.unknown`},
		{"tid", `"3jzfcijpj2z2a"`, ""},
		{"tid", `"0000000000000"`, `Invalid TID string (got "0000000000000") at $.record.tid`},
		{"key", `"a/b"`, `Invalid record key (got "a/b") at $.record.key`},
		{"who", `"alice.example.com"`, ""},
		{"who", `"alice"`, `Invalid AT identifier (got "alice") at $.record.who`},
		{"blob", strings.Replace(png, "1000", "9007199254740991", 1), ""},
		{"deep", nested(dagcbor.MaxDepth - 1), ""},
		{"odd name", `1`, `Expected string value type (got 1) at $.record["odd name"]`},
		{"0", `1`, `Expected string value type (got 1) at $.record["0"]`},
		{"$a_0", `1`, `Expected string value type (got 1) at $.record.$a_0`},
	} {
		v := value(t, `{"$type":"a.b.c","null":null}`)
		set(t, v, x.name, x.to)
		if _, err := c.ValidateRecord("a.b.c", v); x.want == "" && err != nil || x.want != "" && (err == nil || err.Error() != x.want) {
			t.Errorf("%s = %s: %v, want %q", x.name, x.to, err, x.want)
		}
	}

	v := map[string]any{"$type": "app.bsky.feed.post", "text": "", "createdAt": "2026-11-24T20:00:00Z", "embed": map[string]any{"$type": int64(5)}} // no JSON of ours has it
	if _, err := lexicon.Known().ValidateRecord("app.bsky.feed.post", v); err == nil || err.Error() != "Expected string value type (got 5) at $.record.embed.$type" {
		t.Error(err)
	}
	deep := []any{}
	for range dagcbor.MaxDepth - 1 {
		deep = []any{deep}
	}
	v = map[string]any{"$type": "a.b.c", "null": nil, "deep": deep}
	if _, err := c.ValidateRecord("a.b.c", v); err == nil || !strings.HasSuffix(err.Error(), "]") || !strings.HasPrefix(err.Error(), "Nested too deep (maximum 64) at $.record.deep[0]") {
		t.Errorf("nested deeper than may be: %v", err)
	}
}
