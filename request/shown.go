package request

import (
	"net/netip"
	"strings"
)

// Shown is how much of a client's address the log has: PDS_LOG_CLIENT. The zero value is
// ShownFull.
type Shown string

// How much of an address is shown: all of it, its /24 or /48, or nothing.
const (
	ShownFull    Shown = "full"
	ShownNetwork Shown = "network"
	ShownNone    Shown = "none"
)

// bitsOfLog is the part of an IPv4 address that the log has as a network. Of an IPv6 address it
// is bitsAround.
const bitsOfLog = 24

// Of returns what the log has of an address; empty for nothing.
func (s Shown) Of(addr netip.Addr) string {
	switch {
	case s == ShownNone:
		return ""
	case s != ShownNetwork || !addr.IsValid():
		return addr.String()
	case addr.Is4():
		return netip.PrefixFrom(addr, bitsOfLog).Masked().String()
	default:
		return netip.PrefixFrom(addr.WithZone(""), bitsAround).Masked().String()
	}
}

// hide removes a client's address from a text, such as the error of its connection.
func (s Shown) hide(text string, addr netip.Addr) string {
	if !addr.IsValid() || s != ShownNetwork && s != ShownNone {
		return text
	}
	return strings.ReplaceAll(text, addr.String(), "client")
}
