package repo

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
	"nestbox/repo/car"
	"nestbox/repo/mst"
)

const (
	// uploadPace is how fast a client's file must come, in bytes a second, behind
	// uploadPatience: 2 GiB may take 18 hours. Slower uploads would hold disk space
	// that others need.
	uploadPace     = 32 << 10
	uploadPatience = 2 * time.Minute
	// crowdedPace is how fast a client's file must come while there is no room for
	// the file of another client, in bytes a second: 2 GiB take an hour.
	crowdedPace = 512 << 10
	// uploadsAtOnce is how many files of the largest size clients may have on
	// disk together.
	uploadsAtOnce = 4
	// uploadBuffer is how many bytes of a file are in memory while it comes.
	uploadBuffer = 64 << 10

	// maxBlocks bounds the blocks of an import.
	maxBlocks = 8 << 20
	// cidLength is the length of the CID of a block, in bytes.
	cidLength = 36
	// sizeBits is how many bits of a location hold a block's length.
	sizeBits = 22
	// maxTreePath is how many bytes of memory the nodes on the way to one key may take.
	// Usually they take some kilobytes.
	maxTreePath = 64 << 20
)

// Faults that a file can have, beside its form.
var (
	errMissing = errors.New("not in the file")
	errRecord  = errors.New("malformed record")
)

var (
	// ErrSlow: the file came too slowly. It is an ErrImport.
	ErrSlow      = fmt.Errorf("%w: it must come at %d bytes a second", ErrImport, uploadPace)
	errSpoolFull = fmt.Errorf("%w: the files of imports take as much of the disk as they may", ErrBusy)
	errCrowded   = fmt.Errorf("%w: the disk space of imports is needed for a faster one: "+
		"a file must come at %d bytes a second while others wait", ErrBusy, crowdedPace)
)

// upload is a file while it comes.
type upload struct {
	r     io.Reader
	limit int64 // bytes
	// all bounds, in bytes, what all files of shared take together.
	all int64
	// now and shared are set if it is a client's; free is set if the disk is known.
	now    func() time.Time
	shared *imports
	free   func() (int64, error)
	// yield, if set, gives up disk space of another file, and reports whether it did.
	yield func() bool

	size   int64 // bytes so far
	waited time.Duration

	// shared guards the rest. taken is the disk space it takes.
	taken int64
	// slow: uploadPatience is over, and it has come more slowly than crowdedPace.
	slow bool
	// cut: its disk space was given to another upload.
	cut bool
}

func (u *upload) Read(b []byte) (n int, err error) {
	if u.shared == nil {
		n, err = u.r.Read(b)
	} else {
		began := u.now()
		n, err = u.r.Read(b)
		u.waited += u.now().Sub(began)
	}
	size := u.size + int64(n)
	if size > u.limit {
		return 0, fmt.Errorf("%w: the file has more than %d bytes", ErrTooLarge, u.limit)
	}
	if u.shared != nil {
		if u.waited > uploadPatience+time.Duration(size/uploadPace)*time.Second {
			return 0, ErrSlow
		}
		if err := u.reserve(int64(n)); err != nil {
			return 0, err
		}
		if errors.Is(err, io.EOF) {
			u.shared.whole(u)
		}
	}
	u.size = size
	return n, err
}

// reserve takes n more bytes of the disk. All clients' files together may take u.all, and
// half of what would be free without them.
func (u *upload) reserve(n int64) error {
	free := int64(math.MaxInt64)
	if u.free != nil {
		var err error
		if free, err = u.free(); err != nil {
			return err
		}
	}
	for {
		err := u.shared.reserve(u, n, u.all, free)
		if !errors.Is(err, errSpoolFull) || u.yield == nil || !u.yield() {
			return err
		}
		if u.free != nil {
			if free, err = u.free(); err != nil {
				return err
			}
		}
	}
}

// release gives the disk space to others.
func (u *upload) release() { u.shared.release(u) }

// incoming is a CAR file that was received in full. Once it was read, every block in
// it has the hash in its CID.
type incoming struct {
	file  *os.File
	size  int64
	root  cid.Cid
	index index
	// blocks is how many different blocks it has.
	blocks int
	buf    []byte
}

// index holds where the blocks are, by the first byte of their hash; each part is
// sorted once all are there. Growing one part takes little more memory, while growing
// one slice would take twice its size.
type index [256][]location

// location is where a block is: 16 bytes, since a large repository has millions.
type location struct {
	hash uint64 // the start of the CID's hash
	at   uint64 // the offset of the block's data, and in the lowest sizeBits its length
}

// receive accepts a file, whatever is in it.
func (s *Service) receive(ctx context.Context, u *upload) (*incoming, error) {
	f, err := tempFile(s.TempDir, "import")
	if err != nil {
		return nil, err
	}
	in := &incoming{file: f}
	buf := make([]byte, uploadBuffer)
	for {
		n, err := u.Read(buf)
		if _, werr := f.Write(buf[:n]); werr != nil {
			err = fmt.Errorf("write import: %w", werr)
		}
		in.size += int64(n)
		if err == nil {
			err = ctx.Err()
		}
		if errors.Is(err, io.EOF) {
			return in, nil
		}
		if err != nil {
			in.close()
			return nil, err
		}
	}
}

// read reads the file and notes where its blocks are.
func (in *incoming) read(ctx context.Context) error {
	c, err := car.NewReader(io.NewSectionReader(in.file, 0, in.size))
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
			break
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
		if dagcbor.IsBlockCID(b.CID) { // other blocks are not part of a repository
			at := uint64(c.Offset()-int64(len(b.Data)))<<sizeBits | uint64(len(b.Data)) //nolint:gosec // both are small
			in.index.add(location{hashOf(b.CID), at})
		}
	}
	in.index.sort()
	return in.unique()
}

// unique leaves one location of each block, so a block that the file repeats costs no
// more to find than any other.
func (in *incoming) unique() error {
	for n, part := range in.index {
		kept := part[:0]
		for from := 0; from < len(part); {
			to := from + 1
			for to < len(part) && part[to].hash == part[from].hash {
				to++
			}
			var err error
			if kept, err = in.appendDistinct(kept, part[from:to]); err != nil {
				return err
			}
			from = to
		}
		in.index[n] = kept
		in.blocks += len(kept)
	}
	return nil
}

// appendDistinct appends one location of each block among those of the same hash.
// Usually there is one. Nobody can make many different blocks whose hashes begin with
// the same 64 bits: two take 2^32 attempts, four take 2^48.
func (in *incoming) appendDistinct(kept, same []location) ([]location, error) {
	if len(same) == 1 {
		return append(kept, same[0]), nil
	}
	var seen []string
	for _, l := range same {
		var id [cidLength]byte
		if _, err := in.file.ReadAt(id[:], int64(l.at>>sizeBits)-cidLength); err != nil {
			return nil, fmt.Errorf("read import: %w", err)
		}
		if !slices.Contains(seen, string(id[:])) {
			seen = append(seen, string(id[:]))
			kept = append(kept, l)
		}
	}
	return kept, nil
}

func (x *index) add(l location) {
	part := &x[l.hash>>56]
	*part = append(*part, l)
}

func (x *index) sort() {
	for _, part := range x {
		slices.SortFunc(part, func(a, b location) int { return cmp.Compare(a.hash, b.hash) })
	}
}

// of returns the locations of blocks whose hash starts like that: usually one.
func (x *index) of(hash uint64) []location {
	part := x[hash>>56]
	from, _ := slices.BinarySearchFunc(part, hash, func(l location, hash uint64) int { return cmp.Compare(l.hash, hash) })
	to := from
	for to < len(part) && part[to].hash == hash {
		to++
	}
	return part[from:to]
}

// hashOf returns the start of the hash in the CID of a block.
func hashOf(id cid.Cid) uint64 {
	return binary.BigEndian.Uint64([]byte(id.KeyString()[cidLength-32:]))
}

// block returns a block's bytes, until the next call.
func (in *incoming) block(id cid.Cid) ([]byte, error) {
	if !dagcbor.IsBlockCID(id) {
		return nil, fmt.Errorf("block %s: %w", id, errMissing)
	}
	for _, l := range in.index.of(hashOf(id)) {
		at, size := int64(l.at>>sizeBits), int(l.at&(1<<sizeBits-1))
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

// walk goes through the tree below root, which need not be in canonical form, and
// calls entry for each of its keys, in ascending order.
func (in *incoming) walk(root cid.Cid, entry func(key string, id cid.Cid) error) error {
	w := mst.LooseWalker{Entry: entry, MaxNodes: 2*in.blocks + 1, MaxMemory: maxTreePath, Load: func(id cid.Cid) (*mst.Node, error) {
		block, err := in.block(id)
		if err == nil {
			var n *mst.Node
			if n, err = mst.DecodeLoose(block); err == nil {
				return n, nil
			}
		}
		return nil, fmt.Errorf("tree node %s: %w", id, err)
	}}
	return w.Walk(root)
}

func (in *incoming) close() { _ = in.file.Close() } // nothing of it is needed

// recordChecker checks and decodes records in the order of their keys.
type recordChecker struct {
	// collection is the last one that was found valid; checked means that there was
	// one.
	collection string
	checked    bool
}

// key checks the key of a record in the tree. Its error is errRecord with the reason.
func (c *recordChecker) key(key string) error {
	collection, rkey, _ := strings.Cut(key, "/")
	if collection != c.collection || !c.checked {
		if _, err := syntax.ParseNSID(collection); err != nil {
			return fmt.Errorf("%w: its collection: %w", errRecord, err)
		}
		c.collection, c.checked = collection, true
	}
	if _, err := syntax.ParseRecordKey(rkey); err != nil {
		return fmt.Errorf("%w: its key: %w", errRecord, err)
	}
	return nil
}

// decodeRecord returns the record in a block, or nil if it cannot be decoded. odd is
// why the block could not be written here; it is kept all the same, since it came
// with a repository that its owner moved here.
func decodeRecord(block []byte) (record map[string]any, odd error) {
	v, odd := dagcbor.Decode(block)
	if odd != nil {
		var err error
		if v, err = dagcbor.DecodeLoose(block); err != nil {
			return nil, odd
		}
	}
	record, ok := v.(map[string]any)
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: it is not an object", errRecord)
	case odd == nil && len(block) > MaxRecord:
		odd = fmt.Errorf("%w: it has %d bytes; the limit is %d", errRecord, len(block), MaxRecord)
	}
	return record, odd
}
