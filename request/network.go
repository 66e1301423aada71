package request

import (
	"net/netip"

	"nestbox/internal/gate"
	"nestbox/ratelimit"
)

// Network is what limits count a client by, in place of its address: the part of the
// address that distinguishes the customers of a provider, an IPv4 address or an IPv6
// /64. A provider gives a customer up to a /48, which has 65,536 of the latter, so an
// IPv6 network also counts for the /48 around it. The zero value is no network.
type Network struct{ customer, around string }

// aroundTimes is how many times the limit of a network the /48 around it has:
// enough for a family or an office, and less than the whole.
const aroundTimes = 4

const (
	bitsOfCustomer = 64
	bitsAround     = 48
	// keptPart: at most one place in so many is kept.
	keptPart = 4
)

// NetworkOf returns the network of an address.
func NetworkOf(addr netip.Addr) Network {
	if !addr.IsValid() {
		return Network{}
	}
	if addr.Is4() {
		return Network{customer: addr.String()}
	}
	// Neither fails: an IPv6 address has as many bits.
	customer, _ := addr.Prefix(bitsOfCustomer)
	around, _ := addr.Prefix(bitsAround)
	return Network{customer.String(), around.String()}
}

// String is the network as text: an IPv4 address, an IPv6 /64, or "".
func (n Network) String() string { return n.customer }

// Widest is the largest part of the address that is likely one customer's: an IPv4
// address, an IPv6 /48, or "".
func (n Network) Widest() string {
	if n.around != "" {
		return n.around
	}
	return n.customer
}

// Keys returns the keys that the network's attempts count under: those at one thing,
// an account for example, if of is set.
func (n Network) Keys(of string) []ratelimit.Key {
	keys := []ratelimit.Key{{Name: of + n.customer, Times: 1}}
	if n.around != "" {
		keys = append(keys, ratelimit.Key{Name: of + n.around, Times: aroundTimes})
	}
	return keys
}

// Shares returns the network's shares of all places, given the share of one customer.
// The wider network around it never has more than half.
func (n Network) Shares(each gate.Share[string], all int) []gate.Share[string] {
	if n.customer == "" {
		return nil
	}
	each.Key = n.customer
	shares := []gate.Share[string]{each}
	if n.around != "" {
		wide := func(most int) int { return min(aroundTimes*most, max(all/2, most)) } // of none, none
		shares = append(shares, gate.Share[string]{Key: n.around, Most: wide(each.Most), Waiting: wide(each.Waiting)})
	}
	return shares
}

// Network is the client's.
func (c Client) Network() Network { return NetworkOf(c.Addr) }

// Shares are those of the client's network, or none if nothing bounds the client.
func (c Client) Shares(each gate.Share[string], all int) []gate.Share[string] {
	if c.Unlimited {
		return nil
	}
	return c.Network().Shares(each, all)
}

// Open is how many of all places are open to the client: all but the last of them,
// which are kept for networks that were here before, a quarter at most.
func (c Client) Open(all, kept int) int {
	if c.Known || c.Unlimited || !c.Addr.IsValid() {
		return all
	}
	return all - min(kept, all/keptPart)
}
