package repo

import (
	"fmt"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/lexicon"
)

// Derived is what a store keeps beside a record in order to find the record. All of
// it follows from the record.
type Derived struct {
	// Blobs are the blobs that the record refers to, as text, in order, each once.
	Blobs []string
	// Subject is what the record is about, if a repository should have only one record
	// of that collection about it; otherwise empty. It is a DID, or an AT URI with its
	// last part, the record key, first: people like what is new, so that an index by
	// subject grows mostly at its end, as the records do, and an import does not change
	// pages all over it.
	Subject string
	// Odd is why the record could not be written here; nil if it could. No store keeps
	// it.
	Odd error
}

// subjectKind is how the records of a collection name their subject.
type subjectKind int

const (
	noSubject subjectKind = iota
	subjectDID
	subjectURI
)

// subjectKindOf returns the kind of the collections that should have one record for
// each subject. They are the reference's.
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
// that is malformed, as a record may be that was not validated or was imported, has
// no subject: no valid record could have the same one.
func subjectOf(collection string, record map[string]any) string {
	if record[typeKey] != collection {
		return ""
	}
	switch subjectKindOf(collection) {
	case subjectDID:
		did, _ := record["subject"].(string)
		if _, err := syntax.ParseDID(did); err == nil {
			return did
		}
	case subjectURI:
		ref, _ := record["subject"].(map[string]any)
		uri, _ := ref["uri"].(string)
		if lexicon.IsATURI(uri) {
			cut := strings.LastIndexByte(uri, '/')
			return uri[cut+1:] + " " + uri[:cut]
		}
	case noSubject:
	}
	return ""
}

// MaxBlobRefs is how many references to blobs a record that is written here may
// have. An imported one may have more. A post has four pictures, or a video with
// twenty files of captions, a long article some dozens: no record that people make
// has so many. One of MaxRecord bytes has room for tens of thousands, each of which
// is a row, and an entry in an index.
const MaxBlobRefs = 1000

// derive returns what follows from a record, and the blobs that it refers to, each
// once. odd is set if the record has too many references to be written here.
func derive(c *lexicon.Catalogue, collection string, record map[string]any) (blobs []cid.Cid, subject string, odd error) {
	refs, _ := c.Blobs(collection, record)
	if len(refs) > MaxBlobRefs {
		odd = fmt.Errorf("%w: it refers to %d blobs; the limit is %d", errRecord, len(refs), MaxBlobRefs)
	}
	seen := make(map[cid.Cid]bool, len(refs))
	for _, r := range refs {
		if !seen[r.CID] {
			seen[r.CID] = true
			blobs = append(blobs, r.CID)
		}
	}
	return blobs, subjectOf(collection, record), odd
}
