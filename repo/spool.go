package repo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/ipfs/go-cid"

	"nestbox/repo/car"
)

const (
	// spoolMemory is how much of a file is kept in memory, in bytes: the repositories
	// of most accounts fit. A larger file goes to disk.
	spoolMemory = 1 << 20
	// spoolChunk is how much is written to a client at once, in bytes. Each chunk has
	// the time that xrpc gives to a part of an answer.
	spoolChunk = 64 << 10
)

// spool is a CAR file that is made before it is sent, so that a slow client holds up
// a file and not the database. Once it is made, any number of calls may send it at
// once.
type spool struct {
	mem  []byte   // what is not in file yet
	file *os.File // nil while all of it is in memory
	size int64
	of   *Transfers
	// limited: its disk space counts, and may be refused.
	limited bool
	// pay, if set, is charged points for what the file holds above freeBytes.
	pay func(points int) error
}

// The first freeBytes of a file cost nothing, each bytesAPoint more a point.
const (
	freeBytes   = 8 << 20
	bytesAPoint = 1 << 20
)

// newSpool returns an empty spool, with the memory of a closed one. Memory that grew
// with the file would have many sizes, and be copied again and again.
func (t *Transfers) newSpool(limited bool) *spool {
	s := &spool{of: t, limited: limited}
	if mem, ok := t.spools.Get().(*[]byte); ok {
		s.mem = *mem
	} else {
		s.mem = make([]byte, 0, spoolMemory+spoolChunk)
	}
	return s
}

func (s *spool) header(roots ...cid.Cid) { s.mem = car.AppendHeader(s.mem, roots...) }

func (s *spool) block(id cid.Cid, data []byte) error {
	s.mem = car.AppendBlock(s.mem, id, data)
	return s.spill()
}

// rawBlock is block for a CID as bytes.
func (s *spool) rawBlock(id, data []byte) error {
	s.mem = car.AppendRaw(s.mem, id, data)
	return s.spill()
}

// spill moves to the file what is too much for memory.
func (s *spool) spill() error {
	if len(s.mem) < spoolMemory {
		return nil
	}
	return s.flush()
}

func (s *spool) flush() (err error) {
	if s.file == nil {
		if s.file, err = tempFile(s.of.TempDir, "export"); err != nil {
			return err
		}
	}
	n := int64(len(s.mem))
	if points := (max(s.size+n, freeBytes) - freeBytes) / bytesAPoint; s.pay != nil && points > s.paid() {
		if err := s.pay(int(points - s.paid())); err != nil {
			return err
		}
	}
	if s.limited {
		if err := s.of.reserve(n); err != nil {
			return err
		}
	}
	s.size += n
	if _, err := s.file.Write(s.mem); err != nil {
		return fmt.Errorf("write export: %w", err)
	}
	s.mem = s.mem[:0]
	return nil
}

// paid returns the points paid for what is in the file.
func (s *spool) paid() int64 { return (max(s.size, freeBytes) - freeBytes) / bytesAPoint }

// made ends the file; nothing is added any more. If err is set, or the file cannot be
// ended, made closes it and returns an error.
func (s *spool) made(err error) (*spool, error) {
	if err == nil && s.file != nil {
		err = s.flush()
	}
	if err != nil {
		s.close()
		return nil, err
	}
	// Sending may take a long time: the spool keeps no more than it needs.
	switch {
	case s.file != nil:
		s.recycle()
	case len(s.mem) <= cap(s.mem)/2:
		s.size = int64(len(s.mem))
		small := bytes.Clone(s.mem)
		s.recycle()
		s.mem = small
	default:
		s.size = int64(len(s.mem))
	}
	return s, nil
}

// recycle leaves the memory to the next spool.
func (s *spool) recycle() {
	if c := cap(s.mem); c >= spoolMemory && c <= 2*spoolMemory+spoolChunk {
		mem := s.mem[:0]
		s.of.spools.Put(&mem)
	}
	s.mem = nil
}

// send writes the file to w. Before each part it calls goOn with the bytes sent so
// far; an error ends it.
func (s *spool) send(w io.Writer, goOn func(sent int64) error) error {
	var buf []byte
	if s.file != nil {
		buf = make([]byte, spoolChunk)
	}
	for at := int64(0); at < s.size; {
		n := min(s.size-at, spoolChunk)
		var part []byte
		if s.file == nil {
			part = s.mem[at : at+n]
		} else {
			part = buf[:n]
			if _, err := s.file.ReadAt(part, at); err != nil {
				return fmt.Errorf("read export: %w", err)
			}
		}
		if err := goOn(at); err != nil {
			return err
		}
		if _, err := w.Write(part); err != nil {
			return fmt.Errorf("send export: %w", err)
		}
		at += n
	}
	return nil
}

// close gives the disk space back, and leaves the memory to the next spool. The file
// already has no name.
func (s *spool) close() {
	if s.file != nil {
		_ = s.file.Close() // nothing of it is needed
		if s.limited {
			s.of.room.Give(s.size)
		}
	}
	s.recycle()
}

// TempPrefix begins the names of temporary files, which have one only for a moment.
const TempPrefix = "nestbox-"

// tempFile makes a file without a name: it is gone when the process ends, however
// that ends.
func tempFile(dir, what string) (*os.File, error) {
	f, err := os.CreateTemp(dir, TempPrefix+what+"-*")
	if err != nil {
		return nil, fmt.Errorf("make temporary file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("unlink temporary file: %w", err), f.Close())
	}
	return f, nil
}
