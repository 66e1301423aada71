package server

import (
	"context"
	"net/http"
	"time"

	"nestbox/firehose"
	"nestbox/load"
)

// buildFirehose wires the event stream. It is built before everything that writes
// events, so that the hub sees them all.
func (s *Server) buildFirehose(ctx context.Context) (err error) {
	c, log := &s.opts.Config, s.stores.Log
	crawlers := c.Crawlers
	if c.DevMode {
		crawlers = nil // nobody could reach the server
	}
	s.crawler = firehose.NewCrawler(crawlers, c.Hostname, &http.Client{CheckRedirect: noRedirect}, s.opts.Log)
	s.crawler.Now = s.opts.Now
	if s.taken != nil {
		s.crawler.Notify() // relays that gave up during the switch come back
	}
	s.retention = &firehose.Retention{
		Log: log, Age: time.Duration(c.RepoBackfillLimitMS) * time.Millisecond, MaxBytes: c.FirehoseMaxBytes,
		Logger: s.opts.Log, Now: s.opts.Now, Doubt: s.clock.Check,
	}
	settings := firehose.DefaultSettings()
	if !c.RateLimitsEnabled {
		settings.PerNetwork = settings.Subscribers
	}
	s.firehose, err = firehose.NewHub(ctx, firehose.Options{
		Settings: settings, Log: log, Logger: s.opts.Log, Now: s.opts.Now, Notify: func() {
			s.load.Count(load.Event)
			s.crawler.Notify()
		},
	})
	return err
}

// noRedirect keeps a redirect as the answer: followed, a POST would become a GET,
// whose answer means nothing.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// announceAccounts announces every account again after a jump of the event log.
func (s *Server) announceAccounts(ctx context.Context) {
	s.firehose.Announce(ctx, func(ctx context.Context) (bool, error) {
		if !s.clock.wait(ctx) {
			return false, ctx.Err()
		}
		return s.repos.Reannounce(ctx, s.stores.Announcements)
	})
}
