package identity

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/request"
)

// Said is what one way of looking up a handle came to: a DID, or that there is none, or an
// error: ErrHandleConflict, or why there was no answer.
type Said struct {
	DID syntax.DID
	Err error
}

// Look is what both ways of looking up a handle said, and when.
type Look struct {
	// DNS is the TXT record, HTTPS the file on the host that is named like the handle.
	DNS, HTTPS Said
	At         time.Time
}

// DID returns the DID that a handle leads to: no answer counts that the other way
// contradicts. ErrHandleNotFound, ErrHandleConflict; any other error means that the network
// did not answer.
func (l Look) DID() (syntax.DID, error) {
	dns, web := l.DNS, l.HTTPS
	switch {
	case errors.Is(dns.Err, ErrHandleConflict):
		return "", dns.Err
	case dns.DID != "" && web.DID != "" && dns.DID != web.DID:
		return "", fmt.Errorf("%w: DNS says %s, https says %s", ErrHandleConflict, dns.DID, web.DID)
	case dns.DID != "":
		return dns.DID, nil
	case web.DID != "":
		return web.DID, nil
	case dns.Err != nil:
		return "", dns.Err
	case web.Err != nil:
		return "", web.Err
	default:
		return "", ErrHandleNotFound
	}
}

// Look asks the network for a handle by both ways, whatever is known, and remembers what
// they came to. Errors: ErrHandleNotFound of a name that no handle can have, ErrBusy.
func (r *Resolver) Look(ctx context.Context, h syntax.Handle) (Look, error) {
	h = h.Normalize()
	if !h.AllowedTLD() || h.IsInvalidHandle() {
		return Look{}, ErrHandleNotFound
	}
	leave, err := r.work.enter(r.why, request.ClientOf(ctx))
	if err != nil {
		return Look{}, err
	}
	defer leave()
	l := r.look(ctx, h)
	did, err := l.DID()
	switch {
	case err == nil:
		r.handles.keep(h.String(), cached[syntax.DID]{value: did, at: l.At})
	case r.handles.isCertain(err):
		r.handles.keep(h.String(), cached[syntax.DID]{none: err, at: l.At})
	}
	return l, nil
}

// askHandle asks by both ways.
func (r *Resolver) askHandle(ctx context.Context, h syntax.Handle) (syntax.DID, error) {
	return r.look(ctx, h).DID()
}

// look asks by both ways at once.
func (r *Resolver) look(ctx context.Context, h syntax.Handle) Look {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	l := Look{At: r.options.Now()}
	byDNS := make(chan Said, 1)
	go func() { byDNS <- r.askDNS(ctx, h) }()
	l.HTTPS = r.askWellKnown(ctx, h)
	l.DNS = <-byDNS
	return l
}

// askDNS looks for the TXT record of a handle, also at the backup servers, for which
// half of the time is left where the first ones are silent.
func (r *Resolver) askDNS(ctx context.Context, h syntax.Handle) Said {
	if r.options.Backup == nil {
		return txt(ctx, r.options.DNS, h)
	}
	first, cancel := context.WithTimeout(ctx, lookupTimeout/2)
	a := txt(first, r.options.DNS, h)
	cancel()
	if a.DID == "" && !errors.Is(a.Err, ErrHandleConflict) {
		if b := txt(ctx, r.options.Backup, h); b.DID != "" || b.Err != nil && a.Err == nil {
			return b
		}
	}
	return a
}

func txt(ctx context.Context, dns TXTLookup, h syntax.Handle) Said {
	// The dot: search domains of this machine do not count.
	records, err := dns.LookupTXT(ctx, "_atproto."+h.String()+".")
	if failed, ok := errors.AsType[*net.DNSError](err); ok && failed.IsNotFound {
		return Said{}
	}
	if err != nil {
		return Said{Err: fmt.Errorf("look up TXT record: %w", err)}
	}
	var found Said
	for _, record := range records {
		value, ok := strings.CutPrefix(record, "did=")
		if !ok {
			continue
		}
		did, err := syntax.ParseDID(value)
		switch {
		case err != nil:
		case found.DID != "" && found.DID != did:
			return Said{Err: fmt.Errorf("%w: TXT records say %s and %s", ErrHandleConflict, found.DID, did)}
		default:
			found.DID = did
		}
	}
	return found
}

// askWellKnown asks the host that is named like the handle. Many handles have
// none: that it cannot be reached says nothing, unless it is a matter of time.
func (r *Resolver) askWellKnown(ctx context.Context, h syntax.Handle) Said {
	status, body, err := r.fetch(ctx, "https://"+h.String()+"/.well-known/atproto-did", maxWellKnown)
	switch {
	case err != nil && timedOut(err):
		return Said{Err: err}
	case err == nil && status >= http.StatusInternalServerError:
		return Said{Err: fmt.Errorf("ask %s: status %d", h, status)}
	case err != nil || status != http.StatusOK:
		return Said{}
	}
	line, _, _ := strings.Cut(string(body), "\n")
	did, err := syntax.ParseDID(strings.TrimSpace(line))
	if err != nil {
		return Said{} // another program's page
	}
	return Said{DID: did}
}
