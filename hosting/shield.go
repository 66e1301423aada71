package hosting

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/ratelimit"
	"nestbox/request"
)

// The rules on which accounts may be made, and how many.

// Refusals of the shield, in words for people.
var (
	ErrInviteMissing = errors.New("no invite code provided")
	ErrClosed        = errors.New("This server takes no new accounts")                                  //nolint:staticcheck // for people
	ErrManySignUps   = errors.New("Too many people are signing up right now, please try again later")   //nolint:staticcheck // for people
	ErrMigrationOnly = errors.New("This server takes only accounts that move here from another server") //nolint:staticcheck // for people
)

// admits returns nil if the server accepts such an account. did is that of an owner
// who moves in.
func (s *Service) admits(did syntax.DID, in NewAccount) error {
	switch {
	case in.ByAdmin:
		return nil
	case s.Closed:
		return ErrClosed
	case s.MigrationOnly && did == "":
		return ErrMigrationOnly
	case s.InviteRequired && in.InviteCode == "":
		return ErrInviteMissing
	default:
		return nil
	}
}

// One client network may use this part of an hour's sign-ups, and at least so many.
const partOfNetwork, leastOfNetwork = 4, 5

// brake counts an uninvited sign-up against the server's hourly limit, of which one
// client network has a quarter and the /48 around it half. Call release if the sign-up
// fails: a failure takes no place from others. Errors: request.ErrTooMany, if all sign-ups
// together are too many with ErrManySignUps.
func (s *Service) brake(ctx context.Context, in NewAccount) (release func(), err error) {
	if s.SignupsPerHour == 0 || s.Limits == nil || in.ByAdmin || in.InviteCode != "" || request.ClientOf(ctx).Unlimited {
		return func() {}, nil
	}
	const all = "everybody"
	limit := ratelimit.Limit{Name: "sign-ups-server", Points: s.SignupsPerHour, Window: time.Hour}
	ofNetwork := min(s.SignupsPerHour, max(s.SignupsPerHour/partOfNetwork, leastOfNetwork))
	part := ratelimit.Limit{Name: "sign-ups-server-network", Points: ofNetwork, Window: time.Hour}
	networks := request.ClientOf(ctx).Network().Keys("")
	for i := range networks {
		networks[i].Times = min(networks[i].Times, partOfNetwork/2)
	}
	if r := s.Limits.TakeKeys(networks, 1, part); !r.Allowed {
		return nil, request.ErrTooMany{Wait: r.RetryAfter(s.Limits.Now())}
	}
	r := s.Limits.Take(all, limit)
	if !r.Allowed {
		s.Limits.GiveBackKeys(networks, 1, part)
		s.Log.LogAttrs(ctx, slog.LevelWarn, "sign-ups are held up: as many were made within an hour as PDS_SIGNUPS_PER_HOUR allows",
			slog.Int("limit", s.SignupsPerHour))
		return nil, fmt.Errorf("%w: %w", ErrManySignUps, request.ErrTooMany{Wait: r.RetryAfter(s.Limits.Now())})
	}
	return func() {
		s.Limits.GiveBack(all, limit)
		s.Limits.GiveBackKeys(networks, 1, part)
	}, nil
}

// countEvery is how often accounts are counted.
const countEvery = 24 * time.Hour

// Crowded reports whether so many accounts are close to what relays accept.
func (s *Service) Crowded(accounts int64) bool {
	return s.RelayLimit > 0 && accounts >= s.RelayLimit-s.RelayLimit/10
}

// warnCrowded warns the operator before relays stop accepting new accounts: nobody
// elsewhere would see those.
func (s *Service) warnCrowded(ctx context.Context) {
	if s.RelayLimit == 0 {
		return
	}
	n, err := s.Store.Hosted(ctx)
	if err != nil {
		s.Log.LogAttrs(ctx, slog.LevelWarn, "accounts not counted", slog.String("cause", err.Error()))
		return
	}
	if s.Crowded(n) {
		s.Log.LogAttrs(ctx, slog.LevelWarn, "nearly as many accounts as relays take from this host: "+
			"ask their operators for more, and write what they agree to into PDS_RELAY_ACCOUNT_LIMIT",
			slog.Int64("accounts", n), slog.Int64("limit", s.RelayLimit))
	}
}
