// Package dnstest has name servers for tests, on loopback, over UDP.
package dnstest

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// Answers of a name server other than records.
var (
	ErrNoName = errors.New("there is no such name")
	ErrFails  = errors.New("the server fails")
	ErrSilent = errors.New("no answer comes")
)

// Nameserver answers questions for TXT records until the end of the test, and returns its
// address. txt receives a name without the dot at its end; a record is sent in one string
// for each part that ends with "~".
func Nameserver(tb testing.TB, txt func(name string) ([]string, error)) string {
	tb.Helper()
	return serve(tb, func(q dnsmessage.Question) (bodies []dnsmessage.ResourceBody, err error) {
		records, err := txt(strings.TrimSuffix(q.Name.String(), "."))
		for _, r := range records {
			bodies = append(bodies, &dnsmessage.TXTResource{TXT: strings.SplitAfter(r, "~")})
		}
		return bodies, err
	})
}

// Resolver asks a server that returns one IPv4 address for every name, until the end of the
// test.
func Resolver(tb testing.TB, address func() (netip.Addr, error)) *net.Resolver {
	tb.Helper()
	server := serve(tb, func(q dnsmessage.Question) ([]dnsmessage.ResourceBody, error) {
		a, err := address()
		if err != nil || q.Type != dnsmessage.TypeA {
			return nil, err
		}
		return []dnsmessage.ResourceBody{&dnsmessage.AResource{A: a.As4()}}, nil
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server)
	}}
}

// NoNames returns a resolver for a whole test program, to be set as net.DefaultResolver: it
// finds the names of the hosts file, and no other, whatever name servers the machine has.
func NoNames() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go answerStream(theirs)
		return ours, nil
	}}
}

// answerStream answers the questions on a connection: there is no such name.
func answerStream(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	for {
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, query); err != nil {
			return
		}
		raw := answer(query, func(dnsmessage.Question) ([]dnsmessage.ResourceBody, error) { return nil, ErrNoName })
		framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(raw))), raw...) //nolint:gosec // an answer is short
		if _, err := conn.Write(framed); err != nil {
			return
		}
	}
}

// serve returns the address of a server that gives the answers of a function.
func serve(tb testing.TB, answers func(dnsmessage.Question) ([]dnsmessage.ResourceBody, error)) string {
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
			if raw := answer(buf[:size], answers); raw != nil {
				_, _ = conn.WriteTo(raw, from)
			}
		}
	}()
	return conn.LocalAddr().String()
}

// answer returns the answer to a packet, nil if there is none.
func answer(query []byte, answers func(dnsmessage.Question) ([]dnsmessage.ResourceBody, error)) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Response, m.Authoritative, m.RecursionAvailable, m.Additionals = true, true, true, nil
	bodies, err := answers(q)
	switch {
	case errors.Is(err, ErrSilent):
		return nil
	case errors.Is(err, ErrFails):
		m.RCode = dnsmessage.RCodeServerFailure
	case err != nil:
		m.RCode = dnsmessage.RCodeNameError
	}
	for _, b := range bodies {
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}, Body: b})
	}
	raw, err := m.Pack()
	if err != nil {
		return nil
	}
	return raw
}
