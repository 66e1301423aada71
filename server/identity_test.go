package server

import (
	"errors"
	"testing"
	"time"

	"nestbox/auth"
	"nestbox/identity"
)

// TestIssuersBusy: a lookup that was not made has another error than one that got
// no answer.
func TestIssuersBusy(t *testing.T) {
	r := identity.NewResolver(identity.ResolverOptions{Now: time.Now})
	r.Close() // it makes no lookups any more
	if key, err := (issuers{r}).SigningKey(t.Context(), "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "atproto", false); !errors.Is(err, auth.ErrBusy) {
		t.Errorf("%q, %v", key, err)
	}
}
