package schema

import (
	"context"
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/internal/gate"
	"nestbox/ratelimit"
	"nestbox/request"
)

// purpose is what a look-up is for. Each has a room of its own: what nobody waits for
// must not be in the way of what somebody waits for.
type purpose int

const (
	// forRequest: a client asks for a permission set that is not known.
	forRequest purpose = iota
	// forRenewal: nobody waits.
	forRenewal
	// forRecords: an account wrote a record of an unknown schema. Nobody waits.
	forRecords
	purposes
)

// roomFor returns how many look-ups may be under way at once for a purpose, and how many
// for one cause of them: a client network, or an account.
func roomFor(p purpose) (all, each int) {
	switch p {
	case forRequest:
		return 64, 20 // one request may name as many sets: scope.MaxIncludes
	case forRecords:
		return 8, 2
	case forRenewal, purposes:
	}
	return 8, 0
}

// Limits of the look-ups that one client network or one account causes, however fast the
// network answers them.
var (
	lookUpsOfNetwork = ratelimit.Limit{Name: "Lexicon look-ups", Points: 60, Window: 5 * time.Minute}
	lookUpsOfAccount = ratelimit.Limit{Name: "Lexicon look-ups of an account", Points: 60, Window: 5 * time.Minute}
)

// cause is who is behind a look-up.
type cause struct {
	why     purpose
	client  request.Client
	account syntax.DID
}

// flight is a look-up that is under way.
type flight = gate.Flight[*entry]

// depart looks an NSID up, unless that is under way, or another caller just has. Error:
// ErrBusy.
func (s *Service) depart(nsid syntax.NSID, c cause) (*flight, error) {
	on, err := s.flights.Depart(s.ctx, nsid, gate.Fare{
		Place: placeIn(&s.running[c.why], c),
		Pay: func() error {
			if !s.spend(c) {
				return ErrBusy
			}
			return nil
		},
	}, func() *flight { return s.landed(nsid) }, func() (*entry, error) { return s.lookUp(s.ctx, nsid, c.why != forRecords) })
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return on, nil
}

// landed returns what a look-up of the last minute came to, or nil.
func (s *Service) landed(nsid syntax.NSID) *flight {
	if err := s.recentFailure(nsid, nil); err != nil {
		return gate.Landed[*entry](nil, err)
	}
	if e, ok := s.entries.GetIfPresent(nsid); ok && e.Failure == "" && s.age(e.CheckedAt) < failedFor {
		return gate.Landed(e, nil)
	}
	return nil
}

// placeIn returns what takes a place for a look-up, or refuses at once.
func placeIn(places *gate.Places[string], c cause) func(context.Context) (func(), error) {
	return func(context.Context) (func(), error) {
		place, err := places.Try(c.room())
		if err != nil {
			return nil, err
		}
		return place.Leave, nil
	}
}

// room returns the bounds for a look-up.
func (c cause) room() (gate.Room, gate.Share[string]) {
	all, each := roomFor(c.why)
	share := gate.Share[string]{Key: c.account.String(), Most: each}
	if c.why == forRequest {
		share.Key = c.client.Network().Widest()
	}
	if share.Key == "" || c.client.Unlimited {
		share.Most = 0
	}
	return gate.Room{All: all}, share
}

// spend counts a look-up, and reports whether it may be done.
func (s *Service) spend(c cause) bool {
	switch {
	case c.why == forRecords:
		return s.Limits.TakeN(c.account.String(), 1, lookUpsOfAccount).Allowed
	case c.why == forRenewal || c.client.Unlimited || !c.client.Addr.IsValid():
		return true
	default:
		return s.Limits.TakeKeys(c.client.Network().Keys(""), 1, lookUpsOfNetwork).Allowed
	}
}

// Close ends what is under way, and waits for it.
func (s *Service) Close() {
	s.stop()
	s.builds.Close()
	s.flights.Close()
}
