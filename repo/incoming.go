package repo

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
	"nestbox/repo/car"
	"nestbox/repo/mst"
)

const (
	// maxBlocks bounds the blocks of an import.
	maxBlocks = 8 << 20
	// cidLength is the length of the CID of a block, in bytes.
	cidLength = 36
	// sizeBits is what a place in a file needs for a block's length.
	sizeBits = 22
)

// What can be wrong with a file, beside its form.
var (
	errMissing = errors.New("not in the file")
	errRecord  = errors.New("malformed record")
)

// incoming is a CAR file that was received whole. Every block in it has the
// hash that its CID says.
type incoming struct {
	file  *os.File
	root  cid.Cid
	index []place // by hash
	buf   []byte
}

// place is where a block is: 16 bytes, since a large repository has millions.
type place struct {
	hash uint64 // the start of the CID's hash
	at   uint64 // the offset of the block's data, and in the lowest sizeBits its length
}

// receive takes a CAR file and closes nothing.
func (s *Service) receive(ctx context.Context, r io.Reader) (_ *incoming, err error) {
	f, err := tempFile(s.TempDir, "import")
	if err != nil {
		return nil, err
	}
	in := &incoming{file: f}
	defer func() {
		if err != nil {
			in.close()
		}
	}()
	disk := &diskWriter{w: bufio.NewWriterSize(f, 256<<10)}
	body := &capped{r: r, left: s.maxImport()}
	err = in.read(ctx, io.TeeReader(body, disk))
	if err == nil {
		disk.err = disk.w.Flush()
	}
	switch {
	case disk.err != nil:
		return nil, fmt.Errorf("write import: %w", disk.err)
	case body.left < 0:
		return nil, fmt.Errorf("%w: the file has more than %d bytes", ErrTooLarge, s.maxImport())
	case err != nil:
		return nil, refused(err)
	}
	slices.SortFunc(in.index, func(a, b place) int { return cmp.Compare(a.hash, b.hash) })
	return in, nil
}

// read reads the file and notes where its blocks are.
func (in *incoming) read(ctx context.Context, r io.Reader) error {
	c, err := car.NewReader(r)
	if err != nil {
		return err
	}
	if len(c.Roots()) != 1 {
		return fmt.Errorf("%w: expected one root, the file has %d", ErrImport, len(c.Roots()))
	}
	in.root = c.Roots()[0]
	for n := 0; ; n++ {
		b, err := c.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if n == maxBlocks {
			return fmt.Errorf("%w: the file has more than %d blocks", ErrTooLarge, maxBlocks)
		}
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if dagcbor.IsBlockCID(b.CID) { // others are not of a repository
			at := uint64(c.Offset()-int64(len(b.Data)))<<sizeBits | uint64(len(b.Data)) //nolint:gosec // both are small
			in.index = append(in.index, place{hashOf(b.CID), at})
		}
	}
}

// hashOf is the start of the hash in the CID of a block.
func hashOf(id cid.Cid) uint64 {
	return binary.BigEndian.Uint64([]byte(id.KeyString()[cidLength-32:]))
}

// block returns a block's bytes, until the next call.
func (in *incoming) block(id cid.Cid) ([]byte, error) {
	if !dagcbor.IsBlockCID(id) {
		return nil, fmt.Errorf("block %s: %w", id, errMissing)
	}
	hash := hashOf(id)
	i, _ := slices.BinarySearchFunc(in.index, hash, func(p place, hash uint64) int { return cmp.Compare(p.hash, hash) })
	for ; i < len(in.index) && in.index[i].hash == hash; i++ {
		at, size := int64(in.index[i].at>>sizeBits), int(in.index[i].at&(1<<sizeBits-1))
		in.buf = slices.Grow(in.buf[:0], cidLength+size)[:cidLength+size]
		if _, err := in.file.ReadAt(in.buf, at-cidLength); err != nil {
			return nil, fmt.Errorf("read import: %w", err)
		}
		if string(in.buf[:cidLength]) == id.KeyString() {
			return in.buf[cidLength:], nil
		}
	}
	return nil, fmt.Errorf("block %s: %w", id, errMissing)
}

// walk goes through the tree below root and calls entry for each of its keys.
func (in *incoming) walk(root cid.Cid, entry func(key string, id cid.Cid) error) error {
	w := mst.Walker{Entry: entry, Load: func(l *mst.Link) (*mst.Node, error) {
		block, err := in.block(l.CID)
		if err == nil {
			var n *mst.Node
			if n, err = mst.Decode(block); err == nil {
				return n, nil
			}
		}
		return nil, fmt.Errorf("tree node %s: %w", l.CID, err)
	}}
	return w.Walk(mst.Link{CID: root})
}

func (in *incoming) close() { _ = in.file.Close() } // nothing of it is needed

// recordChecker checks records in the order of their keys.
type recordChecker struct{ collection string } // the last one that was found valid

// record says whether a block can be the record of a key.
func (c *recordChecker) record(key string, block []byte) error {
	_, err := c.decode(key, block)
	return err
}

// decode returns the record that a block is, if it can be that of a key.
func (c *recordChecker) decode(key string, block []byte) (map[string]any, error) {
	collection, rkey, _ := strings.Cut(key, "/")
	if collection != c.collection {
		if _, err := syntax.ParseNSID(collection); err != nil {
			return nil, fmt.Errorf("%w: its collection: %w", errRecord, err)
		}
		c.collection = collection
	}
	if _, err := syntax.ParseRecordKey(rkey); err != nil {
		return nil, fmt.Errorf("%w: its key: %w", errRecord, err)
	}
	if len(block) > MaxRecord {
		return nil, fmt.Errorf("%w: it has %d bytes; the limit is %d", errRecord, len(block), MaxRecord)
	}
	v, err := dagcbor.Decode(block)
	if err != nil {
		return nil, err
	}
	record, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%w: it is no object", errRecord)
	}
	return record, nil
}

// diskWriter remembers the error that writing had: whose fault it was.
type diskWriter struct {
	w   *bufio.Writer
	err error
}

func (d *diskWriter) Write(b []byte) (int, error) {
	n, err := d.w.Write(b)
	if err != nil {
		d.err = err
	}
	return n, err
}

// capped ends a stream that is longer than it may be. left is negative then.
type capped struct {
	r    io.Reader
	left int64
}

func (c *capped) Read(b []byte) (int, error) {
	if c.left < 0 {
		return 0, io.ErrUnexpectedEOF
	}
	// One byte more is read than there may be, to see whether there is.
	if int64(len(b)) > c.left+1 {
		b = b[:c.left+1]
	}
	n, err := c.r.Read(b)
	if c.left -= int64(n); c.left < 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
