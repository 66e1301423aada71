package repo

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
	"nestbox/lexicon"
)

// The states of validation, as clients see them.
const (
	statusValid   = "valid"   // by the collection's schema
	statusUnknown = "unknown" // there is no schema to validate by
)

// typeKey is the property that holds a record's type.
const typeKey = "$type"

// proposal is a record that a client wants to write.
type proposal struct {
	collection syntax.NSID
	// rkey is empty if the server is to choose.
	rkey syntax.RecordKey
	// json is the record.
	json []byte
	// validate: false asks for no validation, true for a refusal if there is no schema.
	// If it is absent, a record that has a schema is validated.
	validate *bool
	// at names the write among others in messages; empty if it is alone.
	at string
}

// path returns the record's path in the input, as the reference names it.
func (p *proposal) path() string { return cmp.Or(p.at, "$") + ".record" }

// refuse returns a refusal of the proposal.
func (p *proposal) refuse(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if p.at != "" {
		text += " (" + p.at + ")"
	}
	return &Refusal{nameInvalidRequest, text}
}

// prepare checks a proposal and encodes its record. Errors: *Refusal.
func (s *Service) prepare(writer syntax.DID, a action, p proposal) (op, error) {
	record, err := p.decode()
	if err != nil {
		return op{}, err
	}
	o := op{action: a, collection: p.collection.String(), rkey: p.rkey.String()}
	if o.rkey == "" {
		o.rkey = s.rkeys.next(s.Now(), s.ClockID).String()
	}
	lexicons := s.Lexicons
	if p.validate == nil || *p.validate {
		lexicons = s.lexiconsFor(writer, p.collection, record)
		if o.status, err = validate(lexicons, &p, o.rkey, record); err != nil {
			if lexicons != s.Lexicons {
				s.Schemas.Doubt(writer, p.collection)
			}
			return op{}, err
		}
	}
	refs, malformed := lexicons.Blobs(o.collection, record)
	switch {
	case malformed != "":
		return op{}, p.refuse("Invalid record: malformed blob at %s%s", p.path(), malformed)
	case len(refs) > MaxBlobRefs:
		return op{}, p.refuse("Invalid record: it refers to %d blobs; the limit is %d", len(refs), MaxBlobRefs)
	}
	for _, b := range refs {
		if b.Legacy {
			return op{}, p.refuse("Legacy blobs are not allowed (%s)", b.CID)
		}
		if b.Size < 0 {
			return op{}, refuse(nameInvalidSize, "Referenced Size must not be negative. Got: %d (%s)", b.Size, b.CID)
		}
		use := blobUse{cid: b.CID, mimeType: b.MimeType, size: b.Size, path: p.path() + b.Path}
		if o.status == statusValid {
			use.rules = b.Rules
		}
		o.blobs = append(o.blobs, use)
	}
	if o.block, err = dagcbor.Encode(record); err != nil {
		return op{}, p.refuse("Invalid record: %s", reason(err))
	}
	if len(o.block) > MaxRecord {
		return op{}, p.refuse("Record is too large: %d bytes (maximum %d)", len(o.block), MaxRecord)
	}
	o.cid, o.subject = dagcbor.CID(o.block), subjectOf(o.collection, record)
	return o, nil
}

// decode reads the record and adds a missing $type.
func (p *proposal) decode() (map[string]any, error) {
	v, err := dagcbor.FromJSON(p.json)
	if err != nil {
		return nil, p.refuse("Invalid record: %s", reason(err))
	}
	record, ok := v.(map[string]any)
	if !ok {
		return nil, p.refuse("Invalid record: must be an object")
	}
	switch t, ok := record[typeKey]; {
	case !ok:
		record[typeKey] = p.collection.String()
	case t != p.collection.String():
		return nil, p.refuse("Invalid $type: expected %s, got %.300s", p.collection, t)
	}
	return record, nil
}

// reason returns the text of a fault of form without the sentinel's own.
func reason(err error) string {
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), dagcbor.ErrForm.Error()+": "), errRecord.Error()+": ")
}

// lexiconsFor returns the catalogue to check a record by. If it has no schema, or none
// that is affordable, nothing is known of the record.
func (s *Service) lexiconsFor(writer syntax.DID, collection syntax.NSID, record map[string]any) *lexicon.Catalogue {
	if s.Schemas == nil || s.Lexicons.Knows(collection.String()) {
		return s.Lexicons
	}
	if c := s.Schemas.Records(writer, collection); c != nil && c.Affordable(record) {
		return c
	}
	return s.Lexicons
}

// maxFault bounds, in bytes, what is said of a fault: a schema may be a stranger's.
const maxFault = 2000

func validate(lexicons *lexicon.Catalogue, p *proposal, rkey string, record map[string]any) (status string, err error) {
	name := p.collection.String()
	if !lexicons.Knows(name) {
		if p.validate != nil {
			return "", p.refuse("Unknown lexicon type: %s", name)
		}
		return statusUnknown, nil
	}
	if err := lexicons.Key(name).Check(rkey); err != nil {
		return "", p.refuse("Invalid record key for %s: %v", name, err)
	}
	if _, err := lexicons.ValidateRecord(name, record); err != nil {
		text := err.Error()
		if fault, ok := errors.AsType[*lexicon.InvalidError](err); ok {
			text = fault.At(p.path())
		}
		return "", &Refusal{nameInvalidRequest, "Invalid " + name + " record: " + text[:min(len(text), maxFault)]}
	}
	return statusValid, nil
}

// blobUse is a record's reference to a blob.
type blobUse struct {
	cid      cid.Cid
	mimeType string
	size     int64
	path     string
	rules    lexicon.BlobRules
	seen     BlobInfo // by checkBlobs
}

// checkBlobs demands that the account has uploaded each blob that o refers to, and
// that the blob is what the reference claims. A reference may misdescribe an old
// blob: records that came from elsewhere do, and must remain editable. What the blob
// really is must still be what the schema accepts.
func checkBlobs(v base, o *op) error {
	for i := range o.blobs {
		use := &o.blobs[i]
		b, err := v.Blob(use.cid)
		use.seen = b
		switch {
		case errors.Is(err, ErrNoBlob):
			return refuse(nameBlobNotFound, "Could not find blob: %s", use.cid)
		case err != nil:
			return err
		case !b.WasUsed && b.MimeType != use.mimeType:
			return refuse(nameInvalidMimeType, "Referenced Mimetype does not match stored blob. Expected: %s, Got: %.100s", b.MimeType, use.mimeType)
		case !b.WasUsed && b.Size != use.size:
			return refuse(nameInvalidSize, "Referenced Size does not match stored blob. Expected: %d, Got: %d", b.Size, use.size)
		case !use.rules.Takes(b.MimeType):
			return refuse(nameInvalidMimeType, "Stored blob of type %s may not be used at %s", b.MimeType, use.path)
		case !use.rules.Fits(b.Size):
			return refuse(nameInvalidSize, "Stored blob of %d bytes is too large for %s (maximum %d)", b.Size, use.path, use.rules.MaxSize)
		}
	}
	return nil
}

// tids makes record keys, each once.
type tids struct {
	mu   sync.Mutex
	last syntax.TID
}

func (t *tids) next(now time.Time, clock uint) syntax.TID {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = NextTID(now, clock, t.last)
	return t.last
}
