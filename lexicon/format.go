package lexicon

import (
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
)

// format is a syntax that a string may have to have.
type format struct {
	valid func(string) bool
	fault string
}

func parses[T any](parse func(string) (T, error)) func(string) bool {
	return func(s string) bool { _, err := parse(s); return err == nil }
}

// formats are those of https://atproto.com/specs/lexicon#string-formats.
func formats() map[string]*format {
	return map[string]*format{
		"at-identifier": {parses(syntax.ParseAtIdentifier), "must be a valid did or a handle"},
		"at-uri":        {isATURI, "must be a valid at-uri"},
		"cid":           {isCID, "must be a cid string"},
		"datetime":      {parses(syntax.ParseDatetime), "must be an valid atproto datetime (both RFC-3339 and ISO-8601)"},
		"did":           {parses(syntax.ParseDID), "must be a valid did"},
		"handle":        {parses(syntax.ParseHandle), "must be a valid handle"},
		"language":      {parses(syntax.ParseLanguage), "must be a well-formed BCP 47 language tag"},
		"nsid":          {parses(syntax.ParseNSID), "must be a valid nsid"},
		"record-key":    {parses(syntax.ParseRecordKey), "must be a valid Record Key"},
		"tid":           {parses(syntax.ParseTID), "must be a valid TID"},
		"uri":           {parses(syntax.ParseURI), "must be a uri"},
	}
}

// isATURI is syntax.ParseATURI (a test compares them), whose regular expression
// takes longer than all else that is checked of a like.
func isATURI(s string) bool {
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

// maxCID is longer than the text of every CID in use. Decoding some bases takes
// time that grows with the square of the length.
const maxCID = 128

// isCID is stricter than the syntax alone: it must be a CID, in its usual base.
func isCID(s string) bool {
	if _, err := syntax.ParseCID(s); err != nil || len(s) > maxCID {
		return false
	}
	c, err := cid.Decode(s)
	return err == nil && c.String() == s
}
