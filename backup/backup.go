// Package backup owns backups of a data directory: snapshots that are made while the server
// runs, where they are kept, how long, their restore and their verification.
//
// A snapshot is one state of everything: database, blobs and keys. Its manifest is written
// last, and names each object of it by the hash of its bytes.
//
// Invariants: a snapshot that is listed has all its objects; an object is never changed
// under its name; nothing that a manifest names is removed.
package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"filippo.io/age"
)

// Database is what a snapshot needs of a store.
type Database interface {
	// Hold keeps the database's file as it is until Held.Release. Reads and writes go on:
	// what is written stays in the log, which grows meanwhile.
	Hold(ctx context.Context) (Held, error)
}

// Held is a database's file while it is held.
type Held interface {
	// ReadAt reads the file, which has Size bytes.
	io.ReaderAt
	Size() int64
	// LogSize is the size of what was written and is not in the file, in bytes.
	LogSize() int64
	// Moment returns the present state. Its Pages can be read until Release.
	Moment(ctx context.Context) (Moment, error)
	// Release ends the hold. A second call does nothing.
	Release()
}

// Moment is the state of a database at one moment, whatever is written afterwards.
type Moment interface {
	Facts() State
	// Pages calls yield for each page that differs from the held file, in order, from 1 on.
	// The content is only valid during the call.
	Pages(yield func(page uint32, content []byte) error) error
	// Blobs calls yield for the file of each blob, by key, in bytewise order.
	Blobs(yield func(key string, size int64) error) error
	Close() error
}

// State is what a database is at a moment.
type State struct {
	Schema    int   `json:"schema"`
	LastEvent int64 `json:"lastEvent"`
	// PageSize is in bytes.
	PageSize  int `json:"pageSize"`
	PageCount int `json:"pageCount"`
	// Chain and Segment name the last segment of the log that was taken before, if the log is
	// followed: those after it lead on from here.
	Chain   string `json:"chain,omitempty"`
	Segment int64  `json:"segment,omitempty"`
}

// File is a small file of the data directory, such as a key.
type File struct {
	// Name is what it is named in the snapshot, and after a restore.
	Name, Path string
	// Key: it is one of the keys that a thief of the snapshot must not have.
	Key bool
}

// Source is what is backed up.
type Source struct {
	Database Database
	// HoldBlobs keeps every file of a blob until release is called.
	HoldBlobs func() (release func())
	// OpenBlob opens the file of a blob and returns its size in bytes: ErrMissing.
	OpenBlob func(ctx context.Context, key string) (io.ReadCloser, int64, error)
	// Files are the other files; one that is missing is left out.
	Files []File
	// Host is the server's public name, DID its own, Version that of the program.
	Host, DID, Version string
}

// ErrMissing: a store does not have the object, or a server not the file.
var ErrMissing = errors.New("it is missing")

// ErrRefused: the store does not let its objects be read. Those who may only write to it and list
// it can make backups all the same.
var ErrRefused = errors.New("the store refuses to be read")

// Depot is a store of objects. Names have only letters, digits, and the characters - . and /.
type Depot interface {
	// Put keeps size bytes of body under a name, whole or not at all.
	Put(ctx context.Context, name string, size int64, body io.Reader) error
	// Get returns an object: ErrMissing, ErrRefused.
	Get(ctx context.Context, name string) (io.ReadCloser, error)
	// List calls yield for each object whose name begins with prefix, which is empty or ends
	// with a slash, in bytewise order.
	List(ctx context.Context, prefix string, yield func(Object) error) error
	// Remove removes an object. It is not an error if there is none.
	Remove(ctx context.Context, name string) error
	// Flush returns once everything that was put survives a power cut.
	Flush(ctx context.Context) error
	// Writers is how many calls of Put at once make it fastest.
	Writers() int
	// String names the store for people.
	String() string
}

// Object is an object in a Depot.
type Object struct {
	Name string
	Size int64
	// At is when it was put.
	At time.Time
}

// Step is the progress of a backup, a restore or a verification.
type Step struct {
	// Step is what is done now: database, log, blobs, keys, manifest, retention, restore or
	// verify.
	Step string `json:"step"`
	// Done and Total count bytes of the database, else things; Sent is the bytes that were
	// sent to the store, since the beginning.
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
	Sent  int64 `json:"sent"`
}

// Service makes snapshots of one Source in one store. Its fields are set once. Only one call
// of its methods may run at a time, whatever the number of services of the same State.
type Service struct {
	Source Source
	Depot  Depot
	// Recipients are those that everything is encrypted to (age); without any nothing is.
	Recipients []age.Recipient
	// KeysApart, if it is set, is the file that gets the keys, which are left out of the
	// store.
	KeysApart string
	// State is a folder for what is known of the store. If it is lost, the next snapshot
	// takes longer, and those before it count as another's.
	State string
	// Again: everything is sent, also what the store has: it may be damaged there.
	Again bool
	// Segments, if it is set, are sent to the same store: a snapshot is where they begin.
	Segments *Segments
	// Keep is what Retain keeps; zero keeps all.
	Keep Keep
	// Adopt: the snapshots that others made count as those of the service: Retain removes them, too.
	Adopt bool
	Now   func() time.Time
	Log   *slog.Logger
	// Progress, if it is set, is called often.
	Progress func(Step)
}

// Errors of Service.Snapshot.
var (
	// ErrLog: the log has grown too much while the database's file was held.
	ErrLog = fmt.Errorf("the write-ahead log has grown by %d MB while the database was being read: "+
		"make the backup at a quieter time, or to a faster store", MaxLog>>20)
	// ErrOther: the store has snapshots of another server.
	ErrOther = errors.New("the store has snapshots of another server: name a folder or a prefix of its own")
)

// MaxLog bounds the log while a snapshot is made, in bytes.
const MaxLog = 1 << 30

func (s *Service) progress(p Step) {
	if s.Progress != nil {
		s.Progress(p)
	}
}
