package reference

import (
	"context"
	"errors"
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
