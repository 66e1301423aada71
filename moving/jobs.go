package moving

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"nestbox/account"
	"nestbox/mail"
)

const (
	// maxJobs is how many jobs are worked on at once.
	maxJobs = 2
	// jobsShown is how many jobs of an account are listed, and jobsKept how long one that
	// ended is kept.
	jobsShown = 10
	jobsKept  = 7 * 24 * time.Hour
	// saveEvery is how often the progress of a job is saved, and its account looked at.
	saveEvery = 2 * time.Second
	// lookEvery is how often the jobs are looked for at least.
	lookEvery = time.Minute
)

// jobs are those that are worked on.
type jobs struct {
	mu     sync.Mutex
	active map[int64]context.CancelCauseFunc // by number
	wake   chan struct{}
	ended  sync.WaitGroup
}

// errCancelled ends a job that is no longer wanted.
var errCancelled = errors.New("job was cancelled")

// Fetch begins a job, which Run works on, also after a restart. Errors: ErrSource, ErrJob,
// those of May; for blobs alone ErrStanding.
func (s *Service) Fetch(ctx context.Context, a *account.Account, kind Kind, source string) error {
	source, err := s.Source(source)
	if err != nil {
		return err
	}
	if err := s.mayFetch(ctx, a, kind); err != nil {
		return err
	}
	now := s.Now().UTC().Truncate(time.Millisecond)
	_, err = s.Store.AddJob(ctx, Job{AccountID: a.ID, DID: a.DID, Kind: kind, Source: source, State: Open, MadeAt: now, ChangedAt: now})
	if err != nil {
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
		if end := s.jobs.active[j.ID]; end != nil {
			end(errCancelled)
		}
		s.jobs.mu.Unlock()
	}
	return nil
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
		s.jobs.wake, s.jobs.active = make(chan struct{}, 1), map[int64]context.CancelCauseFunc{}
	}
	return s.jobs.wake
}

// RunJobs works on jobs until ctx ends. Those that are under way then stay open.
func (s *Service) RunJobs(ctx context.Context) {
	wake := s.waking()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := s.beginJobs(ctx); err != nil && ctx.Err() == nil {
			s.Log.LogAttrs(ctx, slog.LevelError, "looking for jobs failed", slog.String("cause", err.Error()))
		}
		select {
		case <-ctx.Done():
		case <-wake:
		case <-tick.C:
			if _, err := s.Store.CollectJobs(ctx, s.Now().Add(-jobsKept)); err != nil && ctx.Err() == nil {
				s.Log.LogAttrs(ctx, slog.LevelError, "deleting old jobs failed", slog.String("cause", err.Error()))
			}
		}
	}
	s.jobs.ended.Wait()
}

// beginJobs begins jobs while there are places.
func (s *Service) beginJobs(ctx context.Context) error {
	open, err := s.Store.OpenJobs(ctx)
	if err != nil {
		return err
	}
	s.jobs.mu.Lock()
	defer s.jobs.mu.Unlock()
	for _, j := range open {
		if len(s.jobs.active) == maxJobs {
			return nil
		}
		if s.jobs.active[j.ID] != nil {
			continue
		}
		within, end := context.WithCancelCause(ctx)
		s.jobs.active[j.ID] = end
		s.jobs.ended.Go(func() {
			defer end(nil)
			s.runJob(within, j)
			s.jobs.mu.Lock()
			delete(s.jobs.active, j.ID)
			s.jobs.mu.Unlock()
			s.wakeJobs()
		})
	}
	return nil
}

// running is a job that is worked on.
type running struct {
	Job

	service *Service
	owner   *account.Account
	saved   time.Time
}

// runJob works on a job to its end.
func (s *Service) runJob(ctx context.Context, j Job) {
	r := &running{Job: j, service: s}
	do := r.fetchBlobs
	if j.Kind == FetchRepo {
		do = r.fetchRepo
	}
	err := r.look(ctx)
	if err == nil {
		err = do(ctx)
	}
	switch {
	case errors.Is(context.Cause(ctx), errCancelled), errors.Is(err, errCancelled), errors.Is(err, account.ErrNotFound):
		r.State = Cancelled
	case ctx.Err() != nil:
		r.State = Open // it goes on after the restart
	case err != nil:
		r.State, r.Error = Broken, wordsOf(err)
		s.Log.LogAttrs(ctx, slog.LevelWarn, "fetching from another server failed", append(r.facts(), slog.String("cause", err.Error()))...)
	default:
		r.State = Done
		s.Log.LogAttrs(ctx, slog.LevelInfo, "fetched from another server", r.facts()...)
	}
	if _, err := r.save(context.WithoutCancel(ctx)); err != nil {
		s.Log.LogAttrs(ctx, slog.LevelError, "the end of a job is not saved", slog.String("cause", err.Error()))
	}
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
