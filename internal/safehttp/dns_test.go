package safehttp_test

import (
	"fmt"

	"golang.org/x/net/dns/dnsmessage"
)

// answerTo makes a DNS server's answer: one address for whatever was asked.
func answerTo(query []byte, address [4]byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil || len(m.Questions) != 1 {
		return nil, fmt.Errorf("no question: %w", err)
	}
	q := m.Questions[0]
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	if q.Type == dnsmessage.TypeA {
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
			Body:   &dnsmessage.AResource{A: address},
		}}
	}
	raw, err := m.Pack()
	if err != nil {
		return nil, fmt.Errorf("pack answer: %w", err)
	}
	return raw, nil
}
