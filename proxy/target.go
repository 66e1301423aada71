package proxy

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/identity"
)

// Target is a service to which calls are passed on.
type Target struct {
	// DID is the audience of its tokens.
	DID string
	// Service is the id of its entry in the DID's document, without the #.
	Service string
	// URL is where the service is reached, without a slash at its end. It is empty if the
	// operator configured none.
	URL string
	// Named: a client named it, so its URL is a stranger's word.
	Named bool
}

// String returns the target as the header atproto-proxy names it.
func (t Target) String() string { return t.DID + "#" + t.Service }

// key names the target for what is kept of it: one that a client named is not the
// operator's, even if it has its URL.
func (t Target) key() string {
	if t.Named {
		return "named " + t.URL
	}
	return t.URL
}

// Ids of services in DID documents.
const (
	idAppView = "bsky_appview"
	idLabeler = "atproto_labeler"
	idNotify  = "bsky_notif"
)

// Defaults are the services that the operator chose.
type Defaults struct {
	// AppView gets what no header sends elsewhere, Moderation the calls of tools.ozone.*,
	// Reports the reports of accounts.
	AppView, Moderation, Reports Target
}

// Resolver finds the documents of services that clients name.
type Resolver interface {
	DID(ctx context.Context, did syntax.DID) (*identity.Document, error)
	// Fresh is DID that asks the network even if the document is known.
	Fresh(ctx context.Context, did syntax.DID) (*identity.Document, error)
}

const (
	// resolveTime bounds the search for a named target.
	resolveTime = 5 * time.Second
	// maxProxyHeader bounds the header atproto-proxy, in bytes.
	maxProxyHeader = 512
)

// proxyHeader returns the header atproto-proxy of a request, "" if there is none.
func proxyHeader(h http.Header) string {
	return strings.Trim(strings.Join(h.Values("Atproto-Proxy"), ", "), " \t")
}

// parseProxyHeader reads a header atproto-proxy that is not empty. The errors are those
// of the reference.
func parseProxyHeader(header string) (did syntax.DID, service string, err error) {
	name, service, _ := strings.Cut(header, "#")
	switch {
	case name == "" && header != "":
		return "", "", invalid("no did specified in proxy header")
	case service == "":
		return "", "", invalid("no service id specified in proxy header")
	case strings.Contains(service, "#"):
		return "", "", invalid("invalid proxy header format")
	case len(header) > maxProxyHeader || strings.IndexFunc(header, func(c rune) bool { return c < 0x21 || c > 0x7e || c == ',' }) >= 0:
		return "", "", invalid("proxy header cannot contain spaces")
	case !isServiceDID(name):
		return "", "", invalid("could not resolve proxy did")
	}
	return syntax.DID(name), service, nil
}

// target returns where a call of a method goes.
func (s *Service) target(ctx context.Context, header, nsid string) (Target, error) {
	if header != "" {
		did, service, err := parseProxyHeader(header)
		if err != nil {
			return Target{}, err
		}
		return s.named(ctx, did, service)
	}
	if to := s.byDefault(nsid); to.URL != "" {
		return to, nil
	}
	return Target{}, invalid("No service configured for " + nsid)
}

// byDefault returns the operator's target for a method, one without a URL if there is
// none.
func (s *Service) byDefault(nsid string) Target {
	_, isOzone := cutPrefix(nsid, "tools.ozone.")
	switch {
	case isOzone:
		return s.Defaults.Moderation
	case nsid == createReport && s.Defaults.Reports.URL != "":
		return s.Defaults.Reports
	case nsid == createReport:
		return s.Defaults.Moderation
	default:
		return s.Defaults.AppView
	}
}

// named returns the target that a client named. One that the operator configured is
// reached as configured.
func (s *Service) named(ctx context.Context, did syntax.DID, service string) (Target, error) {
	for _, own := range []Target{s.Defaults.AppView, s.Defaults.Moderation, s.Defaults.Reports} {
		if own.URL != "" && own.DID == did.String() && own.Service == service {
			return own, nil
		}
	}
	document, err := s.document(ctx, did)
	switch {
	case errors.Is(err, errNoDocument), errors.Is(err, identity.ErrMalformed):
		return Target{}, invalid("could not resolve proxy did")
	case errors.Is(err, identity.ErrBusy):
		return Target{}, err
	case err != nil:
		return Target{}, failed("could not resolve proxy did", err)
	}
	origin, ok := serviceOrigin(document.Service(service))
	if !ok || origin == s.origin {
		return Target{}, invalid("could not resolve proxy did service url")
	}
	return Target{DID: did.String(), Service: service, URL: origin, Named: true}, nil
}

// errNoDocument: a DID certainly has no document.
var errNoDocument = errors.New("the DID has no document")

// document returns the document of a service's DID: errNoDocument,
// identity.ErrMalformed, identity.ErrBusy. Any other error means that nobody answered.
func (s *Service) document(ctx context.Context, did syntax.DID) (*identity.Document, error) {
	within, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	document, err := s.Resolver.DID(within, did)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, identity.ErrNotRegistered), errors.Is(err, identity.ErrDeactivated), errors.Is(err, identity.ErrUnsupported):
		return nil, errNoDocument
	}
	return document, err
}

// serviceOrigin returns the origin of a service's endpoint, unless the endpoint is more
// than an origin.
func serviceOrigin(endpoint string) (origin string, ok bool) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.Path != "" && u.Path != "/" ||
		strings.ContainsAny(endpoint, "?#") {
		return "", false
	}
	return originOf(u), true
}

// originOf returns a URL's scheme, host and port, in lower case and without a port that
// goes without saying.
func originOf(u *url.URL) string {
	host := strings.ToLower(u.Host)
	switch u.Scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	}
	return u.Scheme + "://" + strings.TrimSuffix(host, ":")
}
