package web_test

import (
	"net"
	"testing"

	"nestbox/internal/dnstest"
)

// TestMain: names that tests make up are asked of no name server of this machine, which may
// be slow.
func TestMain(m *testing.M) {
	net.DefaultResolver = dnstest.NoNames()
	m.Run()
}
