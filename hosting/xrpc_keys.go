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

// ReserveSigningKeyInput and ReserveSigningKeyOutput are the input and output of
// reserveSigningKey.
type (
	ReserveSigningKeyInput struct {
		DID *string `json:"did,omitzero"`
	}
	ReserveSigningKeyOutput struct {
		SigningKey string `json:"signingKey"`
	}
)

// reservations limits the signing keys that one client network reserves.
var reservations = ratelimit.Limit{Name: "reserved-keys", Points: 100, Window: time.Hour}

// ReserveSigningKey is com.atproto.server.reserveSigningKey.
func (s *Service) ReserveSigningKey(ctx context.Context, _ auth.Anyone, in ReserveSigningKeyInput) (ReserveSigningKeyOutput, error) {
	var did syntax.DID
	if in.DID != nil {
		var err error
		if did, err = syntax.ParseDID(*in.DID); err != nil {
			return ReserveSigningKeyOutput{}, xrpc.InvalidRequest("Invalid DID at $.did")
		}
	}
	if err := request.AdmitNetwork(ctx, s.Limits, 1, reservations); err != nil {
		return ReserveSigningKeyOutput{}, err
	}
	key, err := s.ReserveKey(ctx, did)
	if err != nil {
		return ReserveSigningKeyOutput{}, xrpc.Unavailable(err)
	}
	return ReserveSigningKeyOutput{key}, nil
}
