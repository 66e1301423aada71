package dagcbor

import (
	"crypto/sha256"
	"fmt"

	"github.com/ipfs/go-cid"
)

// CIDs of the AT Protocol (https://atproto.com/specs/data-model#link-and-cid-formats):
// version 1, SHA-256, and one of two codecs.
const (
	codecRaw     = byte(cid.Raw)
	codecDagCBOR = byte(cid.DagCBOR)
	hashSHA256   = 0x12
	// cidLength is the length of a CID in bytes.
	cidLength = 4 + sha256.Size
)

// CID returns the CID of a block of DAG-CBOR.
func CID(block []byte) cid.Cid { return cidOf(codecDagCBOR, sha256.Sum256(block)) }

// RawCID returns the CID of a blob with the given SHA-256.
func RawCID(sum [sha256.Size]byte) cid.Cid { return cidOf(codecRaw, sum) }

func cidOf(codec byte, sum [sha256.Size]byte) cid.Cid {
	var b [cidLength]byte
	b[0], b[1], b[2], b[3] = 1, codec, hashSHA256, sha256.Size
	copy(b[4:], sum[:])
	_, c, err := cid.CidFromBytes(b[:])
	if err != nil {
		panic(err) // the form above is a CID
	}
	return c
}

// maxCIDText is longer than the text of every CID in use. Decoding some bases takes
// time that grows with the square of the length.
const maxCIDText = 128

// ParseCID reads a CID of any version as text. ErrForm: it is not a CID, or longer
// than any in use.
func ParseCID(text string) (cid.Cid, error) {
	if len(text) > maxCIDText {
		return cid.Undef, fmt.Errorf("%w: a CID of %d characters; the limit is %d", ErrForm, len(text), maxCIDText)
	}
	c, err := cid.Decode(text)
	if err != nil {
		return cid.Undef, fmt.Errorf("%w: %w", ErrForm, err)
	}
	return c, nil
}

// IsBlockCID reports whether c has the form of the CIDs of DAG-CBOR blocks.
func IsBlockCID(c cid.Cid) bool { return blessed(c, codecDagCBOR) }

// IsBlobCID reports whether c has the form of the CIDs of blobs.
func IsBlobCID(c cid.Cid) bool { return blessed(c, codecRaw) }

func blessed(c cid.Cid, codec byte) bool {
	k := c.KeyString()
	return len(k) == cidLength && k[0] == 1 && k[1] == codec && k[2] == hashSHA256 && k[3] == sha256.Size
}
