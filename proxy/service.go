package proxy

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/auth"
	"nestbox/internal/gate"
	"nestbox/internal/safehttp"
	"nestbox/proxy/readafterwrite"
	"nestbox/ratelimit"
	"nestbox/repo"
)

// Settings are the operator's.
type Settings struct {
	Defaults

	// URL is the server's own public URL: no call goes there.
	URL string
	// Version is shown to services.
	Version string
	// HeadersTimeout is how long a service may take to answer, BodyTimeout how long it may
	// pause in its answer.
	HeadersTimeout, BodyTimeout time.Duration
	// MaxRequest and MaxAnswer bound bodies, in bytes.
	MaxRequest, MaxAnswer int64
	// HTTP2 allows HTTP/2 to services.
	HTTP2 bool
	// Dev allows services on this machine, over plain http.
	Dev bool
	// Pictures is the pattern of URLs of pictures: see readafterwrite.Editor.
	Pictures string
}

// Repos are the accounts' repositories, for what services have not seen of them.
type Repos interface {
	// Newer returns what an account has written since a revision, without a query if that
	// is nothing.
	Newer(ctx context.Context, accountID int64, rev syntax.TID, posts bool) (repo.News, error)
	// Own returns a record of an account, and ErrNoRecord if there is none or it is not
	// shown.
	Own(ctx context.Context, accountID int64, key string) (repo.Record, error)
}

// Callers proves who calls.
type Callers interface {
	Calling(ctx context.Context, r *http.Request) (auth.Scoped[auth.StandardCaller], error)
	// IsService reports whether a request presents what looks like a service token.
	IsService(r *http.Request) bool
}

// Parts are what a Service works with.
type Parts struct {
	Accounts Accounts
	Keys     Keys
	Resolver Resolver
	Repos    Repos
	Callers  Callers
	// Limits counts reports; nil counts nothing.
	Limits *ratelimit.Limiter
	// Took, if set, is called with how long a service took to begin its answer, or to fail: which
	// one, by its part of Defaults, or "other" for those that clients name. It must not block.
	Took func(service string, took time.Duration)
	Now  func() time.Time
	Log  *slog.Logger
}

// The words of Parts.Took.
const (
	wordAppView    = "appview"
	wordModeration = "moderation"
	wordReports    = "reports"
	wordOther      = "other"
)

// word returns what Parts.Took calls a service.
func (d *Defaults) word(t Target) string {
	if t.Named {
		return wordOther
	}
	switch t.URL {
	case d.AppView.URL:
		return wordAppView
	case d.Moderation.URL:
		return wordModeration
	case d.Reports.URL:
		return wordReports
	default:
		return wordOther
	}
}

// Service passes calls on. It is made by New.
type Service struct {
	Settings
	Parts

	origin    string // of URL
	userAgent string
	ownHosts  http.RoundTripper
	strangers http.RoundTripper
	editor    *readafterwrite.Editor
	room      room
	munging   gate.Places[string] // of answers that are changed
	large     gate.Places[string] // of those that are large
	breakers  breakers
	feeds     feedCache
	asked     recent // services whose document was asked for again
}

// New returns a Service.
func New(settings Settings, parts Parts) *Service {
	s := &Service{Settings: settings, Parts: parts, userAgent: "nestbox/" + settings.Version, feeds: newFeedCache()}
	if u, err := url.Parse(settings.URL); err == nil {
		s.origin = originOf(u)
	}
	s.ownHosts = s.transport(idleOfDefault, idleOfDefault*3)
	public := safehttp.Options{AllowLoopback: settings.Dev, HighPorts: true, MaxURL: maxHeaders}
	s.strangers = safehttp.RoundTripper(public, s.transport(idleOfNamed, idleOfNamed*maxNamed))
	s.editor = &readafterwrite.Editor{Pictures: settings.Pictures, PublicURL: settings.URL}
	return s
}

// Close ends the connections that nobody uses.
func (s *Service) Close() {
	for _, t := range []http.RoundTripper{s.ownHosts, s.strangers} {
		(&http.Client{Transport: t}).CloseIdleConnections()
	}
}
