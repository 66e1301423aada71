package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/ipfs/go-cid"

	"nestbox/repo/car"
)

const (
	// spoolMemory is how much of a file is kept in memory, in bytes: the
	// repositories of most accounts fit. What is larger goes to disk.
	spoolMemory = 1 << 20
	// spoolChunk is how much is written to a client at once, in bytes. Each has
	// the time that xrpc gives to a part of an answer.
	spoolChunk = 64 << 10
)

// spool is a CAR file that is made before it is sent, so that whoever takes it
// slowly holds up a file and not the database.
type spool struct {
	dir  string
	mem  []byte   // what is not in file yet
	file *os.File // nil while all of it is in memory
	size int64
	pool *sync.Pool // of *spool
}

// newSpool returns an empty spool, with the memory of one that was closed.
func newSpool(dir string, pool *sync.Pool) *spool {
	s, ok := pool.Get().(*spool)
	if !ok {
		s = &spool{}
	}
	s.dir, s.pool = dir, pool
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

// spill writes to the file what is too much for memory.
func (s *spool) spill() error {
	if len(s.mem) < spoolMemory {
		return nil
	}
	return s.flush()
}

func (s *spool) flush() (err error) {
	if s.file == nil {
		if s.file, err = tempFile(s.dir, "export"); err != nil {
			return err
		}
	}
	if _, err := s.file.Write(s.mem); err != nil {
		return fmt.Errorf("write export: %w", err)
	}
	s.size += int64(len(s.mem))
	s.mem = s.mem[:0]
	return nil
}

// finish ends the file; nothing is added any more.
func (s *spool) finish() error {
	if s.file == nil {
		s.size = int64(len(s.mem))
		return nil
	}
	if err := s.flush(); err != nil {
		return err
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read export: %w", err)
	}
	return nil
}

// send writes the file to w, and asks before each part whether to go on.
func (s *spool) send(w io.Writer, goOn func() error) error {
	rest := s.mem
	if s.file != nil {
		rest = make([]byte, spoolChunk)
	}
	for {
		part := rest[:min(len(rest), spoolChunk)]
		if s.file == nil {
			rest = rest[len(part):]
		} else {
			n, err := s.file.Read(part)
			if err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("read export: %w", err)
			}
			part = part[:n]
		}
		if len(part) == 0 {
			return nil
		}
		if err := goOn(); err != nil {
			return err
		}
		if _, err := w.Write(part); err != nil {
			return fmt.Errorf("send export: %w", err)
		}
	}
}

// close gives the disk space back, and the memory to the next. The file has no
// name any more.
func (s *spool) close() {
	if s.file != nil {
		_ = s.file.Close() // nothing of it is needed
	}
	if s.pool != nil && cap(s.mem) <= 2*spoolMemory {
		s.pool.Put(&spool{mem: s.mem[:0]})
	}
}

// TempPrefix begins the names of temporary files, as long as they have one: a
// moment.
const TempPrefix = "nestbox-"

// tempFile makes a file without a name: it is gone with the process, however
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

// slots bound how many do something at once. The zero value is ready.
type slots struct {
	once sync.Once
	free chan struct{}
}

// take waits for one of n slots and returns the function that gives it back.
func (s *slots) take(ctx context.Context, n int) (give func(), err error) {
	s.once.Do(func() { s.free = make(chan struct{}, n) })
	select {
	case s.free <- struct{}{}:
		return s.give, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// try is take for who does not wait.
func (s *slots) try(n int) (give func(), ok bool) {
	s.once.Do(func() { s.free = make(chan struct{}, n) })
	select {
	case s.free <- struct{}{}:
		return s.give, true
	default:
		return nil, false
	}
}

func (s *slots) give() { <-s.free }
