package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"nestbox/oauth"
	"nestbox/request"
	"nestbox/xrpc"
)

// surface is the audience of a page, which decides what other sites may do with it.
type surface int

const (
	// browser is for people, proxies and crawlers: a script of another site gets
	// nothing. It is the zero value, so that forgetting it opens nothing.
	browser surface = iota //nolint:unused // the zero value has a name
	// api is for programs: a script of any site may read it (CORS).
	api
)

// page is what the server answers at one path beside /xrpc/.
type page struct {
	path    string
	surface surface
	serve   http.HandlerFunc
	// methods are those that serve answers; if there are none, GET and HEAD.
	methods []string
	// refuse answers instead of serve if there were too many requests, or if the method is
	// another; nil for plain text.
	refuse func(http.ResponseWriter, *http.Request, error)
	// free: a request that is answered 200 counts against no limit, so that many sessions
	// behind one address can be refreshed.
	free bool
}

// pages returns all pages. Like the routes of routes.go, each counts against the
// limit over everything; nothing else is mounted.
func (s *Server) pages() []page {
	o, post := s.oauth, []string{http.MethodPost}
	return []page{
		{path: "/xrpc/_health", surface: api, serve: s.serveHealth},
		{path: "/.well-known/atproto-did", surface: api, serve: s.identity.ServeAtprotoDID},
		{path: "/.well-known/did.json", surface: api, serve: s.identity.ServeDocument},
		{path: oauth.PathResource, surface: api, serve: o.ServeResource},
		{path: oauth.PathServer, surface: api, serve: o.ServeServer},
		{path: oauth.PathKeys, surface: api, serve: o.ServeKeys},
		{path: oauth.PathPush, surface: api, serve: o.ServePush, methods: post, refuse: o.Refuse},
		{path: oauth.PathToken, surface: api, serve: o.ServeToken, methods: post, refuse: o.Refuse, free: true},
		{path: oauth.PathRevoke, surface: api, serve: o.ServeRevoke, methods: post, refuse: o.Refuse},
		{path: oauth.PathLogo, serve: o.ServeLogo},
		{path: "/tls-check", serve: s.identity.ServeTLSCheck},
		{path: "/robots.txt", surface: api, serve: text("# Hello!\n\n# The public API may be crawled.\nUser-agent: *\nAllow: /\n")},
		{path: "/", surface: api, serve: text("This is an AT Protocol Personal Data Server (PDS): Nestbox " + s.opts.Version +
			"\n\nMost API routes are under /xrpc/\nProtocol: https://atproto.com\n")},
	}
}

// anyOther returns the page of every other path. A script can distinguish a path
// that we lack from a server that does not answer.
func anyOther() page { return page{surface: api, serve: http.NotFound} }

// handler returns the handler of the whole public HTTP surface.
func (s *Server) handler() http.Handler {
	site, other := map[string]http.Handler{}, s.mount(anyOther())
	for _, p := range s.pages() {
		site[p.path] = s.mount(p)
	}
	people := s.people()
	return s.front.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Not by a ServeMux: it would redirect a path that it takes for another spelling of
		// a known one, and that would not be counted.
		health := r.URL.Path == "/xrpc/_health" && (r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions)
		if strings.HasPrefix(r.URL.Path, "/xrpc/") && !health {
			s.serveXRPC(w, r)
			return
		}
		if s.shows(r) {
			people.ServeHTTP(w, r)
			return
		}
		if p, ok := site[r.URL.Path]; ok {
			p.ServeHTTP(w, r)
			return
		}
		other.ServeHTTP(w, r)
	}))
}

// mount returns the handler of a page: its method, its surface and its limit.
func (s *Server) mount(p page) http.Handler {
	methods := p.methods
	if methods == nil {
		methods = []string{http.MethodGet, http.MethodHead}
	}
	var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(methods, r.Method) {
			allow := methods
			if p.surface == api {
				allow = append(slices.Clone(methods), http.MethodOptions)
			}
			w.Header().Set("Allow", strings.Join(allow, ", "))
			if p.refuse != nil {
				p.refuse(w, r, oauth.ErrMethod)
				return
			}
			http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
			return
		}
		p.serve(w, r)
	})
	h = s.limited(p, h)
	if next := h; p.path != "" {
		h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			request.SetRoute(r.Context(), p.path)
			next.ServeHTTP(w, r)
		})
	}
	if p.surface == api {
		return xrpc.CORS(h)
	}
	return h
}

// limited counts the requests of a page. A health check from the machine itself is
// not counted, and not logged when all is well: it comes every few seconds, and a
// server at its limit is not ill.
func (s *Server) limited(p page, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		if p.path == "/xrpc/_health" && request.ClientOf(ctx).Addr.IsLoopback() {
			request.SetQuiet(ctx)
			next.ServeHTTP(w, r)
			return
		}
		if err := s.admit(ctx, r); err != nil {
			if p.refuse != nil {
				p.refuse(w, r, err)
				return
			}
			if many, ok := errors.AsType[request.ErrTooMany](err); ok {
				w.Header().Set("Retry-After", many.RetryAfter())
			}
			http.Error(w, http.StatusText(http.StatusTooManyRequests), http.StatusTooManyRequests)
			return
		}
		next.ServeHTTP(w, r)
		if own, ok := w.(*request.Writer); ok && p.free && own.Status() == http.StatusOK {
			s.takeBack(ctx)
		}
	})
}

// serveHealth answers /xrpc/_health: it asks the store.
func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	answer := map[string]string{"version": s.opts.Version}
	if err := s.db.Ping(r.Context()); err != nil {
		request.Fail(r.Context(), http.StatusServiceUnavailable, xrpc.NameUnavailable, err)
		answer["error"] = "Service Unavailable"
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	body, err := json.Marshal(answer)
	if err == nil {
		_, _ = w.Write(body) // a client that has gone needs no answer
	}
}

func text(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(body)) // a client that has gone needs no answer
	}
}
