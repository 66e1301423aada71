package hosting_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/hosting"
	"nestbox/request"
	"nestbox/store/storetest"
)

// reserve reserves a key for a DID, "" for none, from an address.
func (p *place) reserve(from string, did syntax.DID) string {
	p.t.Helper()
	ctx := request.WithClient(p.t.Context(), request.Client{Addr: netip.MustParseAddr(from)})
	in := hosting.ReserveSigningKeyInput{}
	if did != "" {
		in.DID = new(did.String())
	}
	out, err := p.ReserveSigningKey(ctx, auth.Anyone{}, in)
	if err != nil {
		p.t.Errorf("%s reserves for %q: %v", from, did, err)
	}
	return out.SigningKey
}

// TestReserveFlood: keys that strangers reserve from many networks, for DIDs of their
// choice, neither refuse a person who reserves one nor take it away until the person moves
// in.
func TestReserveFlood(t *testing.T) {
	t.Parallel()
	const networks, each = 20, 10
	p := newPlace(t)
	p.ReservedKeys = networks * each / 2
	flood := func(from int) {
		for i := range networks * each {
			p.advance(time.Minute)
			did := syntax.DID(fmt.Sprintf("did:web:flood%d.example.com", from+i))
			if i%each == 0 {
				did = ""
			}
			p.reserve(fmt.Sprintf("2001:db8:%x:%x::1", i%networks, i), did)
		}
	}
	flood(0)
	w := newWebHost(t)
	key := p.reserve("2001:db8:ffff::1", w.did)
	for i := range 3 {
		flood((i + 1) * networks * each)
	}
	w.says("alice.test", "https://elsewhere.example.com")
	if a := p.moveIn(w.did, "alice"); a.SigningKey != key {
		t.Errorf("the account has the key %s, %s was reserved", a.SigningKey, key)
	}
}

// TestReserveMeetsMoveIn: an account that moves in while a key is reserved for it has that
// key, or the key is reserved for the next time.
func TestReserveMeetsMoveIn(t *testing.T) {
	t.Parallel()
	storetest.Interleave(t, func(t *testing.T, before func()) storetest.Changes {
		t.Helper()
		p := newPlaceBefore(t, before)
		p.Repos = p.repos()
		w := newWebHost(t)
		w.says("alice.test", "https://elsewhere.example.com")
		var key string
		return storetest.Changes{
			One: func() string {
				_, err := p.MoveIn(t.Context(), w.did, hosting.NewAccount{
					Handle: "alice.test", Email: "alice@example.com", Password: "correct-horse-battery", Owner: w.did,
				})
				return answer(err)
			},
			Other: func() string {
				key = p.reserve("192.0.2.1", w.did)
				return ""
			},
			State: func() string {
				a, err := p.Accounts.ByDID(t.Context(), w.did)
				if err != nil {
					return err.Error()
				}
				k, err := p.Store.ReservedKey(t.Context(), w.did)
				if err != nil && !errors.Is(err, account.ErrNotFound) {
					return err.Error()
				}
				return fmt.Sprintf("the account has the promised key: %t; it is still reserved: %t", a.SigningKey == key, k.Public == key)
			},
		}
	})
}

// TestSurplusKeys: the networks that hold most lose keys, down to a common level.
func TestSurplusKeys(t *testing.T) {
	t.Parallel()
	// held are keys named by their sender and age, in upper case if for no DID.
	for name, v := range map[string]struct {
		held  string
		limit int
		kept  string
	}{
		"one of many":              {"a0 a1 a2 a3 a4 a5 a6 b9", 8, "a0 a1 a2 a3 a4 a5 b9"},
		"late ones stay":           {"a3 a1 a2 b4", 4, "a1 a2 b4"},
		"those for no DID go":      {"A0 a1 a2 b4", 4, "a1 a2 b4"},
		"down to what others hold": {"a0 a1 a2 a3 b4 b5 c6 C7", 8, "C7 a0 a1 a2 b4 b5 c6"},
		"far over the limit":       {"a0 a1 a2 a3 b4 b5 c6 c7", 4, "a0 b4 c6"},
		"more networks than keys":  {"a0 b1 c2 d3", 4, "a0 b1 c2"},
		"a limit of one":           {"a0", 1, ""},
	} {
		var held []hosting.HeldKey
		var want []string
		var public, sender rune
		for i, r := range v.held + " " {
			switch i % 3 {
			case 0:
				public, sender = r, r|0x20
			case 1:
				k := hosting.HeldKey{Public: string(public) + string(r), Named: public == sender, Sender: string(sender), ReservedAt: time.Unix(100-int64(r), 0)}
				held = append(held, k)
				want = append(want, k.Public)
			}
		}
		gone := hosting.SurplusKeys(held, v.limit)
		want = slices.DeleteFunc(want, func(k string) bool { return slices.Contains(gone, k) })
		slices.Sort(want)
		if got := fmt.Sprint(want); got != "["+v.kept+"]" {
			t.Errorf("%s: kept %s, want %s", name, got, v.kept)
		}
	}
}
