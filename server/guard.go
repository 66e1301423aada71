package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"nestbox/firehose"
	"nestbox/internal/pause"
	"nestbox/request"
)

const (
	// guardEvery is how often relays are asked what they have seen, guardSoon how often once one
	// was ahead.
	guardEvery = time.Hour
	guardSoon  = 5 * time.Minute
	// mostSeen is the highest number that a relay is believed: a jump above it is possible.
	// Whatever else one says must not keep the server from writing for ever.
	mostSeen = firehose.MaxJump - blindMargin
)

// errBehind: relays have seen events that this server does not have.
var errBehind error = request.ErrHeld{
	Message: "This server takes no changes until its operator has moved the numbers of its events on; please try again later",
	Why: "events that the relay has seen are not here, so it ignores new ones: this server was restored from a backup; " +
		"run nestbox firehose jump --from-relay",
}

// errIncredible: no server gives such a number.
var errIncredible = errors.New("the relay names a number that no server gives: it is not believed")

// guard knows which numbers of events relays have seen.
type guard struct {
	mu   sync.Mutex
	seen map[string]int64 // by relay, what it said last
	// floor is the largest of them.
	floor atomic.Int64
	// ask, if set, asks the relays first: a command without a server does, if it makes an event.
	ask func()
}

// note keeps what a relay said.
func (g *guard) note(relay string, seq int64) {
	if g.seen == nil {
		g.seen = map[string]int64{}
	}
	g.seen[relay] = seq
	floor := int64(0)
	for _, seq := range g.seen {
		floor = max(floor, seq)
	}
	g.floor.Store(floor)
}

// guards reports whether writes wait for a jump if the server is behind its relays.
func (s *Server) guards() bool { return s.opts.Config.FirehoseGuard == "stop" }

// admitsNumber returns errBehind for the number of an event that relays have seen already: its
// change is refused.
func (s *Server) admitsNumber(seq int64) error {
	if !s.guards() {
		return nil
	}
	if s.guard.ask != nil {
		s.guard.ask()
	}
	if seq <= s.guard.floor.Load() {
		return errBehind
	}
	return nil
}

// held returns errBehind while no event can be written. What changes more than the database asks
// before it begins.
func (s *Server) held() error { return s.admitsNumber(s.firehose.Last() + 1) }

// guardNumbers asks the relays each hour until ctx ends, and at the start unless Serve has done
// that.
func (s *Server) guardNumbers(ctx context.Context) {
	if !s.guards() {
		s.noteNumbers(ctx)
	}
	for {
		every, held := guardEvery, s.held() != nil
		if held {
			every = guardSoon
		}
		if !pause.For(ctx, every) {
			return
		}
		s.noteNumbers(ctx)
		if held && s.held() == nil {
			s.firehose.Wake() // what took effect meanwhile
		}
	}
}

// askFirst makes a command that no server runs for ask the relays before its first event: with
// PDS_FIREHOSE_GUARD=stop it is refused what a server refuses.
func (s *Server) askFirst(ctx context.Context) {
	if !s.opts.Listen {
		s.guard.ask = sync.OnceFunc(func() { _, _ = s.checkNumbers(ctx) }) // admitsNumber compares the numbers
	}
}

// noteNumbers asks the relays, and logs what is wrong.
func (s *Server) noteNumbers(ctx context.Context) {
	_, err := s.checkNumbers(ctx)
	if err == nil || ctx.Err() != nil {
		return
	}
	said := "the event stream would reuse numbers"
	if s.held() != nil {
		said += ": no changes are taken until they were moved on"
	}
	if !errors.Is(err, errBehind) {
		said = "relays were not compared"
	}
	s.opts.Log.LogAttrs(ctx, slog.LevelError, said, slog.String("cause", err.Error())) //nolint:sloglint // one of three constants
}

// checkNumbers asks every relay whether it has seen a higher number than this server has given:
// then it was restored, and not moved on. Errors: errBehind, errIncredible. One that cannot be
// asked, which silent names, has seen what it said last.
func (s *Server) checkNumbers(ctx context.Context) (silent []string, err error) {
	type said struct {
		seq int64
		err error
	}
	hosts := s.crawler.Hosts()
	answers := make([]said, len(hosts))
	var asking sync.WaitGroup
	for i, host := range hosts {
		asking.Go(func() { answers[i].seq, answers[i].err = s.crawler.LastSeen(ctx, host) })
	}
	asking.Wait()
	st, err := s.firehose.Status(ctx) // after the relays: none can be ahead of us
	if err != nil {
		return nil, err
	}
	s.guard.mu.Lock()
	defer s.guard.mu.Unlock()
	var problems []error
	for i, host := range hosts {
		switch a := answers[i]; {
		case errors.Is(a.err, firehose.ErrUnseen):
			s.guard.note(host, 0)
		case a.err != nil:
			silent = append(silent, host)
			s.opts.Log.LogAttrs(ctx, slog.LevelDebug, "relay not asked", slog.String("relay", host), slog.String("cause", a.err.Error()))
		case a.seq > mostSeen:
			s.guard.note(host, 0)
			problems = append(problems, fmt.Errorf("%s says %d: %w", host, a.seq, errIncredible))
		default:
			s.guard.note(host, a.seq)
		}
		if seen := s.guard.seen[host]; seen > st.Last {
			problems = append(problems, fmt.Errorf("%s has seen number %d, and the last here is %d: %w", host, seen, st.Last, errBehind))
		}
	}
	return silent, errors.Join(problems...)
}

// lookAtNumbers is the doctor's view of the same.
func (s *Server) lookAtNumbers(ctx context.Context) (string, error) {
	hosts := s.crawler.Hosts()
	if len(hosts) == 0 {
		return "not checked: no relay is set", nil
	}
	silent, err := s.checkNumbers(ctx)
	switch {
	case err != nil:
		return "", err
	case len(silent) == len(hosts):
		return "", fmt.Errorf("not checked: no relay answered, which were %s", strings.Join(silent, ", "))
	}
	says := "no relay has seen a number that this server has not given"
	if len(silent) > 0 {
		says += "; not asked, because there was no answer: " + strings.Join(silent, ", ")
	}
	return says, nil
}
