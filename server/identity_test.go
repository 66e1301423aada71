package server

import (
	"errors"
	"testing"
	"time"

	"nestbox/auth"
	"nestbox/identity"
)

// TestIssuersBusy: that nothing was asked is told apart from that nobody answered.
func TestIssuersBusy(t *testing.T) {
	r := identity.NewResolver(identity.ResolverOptions{Now: time.Now})
	r.Close() // it asks nothing any more
	if key, err := (issuers{r}).SigningKey(t.Context(), "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "atproto", false); !errors.Is(err, auth.ErrBusy) {
		t.Errorf("%q, %v", key, err)
	}
}
