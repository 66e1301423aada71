// Package logfile writes a log to a file that is closed in time: it is opened again when another
// program has moved it, and begins again before it is too large. Each Write is one line, which is
// never split.
package logfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync"
)

// File is a log. It is safe for concurrent use.
type File struct {
	path string
	most int64
	keep int

	mu   sync.Mutex
	file *os.File
	size int64
}

// Open opens, or makes, the file at path, for its owner and group. Beyond most bytes it becomes
// path.1, that path.2 and so on; keep of these are kept. With a most of 0 it only grows.
func Open(path string, most int64, keep int) (*File, error) {
	f := &File{path: path, most: most, keep: keep}
	if err := f.open(); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *File) open() error {
	file, err := os.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640) //nolint:gosec // the operator's own log
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	fi, err := file.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("look at the log: %w", err), file.Close())
	}
	f.file, f.size = file, fi.Size()
	return nil
}

// Write writes one line. A file that cannot begin again goes on: a log that is too large is better
// than none.
func (f *File) Write(line []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.most > 0 && f.size+int64(len(line)) > f.most {
		f.turn()
	}
	n, err := f.file.Write(line)
	f.size += int64(n)
	return n, err
}

// turn begins a new file, unless this one has become short meanwhile: a program may have copied
// and emptied it.
func (f *File) turn() {
	fi, err := f.file.Stat()
	if err == nil && fi.Size() < f.size {
		f.size = fi.Size()
		return
	}
	if f.size == 0 {
		return // a line that is longer than a file may be
	}
	for n := f.keep; n > 0; n-- {
		if os.Rename(f.past(n-1), f.past(n)) != nil {
			continue // there are fewer yet
		}
	}
	if f.keep == 0 {
		_ = os.Remove(f.path) // if it cannot be, it goes on
	}
	_ = f.reopen() // the same
}

// past returns the name of the nth last file; 0 is the present one.
func (f *File) past(n int) string {
	if n == 0 {
		return f.path
	}
	return f.path + "." + strconv.Itoa(n)
}

func (f *File) reopen() error {
	old := f.file
	if err := f.open(); err != nil {
		return err // the old one goes on
	}
	return old.Close()
}

// Reopen opens the file again under its name, after another program has moved it.
func (f *File) Reopen() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reopen()
}

// Close closes the file.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.file.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
		return fmt.Errorf("close the log: %w", err)
	}
	return nil
}
