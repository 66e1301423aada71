package schema

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/maypok86/otter/v2"

	"nestbox/internal/gate"
	"nestbox/lexicon"
	"nestbox/oauth/scope"
	"nestbox/ratelimit"
	"nestbox/request"
)

// How old what is known may be.
const (
	// renewAfter: it is looked at again in the background when it is used.
	renewAfter = time.Hour
	// renewUnused: it is looked at again even if nobody uses it.
	renewUnused = 24 * time.Hour
	// goodFor: new requests do without it if it was not found again for so long.
	goodFor = 90 * 24 * time.Hour
	// failedFor is how long a failure is believed if nothing is known.
	failedFor = time.Minute
	// believed is how long memory is used without a look into the store.
	believed = time.Minute
	// noteUse is how exact UsedAt is.
	noteUse = 24 * time.Hour
	// keepGranted and keepOthers are how long what nobody uses is kept. No living
	// session is unused for as long as keepGranted: its refresh token would be expired.
	keepGranted = 181 * 24 * time.Hour
	keepOthers  = 90 * 24 * time.Hour
	// keptUngranted bounds the sets that were only asked for, which anybody can do.
	keptUngranted = 200
)

// Bounds of memory.
const (
	maxMemory   = 32 << 20 // bytes of documents
	maxFailures = 10_000
)

// Options of a Service.
type Options struct {
	Store Store
	DNS   TXTLookup
	// Backup is asked if DNS fails or knows nothing; it may be nil.
	Backup TXTLookup
	Hosts  Hosts
	Own    Own
	Proven Proven
	// HTTP must follow no redirect, and go to public addresses only.
	HTTP *http.Client
	// Authority publishes all Lexicons, if it is set, whatever DNS says.
	Authority syntax.DID
	// BuiltIn are the documents of permission sets that are used if the network has
	// none.
	BuiltIn map[syntax.NSID][]byte
	// Lexicons are the schemas that this program knows, to which others refer.
	Lexicons *lexicon.Catalogue
	// Limits counts look-ups; nil counts nothing.
	Limits *ratelimit.Limiter
	Now    func() time.Time
	Log    *slog.Logger
}

// Service finds Lexicons and keeps them.
type Service struct {
	Options

	entries  *otter.Cache[syntax.NSID, *entry]
	failures *otter.Cache[syntax.NSID, failure]
	compiled *otter.Cache[syntax.NSID, *compiled]

	ctx     context.Context //nolint:containedctx // of look-ups, which Close ends
	stop    context.CancelFunc
	flights gate.Flights[syntax.NSID, *entry]
	running [purposes]gate.Places[string]
	// builds are the schemas of collections that are being put together, in building.
	builds   gate.Flights[syntax.NSID, struct{}]
	building gate.Places[string]
}

// entry is a Lexicon in memory. It never changes.
type entry struct {
	Lexicon

	set    *scope.PermissionSet // nil if the document is not one, as notSet says
	notSet error
	stored bool
	readAt time.Time
}

// failure is why a Lexicon was not found.
type failure struct {
	why string
	at  time.Time
}

// NewService returns a Service, which Close stops.
func NewService(o Options) *Service {
	const overhead = 300 // bytes of an entry beside its document, about
	s := &Service{Options: o}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.entries = otter.Must(&otter.Options[syntax.NSID, *entry]{
		MaximumWeight: maxMemory,
		Weigher: func(_ syntax.NSID, e *entry) uint32 {
			return uint32(3*len(e.Document) + overhead) //nolint:gosec // a document is bounded
		},
	})
	s.failures = otter.Must(&otter.Options[syntax.NSID, failure]{MaximumSize: maxFailures})
	s.compiled = newCompiled()
	return s
}

func (s *Service) newEntry(l *Lexicon, stored bool) *entry {
	e := &entry{Lexicon: *l, stored: stored, readAt: s.Now()}
	if before, ok := s.entries.GetIfPresent(l.NSID); ok && before.CID == l.CID && l.CID != "" {
		e.set, e.notSet = before.set, before.notSet
		return e
	}
	e.set, e.notSet = scope.ParsePermissionSet(l.NSID, l.Document)
	return e
}

// Sets are permission sets.
type Sets struct {
	Sets map[syntax.NSID]*scope.PermissionSet
	// Versions are the CIDs of their records; that of a set that came with this program
	// is "built-in".
	Versions map[syntax.NSID]string
}

const versionBuiltIn = "built-in"

func newSets() Sets {
	return Sets{Sets: map[syntax.NSID]*scope.PermissionSet{}, Versions: map[syntax.NSID]string{}}
}

func (s *Sets) add(e *entry) {
	s.Sets[e.NSID], s.Versions[e.NSID] = e.set, e.CID
}

// addBuiltIn adds the set that came with this program, and reports whether there is one.
func (s *Service) addBuiltIn(to *Sets, nsid syntax.NSID) bool {
	document, ok := s.BuiltIn[nsid]
	if !ok {
		return false
	}
	set, err := scope.ParsePermissionSet(nsid, document)
	if err != nil {
		return false
	}
	to.Sets[nsid], to.Versions[nsid] = set, versionBuiltIn
	return true
}

// PermissionSets returns permission sets for a new request. It waits for the network if
// one is not known, or was not found for too long. Errors: *UnresolvedError, ErrBusy;
// others are the store's.
func (s *Service) PermissionSets(ctx context.Context, nsids []syntax.NSID) (Sets, error) {
	sets := newSets()
	type pending struct {
		nsid   syntax.NSID
		flight *flight
		err    error
	}
	var waiting []pending
	for _, nsid := range nsids {
		e, err := s.known(ctx, nsid)
		switch {
		case err != nil && !errors.Is(err, ErrUnknown):
			return Sets{}, err
		case err == nil && e.set != nil && s.age(e.FoundAt) < goodFor:
			sets.add(e)
			s.renew(e)
		default:
			p := pending{nsid: nsid}
			if p.err = s.recentFailure(nsid, e); p.err == nil {
				p.flight, p.err = s.depart(nsid, cause{why: forRequest, client: request.ClientOf(ctx)})
			}
			waiting = append(waiting, p)
		}
	}
	for _, p := range waiting {
		e, err := (*entry)(nil), p.err
		if err == nil {
			e, err = p.flight.Wait(ctx)
		}
		if err == nil && e.set == nil {
			err = &UnresolvedError{p.nsid, e.notSet.Error()}
		}
		switch {
		case err == nil:
			sets.add(e)
		case ctx.Err() != nil:
			return Sets{}, ctx.Err()
		case !s.addBuiltIn(&sets, p.nsid):
			return Sets{}, err
		}
	}
	s.note(ctx, sets, false)
	return sets, nil
}

// recentFailure returns why a Lexicon was not found less than failedFor ago. An entry
// that is known and of no use is such a failure too.
func (s *Service) recentFailure(nsid syntax.NSID, known *entry) error {
	if f, ok := s.failures.GetIfPresent(nsid); ok && s.age(f.at) < failedFor {
		return &UnresolvedError{nsid, f.why}
	}
	if known != nil && known.set == nil && s.age(known.CheckedAt) < failedFor {
		return &UnresolvedError{nsid, known.notSet.Error()}
	}
	return nil
}

// Granted returns the permission sets that a living session uses, as far as they are
// known, whatever their age. It never waits for the network, which is asked in the
// background; if a set is missing, the session goes on with what it had. Errors are the
// store's.
func (s *Service) Granted(ctx context.Context, nsids []syntax.NSID) (Sets, error) {
	sets := newSets()
	for _, nsid := range nsids {
		e, err := s.known(ctx, nsid)
		switch {
		case err != nil && !errors.Is(err, ErrUnknown):
			return Sets{}, err
		case err == nil && e.set != nil:
			sets.add(e)
			s.renew(e)
		default:
			if s.recentFailure(nsid, e) == nil {
				_, _ = s.depart(nsid, cause{why: forRenewal}) // if there is no room: the next refresh
			}
		}
	}
	s.note(ctx, sets, true)
	return sets, nil
}

func (s *Service) age(at time.Time) time.Duration { return s.Now().Sub(at) }

// renew looks a Lexicon up in the background if it was not checked lately.
func (s *Service) renew(e *entry) {
	if s.age(e.CheckedAt) >= renewAfter {
		_, _ = s.depart(e.NSID, cause{why: forRenewal}) // if there is no room: the next use
	}
}

// known returns what is known of an NSID, or ErrUnknown.
func (s *Service) known(ctx context.Context, nsid syntax.NSID) (*entry, error) {
	e, ok := s.entries.GetIfPresent(nsid)
	if ok && s.age(e.readAt) < believed {
		return e, nil
	}
	l, err := s.Store.Lexicon(ctx, nsid)
	switch {
	case err == nil:
		e = s.newEntry(l, true)
		s.entries.Set(nsid, e)
		return e, nil
	case ok && errors.Is(err, ErrUnknown) && !e.stored:
		return e, nil
	default:
		return nil, err
	}
}

// lookUp asks the network, and keeps the answer: in the store, if it is a permission
// set that somebody asked for. Error: *UnresolvedError.
func (s *Service) lookUp(ctx context.Context, nsid syntax.NSID, keep bool) (*entry, error) {
	known, err := s.known(ctx, nsid)
	if err != nil && !errors.Is(err, ErrUnknown) {
		return nil, err
	}
	l, err := s.find(ctx, nsid)
	if ctx.Err() != nil {
		return nil, ErrBusy // Close ended it, which says nothing of the Lexicon
	}
	var e *entry
	if err == nil {
		e = s.newEntry(l, false)
		if known != nil && known.set != nil && e.set == nil {
			err = e.notSet
		}
	}
	if err != nil {
		return nil, s.failed(ctx, nsid, known, err)
	}
	s.failures.Invalidate(nsid)
	if known != nil {
		e.UsedAt, e.Granted = known.UsedAt, known.Granted
	}
	if e.set != nil && (keep || known != nil && known.stored) {
		s.save(ctx, e)
	}
	s.entries.Set(nsid, e)
	return e, nil
}

func (s *Service) save(ctx context.Context, e *entry) {
	if err := s.Store.SaveLexicon(ctx, e.Lexicon); err != nil {
		s.Log.LogAttrs(ctx, slog.LevelWarn, "storing a permission set failed",
			slog.String("nsid", e.NSID.String()), slog.String("cause", err.Error()))
		return
	}
	e.stored = true
}

// failed notes that a Lexicon was not found. What is known goes on.
func (s *Service) failed(ctx context.Context, nsid syntax.NSID, known *entry, err error) error {
	now, why := s.Now(), plain(said(err))
	s.Log.LogAttrs(ctx, slog.LevelInfo, "found no Lexicon", slog.String("nsid", nsid.String()), slog.String("cause", plain(err.Error())))
	s.failures.Set(nsid, failure{why, now})
	if known != nil {
		e := *known
		e.CheckedAt, e.Failure, e.readAt = now, why, now
		s.entries.Set(nsid, &e)
		if known.stored {
			if err := s.Store.SaveFailure(ctx, nsid, why, now); err != nil {
				s.Log.LogAttrs(ctx, slog.LevelWarn, "noting a failed look-up failed",
					slog.String("nsid", nsid.String()), slog.String("cause", err.Error()))
			}
		}
	}
	return &UnresolvedError{nsid, why}
}

// note notes that sets were used, unless that was noted lately. What fails is noted at
// the next use.
func (s *Service) note(ctx context.Context, sets Sets, granted bool) {
	now := s.Now()
	var list []syntax.NSID
	for nsid := range sets.Sets {
		e, ok := s.entries.GetIfPresent(nsid)
		if !ok || e.set == nil || now.Sub(e.UsedAt) < noteUse && (e.Granted || !granted) && e.stored {
			continue
		}
		used := *e
		used.UsedAt, used.Granted = now, e.Granted || granted
		if !e.stored {
			s.save(ctx, &used)
		}
		s.entries.Set(nsid, &used)
		list = append(list, nsid)
	}
	if len(list) == 0 {
		return
	}
	slices.Sort(list)
	if err := s.Store.Use(ctx, list, granted, now); err != nil {
		s.Log.LogAttrs(ctx, slog.LevelWarn, "noting the use of permission sets failed", slog.String("cause", err.Error()))
	}
}

const (
	sweepEvery = 10 * time.Minute
	sweepBatch = 100
)

// Run looks at what sessions use, at the latest when it is a day old, and deletes what
// nobody uses, until ctx ends.
func (s *Service) Run(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.Log.LogAttrs(ctx, slog.LevelWarn, "renewing permission sets failed", slog.String("cause", err.Error()))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Sweep does once what Run does.
func (s *Service) Sweep(ctx context.Context) error {
	now := s.Now()
	due, err := s.Store.DueLexicons(ctx, now.Add(-renewUnused), sweepBatch)
	if err != nil {
		return err
	}
	for _, nsid := range due {
		f, err := s.depart(nsid, cause{why: forRenewal})
		if err == nil {
			_, _ = f.Wait(ctx) // noted as a failure of the set
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	for {
		n, err := s.Store.CollectLexicons(ctx, now.Add(-keepGranted), now.Add(-keepOthers), keptUngranted, sweepBatch)
		if err != nil || n < sweepBatch {
			return err
		}
	}
}
