//go:build network && reference

package e2e

import (
	"strings"
	"testing"

	"nestbox/internal/pdstest"
)

// TestNetworkMoved moves an account in from the reference PDS. The AppView knows its old
// key, yet it works at once; and again when its key was changed.
func TestNetworkMoved(t *testing.T) {
	n := startNetwork(t)
	box, other := pdstest.NewMailbox(t, pdstest.MailboxOptions{}), pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	p := pdstest.Launch(t, "", append(append(box.Settings(), n.settings()...), "PDS_LOG_LEVEL=warn")...)
	for _, kv := range other.Settings() {
		name, value, _ := strings.Cut(kv, "=")
		t.Setenv(name, value)
	}
	reference := startReference(t, n.plc, n.settings()...)
	n.follow(t, reference)
	n.follow(t, p.Base)
	m := newMover(t, house{"the reference", reference, other, 0}, house{"Nestbox", p.Base, box, 3}, "bob")
	n.run(t, reference, nil, "network-moved.mjs", "before")
	// A relay passes nothing on of a server to which a DID no longer points. Here is none, so
	// the old home's last event, that the account is not active, would count.
	n.leave(t, reference)
	m.move(n.plc)
	n.run(t, p.Base, handlers{
		"rotate": func(did string) any { return command(t, p.Dir, "identity", "rotate-key", did) },
	}, "network-moved.mjs", "after")
	if t.Failed() {
		t.Logf("the server's log:\n%s", p.Log())
	}
}
