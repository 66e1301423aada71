// Package car reads and writes CAR files, version 1
// (https://ipld.io/specs/transport/car/carv1/): the form in which repositories,
// and proofs of parts of them, travel. It is pure: bytes come from and go to the
// caller's stream.
//
// Invariants: a Reader returns only blocks whose bytes have the hash in their CID,
// holds one block at a time, and refuses a block larger than MaxBlock before it
// allocates.
package car

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
)

const (
	// MaxBlock bounds a block, in bytes: a record has at most 1 MiB.
	MaxBlock = 2 << 20
	// maxHeader bounds the header, in bytes.
	maxHeader = 4 << 10
)

// ErrForm: the stream is not a readable CAR file; the text names the place.
var ErrForm = errors.New("malformed CAR file")

// Block is one block: its bytes have the hash in its CID.
type Block struct {
	CID  cid.Cid
	Data []byte
}

// AppendHeader begins a file: with one root, or with none if it is a set of blocks.
func AppendHeader(dst []byte, roots ...cid.Cid) []byte {
	header := dagcbor.AppendMapHead(nil, 2)
	header = dagcbor.AppendText(header, "roots")
	header = dagcbor.AppendArrayHead(header, len(roots))
	for _, root := range roots {
		header = dagcbor.AppendLink(header, root)
	}
	header = dagcbor.AppendText(header, "version")
	header = dagcbor.AppendInt(header, 1)
	dst = binary.AppendUvarint(dst, uint64(len(header)))
	return append(dst, header...)
}

// AppendBlock appends a block.
func AppendBlock(dst []byte, id cid.Cid, data []byte) []byte {
	return AppendRaw(dst, id.KeyString(), data)
}

// AppendRaw is AppendBlock for a CID as bytes.
func AppendRaw[T string | []byte](dst []byte, id T, data []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(id)+len(data)))
	dst = append(dst, id...)
	return append(dst, data...)
}

// Reader reads a file block by block.
type Reader struct {
	r     *bufio.Reader
	at    int64
	roots []cid.Cid
}

// NewReader reads the header. Errors: ErrForm, and those of r.
func NewReader(r io.Reader) (*Reader, error) {
	c := &Reader{r: bufio.NewReaderSize(r, 64<<10)}
	header, err := c.section(maxHeader)
	if errors.Is(err, io.EOF) {
		return nil, c.fault("it is empty")
	}
	if err != nil {
		return nil, err
	}
	v, err := dagcbor.Decode(header)
	if err != nil {
		return nil, c.fault("header: %v", err)
	}
	m, ok := v.(map[string]any)
	if roots, isList := m["roots"].([]any); ok && isList && m["version"] == int64(1) && len(m) == 2 {
		for _, root := range roots {
			id, isLink := root.(cid.Cid)
			if !isLink {
				return nil, c.fault("a root is no link")
			}
			c.roots = append(c.roots, id)
		}
		return c, nil
	}
	return nil, c.fault("the header is not of version 1")
}

// Roots returns the CIDs that the header names.
func (c *Reader) Roots() []cid.Cid { return c.roots }

// Offset returns how many bytes of the stream have been read: the end of the block
// that Next returned.
func (c *Reader) Offset() int64 { return c.at }

// Next returns the next block, io.EOF at the end of the file. It skips blocks of CIDs
// that nothing in a repository can link to
// (https://atproto.com/specs/repository#car-file-serialization).
func (c *Reader) Next() (Block, error) {
	for {
		b, err := c.next()
		if err != nil || b.CID.Defined() {
			return b, err
		}
	}
}

// next is Next, with an undefined CID for a skipped block.
func (c *Reader) next() (Block, error) {
	raw, err := c.section(MaxBlock + 64)
	if err != nil {
		return Block{}, err
	}
	n, id, err := cid.CidFromBytes(raw)
	if err != nil {
		return Block{}, c.fault("a block's CID: %v", err)
	}
	if !dagcbor.IsBlockCID(id) && !dagcbor.IsBlobCID(id) {
		return Block{}, nil
	}
	data := raw[n:]
	sum := sha256.Sum256(data)
	if id.KeyString()[n-sha256.Size:] != string(sum[:]) {
		return Block{}, c.fault("the bytes of block %s have another hash", id)
	}
	return Block{CID: id, Data: data}, nil
}

// section reads one length-prefixed part. io.EOF: the stream ends before it.
func (c *Reader) section(limit uint64) ([]byte, error) {
	size, err := c.length()
	if err != nil {
		return nil, err
	}
	if size == 0 || size > limit {
		return nil, c.fault("a part of %d bytes; the limit is %d", size, limit)
	}
	buf := make([]byte, size)
	n, err := io.ReadFull(c.r, buf)
	c.at += int64(n)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, c.fault("it is cut off")
	}
	if err != nil {
		return nil, fmt.Errorf("read CAR file: %w", err)
	}
	return buf, nil
}

// length reads an unsigned varint in its shortest form
// (https://github.com/multiformats/unsigned-varint).
func (c *Reader) length() (n uint64, err error) {
	for i := 0; ; i++ {
		b, err := c.r.ReadByte()
		switch {
		case errors.Is(err, io.EOF) && i == 0:
			return 0, io.EOF
		case errors.Is(err, io.EOF):
			return 0, c.fault("it is cut off")
		case err != nil:
			return 0, fmt.Errorf("read CAR file: %w", err)
		}
		c.at++
		if i == 4 || b == 0 && i > 0 {
			return 0, c.fault("a length is too long, or not in its shortest form")
		}
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return n, nil
		}
	}
}

func (c *Reader) fault(format string, args ...any) error {
	return fmt.Errorf("%w: byte %d: %s", ErrForm, c.at, fmt.Sprintf(format, args...))
}
