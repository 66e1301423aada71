package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	// chunkSize is the size of a chunk of a database's file, in bytes; the last one is filled
	// up with zeros. unitSize is what a delta counts in.
	chunkSize = 256 << 10
	unitSize  = 4 << 10
	units     = chunkSize / unitSize
	// maxDelta is how many units of a chunk a delta has at most: of more it is not worth it.
	maxDelta = units / 3
	// packSize is when a pack is full, maxPack bounds it when it is read, both in bytes.
	packSize = 8 << 20
	maxPack  = 16 << 20
)

// place is where something lies: in a pack, by its index in a table of packs.
type place struct{ pack, offset, size uint32 }

// entry is a chunk of a map, by its position.
type entry struct {
	hash [sha256.Size]byte
	at   place
	// base is a whole chunk. If it is not the chunk itself, at is a delta to it.
	base   [sha256.Size]byte
	baseAt place
}

func (e *entry) isDelta() bool { return e.at != e.baseAt }

// entrySize is that of an encoded entry, in bytes.
const entrySize = 2 * (sha256.Size + 12)

func (e *entry) append(b []byte) []byte {
	for _, half := range []struct {
		hash [sha256.Size]byte
		at   place
	}{{e.hash, e.at}, {e.base, e.baseAt}} {
		b = append(b, half.hash[:]...)
		for _, n := range []uint32{half.at.pack, half.at.offset, half.at.size} {
			b = binary.BigEndian.AppendUint32(b, n)
		}
	}
	return b
}

func decodeEntry(b []byte) (e entry) {
	half := func(b []byte) ([sha256.Size]byte, place) {
		number := func(n int) uint32 { return binary.BigEndian.Uint32(b[sha256.Size+4*n:]) }
		return [sha256.Size]byte(b), place{number(0), number(1), number(2)}
	}
	e.hash, e.at = half(b)
	e.base, e.baseAt = half(b[entrySize/2:])
	return e
}

// chunks returns how many chunks a file of a size has.
func chunks(size int64) int64 { return (size + chunkSize - 1) / chunkSize }

// prints are hashes of the units of a chunk: enough of each to find which have changed.
type prints [units][16]byte

func printsOf(chunk []byte) (p prints) {
	for i := range p {
		sum := sha256.Sum256(chunk[i*unitSize : (i+1)*unitSize])
		copy(p[i][:], sum[:])
	}
	return p
}

// printsSize is that of encoded prints, in bytes.
const printsSize = units * 16

func (p *prints) append(b []byte) []byte {
	for i := range p {
		b = append(b, p[i][:]...)
	}
	return b
}

func decodePrints(b []byte) (p prints) {
	for i := range p {
		copy(p[i][:], b[16*i:])
	}
	return p
}

// deltaOf returns the units of chunk that differ from a base, and which they are. ok is
// false if they are too many.
func deltaOf(chunk []byte, base, now *prints) (delta []byte, ok bool) {
	changed, n := uint64(0), 0
	for i := range units {
		if base[i] != now[i] {
			changed |= 1 << i
			n++
		}
	}
	if n > maxDelta {
		return nil, false
	}
	delta = binary.BigEndian.AppendUint64(make([]byte, 0, 8+n*unitSize), changed)
	for i := range units {
		if changed&(1<<i) != 0 {
			delta = append(delta, chunk[i*unitSize:(i+1)*unitSize]...)
		}
	}
	return delta, true
}

// errDelta: a delta has another size than its first number says.
var errDelta = errors.New("a part of a pack does not fit its chunk")

// applyDelta changes a base into the chunk that a delta was made of.
func applyDelta(base, delta []byte) error {
	if len(delta) < 8 {
		return errDelta
	}
	changed := binary.BigEndian.Uint64(delta)
	delta = delta[8:]
	for i := range units {
		if changed&(1<<i) == 0 {
			continue
		}
		if len(delta) < unitSize {
			return errDelta
		}
		copy(base[i*unitSize:], delta[:unitSize])
		delta = delta[unitSize:]
	}
	if len(delta) > 0 {
		return errDelta
	}
	return nil
}

// mapMagic begins a map: the number of packs, then the hashes in their names, then the
// entries. All numbers are big-endian.
const mapMagic = "nestbox map 1\n"

// chart is a decoded map.
type chart struct {
	packs   []string // hashes in the names of the packs
	entries []entry
}

// readChart decodes a map of n chunks.
func readChart(r io.Reader, n int64) (*chart, error) {
	head := make([]byte, len(mapMagic)+4)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, fmt.Errorf("read the map: %w", err)
	}
	if !bytes.HasPrefix(head, []byte(mapMagic)) {
		return nil, fmt.Errorf("the map: %w", ErrDamaged)
	}
	c := &chart{}
	for range binary.BigEndian.Uint32(head[len(mapMagic):]) {
		var sum [sha256.Size]byte
		if _, err := io.ReadFull(r, sum[:]); err != nil {
			return nil, fmt.Errorf("read the map: %w", err)
		}
		c.packs = append(c.packs, fmt.Sprintf("%x", sum))
	}
	raw := make([]byte, entrySize)
	for range n {
		if _, err := io.ReadFull(r, raw); err != nil {
			return nil, fmt.Errorf("read the map: %w", err)
		}
		e := decodeEntry(raw)
		if int(max(e.at.pack, e.baseAt.pack)) >= len(c.packs) {
			return nil, fmt.Errorf("the map: %w: it names a pack that it does not have", ErrDamaged)
		}
		c.entries = append(c.entries, e)
	}
	if n, err := io.ReadFull(r, raw[:1]); n > 0 || !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("the map: %w: it has more than the database", ErrDamaged)
	}
	return c, nil
}
