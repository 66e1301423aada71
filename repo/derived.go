package repo

import (
	"slices"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"
)

// Derived is what a store keeps beside a record, so that it is found by it.
// All of it follows from the record.
type Derived struct {
	// Blobs are the blobs that the record refers to, as text, in order, each once.
	Blobs []string
	// Subject is what the record is about, where a repository should have but one
	// record of that collection about it; else empty.
	Subject string
}

// subjectKind is how the records of a collection name their subject.
type subjectKind int

const (
	noSubject subjectKind = iota
	subjectDID
	subjectURI
)

// subjectKindOf knows the collections of which a repository should have one
// record a subject. They are those of the reference.
func subjectKindOf(collection string) subjectKind {
	switch collection {
	case "app.bsky.graph.follow", "app.bsky.graph.block":
		return subjectDID
	case "app.bsky.feed.like", "app.bsky.feed.repost":
		return subjectURI
	default:
		return noSubject
	}
}

// subjectOf returns what a record is about, as Derived.Subject has it. A record
// that is malformed, as one that was not validated or was imported may be, has
// no subject: nothing that is validated could have the same.
func subjectOf(collection string, record map[string]any) string {
	if record[typeKey] != collection {
		return ""
	}
	var subject string
	var err error
	switch subjectKindOf(collection) {
	case subjectDID:
		subject, _ = record["subject"].(string)
		_, err = syntax.ParseDID(subject)
	case subjectURI:
		ref, _ := record["subject"].(map[string]any)
		subject, _ = ref["uri"].(string)
		_, err = syntax.ParseATURI(subject)
	case noSubject:
	}
	if err != nil {
		return ""
	}
	return subject
}

// blobsOf returns the blobs that a record refers to, each once.
func (s *Service) blobsOf(collection string, record map[string]any) (out []cid.Cid) {
	for _, ref := range s.Lexicons.BlobRefs(collection, record) {
		if !slices.Contains(out, ref.CID) {
			out = append(out, ref.CID)
		}
	}
	return out
}
