package identity_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"nestbox/identity"
	"nestbox/internal/dnstest"
)

// TestNameservers: the first one that answers counts, also with that there is nothing.
func TestNameservers(t *testing.T) {
	says := func(records []string, err error) string {
		return dnstest.Nameserver(t, func(string) ([]string, error) { return records, err })
	}
	nobody, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := nobody.LocalAddr().String()
	if err := nobody.Close(); err != nil {
		t.Fatal(err)
	}
	fails, silent, none := says(nil, dnstest.ErrFails), says(nil, dnstest.ErrSilent), says(nil, dnstest.ErrNoName)
	one, two := says([]string{"one"}, nil), says([]string{"two"}, nil)
	const found, missing, failed = "found", "missing", "failed"
	for name, c := range map[string]struct {
		hosts []string
		want  string
		says  string
	}{
		"the first":         {[]string{one, two}, found, "one"},
		"nobody listens":    {[]string{dead, two}, found, "two"},
		"it fails":          {[]string{fails, two}, found, "two"},
		"it is silent":      {[]string{silent, two}, found, "two"},
		"two are of no use": {[]string{silent, fails, two}, found, "two"},
		"there is nothing":  {[]string{none, two}, missing, ""},
		"only the second":   {[]string{dead, none}, missing, ""},
		"none is of use":    {[]string{silent, dead, fails}, failed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			records, err := identity.Nameservers(c.hosts).LookupTXT(ctx, "_atproto.alice.example.com.")
			got := failed
			if dns, ok := errors.AsType[*net.DNSError](err); err == nil {
				got = found
			} else if ok && dns.IsNotFound {
				got = missing
			}
			if got != c.want || got == found && !slices.Equal(records, []string{c.says}) {
				t.Errorf("%q, %v, want %s %s", records, err, c.want, c.says)
			}
		})
	}
}
