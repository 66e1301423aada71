// Package dnstest has name servers for tests, on loopback.
package dnstest

import (
	"errors"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// Answers of a nameserver other than records.
var (
	ErrNoName = errors.New("there is no such name")
	ErrFails  = errors.New("the server fails")
	ErrSilent = errors.New("no answer comes")
)

// Nameserver answers questions for TXT records on loopback, over UDP, until the end of
// the test, and returns its address. txt receives a name without the dot at its end; a
// record is sent in one string for each part that ends with "~".
func Nameserver(tb testing.TB, txt func(name string) ([]string, error)) string {
	tb.Helper()
	conn, err := new(net.ListenConfig).ListenPacket(tb.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	go func() {
		buf := make([]byte, 512)
		for {
			size, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if raw := answer(buf[:size], txt); raw != nil {
				_, _ = conn.WriteTo(raw, from)
			}
		}
	}()
	return conn.LocalAddr().String()
}

// answer returns the answer to a packet, nil if there is none.
func answer(query []byte, txt func(string) ([]string, error)) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	records, err := txt(strings.TrimSuffix(q.Name.String(), "."))
	switch {
	case errors.Is(err, ErrSilent):
		return nil
	case errors.Is(err, ErrFails):
		m.RCode = dnsmessage.RCodeServerFailure
	case err != nil:
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, r := range records {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: dnsmessage.TypeTXT, Class: q.Class},
			Body:   &dnsmessage.TXTResource{TXT: strings.SplitAfter(r, "~")},
		})
	}
	raw, err := m.Pack()
	if err != nil {
		return nil
	}
	return raw
}
