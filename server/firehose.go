package server

import (
	"context"
	"net/http"
	"time"

	"nestbox/firehose"
	"nestbox/store/sqlite"
)

// relayTimeout bounds one call to a relay.
const relayTimeout = 15 * time.Second

// buildFirehose wires the event stream. It comes before everything that writes
// events: the hub sees them all.
func (s *Server) buildFirehose(ctx context.Context) (err error) {
	c, log := &s.opts.Config, sqlite.EventLog{DB: s.db}
	crawlers := c.Crawlers
	if c.DevMode {
		crawlers = nil // nobody could reach it
	}
	s.crawler = firehose.NewCrawler(crawlers, c.Hostname, &http.Client{Timeout: relayTimeout, CheckRedirect: noRedirect}, s.opts.Log)
	s.retention = &firehose.Retention{
		Log: log, Age: time.Duration(c.RepoBackfillLimitMS) * time.Millisecond, MaxBytes: c.FirehoseMaxBytes, Logger: s.opts.Log, Now: s.opts.Now,
	}
	settings := firehose.DefaultSettings()
	if !c.RateLimitsEnabled {
		settings.PerNetwork = settings.Subscribers
	}
	s.firehose, err = firehose.NewHub(ctx, firehose.Options{
		Settings: settings, Log: log, Logger: s.opts.Log, Now: s.opts.Now, Notify: s.crawler.Notify,
	})
	return err
}

// noRedirect leaves a redirect as the answer: followed, a POST would become a
// GET, whose answer means nothing.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
