package sqlite

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
)

// The form of a write-ahead log: https://www.sqlite.org/fileformat2.html#walformat.
const (
	walHeaderSize   = 32
	frameHeaderSize = 24
	// walMagic is the first number of a log whose checksums are over little-endian
	// numbers; it is one more if they are big-endian.
	walMagic = 0x377f0682
)

// walFile reads the committed frames of a write-ahead log while others append to it. It
// belongs to one goroutine.
type walFile struct {
	path   string
	header [walHeaderSize]byte // all zero before the log began
	order  binary.ByteOrder
	// pageSize is 0 before the log began.
	pageSize int64
	// end is behind the last committed frame, sum the checksum there.
	end int64
	sum [2]uint32
	// pages is the size of the database after the last commit, in pages.
	pages uint32
	// frames has, by page, where the newest committed content since from lies.
	frames map[uint32]int64
}

func newWALFile(path string) *walFile {
	return &walFile{path: path, frames: map[uint32]int64{}}
}

// advance reads what was committed since the last call. If the log has started over since,
// its header is another one, and frames has only what is in the log now.
func (w *walFile) advance() error {
	file, err := os.Open(w.path)
	if errors.Is(err, os.ErrNotExist) {
		w.reset([walHeaderSize]byte{})
		return nil
	}
	if err != nil {
		return fmt.Errorf("read write-ahead log: %w", err)
	}
	defer file.Close() //nolint:errcheck // it was only read
	var header [walHeaderSize]byte
	if _, err := file.ReadAt(header[:], 0); err != nil {
		if !errors.Is(err, io.EOF) {
			return fmt.Errorf("read write-ahead log: %w", err)
		}
		header = [walHeaderSize]byte{} // it is empty
	}
	if header != w.header {
		w.reset(header)
	}
	if w.pageSize == 0 {
		return nil
	}
	return w.read(file)
}

// reset begins with the first frame of a log. A header that is not whole has none.
func (w *walFile) reset(header [walHeaderSize]byte) {
	*w = walFile{path: w.path, header: header, frames: map[uint32]int64{}}
	number := func(n int) uint32 { return binary.BigEndian.Uint32(header[4*n:]) }
	switch number(0) {
	case walMagic:
		w.order = binary.LittleEndian
	case walMagic + 1:
		w.order = binary.BigEndian
	default:
		return
	}
	w.sum = checksum(w.order, [2]uint32{}, header[:24])
	if w.sum != [2]uint32{number(6), number(7)} {
		return
	}
	w.pageSize, w.end = int64(number(2)), walHeaderSize
}

// read reads frames up to the last commit.
func (w *walFile) read(file *os.File) error {
	const ahead = 1 << 20
	in := bufio.NewReaderSize(io.NewSectionReader(file, w.end, 1<<62), ahead)
	frame := make([]byte, frameHeaderSize+w.pageSize)
	at, sum := w.end, w.sum
	waiting := map[uint32]int64{} // frames that no commit has followed yet
	for {
		if _, err := io.ReadFull(in, frame); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil
			}
			return fmt.Errorf("read write-ahead log: %w", err)
		}
		number := func(n int) uint32 { return binary.BigEndian.Uint32(frame[4*n:]) }
		if string(frame[8:16]) != string(w.header[16:24]) {
			return nil // a frame of an earlier log
		}
		sum = checksum(w.order, sum, frame[:8])
		sum = checksum(w.order, sum, frame[frameHeaderSize:])
		if sum != [2]uint32{number(4), number(5)} {
			return nil // it is being written
		}
		waiting[number(0)] = at + frameHeaderSize
		at += int64(len(frame))
		if commit := number(1); commit > 0 {
			maps.Copy(w.frames, waiting)
			clear(waiting)
			w.end, w.sum, w.pages = at, sum, commit
		}
	}
}

// checksum goes on with the checksum of a log. The length of data is a multiple of 8.
func checksum(order binary.ByteOrder, sum [2]uint32, data []byte) [2]uint32 {
	s0, s1 := sum[0], sum[1]
	if order == binary.LittleEndian { // without the calls of an interface
		for ; len(data) >= 8; data = data[8:] {
			s0 += binary.LittleEndian.Uint32(data) + s1
			s1 += binary.LittleEndian.Uint32(data[4:]) + s0
		}
		return [2]uint32{s0, s1}
	}
	for ; len(data) >= 8; data = data[8:] {
		s0 += order.Uint32(data) + s1
		s1 += order.Uint32(data[4:]) + s0
	}
	return [2]uint32{s0, s1}
}

// each calls yield for each page of frames, by its number. The log must not start over
// meanwhile.
func (w *walFile) each(yield func(page uint32, content []byte) error) (err error) {
	if len(w.frames) == 0 {
		return nil
	}
	file, err := os.Open(w.path)
	if err != nil {
		return fmt.Errorf("read write-ahead log: %w", err)
	}
	defer file.Close() //nolint:errcheck // it was only read
	content := make([]byte, w.pageSize)
	for _, page := range slices.Sorted(maps.Keys(w.frames)) {
		if page > w.pages {
			continue // the database has become shorter
		}
		if _, err := file.ReadAt(content, w.frames[page]); err != nil {
			return fmt.Errorf("read write-ahead log: %w", err)
		}
		if err := yield(page, content); err != nil {
			return err
		}
	}
	return nil
}
