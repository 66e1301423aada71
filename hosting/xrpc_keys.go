package hosting

import (
	"context"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/auth"
	"nestbox/ratelimit"
	"nestbox/request"
	"nestbox/xrpc"
)

// ReserveKeyInput and ReserveKeyOutput are the input and output of
// reserveSigningKey.
type (
	ReserveKeyInput struct {
		DID *string `json:"did,omitzero"`
	}
	ReserveKeyOutput struct {
		SigningKey string `json:"signingKey"`
	}
)

// reservations limits the signing keys that one client network reserves.
var reservations = ratelimit.Limit{Name: "reserved-keys", Points: 100, Window: time.Hour}

// ReserveSigningKey is com.atproto.server.reserveSigningKey.
func (s *Service) ReserveSigningKey(ctx context.Context, _ auth.Anyone, in ReserveKeyInput) (ReserveKeyOutput, error) {
	var did syntax.DID
	if in.DID != nil {
		var err error
		if did, err = syntax.ParseDID(*in.DID); err != nil {
			return ReserveKeyOutput{}, xrpc.InvalidRequest("Invalid DID at $.did")
		}
	}
	if err := request.AdmitNetwork(ctx, s.Limits, 1, reservations); err != nil {
		return ReserveKeyOutput{}, err
	}
	key, err := s.ReserveKey(ctx, did)
	if err != nil {
		return ReserveKeyOutput{}, xrpc.Unavailable(err)
	}
	return ReserveKeyOutput{key}, nil
}
