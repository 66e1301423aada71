//go:build reference

package e2e

import (
	"testing"

	"nestbox/internal/pdstest"
)

// TestReferenceRateLimits: the reference gives the answers that
// TestLimitPolicies expects.
func TestReferenceRateLimits(t *testing.T) {
	plc := startPLC(t)
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	c := pdstest.Client{Base: startReference(t, plc, append(box.Settings(), "PDS_RATE_LIMITS_ENABLED=true")...)}
	for _, r := range countedRequests(c.SignUp(t, "alice")) {
		if got := limitsOf(t, c, r.Request); got != r.says {
			t.Errorf("%s: %s, want %s", r.what, got, r.says)
		}
	}
}
