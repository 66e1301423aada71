package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"nestbox/admin"
	"nestbox/internal/pdstest"
)

// TestCLIDoctor: a sound server has no fault; if something is missing, the
// command names it and fails.
func TestCLIDoctor(t *testing.T) {
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	p := pdstest.Launch(t, "", append(box.Settings(), "PDS_LOG_LEVEL=warn")...)
	p.SignUp(t, "alice")
	var d admin.Diagnosis
	if err := json.Unmarshal([]byte(command(t, p.Dir, "doctor", "--json")), &d); err != nil {
		t.Fatal(err)
	}
	what := map[string]bool{}
	for _, f := range d.Findings {
		if !f.OK || f.Says == "" {
			t.Errorf("%+v", f)
		}
		what[f.What] = true
	}
	for _, w := range []string{"data directory", "database", "host name", "handles", "PLC directory", "identities", "other services", "mail", "accounts", "passkeys"} {
		if !what[w] {
			t.Errorf("the doctor did not look at: %s", w)
		}
	}
	p.Stop()

	// Nothing listens on that port.
	ill := pdstest.Launch(t, "", "PDS_LOG_LEVEL=warn", "PDS_DID_PLC_URL=http://"+freeAddress(t), "PDS_EMAIL_SMTP_URL=smtp://"+freeAddress(t), "PDS_EMAIL_FROM_ADDRESS=pds@example.com")
	out, err := pdstest.Run(t, "", "doctor", "--data", ill.Dir)
	if err == nil || !strings.Contains(err.Error(), "something is wrong") {
		t.Errorf("%v\n%s", err, out)
	}
	for _, want := range []string{"FAULT  PLC directory", "FAULT  mail", "ok     database"} {
		if !strings.Contains(out, want) {
			t.Errorf("the doctor does not say %q:\n%s", want, out)
		}
	}
}
