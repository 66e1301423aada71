package proxy

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"time"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/oauth/scope"
	"nestbox/xrpc"
)

// errMethod returns the answer to a caller that may not use a method. The official app
// explains it to people.
func errMethod() error { return xrpc.BadRequest(xrpc.NameInvalidToken, "Bad token method") }

// Call passes a call of a method that is not served here on to its target: it is
// xrpc.Server.Pass.
func (s *Service) Call(w http.ResponseWriter, r *http.Request) error {
	c, err := s.begin(w, r)
	if err != nil {
		return wireError(w.Header(), err)
	}
	return s.relay(w, r, c)
}

// begin decides where a request goes, and whether it may. The order of its checks is the
// contract's.
func (s *Service) begin(w http.ResponseWriter, r *http.Request) (*call, error) {
	ctx, nsid := r.Context(), xrpc.NSID(r)
	commonHeaders(w.Header())
	if protected(nsid) {
		return nil, errMethod()
	}
	header := proxyHeader(r.Header)
	switch {
	case header != "":
		// Only a proven caller makes us look for a DID.
		if _, _, err := parseProxyHeader(header); err != nil {
			return nil, err
		}
	case servedHere(nsid):
		return nil, xrpc.NotImplemented()
	default:
		if _, err := s.target(ctx, "", nsid); err != nil {
			return nil, err
		}
	}
	calling, err := s.Callers.Calling(ctx, r)
	if err != nil {
		return nil, err
	}
	caller, err := calling.For(s.needs(header, nsid)...)
	if err != nil {
		return nil, err
	}
	to, err := s.target(ctx, header, nsid)
	if err != nil {
		return nil, err
	}
	if !open(caller.Scope, nsid) {
		return nil, errMethod()
	}
	by, err := s.Accounts.ByDID(ctx, caller.DID)
	if err != nil {
		return nil, err
	}
	return &call{
		by: by, holder: caller.Holder(), to: to, method: r.Method, nsid: nsid, query: r.URL.RawQuery, forceQuery: r.URL.ForceQuery,
	}, nil
}

// needs returns what an OAuth client needs for a call. The audience is the service that is
// named, or the one that we choose, with its id: a scope names both.
func (s *Service) needs(header, nsid string) []scope.Need {
	audience := header
	if to := s.byDefault(nsid); header == "" {
		audience = to.DID + "#" + to.Service
	}
	needs := []scope.Need{scope.NeedRPC(nsid, audience)}
	if nsid == getFeed {
		needs = append(needs, scope.NeedRPC(getFeedSkeleton, audience))
	}
	return needs
}

// relay passes a request on, and the answer back.
func (s *Service) relay(w http.ResponseWriter, r *http.Request, c *call) (err error) {
	ctx := r.Context()
	if err := xrpc.Wait(ctx, w, answerTime); err != nil {
		return err
	}
	if c.header, err = upHeaders(r, s.userAgent); err != nil {
		return wireError(w.Header(), err)
	}
	if r.Method != http.MethodPost {
		if err := dropBody(w, r); err != nil {
			return err
		}
	} else if r.ContentLength != 0 {
		if r.ContentLength > s.MaxRequest {
			return xrpc.PayloadTooLarge()
		}
		conn := http.NewResponseController(w)
		// The answer may come before the body was sent. HTTP/2 needs no permission.
		if err := conn.EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
		c.body, c.length = newUpBody(r.Body, conn, s.MaxRequest), r.ContentLength
		defer c.body.end()
	}
	a, err := s.send(ctx, c)
	if c.body != nil {
		if whole, _ := c.body.whole(); !whole {
			w.Header()["Connection"] = []string{"close"} // what the client still sends is not read
		}
	}
	if err != nil {
		return wireError(w.Header(), err)
	}
	defer a.close()
	defer a.note(r)
	w = xrpc.Patient(w)
	refused := a.refused()
	done, begun, err := s.munge(w, r, a, refused)
	if err == nil && !done {
		if err = refused; err == nil {
			err = a.pass(w, begun)
		}
	}
	return wireError(w.Header(), err)
}

const (
	// maxDropped and dropTime bound the body of a GET, which nobody reads.
	maxDropped = 64 << 10
	dropTime   = 5 * time.Second
)

// dropBody reads the body of a request that should have none. It would otherwise be read
// while the call holds its places, and nobody would see that the client leaves.
func dropBody(w http.ResponseWriter, r *http.Request) error {
	if r.ContentLength == 0 {
		return nil
	}
	conn := http.NewResponseController(w)
	if err := conn.SetReadDeadline(time.Now().Add(dropTime)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	n, err := io.Copy(io.Discard, io.LimitReader(r.Body, maxDropped+1))
	if err != nil || n > maxDropped {
		w.Header()["Connection"] = []string{"close"}
		return xrpc.UnreadableBody(err)
	}
	_ = conn.SetReadDeadline(time.Time{}) // that it is supported has been seen
	return nil
}

// servedHere reports whether a method is one that this server would serve if it were
// served at all: the AppView says the same of it, one round trip later.
func servedHere(nsid string) bool {
	for _, group := range []string{"admin", "identity", "repo", "server", "sync", "temp"} {
		if _, is := cutPrefix(nsid, "com.atproto."+group+"."); is {
			return true
		}
	}
	return false
}

// wireError returns an error of this package as the client sees it, and sets the headers
// of the answer that go with it.
func wireError(h http.Header, err error) error {
	e, isRefusal := errors.AsType[*refusalError](err)
	_, isWire := errors.AsType[*xrpc.Error](err)
	switch {
	case err == nil, isWire, errors.Is(err, errBroken), errors.Is(err, context.Canceled):
		return err
	case isRefusal:
		maps.Copy(h, e.header)
		return &xrpc.Error{Status: e.status, Name: e.name, Message: e.message, RetryAfter: e.retryAfter, Cause: e.cause}
	case errors.Is(err, account.ErrNotFound):
		return auth.Expired() // deleted since the caller was proven
	default: // identity.ErrBusy too
		return xrpc.Unavailable(err)
	}
}
