//go:build reference

package e2e

import (
	"strings"
	"testing"

	"nestbox/internal/pdstest"
)

// TestReferenceMigration moves an account from Nestbox to the reference PDS, and
// another one the other way.
func TestReferenceMigration(t *testing.T) {
	plc := startPLC(t)
	box, other := pdstest.NewMailbox(t, pdstest.MailboxOptions{}), pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	p := pdstest.Launch(t, "", append(box.Settings(), "PDS_LOG_LEVEL=warn", "PDS_DID_PLC_URL="+plc)...)
	for _, kv := range other.Settings() {
		name, value, _ := strings.Cut(kv, "=")
		t.Setenv(name, value)
	}
	nestbox, reference := house{"Nestbox", p.Base, box, 3}, house{"the reference", startReference(t, plc), other, 0}
	t.Run("out", func(t *testing.T) { migrate(t, plc, nestbox, reference, "alice") })
	t.Run("in", func(t *testing.T) { migrate(t, plc, reference, nestbox, "bob") })
}
