package lexicon

import (
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/dagcbor"
)

// format is a syntax that a string may have to have.
type format struct {
	valid func(string) bool
	name  string // in messages
}

func parses[T any](parse func(string) (T, error)) func(string) bool {
	return func(s string) bool { _, err := parse(s); return err == nil }
}

// formats are those of https://atproto.com/specs/lexicon#string-formats.
func formats() map[string]*format {
	return map[string]*format{
		"at-identifier": {parses(syntax.ParseAtIdentifier), "AT identifier"},
		"at-uri":        {isATURI, "at-uri"},
		"cid":           {isCID, "CID string"},
		"datetime":      {parses(syntax.ParseDatetime), "datetime"},
		"did":           {parses(syntax.ParseDID), "DID"},
		"handle":        {parses(syntax.ParseHandle), "handle"},
		"language":      {parses(syntax.ParseLanguage), "language"},
		"nsid":          {parses(syntax.ParseNSID), "NSID"},
		"record-key":    {parses(syntax.ParseRecordKey), "record key"},
		"tid":           {parses(syntax.ParseTID), "TID string"},
		"uri":           {parses(syntax.ParseURI), "uri"},
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

// isCID is stricter than the syntax alone: it must be a CID, in its usual base.
func isCID(s string) bool {
	if _, err := syntax.ParseCID(s); err != nil {
		return false
	}
	c, err := dagcbor.ParseCID(s)
	return err == nil && c.String() == s
}
