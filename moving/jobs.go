package moving

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"nestbox/account"
	"nestbox/mail"
	"nestbox/ratelimit"
	"nestbox/request"
)

const (
	// maxJobs is how many jobs are worked on at once.
	maxJobs = 2
	// jobsShown is how many jobs of an account are listed, and jobsKept how long one that
	// ended is kept.
	jobsShown = 10
	jobsKept  = 7 * 24 * time.Hour
	// turn is how long a job that fetches blobs keeps its place while others wait.
	turn = 30 * time.Second
	// wholeTime is how long a job may take, its pauses and its waiting in line included.
	wholeTime = 3 * 24 * time.Hour
	// saveEvery is how often the progress of a job is saved, and its account looked at.
	saveEvery = 2 * time.Second
	// lookEvery is how often the jobs are looked for at least.
	lookEvery = time.Minute
)

// jobsAnHour is how many jobs an account may begin.
var jobsAnHour = ratelimit.Limit{Name: "moving-jobs", Points: 10, Window: time.Hour}

// jobs are those that are open, as far as this process has seen them.
type jobs struct {
	mu    sync.Mutex
	known map[int64]*running // by number
	// next is the last in line; active is how many have a place, and queued how many wait
	// for one.
	next, active, queued int
	wake                 chan struct{}
	ended                sync.WaitGroup
}

var (
	// errCancelled ends a job that is no longer wanted.
	errCancelled = errors.New("job was cancelled")
	// errYield gives a job's place to another one.
	errYield = errors.New("another job waits")
	// errLong ends a job that has taken wholeTime.
	errLong = errors.New("the job has taken too long")
)

// paused makes a job wait without its place.
type paused struct {
	wait  time.Duration
	cause error
}

func (e *paused) Error() string { return "goes on in " + e.wait.String() + ": " + e.cause.Error() }

// Fetch begins a job, which RunJobs works on, also after a restart. The repository is
// replaced only while head is its commit's CID, which the owner has seen. Errors: ErrSource,
// ErrJob, ErrChanged, request.ErrTooMany, those of May; for blobs alone ErrStanding.
func (s *Service) Fetch(ctx context.Context, a *account.Account, kind Kind, source, head string) error {
	source, err := s.Source(source)
	if err != nil {
		return err
	}
	if err := s.mayFetch(ctx, a, kind); err != nil {
		return err
	}
	j := Job{AccountID: a.ID, DID: a.DID, Kind: kind, Source: source, State: Open}
	if kind == FetchRepo {
		is, err := s.head(ctx, a)
		if err != nil {
			return err
		}
		if is != head {
			return ErrChanged
		}
		j.Over = head
	}
	if err := request.Admit(ctx, s.Limits, a.DID.String(), 1, jobsAnHour); err != nil {
		return err
	}
	now := s.Now().UTC().Truncate(time.Millisecond)
	j.MadeAt, j.ChangedAt = now, now
	if _, err = s.Store.AddJob(ctx, j); err != nil {
		return err
	}
	s.wakeJobs()
	if kind != FetchRepo {
		return nil
	}
	e := account.NewEntry(ctx, now, account.EntryImported, account.ActorOwner)
	e.Reason = source
	return s.Accounts.AddEntry(ctx, a.ID, e, s.Notices.Of(a, mail.NoticeImported, e, "")...)
}

// mayFetch is May for a job: blobs replace nothing.
func (s *Service) mayFetch(ctx context.Context, a *account.Account, kind Kind) error {
	if kind == FetchRepo {
		return s.May(ctx, a)
	}
	if st := a.Status(); st != account.Active && st != account.Deactivated {
		return ErrStanding
	}
	return nil
}

// Jobs returns the jobs of an account, the newest first.
func (s *Service) Jobs(ctx context.Context, a *account.Account) ([]Job, error) {
	return s.Store.Jobs(ctx, a.ID, jobsShown)
}

// Cancel ends the account's job that is open, if there is one. What has come in stays.
func (s *Service) Cancel(ctx context.Context, a *account.Account) error {
	all, err := s.Jobs(ctx, a)
	if err != nil {
		return err
	}
	for _, j := range all {
		if j.State != Open {
			continue
		}
		j.State, j.ChangedAt = Cancelled, s.Now()
		if _, err := s.Store.SaveJob(ctx, j); err != nil {
			return err
		}
		s.jobs.mu.Lock()
		if r := s.jobs.known[j.ID]; r != nil && r.end != nil {
			r.end(errCancelled)
		}
		s.jobs.mu.Unlock()
	}
	return nil
}

// Wait is why an open job has no place: until Due, if that is set, else until others give
// one back.
type Wait struct{ Due time.Time }

// Waits reports whether an open job waits, and until when.
func (s *Service) Waits(id int64) (Wait, bool) {
	s.jobs.mu.Lock()
	defer s.jobs.mu.Unlock()
	r := s.jobs.known[id]
	switch {
	case r == nil, r.end != nil:
		return Wait{}, r == nil
	case r.due.After(s.Now()):
		return Wait{r.due}, true
	default:
		return Wait{}, true
	}
}

// wakeJobs makes RunJobs look for jobs.
func (s *Service) wakeJobs() {
	select {
	case s.waking() <- struct{}{}:
	default: // it is about to look
	}
}

func (s *Service) waking() chan struct{} {
	s.jobs.mu.Lock()
	defer s.jobs.mu.Unlock()
	if s.jobs.wake == nil {
		s.jobs.wake, s.jobs.known = make(chan struct{}, 1), map[int64]*running{}
	}
	return s.jobs.wake
}

// RunJobs works on jobs until ctx ends. Those that are under way then stay open.
func (s *Service) RunJobs(ctx context.Context) {
	wake := s.waking()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		soon, err := s.beginJobs(ctx)
		if err != nil && ctx.Err() == nil {
			s.Log.LogAttrs(ctx, slog.LevelError, "looking for jobs failed", slog.String("cause", err.Error()))
		}
		due := time.NewTimer(soon)
		select {
		case <-ctx.Done():
		case <-wake:
		case <-due.C:
		case <-tick.C:
			s.lookAtPaused(ctx)
			if _, err := s.Store.CollectJobs(ctx, s.Now().Add(-jobsKept)); err != nil && ctx.Err() == nil {
				s.Log.LogAttrs(ctx, slog.LevelError, "deleting old jobs failed", slog.String("cause", err.Error()))
			}
		}
		due.Stop()
	}
	s.jobs.ended.Wait()
}

// beginJobs gives places to the jobs that are due, in line, and returns when to look again.
func (s *Service) beginJobs(ctx context.Context) (soon time.Duration, err error) {
	open, err := s.Store.OpenJobs(ctx)
	if err != nil {
		return lookEvery, err
	}
	s.jobs.mu.Lock()
	defer s.jobs.mu.Unlock()
	line := s.lineOf(open)
	now := s.Now()
	soon, s.jobs.queued = lookEvery, 0
	for _, r := range line {
		switch {
		case r.due.After(now):
			soon = min(soon, r.due.Sub(now))
		case s.jobs.active >= maxJobs:
			s.jobs.queued++
		default:
			s.begin(ctx, r)
		}
	}
	return soon, nil
}

// lineOf notes which jobs are open, and returns those that have no place, in their order.
func (s *Service) lineOf(open []Job) (line []*running) {
	still := make(map[int64]bool, len(open))
	for _, j := range open {
		still[j.ID] = true
		r := s.jobs.known[j.ID]
		if r == nil {
			s.jobs.next++
			r = &running{Job: j, service: s, place: s.jobs.next}
			s.jobs.known[j.ID] = r
		}
		if r.end == nil {
			line = append(line, r)
		}
	}
	for id, r := range s.jobs.known {
		if !still[id] && r.end == nil {
			delete(s.jobs.known, id) // it was stopped, or its account deleted
		}
	}
	slices.SortFunc(line, func(x, y *running) int { return cmp.Compare(x.place, y.place) })
	return line
}

// begin gives a job a place.
func (s *Service) begin(ctx context.Context, r *running) {
	within, end := context.WithCancelCause(ctx)
	r.end = end
	s.jobs.active++
	s.jobs.ended.Go(func() {
		defer end(nil)
		wait, open := s.runJob(within, r)
		s.jobs.mu.Lock()
		s.jobs.active--
		s.jobs.next++
		r.end, r.place, r.due = nil, s.jobs.next, s.Now().Add(wait)
		if !open {
			delete(s.jobs.known, r.ID)
		}
		s.jobs.mu.Unlock()
		s.wakeJobs()
	})
}

// othersWait reports whether jobs wait for a place.
func (s *Service) othersWait() bool {
	s.jobs.mu.Lock()
	defer s.jobs.mu.Unlock()
	return s.jobs.queued > 0
}

// lookAtPaused ends the jobs that wait and are no longer wanted.
func (s *Service) lookAtPaused(ctx context.Context) {
	s.jobs.mu.Lock()
	var all []*running
	for _, r := range s.jobs.known {
		if r.end == nil {
			all = append(all, &running{Job: r.Job, service: s})
		}
	}
	s.jobs.mu.Unlock()
	for _, r := range all {
		err := r.look(ctx)
		if !errors.Is(err, errCancelled) && !errors.Is(err, account.ErrNotFound) {
			continue // a fault of the store shows when it is the job's turn
		}
		r.State = Cancelled
		if _, err := r.save(ctx); err != nil && ctx.Err() == nil {
			s.Log.LogAttrs(ctx, slog.LevelError, "the end of a job is not saved", slog.String("cause", err.Error()))
		}
	}
}

// running is a job that is open.
type running struct {
	Job

	service *Service
	owner   *account.Account
	saved   time.Time

	// jobs.mu guards these: its place in line, when it is due, and what ends it while it is
	// worked on.
	place int
	due   time.Time
	end   context.CancelCauseFunc

	// begun is when it got its place. failed is how often in turn it got nothing, and cursor
	// is the last blob that it is done with.
	begun  time.Time
	failed int
	cursor string
	listed bool
}

// runJob works on a job until its end or until it waits again, for so long.
func (s *Service) runJob(ctx context.Context, r *running) (wait time.Duration, open bool) {
	do := r.fetchBlobs
	if r.Kind == FetchRepo {
		do = r.fetchRepo
	}
	r.begun = s.Now()
	err := r.look(ctx)
	if err == nil && r.begun.Sub(r.MadeAt) > wholeTime {
		err = errLong
	}
	if err == nil {
		err = do(ctx)
	}
	later, pauses := errors.AsType[*paused](err)
	switch {
	case errors.Is(context.Cause(ctx), errCancelled), errors.Is(err, errCancelled), errors.Is(err, account.ErrNotFound):
		r.State = Cancelled
	case ctx.Err() != nil: // it goes on after the restart
	case errors.Is(err, errYield):
	case pauses:
		wait = later.wait
		s.Log.LogAttrs(ctx, slog.LevelInfo, "fetching from another server pauses",
			append(r.facts(), slog.Duration("for", wait), slog.String("cause", later.cause.Error()))...)
	case err != nil:
		r.State, r.Error = Broken, wordsOf(err)
		s.Log.LogAttrs(ctx, slog.LevelWarn, "fetching from another server failed", append(r.facts(), slog.String("cause", err.Error()))...)
	default:
		r.State = Done
		s.Log.LogAttrs(ctx, slog.LevelInfo, "fetched from another server", r.facts()...)
	}
	if _, err := r.save(context.WithoutCancel(ctx)); err != nil {
		s.Log.LogAttrs(ctx, slog.LevelError, "the end of a job is not saved", slog.String("cause", err.Error()))
		return lookEvery, true
	}
	return wait, r.State == Open
}

// facts are what the log says of the job.
func (r *running) facts() []slog.Attr {
	return []slog.Attr{
		slog.String("did", r.DID.String()), slog.String("kind", string(r.Kind)), slog.String("from", r.Source),
		slog.Int64("bytes", r.Bytes), slog.Int("blobs", r.Got), slog.Int("lacking", r.LackingAll),
	}
}

// save saves how far the job is, and reports whether it is still open.
func (r *running) save(ctx context.Context) (bool, error) {
	r.saved = r.service.Now()
	r.ChangedAt = r.saved.UTC().Truncate(time.Millisecond)
	return r.service.Store.SaveJob(ctx, r.Job)
}

// look looks at the account: its owner may have left, or it may have been taken down.
func (r *running) look(ctx context.Context) error {
	a, err := r.service.Accounts.ByDID(ctx, r.DID)
	if err != nil {
		return err
	}
	if a.ID != r.AccountID { // deleted, and made again
		return account.ErrNotFound
	}
	r.owner = a
	if err := r.service.mayFetch(ctx, a, FetchBlobs); err != nil {
		return errCancelled
	}
	return nil
}

// step notes progress: now and then it saves it, and looks at the account.
func (r *running) step(ctx context.Context) error {
	if r.service.Now().Sub(r.saved) < saveEvery {
		return ctx.Err()
	}
	open, err := r.save(ctx)
	if err != nil {
		return err
	}
	if !open {
		return errCancelled
	}
	return r.look(ctx)
}
