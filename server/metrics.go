package server

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"nestbox/account"
	"nestbox/admin"
	"nestbox/backup/depot"
	"nestbox/datadir"
	"nestbox/firehose"
	"nestbox/internal/pause"
	"nestbox/mail"
	"nestbox/metrics"
	"nestbox/repo"
	"nestbox/request"
	"nestbox/store/sqlite"
)

const (
	// glanceEvery is how often what the database knows at once is looked up for metrics, and
	// countEvery how often everything is counted, and relays are asked.
	glanceEvery = 15 * time.Second
	countEvery  = 5 * time.Minute
	// countPatience bounds one look.
	countPatience = time.Minute
)

// sights are what was seen last of what a scrape does not look up itself: the database and the
// disk may hang, and relays are far away.
type sights struct {
	glance atomic.Pointer[glance]
	totals atomic.Pointer[admin.Totals]
	relays atomic.Pointer[[]relaySight]
	// backups are when backups last succeeded, in Unix seconds, as the variable backups has them; 0
	// for never.
	backups [len(backups)]atomic.Int64
	// unreadable: the server may not read its backups, so that it verifies none.
	unreadable atomic.Bool
}

type glance struct {
	sizes sqlite.Sizes
	log   firehose.Bounds
	mails int
}

// relaySight is what a relay says.
type relaySight struct {
	relay string
	// status is a word of relayWords.
	status string
	known  bool // seq and accounts are
	firehose.HostStatus
}

// The words of a relay's status. The first are a relay's own.
const (
	relayUnseen      = "unseen"      // it does not know this server
	relayUnreachable = "unreachable" // it does not answer
	relayOther       = "other"       // it says something else
)

func relayWords() []string {
	return []string{"active", "idle", "offline", "throttled", "banned", relayUnseen, relayUnreachable, relayOther}
}

// buildMetrics makes the metrics, if anybody can ask for them.
func (s *Server) buildMetrics() {
	if s.opts.Config.MetricsListen == "" || !s.opts.Listen {
		return
	}
	s.families = metrics.NewFamilies()
	s.metrics = metrics.New(s.samples)
}

// ended returns what is called with the outcome of each request.
func (s *Server) ended() func(request.Outcome) {
	if s.metrics == nil {
		return s.load.Request
	}
	return func(o request.Outcome) {
		s.load.Request(o)
		s.metrics.Request(o)
	}
}

// upstreamTook returns what is called with how long services took, nil for nothing.
func (s *Server) upstreamTook() func(string, time.Duration) {
	if s.metrics == nil {
		return nil
	}
	return s.metrics.Upstream
}

// databaseOptions returns the options of the database.
func (s *Server) databaseOptions() sqlite.Options {
	o := sqlite.Options{Fatal: s.opts.Fatal, Log: s.opts.Log, Free: s.freeSpace, Wrote: s.load.Saved, NoSafetyCopy: s.opts.NoSafetyCopy}
	if s.guards() {
		o.Number = s.admitsNumber
	}
	if s.metrics != nil {
		o.Waited, o.Committed, o.Copied = s.metrics.Waited, s.metrics.Committed, s.metrics.Copied
	}
	return o
}

// watchMetrics keeps sights fresh until ctx ends.
func (s *Server) watchMetrics(ctx context.Context) {
	if s.metrics == nil {
		return
	}
	s.recallBackups(ctx)
	var looking sync.WaitGroup
	looking.Go(func() { s.repeat(ctx, glanceEvery, s.lookQuickly) })
	looking.Go(func() { s.repeat(ctx, countEvery, s.count) })
	looking.Go(func() { s.repeat(ctx, countEvery, s.askRelays) })
	looking.Wait()
}

// backups are the successes that are kept, with the words of their metric.
var backups = [...]struct{ word, file string }{
	{"snapshot", datadir.BackupMade},
	{"verify", datadir.BackupVerified},
	{"log", datadir.BackupLog},
}

// backupEvery returns how often the server itself is set to do one of backups, 0 if it is not.
func (s *Server) backupEvery(file string) time.Duration {
	c := &s.opts.Config
	switch {
	case c.BackupTo == "":
		return 0
	case file == datadir.BackupMade:
		return c.BackupEvery
	case file == datadir.BackupLog:
		return c.BackupLogEvery
	case s.sights.unreadable.Load():
		return 0
	default:
		return proveEvery
	}
}

// recallBackups reads when backups last succeeded.
func (s *Server) recallBackups(ctx context.Context) {
	if service, err := s.backupBy(s.ownBackup(), depot.Await); err == nil { // else the doctor says why
		s.sights.unreadable.Store(readProof(service.State).Refused)
	}
	for i, one := range backups {
		at, err := s.dir.LastSuccess(one.file)
		switch {
		case err != nil:
			s.opts.Log.LogAttrs(ctx, slog.LevelWarn, "metrics are not up to date", slog.String("cause", err.Error()))
		case !at.IsZero():
			s.sights.backups[i].Store(at.Unix())
		}
	}
}

// noteBackup keeps that a backup succeeded now: datadir.BackupMade or BackupVerified.
func (s *Server) noteBackup(ctx context.Context, what string) {
	now := s.opts.Now()
	for i, one := range backups {
		if one.file == what {
			s.sights.backups[i].Store(now.Unix())
		}
	}
	if err := s.dir.KeepSuccess(what, now); err != nil {
		s.opts.Log.LogAttrs(ctx, slog.LevelWarn, "the time of the backup was not saved", slog.String("cause", err.Error()))
	}
}

// repeat looks at once, and then again and again. What cannot be seen stays as it was.
func (s *Server) repeat(ctx context.Context, every time.Duration, look func(context.Context) error) {
	for {
		within, cancel := context.WithTimeout(ctx, countPatience)
		err := look(within)
		cancel()
		if err != nil && ctx.Err() == nil {
			s.opts.Log.LogAttrs(ctx, slog.LevelWarn, "metrics are not up to date", slog.String("cause", err.Error()))
		}
		if !pause.For(ctx, every) {
			return
		}
	}
}

func (s *Server) lookQuickly(ctx context.Context) error {
	var g glance
	var errs [3]error
	g.sizes, errs[0] = s.db.Sizes(ctx)
	g.log, errs[1] = s.stores.Log.Bounds(ctx)
	g.mails, errs[2] = s.stores.Outbox.Waiting(ctx)
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	s.sights.glance.Store(&g)
	return nil
}

func (s *Server) count(ctx context.Context) error {
	t, err := s.stores.Views.Totals(ctx)
	if err == nil {
		s.sights.totals.Store(&t)
	}
	return err
}

// askRelays asks the relays what they know of this server. That one does not answer is a status,
// not an error.
func (s *Server) askRelays(ctx context.Context) error {
	hosts := s.crawler.Hosts()
	seen := make([]relaySight, len(hosts))
	var asking sync.WaitGroup
	for i, host := range hosts {
		asking.Go(func() {
			got, err := s.crawler.HostStatus(ctx, host)
			seen[i] = relaySight{relay: host, HostStatus: got, known: err == nil, status: relayOther}
			switch {
			case errors.Is(err, firehose.ErrUnseen):
				seen[i].status = relayUnseen
			case err != nil:
				seen[i].status = relayUnreachable
			case slices.Contains(relayWords(), got.Status):
				seen[i].status = got.Status
			}
		})
	}
	asking.Wait()
	s.sights.relays.Store(&seen)
	return nil
}

// samples returns the values of all families, from memory.
func (s *Server) samples() []metrics.Sample {
	f := s.families
	out := []metrics.Sample{
		f.Build.Of(1, s.opts.Version, metrics.GoVersion()),
		f.Active.Of(float64(s.handlers.count())),
		f.BlobUploads.Of(float64(s.blobs.Uploads.Load())),
		f.FirehoseSeq.Of(float64(s.firehose.Last())),
		f.Subscribers.Of(float64(s.firehose.Members())),
		f.SlowestLag.Of(float64(s.firehose.Slowest())),
		f.ClockSkew.Of(s.clock.ahead().Seconds()),
		f.Ready.Of(flag(s.health.Ready() == nil)),
	}
	written := s.repos.Counts.Written.Counts()
	out = append(out, f.Commits.Of(float64(written[repo.WordCommit])))
	words := func(family *metrics.Family, counts map[string]uint64, known ...string) {
		for word := range counts {
			if !slices.Contains(known, word) {
				known = append(known, word)
			}
		}
		for _, word := range known {
			out = append(out, family.Of(float64(counts[word]), word))
		}
	}
	delete(written, repo.WordCommit)
	words(&f.Records, written, repo.WordCreate, repo.WordUpdate, repo.WordDelete)
	words(&f.Imports, s.repos.Counts.Imported.Counts(), repo.WordDone, repo.WordRefused, repo.WordFailed)
	words(&f.Dropped, s.firehose.Dropped(), firehose.DropSlow, firehose.DropFuture, firehose.DropStopping,
		firehose.DropDisconnected, firehose.DropJumped, firehose.DropFailed)
	words(&f.Mail, s.outbox.Fates(), string(mail.Sent), string(mail.Refused), string(mail.GivenUp))
	words(&f.RateLimited, s.limits.Refused(), everything.Name)
	if disks := s.health.disks.Load(); disks != nil {
		for _, d := range *disks {
			out = append(out, f.DiskFree.Of(float64(d.free), d.name))
		}
	}
	return s.seen(out)
}

// seen adds what was seen last.
func (s *Server) seen(out []metrics.Sample) []metrics.Sample {
	f := s.families
	if g := s.sights.glance.Load(); g != nil {
		oldest := int64(0)
		if !g.log.OldestAt.IsZero() {
			oldest = g.log.OldestAt.Unix()
		}
		out = append(out, f.DBBytes.Of(float64(g.sizes.Main), "main"), f.DBBytes.Of(float64(g.sizes.Log), "wal"),
			f.DBFreePages.Of(float64(g.sizes.Free)), f.MailQueue.Of(float64(g.mails)),
			f.LogBytes.Of(float64(g.log.Bytes)), f.LogOldest.Of(float64(oldest)))
	}
	if t := s.sights.totals.Load(); t != nil {
		for _, status := range []account.Status{account.Active, account.Deactivated, account.Suspended, account.TakenDown} {
			word := string(status)
			if status == account.Active {
				word = "active"
			}
			out = append(out, f.Accounts.Of(float64(t.Accounts[status]), word))
		}
		out = append(out, f.BlobBytes.Of(float64(t.BlobBytes)), f.BlobFiles.Of(float64(t.Blobs)), f.BlobGarbage.Of(float64(t.Garbage)))
	}
	for i := range backups {
		if every := s.backupEvery(backups[i].file); every > 0 {
			out = append(out, f.BackupInterval.Of(every.Seconds(), backups[i].word))
		}
		if at := s.sights.backups[i].Load(); at != 0 {
			out = append(out, f.BackupSuccess.Of(float64(at), backups[i].word))
		}
	}
	if relays := s.sights.relays.Load(); relays != nil {
		for _, r := range *relays {
			for _, status := range relayWords() {
				out = append(out, f.RelayStatus.Of(flag(status == r.status), r.relay, status))
			}
			if r.known {
				out = append(out, f.RelaySeq.Of(float64(r.Seq), r.relay), f.RelayAccounts.Of(float64(r.Accounts), r.relay))
			}
		}
	}
	return out
}

func flag(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
