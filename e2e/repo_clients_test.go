package e2e

import (
	"testing"

	"nestbox/internal/pdstest"
)

// TestPosting posts, edits and deletes with @atproto/api, as an app does.
func TestPosting(t *testing.T) {
	t.Parallel()
	server := pdstest.Launch(t, "", "PDS_LOG_LEVEL=warn")
	runScript(t, []string{"posting.mjs"}, []string{"SERVICE=" + server.Base}, nil)
	if t.Failed() {
		t.Logf("the server's log:\n%s", server.Log())
	}
}
