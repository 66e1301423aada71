package dagcbor_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atdata"
	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
)

// vectors reads a file of test vectors from indigo's module.
func vectors(t *testing.T, path string, into any) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/bluesky-social/indigo").Output()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(out)), filepath.FromSlash(path)))
	if err == nil {
		err = json.Unmarshal(raw, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestFixtures: every implementation must get these bytes and CIDs.
func TestFixtures(t *testing.T) {
	var cases []struct {
		JSON json.RawMessage `json:"json"`
		CBOR string          `json:"cbor_base64"`
		CID  string          `json:"cid"`
	}
	vectors(t, "atproto/atdata/testdata/data-model-fixtures.json", &cases)
	if len(cases) == 0 {
		t.Fatal("no fixtures")
	}
	for _, c := range cases {
		want, err := base64.RawStdEncoding.DecodeString(c.CBOR)
		if err != nil {
			t.Fatal(err)
		}
		v, err := dagcbor.FromJSON(c.JSON)
		if err != nil {
			t.Errorf("%s: %v", c.JSON, err)
			continue
		}
		got, err := dagcbor.Encode(v)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %x, %v; want %x", c.JSON, got, err, want)
		}
		if id := dagcbor.CID(got).String(); id != c.CID {
			t.Errorf("%s: CID %s, want %s", c.JSON, id, c.CID)
		}
		back, err := dagcbor.Decode(want)
		if err != nil || !reflect.DeepEqual(back, v) {
			t.Errorf("%x: %v, %v; want %v", want, back, err, v)
		}
		text, err := dagcbor.AppendJSON(nil, want)
		if err != nil {
			t.Errorf("%x: %v", want, err)
			continue
		}
		if again, err := dagcbor.FromJSON(text); err != nil || !reflect.DeepEqual(again, v) {
			t.Errorf("%s does not come back: %v, %v", text, again, err)
		}
	}
}

type noted struct {
	Note string          `json:"note"`
	JSON json.RawMessage `json:"json"`
}

func TestDataModelVectors(t *testing.T) {
	var good, bad []noted
	vectors(t, "atproto/atdata/testdata/data-model-valid.json", &good)
	vectors(t, "atproto/atdata/testdata/data-model-invalid.json", &bad)
	for _, c := range good {
		if _, err := dagcbor.FromJSON(c.JSON); err != nil {
			t.Errorf("%s: %v", c.Note, err)
		}
	}
	refused := 0
	for _, c := range bad {
		// The lexicon package decides what a record or a blob must be.
		if strings.HasPrefix(c.Note, "blob") || strings.HasPrefix(c.Note, "top-level") {
			continue
		}
		refused++
		if v, err := dagcbor.FromJSON(c.JSON); !errors.Is(err, dagcbor.ErrForm) {
			t.Errorf("%s: %v, %v; want ErrForm", c.Note, v, err)
		}
	}
	if refused < 8 {
		t.Errorf("only %d bad vectors", refused)
	}
}

// TestDecodeStrict: bytes that other decoders accept are refused.
func TestDecodeStrict(t *testing.T) {
	nested := func(n int) string { return strings.Repeat("81", n) + "f6" }
	for name, c := range map[string]struct {
		hex  string
		good bool
	}{
		"zero":                          {"00", true},
		"23 in one byte":                {"17", true},
		"23 in two bytes":               {"1817", false},
		"24 in three bytes":             {"190018", false},
		"256 in five bytes":             {"1a00000100", false},
		"2^32 - 1 in nine bytes":        {"1b00000000ffffffff", false},
		"largest integer":               {"1b001fffffffffffff", true},
		"integer beyond 2^53":           {"1b0020000000000000", false},
		"smallest integer":              {"3b001ffffffffffffe", true},
		"integer below -2^53":           {"3b001fffffffffffff", false},
		"integer beyond 2^63":           {"1bffffffffffffffff", false},
		"negative integer beyond 2^63":  {"3bffffffffffffffff", false},
		"length in a long form":         {"5801ff", false},
		"text of indefinite length":     {"7f6161ff", false},
		"bytes of indefinite length":    {"5f4161ff", false},
		"list of indefinite length":     {"9fff", false},
		"map of indefinite length":      {"bfff", false},
		"half float":                    {"f93c00", false},
		"single float":                  {"fa3f800000", false},
		"double float":                  {"fb3ff0000000000000", false},
		"NaN":                           {"f97e00", false},
		"undefined":                     {"f7", false},
		"simple value 0":                {"e0", false},
		"simple value 255":              {"f8ff", false},
		"true in a long form":           {"f815", false},
		"break alone":                   {"ff", false},
		"reserved length":               {"1c", false},
		"text that is not UTF-8":        {"61ff", false},
		"surrogate":                     {"63eda080", false},
		"map":                           {"a2616101616202", true},
		"keys out of order":             {"a2616202616101", false},
		"longer key first":              {"a262616101616202", false},
		"key twice":                     {"a2616101616102", false},
		"key that is a number":          {"a10101", false},
		"key that is bytes":             {"a1416101", false},
		"key that is not UTF-8":         {"a161ff01", false},
		"trailing bytes":                {"0000", false},
		"nothing":                       {"", false},
		"cut off text":                  {"6261", false},
		"cut off map":                   {"a16161", false},
		"cut off head":                  {"19ff", false},
		"list longer than the input":    {"9b7fffffffffffffff", false},
		"map longer than the input":     {"bb7fffffffffffffff", false},
		"bytes longer than the input":   {"5b7fffffffffffffff", false},
		"tag of a date":                 {"c0613a", false},
		"tag 42 on text":                {"d82a6161", false},
		"tag 42 in a long form":         {"d9002a4100", false},
		"link without its zero":         {"d82a5824" + strings.Repeat("01", 36), false},
		"link that is no CID":           {"d82a450001020304", false},
		"empty link":                    {"d82a40", false},
		"nested as deep as may be":      {nested(dagcbor.MaxDepth), true},
		"nested deeper":                 {nested(dagcbor.MaxDepth + 1), false},
		"nested a million times deeper": {nested(1_000_000), false},
	} {
		raw, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		v, err := dagcbor.Decode(raw)
		switch {
		case c.good && err != nil:
			t.Errorf("%s: %v", name, err)
		case !c.good && !errors.Is(err, dagcbor.ErrForm):
			t.Errorf("%s: %v, %v; want ErrForm", name, v, err)
		}
		if _, jerr := dagcbor.AppendJSON(nil, raw); (jerr == nil) != c.good {
			t.Errorf("%s: as JSON: %v", name, jerr)
		}
	}
}

func TestFromJSON(t *testing.T) {
	link := `{"$link":"bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"}`
	for text, want := range map[string]any{
		`1.0`: int64(1), `1e3`: int64(1000), `-0`: int64(0), `9007199254740991`: int64(dagcbor.MaxInt), `-9007199254740991`: int64(-dagcbor.MaxInt),
		`{"$bytes":"YQ"}`: []byte("a"), `{"$bytes":"YQ=="}`: []byte("a"), `{"$bytes":""}`: []byte{}, "\n\"x\"": "x", `[]`: []any{},
		`"\ud83d\ude00"`: "😀",
	} {
		if got, err := dagcbor.FromJSON([]byte(text)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %#v, %v; want %#v", text, got, err, want)
		}
	}
	if v, err := dagcbor.FromJSON([]byte(link)); err != nil || reflect.TypeOf(v) != reflect.TypeFor[cid.Cid]() {
		t.Errorf("%s: %#v, %v", link, v, err)
	}
	for text, part := range map[string]string{
		`1.5`: "1.5 is not an integer", `9007199254740992`: "not an integer", `1e400`: "not an integer", `9007199254740993.0`: "not an integer",
		`{"a":1,"a":2}`: "at $", `{"a":{"b":1.5}}`: "at $.a.b", `[0,[1.5]]`: "at $.1.0", "\"\xff\"": "UTF-8", `"\ud800"`: "at $", `{} {}`: "data after",
		`{"__proto__":1}`: "__proto__ is not allowed", `{"a":{"__proto__":{}}}`: "__proto__ is not allowed",
		`{"$link":"QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n"}`: "malformed $link", `{"$link":"z` + strings.Repeat("2", 200) + `"}`: "malformed $link",
		`{"$link":"x"}`: "malformed $link", `{"$link":1}`: "malformed $link", link[:len(link)-1] + `,"a":1}`: "malformed $link",
		`{"$bytes":"?"}`: "malformed $bytes", `{"$type":""}`: "malformed $type", `{"$type":null}`: "malformed $type", ``: "at $", `{`: "at $", `[1,]`: "at $",
		strings.Repeat("[", 1_000_000): "nested",
	} {
		got, err := dagcbor.FromJSON([]byte(text))
		if !errors.Is(err, dagcbor.ErrForm) || !strings.Contains(err.Error(), part) {
			t.Errorf("%.40s: %#v, %v; want ErrForm with %q", text, got, err, part)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	deep := any(nil)
	for range dagcbor.MaxDepth + 1 {
		deep = []any{deep}
	}
	for name, v := range map[string]any{
		"float": 1.5, "big": int64(1 << 53), "small": int64(-1 << 53), "struct": struct{}{}, "text": "\xff", "key": map[string]any{"\xff": 1},
		"undefined CID": cid.Undef, "inside": []any{map[string]any{"a": uint8(1)}}, "deep": deep,
	} {
		if got, err := dagcbor.Encode(v); !errors.Is(err, dagcbor.ErrForm) {
			t.Errorf("%s: %x, %v; want ErrForm", name, got, err)
		}
	}
}

func TestCIDs(t *testing.T) {
	block, blob := dagcbor.CID([]byte("x")), dagcbor.RawCID([32]byte{1})
	if !dagcbor.IsBlockCID(block) || dagcbor.IsBlobCID(block) || dagcbor.IsBlockCID(blob) || !dagcbor.IsBlobCID(blob) {
		t.Errorf("%s and %s are not told apart", block, blob)
	}
	for _, text := range []string{
		"QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n",
		"bafkrgqhhyivzstcz3hhswshfjgy6ertgmnqeleynhwt4dlfsthi4hn7zgh4uvlsb5xncykzapi3ocd4lzogukir6ksdy6wzrnz6ohnv4aglcs",
	} {
		c, err := cid.Decode(text)
		if err != nil {
			t.Fatal(err)
		}
		if dagcbor.IsBlockCID(c) || dagcbor.IsBlobCID(c) {
			t.Errorf("%s passes", c)
		}
	}
	if dagcbor.IsBlockCID(cid.Undef) {
		t.Error("no CID passes")
	}
}

// FuzzDecode: accepted input is canonical, comes back byte for byte from JSON too,
// and another implementation agrees.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{"a2616101616202", "d82a58250001711220" + strings.Repeat("00", 32), "83f4f5f6", "3b001ffffffffffffe", "42ffff", "63e298ba"} {
		raw, err := hex.DecodeString(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		v, err := dagcbor.Decode(raw)
		text, jerr := dagcbor.AppendJSON(nil, raw)
		if (err == nil) != (jerr == nil) {
			t.Fatalf("Decode says %v, AppendJSON %v", err, jerr)
		}
		if err != nil {
			if !errors.Is(err, dagcbor.ErrForm) {
				t.Fatalf("%v is not ErrForm", err)
			}
			return
		}
		if again, err := dagcbor.Encode(v); err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("%x came back as %x, %v", raw, again, err)
		}
		if !json.Valid(text) {
			t.Fatalf("%s is not JSON", text)
		}
		if m, ok := v.(map[string]any); ok {
			if _, err := atdata.UnmarshalCBOR(raw); err != nil && len(m) > 0 && isPlain(v) {
				t.Fatalf("%s: indigo says %v", text, err)
			}
		}
		if back, err := dagcbor.FromJSON(text); err == nil {
			if again, err := dagcbor.Encode(back); err != nil || !bytes.Equal(again, raw) && isPlain(v) {
				t.Fatalf("%s came back as %x, %v; was %x", text, again, err, raw)
			}
		}
	})
}

// isPlain reports whether no map of v has a key with a special meaning in JSON, and
// nothing is nested deeper or longer than indigo accepts.
func isPlain(v any) bool {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			if !isPlain(e) {
				return false
			}
		}
	case map[string]any:
		for key, e := range v {
			if strings.HasPrefix(key, "$") || !isPlain(e) {
				return false
			}
		}
	}
	return true
}

func FuzzFromJSON(f *testing.F) {
	for _, seed := range []string{`{"a":[1,true,null,"x"]}`, `{"$bytes":"YQ"}`, `{"$link":"bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a"}`, `1e3`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := dagcbor.FromJSON(text)
		if err != nil {
			if !errors.Is(err, dagcbor.ErrForm) {
				t.Fatalf("%v is not ErrForm", err)
			}
			return
		}
		raw, err := dagcbor.Encode(v)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		out, err := dagcbor.AppendJSON(nil, raw)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if back, err := dagcbor.FromJSON(out); err != nil || !reflect.DeepEqual(back, v) {
			t.Fatalf("%s came back as %s", text, out)
		}
	})
}

const post = `{"$type":"app.bsky.feed.post","createdAt":"2026-11-24T20:00:00.000Z","langs":["en"],"text":"A post of usual length, with a link to https://example.com and a mention.",
"facets":[{"index":{"byteStart":41,"byteEnd":60},"features":[{"$type":"app.bsky.richtext.facet#link","uri":"https://example.com"}]}]}`

func BenchmarkPost(b *testing.B) {
	v, err := dagcbor.FromJSON([]byte(post))
	if err != nil {
		b.Fatal(err)
	}
	raw, err := dagcbor.Encode(v)
	if err != nil {
		b.Fatal(err)
	}
	run := func(name string, f func() error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("FromJSON", func() error { _, err := dagcbor.FromJSON([]byte(post)); return err })
	run("Encode", func() error { _, err := dagcbor.Encode(v); return err })
	run("Decode", func() error { _, err := dagcbor.Decode(raw); return err })
	run("AppendJSON", func() error { _, err := dagcbor.AppendJSON(nil, raw); return err })
	run("Decode by indigo", func() error { _, err := atdata.UnmarshalCBOR(raw); return err })
}
