package lexicon

import (
	"strings"
	"unicode"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/dagcbor"
)

// format is a syntax that a schema may demand of a string.
type format struct {
	valid func(string) bool
	name  string // in messages
}

func parses[T any](parse func(string) (T, error)) func(string) bool {
	return func(s string) bool { _, err := parse(s); return err == nil }
}

// formats returns the formats of https://atproto.com/specs/lexicon#string-formats.
func formats() map[string]*format {
	return map[string]*format{
		"at-identifier": {parses(syntax.ParseAtIdentifier), "AT identifier"},
		"at-uri":        {IsATURI, "at-uri"},
		"cid":           {isCID, "CID string"},
		"datetime":      {isDatetime, "datetime"},
		"did":           {parses(syntax.ParseDID), "DID"},
		"handle":        {parses(syntax.ParseHandle), "handle"},
		"language":      {isLanguage, "language"},
		"nsid":          {parses(syntax.ParseNSID), "NSID"},
		"record-key":    {parses(syntax.ParseRecordKey), "record key"},
		"tid":           {parses(syntax.ParseTID), "TID string"},
		"uri":           {isURI, "uri"},
	}
}

// IsATURI does what syntax.ParseATURI does (a test compares them), whose regular
// expression takes longer than all other checks of a like.
func IsATURI(s string) bool {
	rest, ok := strings.CutPrefix(s, "at://")
	if !ok || len(s) > maxATURI {
		return false
	}
	authority, path, hasPath := strings.Cut(rest, "/")
	if _, err := syntax.ParseAtIdentifier(authority); err != nil {
		return false
	}
	collection, key, hasKey := strings.Cut(path, "/")
	if _, err := syntax.ParseNSID(collection); hasPath && err != nil {
		return false
	}
	_, err := syntax.ParseRecordKey(key)
	return !hasKey || err == nil
}

// maxATURI is the longest at-uri of the specification.
const maxATURI = 8 << 10

// isCID is stricter than the syntax alone: s must be a CID, in its usual base.
func isCID(s string) bool {
	if _, err := syntax.ParseCID(s); err != nil {
		return false
	}
	c, err := dagcbor.ParseCID(s)
	return err == nil && c.String() == s
}

// isDatetime is stricter than the parser: a time zone is less than a day from UTC.
func isDatetime(s string) bool {
	if _, err := syntax.ParseDatetime(s); err != nil {
		return false
	}
	if strings.HasSuffix(s, "Z") {
		return true
	}
	zone := s[len(s)-len("+00:00"):]
	return zone[1:3] <= "23" && zone[4:] <= "59"
}

// maxURI is the longest uri of the specification.
const maxURI = 8 << 10

// isURI accepts what the reference accepts, so that every link which apps find in a
// text can be posted: a scheme, a colon, perhaps two slashes, and something that does
// not begin with a slash and has no white space. It may have letters of any script.
// The scheme has letters, digits, underscores, and behind a letter, as in RFC 3986,
// "+", "-" and ".".
func isURI(s string) bool {
	scheme, rest, ok := strings.Cut(s, ":")
	if !ok || scheme == "" || len(s) > maxURI {
		return false
	}
	for _, c := range []byte(scheme) {
		if c != '_' && !isAlphanumeric(c) && (!isLetter(scheme[0]) || !strings.ContainsRune("+-.", rune(c))) {
			return false
		}
	}
	after, _ := strings.CutPrefix(rest, "//")
	return after != "" && after[0] != '/' && !strings.ContainsFunc(after, isSpace)
}

// isSpace reports whether r is white space in JavaScript, which knows the byte order
// mark as such, and no control character of C1.
func isSpace(r rune) bool {
	return r == '\ufeff' || r != '\u0085' && unicode.IsSpace(r)
}

func isAlphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || isLetter(c)
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
