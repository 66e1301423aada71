package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"nestbox/firehose"
	"nestbox/internal/pause"
)

// guardEvery is how often relays are asked what they have seen.
const guardEvery = time.Hour

// errBehind: relays have seen events that this server does not have.
var errBehind = errors.New("events that the relay has seen are not here, so it ignores new ones: this server was restored from a backup; " +
	"run nestbox firehose jump --from-relay")

// guardNumbers asks the relays at the start, and each hour, whether one has seen a higher
// number than the server has given: then it was restored, and not moved on. It returns an
// error if the server is to stop for that.
func (s *Server) guardNumbers(ctx context.Context) error {
	for {
		if err := s.checkNumbers(ctx); err != nil && ctx.Err() == nil {
			s.opts.Log.LogAttrs(ctx, slog.LevelError, "the event stream would reuse numbers", slog.String("cause", err.Error()))
			if s.opts.Config.FirehoseGuard == "stop" {
				return err
			}
		}
		if !pause.For(ctx, guardEvery) {
			return nil
		}
	}
}

// checkNumbers returns errBehind if a relay has seen a higher number than this server has
// given. A relay that cannot be asked has seen nothing.
func (s *Server) checkNumbers(ctx context.Context) error {
	for _, relay := range s.crawler.Hosts() {
		seen, err := s.crawler.LastSeen(ctx, relay)
		if err != nil {
			if !errors.Is(err, firehose.ErrUnseen) {
				s.opts.Log.LogAttrs(ctx, slog.LevelDebug, "relay not asked", slog.String("relay", relay), slog.String("cause", err.Error()))
			}
			continue
		}
		st, err := s.firehose.Status(ctx) // after the relay: it cannot be ahead of us
		if err != nil {
			return err
		}
		if seen > st.Last {
			return fmt.Errorf("%s has seen number %d, and the last here is %d: %w", relay, seen, st.Last, errBehind)
		}
	}
	return nil
}

// lookAtNumbers is the doctor's view of the same.
func (s *Server) lookAtNumbers(ctx context.Context) (string, error) {
	if len(s.crawler.Hosts()) == 0 {
		return "not checked: no relay is set", nil
	}
	if err := s.checkNumbers(ctx); err != nil {
		return "", err
	}
	return "no relay has seen a number that this server has not given", nil
}
