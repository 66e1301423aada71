package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/auth"
	"nestbox/request"
)

// TestRoomShares: an app leaves its owner half of the account's places, whatever hosts it
// names, and a client network leaves the others most of those at a service of ours.
func TestRoomShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		appview, named := Target{DID: "did:web:appview.example", URL: "https://appview.example"}, func(n int) Target {
			return Target{DID: fmt.Sprintf("did:web:host%d.example", n), URL: fmt.Sprintf("https://host%d.example", n), Named: true}
		}
		from := func(address string) context.Context {
			return request.WithClient(t.Context(), request.Client{Addr: netip.MustParseAddr(address)})
		}
		account := func(n int) auth.Holder { return auth.Holder{DID: syntax.DID(fmt.Sprintf("did:plc:%024d", n))} }
		for what, c := range map[string]struct {
			take func(r *room, n int) error
			most int
			then func(r *room) error
		}{
			"an app": {
				take: func(r *room, n int) error {
					by := account(1)
					by.Via = "app 1"
					_, err := r.enter(from("192.0.2.1"), by, named(n%4))
					return err
				},
				most: callsOfApp,
				then: func(r *room) error { _, err := r.enter(from("192.0.2.2"), account(1), appview); return err },
			},
			"a network": {
				take: func(r *room, n int) error { _, err := r.enter(from("192.0.2.1"), account(n), appview); return err },
				most: callsFrom,
				then: func(r *room) error { _, err := r.enter(from("198.51.100.1"), account(1), appview); return err },
			},
		} {
			var r room
			for n := range c.most {
				if err := c.take(&r, n); err != nil {
					t.Fatalf("%s: place %d: %v", what, n, err)
				}
			}
			if c.take(&r, c.most) == nil {
				t.Errorf("%s has more than %d places", what, c.most)
			}
			if err := c.then(&r); err != nil {
				t.Errorf("somebody else than %s: %v", what, err)
			}
		}
	})
}
