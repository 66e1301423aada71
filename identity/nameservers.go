package identity

import (
	"context"
	"errors"
	"net"
	"time"
)

// Nameservers looks at these name servers, addresses or names with or without a port,
// in turn: one that fails or is silent is followed by the next, and the time that is
// there is shared among them. That there is nothing is an answer.
func Nameservers(hosts []string) TXTLookup {
	var all inTurn
	for _, host := range hosts {
		if _, _, err := net.SplitHostPort(host); err != nil {
			host = net.JoinHostPort(host, "53")
		}
		// Over UDP a connection is made also where nobody listens: a resolver of its
		// own tells which one has not answered.
		all = append(all, &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, host)
		}})
	}
	return all
}

type inTurn []TXTLookup

// LookupTXT implements TXTLookup.
func (all inTurn) LookupTXT(ctx context.Context, name string) ([]string, error) {
	var failed []error
	for i, one := range all {
		records, err := lookupWithin(ctx, one, name, len(all)-i)
		if missing, ok := errors.AsType[*net.DNSError](err); err == nil || ok && missing.IsNotFound {
			return records, err
		}
		failed = append(failed, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(failed...)
}

// lookupWithin asks for as much of the time that is there as one of so many gets.
func lookupWithin(ctx context.Context, one TXTLookup, name string, of int) ([]string, error) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(of))
		defer cancel()
	}
	return one.LookupTXT(ctx, name)
}
