//go:build reference

package e2e

import (
	"os"
	"strings"
	"testing"

	"nestbox/conformance"
	"nestbox/internal/pdstest"
)

// conformanceAccepted are the checks that the reference does not pass: the outcome, a part of
// the detail, and the row of docs/divergences.md.
var conformanceAccepted = map[string]struct {
	outcome     conformance.Outcome
	detail, row string
}{
	"answers.members":      {conformance.Differs, "no emailAuthFactor", "| `emailAuthFactor` |"},
	"refresh.no-input":     {conformance.Differs, "{}: 400 InvalidRequest", "a body of white space or `{}` |"},
	"sign-out.access":      {conformance.Differs, "works until it expires", "| `deleteSession` |"},
	"sign-out.predecessor": {conformance.Differs, "opens the session again", "| `deleteSession` |"},
	"cors.exposed":         {conformance.Differs, "lacks Retry-After", "| `Access-Control-Expose-Headers` |"},
	"errors.content-type":  {conformance.Differs, "charset=utf-8", "| Errors |"},
	"oauth.proof":          {conformance.Differs, "401 invalid_dpop_proof", "| A proof that is wrong or missing, at OAuth's endpoints |"},
	"oauth.authorize":      {conformance.Fail, "303", "| `/oauth/authorize` of a request that was not pushed |"},
}

// TestReferenceConformance: the reference passes every check, but for what
// docs/divergences.md names.
func TestReferenceConformance(t *testing.T) {
	base := startReference(t, startPLC(t), "PDS_ENABLE_DID_DOC_WITH_SESSION=true")
	alice := pdstest.Client{Base: base}.SignUp(t, "alice")
	divergences, err := os.ReadFile("../docs/divergences.md")
	if err != nil {
		t.Fatal(err)
	}
	r := conformReport(t, base, "alice.test", pdstest.Password, 1)
	for _, c := range r.Checks {
		want, accepted := conformanceAccepted[c.Check]
		switch {
		case c.Check == "rate-limits.headers": // they are off
		case !accepted && c.Outcome != conformance.Pass:
			t.Errorf("%s: %s: %s", c.Check, c.Outcome, c.Detail)
		case accepted && (c.Outcome != want.outcome || !strings.Contains(c.Detail, want.detail)):
			t.Errorf("%s: %s: %s, want %s with %q", c.Check, c.Outcome, c.Detail, want.outcome, want.detail)
		case accepted && !strings.Contains(string(divergences), want.row):
			t.Errorf("docs/divergences.md does not say %q", want.row)
		}
	}
	if r.Left != 0 || r.DID != alice.DID {
		t.Errorf("%d left, of %s", r.Left, r.DID)
	}
	t.Logf("%d calls in %.1f s: %v", r.Calls, r.Seconds, r.Counts)
}
