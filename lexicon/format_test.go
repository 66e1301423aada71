package lexicon_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/lexicon"
)

// accepts returns the check of a format: whether it accepts a string.
func accepts(tb testing.TB, format string) func(string) bool {
	tb.Helper()
	d, err := lexicon.ParseDocument([]byte(`{"id":"a.b.c","defs":{"main":{"type":"record","key":"any","record":{"type":"object","properties":{"s":{"type":"string","format":"` + format + `"}}}}}}`))
	if err != nil {
		tb.Fatal(err)
	}
	c, err := lexicon.New(d)
	if err != nil {
		tb.Fatal(err)
	}
	return func(s string) bool {
		_, err := c.ValidateRecord("a.b.c", map[string]any{"$type": "a.b.c", "s": s})
		return err == nil
	}
}

// vectors returns the strings of a file that every implementation must accept, or
// refuse.
func vectors(tb testing.TB, file, kind string) []string {
	tb.Helper()
	raw := string(readFile(tb, indigo(tb, "atproto/syntax/testdata/"+file+"_syntax_"+kind+".txt")))
	return slices.DeleteFunc(strings.Split(raw, "\n"), func(s string) bool { return s == "" || strings.HasPrefix(s, "#") })
}

// TestFormats: the strings that every implementation must accept or refuse. CIDs in
// another base than the usual one are refused, as in the reference PDS, and so are
// strings that only look like a CID.
func TestFormats(t *testing.T) {
	for format, file := range map[string]string{
		"at-identifier": "atidentifier", "at-uri": "aturi", "cid": "cid", "datetime": "datetime", "did": "did", "handle": "handle",
		"language": "language", "nsid": "nsid", "record-key": "recordkey", "tid": "tid", "uri": "uri",
	} {
		ok := accepts(t, format)
		valid, invalid := vectors(t, file, "valid"), vectors(t, file, "invalid")
		if len(valid) == 0 || len(invalid) == 0 {
			t.Errorf("%s: no vectors", format)
		}
		for _, s := range valid {
			want := format != "cid" || strings.HasPrefix(s, "b") || strings.HasPrefix(s, "Qm")
			if ok(s) != want {
				t.Errorf("%s: %q passes: %t", format, s, !want)
			}
		}
		for _, s := range append(invalid, "") {
			if ok(s) {
				t.Errorf("%s: %q passes", format, s)
			}
		}
	}
}

// FuzzATURI: IsATURI accepts exactly what indigo parses.
func FuzzATURI(f *testing.F) {
	ok := accepts(f, "at-uri")
	for _, seed := range []string{
		strings.Trim(aPost, `"`), "at://a.com", "at://a.com/", "at://a.com//", "at://a.com/a.b.c/", "at://a.com/a.b.c/.", "at://a.com/a.b.c/x/y", "at:///a.b.c", "at://did:web:a%3A1/a.b.c/x",
		"AT://a.com", "at://a.com/a.b.c?x", "at://a.com/a.b.c/x#y", "at://a.com/a.b.c/" + strings.Repeat("x", 513), "at://did:x:" + strings.Repeat("x", 8<<10), "at://a.com\n", "at://a.com/a.b.c/x\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := syntax.ParseATURI(s); ok(s) != (err == nil) {
			t.Fatalf("%q passes: %t; indigo: %v", s, ok(s), err)
		}
	})
}
