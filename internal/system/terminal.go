package system

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// maxLine bounds a line that ReadSecret reads, in bytes.
const maxLine = 4096

// ReadSecret reads a line from in. If in is a terminal, it writes prompt to out
// first and the line is typed without echo; a process that is interrupted
// meanwhile leaves the terminal as it was.
func ReadSecret(in *os.File, out io.Writer, prompt string) (string, error) {
	fd := int(in.Fd())
	before, err := term.GetState(fd)
	if err != nil { // a pipe or a file
		return readLine(in)
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, unix.SIGINT, unix.SIGTERM)
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-done:
		case s := <-interrupted:
			_ = term.Restore(fd, before) // a terminal that is gone needs nothing
			signal.Reset(s)
			if s, ok := s.(unix.Signal); ok {
				_ = unix.Kill(unix.Getpid(), s) // ends this process as it would have without us
			}
		}
	}()
	defer func() { signal.Stop(interrupted); close(done); <-ended }()

	_, _ = fmt.Fprint(out, prompt)
	line, err := term.ReadPassword(fd)
	_, _ = fmt.Fprintln(out)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read from the terminal: %w", err)
	}
	return string(line), nil
}

// readLine reads up to the end of the line and no further: the rest belongs to
// the next reader.
func readLine(r io.Reader) (string, error) {
	var line []byte
	one := make([]byte, 1)
	for len(line) < maxLine {
		n, err := r.Read(one)
		if n == 1 && one[0] == '\n' {
			break
		}
		line = append(line, one[:n]...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", fmt.Errorf("read a line: %w", err)
		}
	}
	for len(line) > 0 && line[len(line)-1] == '\r' {
		line = line[:len(line)-1]
	}
	return string(line), nil
}
