package schema

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/maypok86/otter/v2"

	"nestbox/internal/gate"
	"nestbox/lexicon"
)

const (
	// lookAgain is how old the schema of a collection may be before it is put together
	// again, in the background; also that there is none.
	lookAgain = 10 * time.Minute
	// doubtAfter is the same for a schema that refused a record: its author may be
	// mending it.
	doubtAfter = time.Minute
	// maxParts bounds the documents of one schema.
	maxParts = 30
	// maxCompiled bounds the schemas in memory, maxSchema the documents of one, in bytes.
	maxCompiled = 32 << 20
	maxSchema   = 512 << 10
)

// compiled is the schema of a collection's records. It never changes.
type compiled struct {
	catalogue *lexicon.Catalogue // nil if there is none
	size      int
	at        time.Time
}

func newCompiled() *otter.Cache[syntax.NSID, *compiled] {
	const overhead, factor = 300, 6 // a compiled document takes more than its text
	return otter.Must(&otter.Options[syntax.NSID, *compiled]{
		MaximumWeight: maxCompiled,
		Weigher: func(_ syntax.NSID, c *compiled) uint32 {
			return uint32(factor*c.size + overhead) //nolint:gosec // a schema is bounded
		},
	})
}

// Records returns the catalogue that has the schema of a collection's records, or nil
// if it is not at hand. It never waits: what is missing or old is looked up in the
// background, on the account of the writer.
func (s *Service) Records(writer syntax.DID, collection syntax.NSID) *lexicon.Catalogue {
	return s.records(writer, collection, lookAgain)
}

// Doubt makes the next call of Records look up a schema that has just refused a record,
// unless it is from this minute.
func (s *Service) Doubt(writer syntax.DID, collection syntax.NSID) {
	s.records(writer, collection, doubtAfter)
}

func (s *Service) records(writer syntax.DID, collection syntax.NSID, good time.Duration) *lexicon.Catalogue {
	known, ok := s.compiled.GetIfPresent(collection)
	if !ok || s.age(known.at) >= good {
		s.build(writer, collection, good)
	}
	if !ok {
		return nil
	}
	return known.catalogue
}

// build puts the schema of a collection together in the background, unless that is
// under way: from documents that were looked at less than good ago.
func (s *Service) build(writer syntax.DID, collection syntax.NSID, good time.Duration) {
	why := cause{why: forRecords, account: writer}
	// If there is no room, the next write tries again.
	_, _ = s.builds.Depart(s.ctx, collection, gate.Fare{Place: placeIn(&s.building, why)}, func() *gate.Flight[struct{}] {
		if known, ok := s.compiled.GetIfPresent(collection); ok && s.age(known.at) < good {
			return gate.Landed(struct{}{}, nil)
		}
		return nil
	}, func() (struct{}, error) {
		c, err := s.compile(s.ctx, writer, collection, good)
		if err == nil || !errors.Is(err, ErrBusy) {
			s.compiled.Set(collection, c)
		}
		return struct{}{}, err
	})
}

// compile gets a schema and all that it refers to. There being none is an answer.
// Error: ErrBusy, if the network was not asked.
func (s *Service) compile(ctx context.Context, writer syntax.DID, collection syntax.NSID, good time.Duration) (*compiled, error) {
	c := &compiled{at: s.Now()}
	parts := lexicon.NewParts(s.Lexicons, collection.String())
	for n := 0; ; n++ {
		missing := parts.Missing()
		if missing == "" {
			break
		}
		nsid, err := syntax.ParseNSID(missing)
		if err != nil || n >= maxParts {
			return c, nil //nolint:nilerr // there is no such schema
		}
		e, err := s.part(ctx, writer, nsid, good)
		if errors.Is(err, ErrBusy) || ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w", ErrBusy, err)
		}
		if err != nil {
			return c, nil //nolint:nilerr // there is no such schema
		}
		if c.size += len(e.Document); c.size > maxSchema {
			return c, nil
		}
		if err := parts.Add(e.Document); err != nil {
			return c, nil //nolint:nilerr // there is no such schema
		}
	}
	catalogue, err := parts.Catalogue()
	if err == nil && catalogue.Knows(collection.String()) {
		c.catalogue = catalogue
	}
	return c, nil
}

// part returns a Lexicon that was looked at less than good ago, if the network has it.
func (s *Service) part(ctx context.Context, writer syntax.DID, nsid syntax.NSID, good time.Duration) (*entry, error) {
	e, err := s.known(ctx, nsid)
	if err == nil && s.age(e.CheckedAt) < good {
		return e, nil
	}
	f, err := s.depart(nsid, cause{why: forRecords, account: writer})
	if err != nil {
		return nil, err
	}
	found, err := f.Wait(ctx)
	if err != nil && e != nil && ctx.Err() == nil {
		return e, nil // the last known one goes on
	}
	return found, err
}
