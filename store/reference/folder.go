package reference

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Places are where the source keeps what it has: full paths.
type Places struct {
	Data string `json:"data"`
	// Accounts, Events and Documents are databases.
	Accounts  string `json:"accounts"`
	Events    string `json:"events"`
	Documents string `json:"documents"`
	Actors    string `json:"actors"`
	Blobs     string `json:"blobs"`
	// Uploads has those that no record refers to, Quarantine those that are taken down.
	Uploads    string `json:"uploads"`
	Quarantine string `json:"quarantine"`
	// Bucket is the name of the bucket that has all three, if they are in no folder: they are
	// the folders blocks, tmp and quarantine of it.
	Bucket string `json:"bucket,omitempty"`
	// Force reads databases of newer versions, as far as this package knows them.
	Force bool `json:"-"`
}

// Source is a data directory that is read. Its databases are for one goroutine each; see
// Open.
type Source struct {
	Places Places
	// AccountDB, EventDB and DocumentDB are account.sqlite, sequencer.sqlite and
	// did_cache.sqlite. DocumentDB is nil if there is none: it is a cache.
	AccountDB, EventDB, DocumentDB *DB

	scratch string
}

// OpenSource opens the databases of a data directory. Copies go below scratch.
func OpenSource(ctx context.Context, p Places, scratch string) (_ *Source, err error) {
	s := &Source{Places: p, scratch: scratch}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.AccountDB, err = Open(ctx, p.Accounts, scratch); err != nil {
		return nil, err
	}
	if s.EventDB, err = Open(ctx, p.Events, scratch); err != nil {
		return nil, err
	}
	s.DocumentDB, err = Open(ctx, p.Documents, scratch)
	if errors.Is(err, ErrMissing) {
		s.DocumentDB, err = nil, nil
	}
	return s, err
}

// OpenEvents opens the event log alone: a source whose methods of EventSource work.
func OpenEvents(ctx context.Context, p Places, scratch string) (*Source, error) {
	db, err := Open(ctx, p.Events, scratch)
	if err != nil {
		return nil, err
	}
	return &Source{Places: p, EventDB: db, scratch: scratch}, nil
}

// Close closes the databases.
func (s *Source) Close() error {
	var errs []error
	for _, db := range []*DB{s.AccountDB, s.EventDB, s.DocumentDB} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// In fills the places that the source's settings leave at their defaults below its data
// directory.
func (p Places) In() Places {
	for _, d := range []struct {
		path *string
		name string
	}{
		{&p.Accounts, "account.sqlite"}, {&p.Events, "sequencer.sqlite"}, {&p.Documents, "did_cache.sqlite"}, {&p.Actors, "actors"},
	} {
		if *d.path == "" {
			*d.path = filepath.Join(p.Data, d.name)
		}
	}
	if p.Uploads == "" && p.Blobs != "" {
		p.Uploads = filepath.Join(p.Blobs, "tempt")
	}
	if p.Quarantine == "" && p.Blobs != "" {
		p.Quarantine = filepath.Join(p.Blobs, "quarantine")
	}
	return p
}

// At returns the places as they are if the data directory lies at data: in a container, or
// after it was moved.
func (p Places) At(data string) Places {
	for _, path := range []*string{&p.Accounts, &p.Events, &p.Documents, &p.Actors, &p.Blobs, &p.Uploads, &p.Quarantine} {
		if rel, err := filepath.Rel(p.Data, *path); *path != "" && err == nil && filepath.IsLocal(rel) {
			*path = filepath.Join(data, rel)
		}
	}
	p.Data = data
	return p
}

// Written tells whether a data directory was written since. Actors is the sum of the sizes
// of what all actors have, and its latest change.
type Written struct {
	Accounts State `json:"accounts"`
	Events   State `json:"events"`
	Actors   State `json:"actors"`
}

// Written returns what it is now: ErrMissing if a part of the data directory is gone.
func (p Places) Written() (w Written, err error) {
	if w.Accounts, err = StateOf(p.Accounts); err != nil {
		return w, err
	}
	if w.Events, err = StateOf(p.Events); err != nil {
		return w, err
	}
	if _, err := os.Stat(p.Actors); errors.Is(err, os.ErrNotExist) {
		return w, fmt.Errorf("%s: %w", p.Actors, ErrMissing)
	}
	err = filepath.WalkDir(p.Actors, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("look at %s: %w", path, err)
		}
		if e.Name() != actorDatabase {
			return nil
		}
		state, err := StateOf(path)
		if errors.Is(err, ErrMissing) {
			return nil
		}
		w.Actors.Size, w.Actors.WAL = w.Actors.Size+state.Size, w.Actors.WAL+state.WAL
		w.Actors.Changed = max(w.Actors.Changed, state.Changed)
		return err
	})
	return w, err
}

// Copied returns the size of the databases that are read from a copy, but for the actors'.
func (p Places) Copied() (bytes int64, err error) {
	for _, path := range []string{p.Accounts, p.Events, p.Documents} {
		state, err := StateOf(path)
		if errors.Is(err, ErrMissing) {
			continue
		}
		if err != nil {
			return 0, err
		}
		running, err := Running(path)
		if err != nil {
			return 0, err
		}
		if state.WAL > 0 || running {
			bytes += state.Size + state.WAL
		}
	}
	return bytes, nil
}
