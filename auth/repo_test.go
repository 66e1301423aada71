package auth_test

import (
	"errors"
	"testing"

	"nestbox/auth"
	"nestbox/xrpc"
)

// TestViewerRefused is the table of which viewer sees what of an account.
func TestViewerRefused(t *testing.T) {
	const did = "did:plc:alice"
	names := map[string]string{
		"": "", auth.StatusTakendown: "RepoTakendown", auth.StatusSuspended: "RepoSuspended", auth.StatusDeactivated: "RepoDeactivated",
		"anything else": "RepoDeactivated", // an unknown status hides, too
	}
	for status, name := range names {
		for _, v := range []auth.Viewer{{}, {DID: "did:plc:bob"}} {
			var e *xrpc.Error
			if err := v.Refused(did, status); (err == nil) != (name == "") || err != nil && (!errors.As(err, &e) || e.Name != name || e.Status != 400) {
				t.Errorf("%+v of a %q account: %v, want %q", v, status, err, name)
			}
		}
		for _, v := range []auth.Viewer{{DID: did}, {Admin: true}} {
			if err := v.Refused(did, status); err != nil {
				t.Errorf("%+v of a %q account: %v", v, status, err)
			}
		}
	}
	if e := auth.NoRepo(did); e.Name != "RepoNotFound" || e.Message != "Could not find repo for DID: "+did || e.Status != 400 {
		t.Errorf("no account: %v", e)
	}
}
