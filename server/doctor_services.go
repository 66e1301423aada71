package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/identity"
	"nestbox/proxy"
)

// lookAtServices looks at the services to which calls are passed on: that they answer, that
// their DID's document leads to them, and that they have the same time.
func (s *Server) lookAtServices(ctx context.Context) (string, error) {
	var names []string
	var faults []error
	for _, service := range []struct {
		what   string
		target proxy.Target
	}{{"AppView", s.proxy.AppView}, {"moderation service", s.proxy.Moderation}, {"report service", s.proxy.Reports}} {
		if service.target.URL == "" {
			continue
		}
		names = append(names, service.target.URL)
		faults = append(faults, s.lookAtService(ctx, service.what, service.target))
	}
	if s.proxy.AppView.URL == "" {
		faults = append(faults, errNoAppView)
	}
	if err := errors.Join(faults...); err != nil {
		if s.opts.Config.DevMode && errors.Is(err, errNoAppView) && len(faults) == 1 {
			return "no AppView is set: apps can sign in and write, and show nothing of others", nil
		}
		return "", errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), " and ") + " answer, and their clocks agree with this machine's", nil
}

// errNoAppView is for servers that are configured without one.
var errNoAppView = errors.New("no AppView is set, so apps show nothing of others: set PDS_BSKY_APP_VIEW_URL and PDS_BSKY_APP_VIEW_DID")

// lookAtService looks at one service.
func (s *Server) lookAtService(ctx context.Context, what string, to proxy.Target) error {
	got, err := fetch(ctx, to.URL+"/xrpc/_health")
	if err != nil {
		return fmt.Errorf("the %s, %s, is not reached: %w", what, to.URL, err)
	}
	if got.status >= http.StatusInternalServerError {
		return fmt.Errorf("the %s, %s, answers with status %d", what, to.URL, got.status)
	}
	if date, err := http.ParseTime(got.date); err == nil {
		if skew := s.opts.Now().Sub(date); skew.Abs() > maxSkew {
			return fmt.Errorf("the clock of this machine differs by %s from that of the %s, which will refuse tokens: set the clock",
				skew.Round(time.Second), what)
		}
	}
	document, err := s.resolver.DID(ctx, syntax.DID(to.DID))
	switch {
	case errors.Is(err, identity.ErrNotRegistered), errors.Is(err, identity.ErrDeactivated),
		errors.Is(err, identity.ErrUnsupported), errors.Is(err, identity.ErrMalformed):
		return fmt.Errorf("the DID of the %s, %s, has no document: the service may refuse tokens; look at the setting", what, to.DID)
	case err != nil:
		return fmt.Errorf("the document of the %s, %s, was not found: %w", what, to.DID, err)
	}
	if url := strings.TrimRight(document.Service(to.Service), "/"); url != "" && url != to.URL {
		return fmt.Errorf("the %s is set to %s, but its DID's document says %s: look at the settings", what, to.URL, url)
	}
	return nil
}
