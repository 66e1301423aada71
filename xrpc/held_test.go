package xrpc_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"nestbox/request"
	"nestbox/xrpc"
)

// TestHeld: a change that waits for the operator is refused with words for the client; the cause stays
// in the log.
func TestHeld(t *testing.T) {
	held := request.ErrHeld{Message: "not now", Why: "the operator must act"}
	e := xrpc.Unavailable(fmt.Errorf("write: %w", held))
	if e.Status != http.StatusServiceUnavailable || e.Name != "ServiceUnavailable" || e.Message != "not now" || e.RetryAfter != time.Minute || e.Cause == nil {
		t.Errorf("%+v", e)
	}
}
