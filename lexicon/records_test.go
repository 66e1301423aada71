package lexicon_test

import (
	"errors"
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

// good has a full record of each collection that the catalogue knows.
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

// set changes v at a path with dots: what stands in JSON, or nothing.
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

// TestRequired: without any property that a schema requires, and only then, it
// is at fault; and no property may be null.
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
			if want := `Record must have the property "` + name + `"`; slices.Contains(strings.Fields(names), name) {
				if err == nil || err.Error() != want {
					t.Errorf("%s without %s: %v, want %s", collection, name, err, want)
				}
			} else if err != nil {
				t.Errorf("%s without %s: %v", collection, name, err)
			}
			v[name] = nil
			if _, err := lexicon.Known().ValidateRecord(collection, v); err == nil || !strings.HasPrefix(err.Error(), "Record/"+name+" ") {
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
		change{path: "$type", want: "Record/$type must be app.bsky.feed.post"},
		change{path: "$type", to: `"app.bsky.feed.like"`, want: "Record/$type must be app.bsky.feed.post"},
		change{path: "$type", to: `"app.bsky.feed.post#main"`, want: "Record/$type must be app.bsky.feed.post"},
		change{path: "text", to: `""`},
		change{path: "text", to: `1`, want: "Record/text must be a string"},
		change{path: "text", to: `{}`, want: "Record/text must be a string"},
		change{path: "text", to: quoted("x", 300)},
		change{path: "text", to: quoted("x", 301), want: "Record/text must not be longer than 300 graphemes"},
		change{path: "text", to: quoted(family, 120)},
		change{path: "text", to: quoted(family, 121), want: "Record/text must not be longer than 3000 characters"},
		change{path: "text", to: quoted("ä", 300)},
		change{path: "text", to: quoted("ä", 301), want: "Record/text must not be longer than 300 graphemes"},
		change{path: "text", to: quoted("\r\n", 300)},
		change{path: "text", to: quoted("\r\n", 301), want: "Record/text must not be longer than 300 graphemes"},
		change{path: "createdAt", to: `"2026-11-24"`, want: "Record/createdAt must be an valid atproto datetime (both RFC-3339 and ISO-8601)"},
		change{path: "createdAt", to: `"2026-11-24T20:00:00"`, want: "Record/createdAt must be an valid atproto datetime (both RFC-3339 and ISO-8601)"},
		change{path: "createdAt", to: `"2026-13-24T20:00:00Z"`, want: "Record/createdAt must be an valid atproto datetime (both RFC-3339 and ISO-8601)"},
		change{path: "createdAt", to: `"2026-11-24T20:00:00+01:00"`},
		change{path: "langs", to: `"en"`, want: "Record/langs must be an array"},
		change{path: "langs", to: `{"0":"en"}`, want: "Record/langs must be an array"},
		change{path: "langs", to: `[]`},
		change{path: "langs", to: `["en","de","fr"]`},
		change{path: "langs", to: `["en","de","fr","it"]`, want: "Record/langs must not have more than 3 elements"},
		change{path: "langs.1", to: `"not a language"`, want: "Record/langs/1 must be a well-formed BCP 47 language tag"},
		change{path: "langs.0", to: `null`, want: "Record/langs/0 must be a string"},
		change{path: "reply", to: `[]`, want: "Record/reply must be an object"},
		change{path: "reply.parent", want: `Record/reply must have the property "parent"`},
		change{path: "reply.root.cid", to: `"abcdefghijkl"`, want: "Record/reply/root/cid must be a cid string"},
		change{path: "reply.root.cid", to: aLink, want: "Record/reply/root/cid must be a string"},
		change{path: "reply.root.cid", to: `"QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n"`},
		change{path: "reply.root.cid", to: `"BAFYREICLP443LAVOGVHJ3D2OB2CXBFUSCNI2K5JK7BEBJZG7KHL3ESABWQ"`, want: "Record/reply/root/cid must be a cid string"},
		change{path: "reply.root.uri", to: `"https://example.com"`, want: "Record/reply/root/uri must be a valid at-uri"},
		change{path: "entities.0.index.start", to: `-1`, want: "Record/entities/0/index/start can not be less than 0"},
		change{path: "entities.0.index.start", to: `"0"`, want: "Record/entities/0/index/start must be an integer"},
		change{path: "facets.0.features.0.uri", to: `"no uri"`, want: "Record/facets/0/features/0/uri must be a uri"},
		change{path: "facets.0.features.1.did", to: `"alice.example.com"`, want: "Record/facets/0/features/1/did must be a valid did"},
		change{path: "facets.0.features.2.tag", to: quoted("x", 65), want: "Record/facets/0/features/2/tag must not be longer than 64 graphemes"},
		change{path: "facets.0.features.0", to: `{"uri":"https://example.com"}`, want: `Record/facets/0/features/0 must be an object which includes the "$type" property`},
		change{path: "facets.0.features.0", to: `{"$type":"com.example.own"}`},
		change{path: "facets.0.features.0", to: `"link"`, want: `Record/facets/0/features/0 must be an object which includes the "$type" property`},
		change{path: "embed", to: `{"$type":"app.bsky.feed.like"}`}, // known, but not of this union
		change{path: "embed", to: `{"$type":"app.bsky.embed.record"}`, want: `Record/embed must have the property "record"`},
		change{path: "embed", to: `{"$type":"app.bsky.embed.record#main"}`, want: `Record/embed must have the property "record"`},
		change{path: "embed", to: `{"$type":"app.bsky.embed.images#main","images":[]}`},
		change{path: "embed.media.images.0.alt", to: `null`, want: "Record/embed/media/images/0/alt must be a string"},
		change{path: "embed.media.images.0.aspectRatio.width", to: `0`, want: "Record/embed/media/images/0/aspectRatio/width can not be less than 1"},
		change{path: "embed.media.images.0.image", to: `{"cid":` + aCID + `,"mimeType":"image/png"}`, want: "Record/embed/media/images/0/image should be a blob ref"},
		change{path: "labels.values.0.val", to: quoted("x", 129), want: "Record/labels/values/0/val must not be longer than 128 characters"},
	), none(profile,
		change{path: "displayName", to: quoted(family, 25)},
		change{path: "displayName", to: quoted("é", 64)},
		change{path: "displayName", to: quoted("e\u0301", 65), want: "Record/displayName must not be longer than 64 graphemes"},
		change{path: "avatar", to: aLink, want: "Record/avatar should be a blob ref"},
		change{path: "avatar.$type", want: "Record/avatar should be a blob ref"},
		change{path: "avatar.size", to: `-1`, want: "Record/avatar should be a blob ref"},
		change{path: "avatar.size", to: `"1"`, want: "Record/avatar should be a blob ref"},
		change{path: "avatar.size", to: `1000000`},
		change{path: "avatar.size", to: `1000001`, want: "Record/avatar/size can not be greater than 1000000"},
		change{path: "avatar.ref", to: aCID, want: "Record/avatar should be a blob ref"},
		change{path: "avatar.extra", to: `1`, want: "Record/avatar should be a blob ref"},
		change{path: "avatar.mimeType", to: `"png"`, want: "Record/avatar should be a blob ref"},
		change{path: "avatar.mimeType", to: `"image/gif"`, want: "Record/avatar/mimeType must be of type image/png, image/jpeg"},
	), none(list,
		change{path: "name", to: `""`, want: "Record/name must not be shorter than 1 characters"},
		change{path: "name", to: quoted("x", 64)},
		change{path: "name", to: quoted("x", 65), want: "Record/name must not be longer than 64 characters"},
		change{path: "purpose", to: `"com.example#any"`}, // known values bind nobody
		change{path: "purpose", to: `{}`, want: "Record/purpose must be a string"},
	), []change{
		{"app.bsky.graph.verification", "handle", `"alice"`, "Record/handle must be a valid handle"},
		{"app.bsky.labeler.service", "subjectCollections.0", `"x"`, "Record/subjectCollections/0 must be a valid nsid"},
		{"app.bsky.feed.generator", "acceptsInteractions", `"yes"`, "Record/acceptsInteractions must be a boolean"},
		{"app.bsky.feed.threadgate", "allow.1.list", `"x"`, "Record/allow/1/list must be a valid at-uri"},
		{"app.bsky.feed.threadgate", "allow", `[]`, ""},
		{"com.atproto.lexicon.schema", "lexicon", `"1"`, "Record/lexicon must be an integer"},
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
		if fault, ok := errors.AsType[*lexicon.InvalidError](err); ok && !strings.HasPrefix(c.want, fault.Path()+" ") {
			t.Errorf("%s: path %s", c.want, fault.Path())
		}
	}
}

// TestFirstFault: of several faults, that of the property which the schema names
// first is told, always the same.
func TestFirstFault(t *testing.T) {
	for range 20 {
		v := record(t, "app.bsky.feed.post")
		for _, name := range []string{"createdAt", "tags", "langs", "text"} {
			v[name] = nil
			want := "Record/" + name + " "
			if _, err := lexicon.Known().ValidateRecord("app.bsky.feed.post", v); err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Fatalf("%v, want %s", err, want)
			}
		}
	}
}

// TestConstraints are those that no record of the catalogue has.
func TestConstraints(t *testing.T) {
	d, err := lexicon.ParseDocument([]byte(`{"id":"a.b.c","defs":{"main":{"type":"record","key":"any","record":{"type":"object","nullable":["null"],"required":["null"],"properties":{
		"null":{"type":"string"},"yes":{"type":"boolean","const":true},"one":{"type":"string","const":"one"},"many":{"type":"string","enum":["a","b"]},
		"number":{"type":"integer","enum":[1,2],"maximum":5},"max":{"type":"integer","maximum":5},"nothing":{"type":"string","const":""},"zero":{"type":"integer","const":0},
		"bytes":{"type":"bytes","minLength":2,"maxLength":3},"list":{"type":"array","items":{"type":"cid-link"},"minLength":1},
		"graphemes":{"type":"string","minGraphemes":2},"closed":{"type":"union","closed":true,"refs":["#o","#p"]},"token":{"type":"ref","ref":"#t"},
		"unknown":{"type":"unknown"},"tid":{"type":"string","format":"tid"},"key":{"type":"string","format":"record-key"},"who":{"type":"string","format":"at-identifier"},
		"blob":{"type":"blob"},"deep":{"type":"ref","ref":"#deep"}}}},
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
		{"null", "", `Record must have the property "null"`},
		{"null", `null`, ""},
		{"yes", `true`, ""},
		{"yes", `false`, "Record/yes must be true"},
		{"one", `"one"`, ""},
		{"one", `"two"`, "Record/one must be one"},
		{"nothing", `"x"`, "Record/nothing must be "},
		{"zero", `1`, "Record/zero must be 0"},
		{"many", `"b"`, ""},
		{"many", `"c"`, "Record/many must be one of (a|b)"},
		{"number", `2`, ""},
		{"number", `3`, "Record/number must be one of (1|2)"},
		{"max", `5`, ""},
		{"max", `6`, "Record/max can not be greater than 5"},
		{"bytes", `{"$bytes":"YWI"}`, ""},
		{"bytes", `"ab"`, "Record/bytes must be a byte array"},
		{"bytes", `{"$bytes":"YQ"}`, "Record/bytes must not be smaller than 2 bytes"},
		{"bytes", `{"$bytes":"YWJjZA"}`, "Record/bytes must not be larger than 3 bytes"},
		{"list", `[` + aLink + `]`, ""},
		{"list", `[]`, "Record/list must not have fewer than 1 elements"},
		{"list", `[` + aLink + `,` + aCID + `]`, "Record/list/1 must be a CID"},
		{"graphemes", `"ab"`, ""},
		{"graphemes", `"é"`, "Record/graphemes must not be shorter than 2 graphemes"},
		{"closed", `{"$type":"a.b.c#p"}`, ""},
		{"closed", `{"$type":"a.b.c"}`, "Record/closed $type must be one of a.b.c#o, a.b.c#p"},
		{"token", `"a.b.c#t"`, "Record/token has a token for its schema, so there is no value for it"},
		{"unknown", `{"$type":"x"}`, ""},
		{"unknown", `[]`, "Record/unknown must be an object"},
		{"unknown", `null`, "Record/unknown must be an object"},
		{"unknown", png, "Record/unknown must be an object"},
		{"tid", `"3jzfcijpj2z2a"`, ""},
		{"tid", `"0000000000000"`, "Record/tid must be a valid TID"},
		{"key", `"a/b"`, "Record/key must be a valid Record Key"},
		{"who", `"alice.example.com"`, ""},
		{"who", `"alice"`, "Record/who must be a valid did or a handle"},
		{"blob", strings.Replace(png, "1000", "9007199254740991", 1), ""},
		{"deep", nested(dagcbor.MaxDepth - 1), ""},
	} {
		v := value(t, `{"$type":"a.b.c","null":null}`)
		set(t, v, x.name, x.to)
		if _, err := c.ValidateRecord("a.b.c", v); x.want == "" && err != nil || x.want != "" && (err == nil || err.Error() != x.want) {
			t.Errorf("%s = %s: %v, want %q", x.name, x.to, err, x.want)
		}
	}

	deep := []any{}
	for range dagcbor.MaxDepth - 1 {
		deep = []any{deep}
	}
	v := map[string]any{"$type": "a.b.c", "null": nil, "deep": deep}
	if _, err := c.ValidateRecord("a.b.c", v); err == nil || !strings.HasSuffix(err.Error(), "must not be nested more than 64 deep") {
		t.Errorf("nested deeper than may be: %v", err)
	}
}
