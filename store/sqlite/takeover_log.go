package sqlite

import (
	"errors"
	"fmt"
	"os"

	"zombiezen.com/go/sqlite"
)

// The length of a take-over's log, in bytes: from copyFrom on it is copied into the file beside
// the writer, at copyNow the writer waits for it.
const (
	copyFrom = 16 << 20
	copyNow  = 256 << 20
)

// logCopier copies the log of a take-over into the file on a connection of its own: what waits
// for the disk keeps nobody from filling the next transaction.
type logCopier struct {
	conn *sqlite.Conn
	log  string
	// idle has what the last copy came to, while none is under way.
	idle chan error
}

func openLogCopier(path string) (*logCopier, error) {
	conn, err := openConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	// It syncs the log ahead of the file, so that the database is whole whenever the machine
	// stops.
	if err := pragmas(conn, "PRAGMA synchronous=NORMAL", "PRAGMA fullfsync=ON", "PRAGMA checkpoint_fullfsync=ON"); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	c := &logCopier{conn: conn, log: path + "-wal", idle: make(chan error, 1)}
	c.idle <- nil
	return c, nil
}

// committed begins a copy, if the log is long enough. If it is too long, it waits for one that
// is complete, so that the log starts over. The caller is the only writer. Its error may be of
// an earlier copy.
func (c *logCopier) committed() error {
	info, err := os.Stat(c.log)
	if err != nil {
		return fmt.Errorf("look at the log: %w", err)
	}
	switch {
	case info.Size() < copyFrom:
		return nil
	case info.Size() >= copyNow:
		return c.rest()
	}
	select {
	case err := <-c.idle:
		if err != nil {
			c.idle <- err
			return fmt.Errorf("copy the log: %w", err)
		}
		go func() { c.idle <- checkpoint(c.conn) }()
	default:
	}
	return nil
}

// rest copies all of the log, once the copy that is under way has ended.
func (c *logCopier) rest() error {
	err := <-c.idle
	if err == nil {
		err = checkpoint(c.conn)
	}
	c.idle <- err
	return wrap(err, "copy the log")
}

// close waits for the copy that is under way.
func (c *logCopier) close() error {
	err := wrap(<-c.idle, "copy the log")
	if closeErr := c.conn.Close(); err == nil {
		err = closeErr
	}
	return err
}
