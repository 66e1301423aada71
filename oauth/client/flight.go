package client

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"nestbox/internal/gate"
	"nestbox/ratelimit"
	"nestbox/request"
)

// The room of fetches: in all, and for one client network; and how many may wait.
const (
	maxFetches        = 32
	maxFetchesNetwork = 8
	maxWaiting        = 256
	maxWaitingNetwork = 32
)

// fetches limits the fetches that one client network causes.
var fetches = ratelimit.Limit{Name: "client documents", Points: 30, Window: 5 * time.Minute}

// fetch fetches a client's document, or shares the fetch that is on its way. It does not fetch
// what another caller just has, if that will do. A caller that leaves does not end a fetch
// for the others. Errors, besides those of the database: ErrUnavailable, request.ErrTooMany.
func (s *Service) fetch(ctx context.Context, id string, u *url.URL, does func(*known) bool) (*known, error) {
	on, err := s.flights.Depart(ctx, id, s.fare(ctx), func() *gate.Flight[*known] {
		if k, ok := s.known.GetIfPresent(id); ok && does(k) {
			return gate.Landed(k, nil)
		}
		return nil
	}, func() (*known, error) { return s.obtain(s.ctx, id, u) })
	if errors.Is(err, gate.ErrClosed) {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err != nil {
		return nil, err
	}
	return on.Wait(ctx)
}

// fare is what a fetch needs: a place, in the share of the client network that causes it.
func (s *Service) fare(ctx context.Context) gate.Fare {
	return gate.Fare{
		Place: func(ctx context.Context) (func(), error) {
			ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
			defer cancel()
			shares := request.ClientOf(ctx).Shares(gate.Share[string]{Most: maxFetchesNetwork, Waiting: maxWaitingNetwork}, maxFetches)
			place, err := s.places.Take(ctx, gate.Room{All: maxFetches, Waiting: maxWaiting}, shares...)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
			}
			return place.Leave, nil
		},
		Pay: func() error { return request.ChargeNetwork(ctx, s.Limits, 1, fetches) },
	}
}
