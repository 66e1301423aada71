package identity

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/bluesky-social/indigo/atproto/syntax"
	didplc "github.com/did-method-plc/go-didplc"
	"github.com/go-json-experiment/json/jsontext"

	"nestbox/plc"
)

const (
	// MaxKept bounds, in bytes, the DID document that is stored for an account.
	MaxKept = 16 << 10
	// maxDepth bounds the nesting of a document. One of atproto has four levels.
	maxDepth = 32
	// maxClaim bounds, in bytes, each text that Kept takes over from a document that is
	// too large.
	maxClaim = 2 << 10
)

var errDepth = fmt.Errorf("JSON is nested more than %d deep", maxDepth)

// checkForeign reports why JSON that a stranger's host sent cannot be passed on: it is
// malformed or not in UTF-8, has a lone surrogate or an object with two members of one
// name, or is nested too deep.
func checkForeign(raw []byte) error {
	d := jsontext.NewDecoder(bytes.NewReader(raw))
	for {
		if _, err := d.ReadToken(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read JSON: %w", err)
		}
		if d.StackDepth() > maxDepth {
			return errDepth
		}
	}
}

// Presentable reports whether clients can be shown a stored DID document: an older
// version stored what checkForeign refuses, or more than MaxKept.
func Presentable(doc []byte) bool {
	// IsValid is checkForeign but for the depth, and costs a tenth of it.
	return len(doc) <= MaxKept && jsontext.Value(doc).Kind() == '{' && jsontext.Value(doc).IsValid() && depth(doc) <= maxDepth
}

// depth returns how deep valid JSON is nested.
func depth(valid []byte) (deepest int) {
	now, text := 0, false
	for i := 0; i < len(valid); i++ {
		switch c := valid[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case text:
		case c == '{', c == '[':
			now++
			deepest = max(deepest, now)
		case c == '}', c == ']':
			now--
		}
	}
	return deepest
}

// Kept returns the form of a DID document that is stored for its account: the document
// as it is, or, if that is larger than MaxKept, one that names the same handle, key and
// host and nothing else.
func Kept(did syntax.DID, raw []byte) ([]byte, error) {
	d, err := ParseDocument(did, raw)
	if err != nil {
		return nil, err
	}
	return d.kept()
}

func (d *Document) kept() ([]byte, error) {
	if len(d.Raw) <= MaxKept {
		return d.Raw, nil
	}
	var op didplc.RegularOp
	if h := d.Handle(); h != "" {
		op.AlsoKnownAs = []string{"at://" + h.String()}
	}
	if key := d.SigningKey(); key != "" {
		op.VerificationMethods = map[string]string{fragmentKey: key}
	}
	if pds := d.PDS(); pds != "" && len(pds) <= maxClaim {
		op.Services = map[string]didplc.OpService{fragmentPDS: {Type: typePDS, Endpoint: pds}}
	}
	return plc.Document(d.ID, didplc.OpEnum{Regular: &op})
}
