package web

import (
	"errors"
	"mime"
	"net/http"
	"slices"
	"strings"
	"time"

	"nestbox/account"
	"nestbox/identity"
	"nestbox/request"
	"nestbox/signin"
)

// Route is one address of the site.
type Route struct {
	// Path is the whole path, in which {did} stands for one segment; or, with a slash at
	// the end, that path and all that lies below. The first of several counts.
	Path string
	// Get answers GET and HEAD, Post POST; a method whose handler is nil is refused.
	Get, Post http.HandlerFunc
}

// Site is the part of the server that people's browsers use. Every route is behind the
// same defences, which none can forget: the security headers, no CORS, no cache; of POSTs
// only forms of our own pages, of a bounded size. What is no route is not found.
//
// A handler answers faults by Fail. Its form has been parsed: r.PostForm.
type Site struct {
	Pages    *Pages
	Browsers *Browsers
	// Routes are all of them.
	Routes []Route
}

// maxForm bounds, in bytes, a form: a consent page has the most fields.
const maxForm = 128 << 10

// Find returns the route of a path.
func (s *Site) Find(path string) (Route, bool) {
	i := slices.IndexFunc(s.Routes, func(r Route) bool { return matches(r.Path, path) })
	if i < 0 {
		return Route{}, false
	}
	return s.Routes[i], true
}

// matches reports whether a pattern of a Route is of a path. A path in another spelling
// than a link of ours has (dots, two slashes, escapes) matches none.
func matches(pattern, path string) bool {
	if strings.HasSuffix(pattern, "/") {
		return strings.HasPrefix(path, pattern)
	}
	before, after, holds := strings.Cut(pattern, "{did}")
	if !holds {
		return pattern == path
	}
	did, ok := strings.CutPrefix(path, before)
	if !ok {
		return false
	}
	did, ok = strings.CutSuffix(did, after)
	return ok && did != "" && !strings.Contains(did, "/")
}

// Owns reports whether a path belongs to the site, route or not: what is below /account is
// answered by it.
func (s *Site) Owns(path string) bool {
	_, ok := s.Find(path)
	return ok || path == "/account" || strings.HasPrefix(path, "/account/")
}

// ServeHTTP answers a request for a path that the site Owns.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	SecureHeaders(w.Header(), r, s.Browsers.Dev)
	r = r.WithContext(request.WithLanguage(r.Context(), s.Pages.Language(r, "")))
	route, ok := s.Find(r.URL.Path)
	if !ok {
		s.Missing(w, r)
		return
	}
	serve := route.Get
	if r.Method == http.MethodPost {
		serve = route.Post
	}
	if serve == nil || r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost {
		w.Header().Set("Allow", route.allow())
		s.message(w, r, http.StatusMethodNotAllowed, &Message{
			Kind: Failure, Title: Msg("error.missing-title"),
			Body: []Text{Msg("error.missing-body")},
		})
		return
	}
	if r.Method == http.MethodPost {
		if r, ok = s.parse(w, r); !ok {
			return
		}
	}
	serve(w, r)
}

// allow returns the methods of a route, for the header.
func (r *Route) allow() string {
	var methods []string
	if r.Get != nil {
		methods = append(methods, "GET", "HEAD")
	}
	if r.Post != nil {
		methods = append(methods, "POST")
	}
	return strings.Join(methods, ", ")
}

// parse reads a form of ours, and answers any other. It returns the request to go on with.
func (s *Site) parse(w http.ResponseWriter, r *http.Request) (*http.Request, bool) {
	if !s.Browsers.Own(r) {
		s.Foreign(w, r)
		return nil, false
	}
	wanted, brings := "application/x-www-form-urlencoded", matches(uploadPath, r.URL.Path)
	if brings {
		wanted = "multipart/form-data"
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != wanted {
		s.message(w, r, http.StatusUnsupportedMediaType, oddForm())
		return nil, false
	}
	if brings {
		if r, err = beginUpload(w, r); err != nil {
			s.message(w, r, http.StatusBadRequest, oddForm())
			return nil, false
		}
		return r, true
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		status := http.StatusBadRequest
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			status = http.StatusRequestEntityTooLarge
		}
		s.message(w, r, status, oddForm())
		return nil, false
	}
	return r, true
}

func oddForm() *Message {
	return &Message{Kind: Failure, Title: Msg("error.origin-title"), Body: []Text{Msg("error.origin-body")}}
}

// message writes a page that has a message alone.
func (s *Site) message(w http.ResponseWriter, r *http.Request, status int, m *Message) {
	s.Pages.Render(w, r, status, m)
}

// Missing answers what is not there, or not the person's: both alike.
func (s *Site) Missing(w http.ResponseWriter, r *http.Request) {
	s.message(w, r, http.StatusNotFound, &Message{
		Kind: Failure, Title: Msg("error.missing-title"), Body: []Text{Msg("error.missing-body")},
		Links: []Link{{URL: "/account", Text: Msg("error.back")}},
	})
}

// Foreign answers a form that is not of a page of ours, or not of this browser's.
func (s *Site) Foreign(w http.ResponseWriter, r *http.Request) {
	m := oddForm()
	if !inFlow(r) {
		m.Links = []Link{{URL: r.URL.Path, Text: Msg("error.retry")}}
	}
	s.message(w, r, http.StatusForbidden, m)
}

// Changed answers a form whose matter has changed since its page was shown.
func (s *Site) Changed(w http.ResponseWriter, r *http.Request) {
	s.message(w, r, http.StatusConflict, &Message{
		Kind: Warning, Title: Msg("error.changed-title"), Body: []Text{Msg("error.changed-body")},
		Links: []Link{{URL: r.URL.Path, Text: Msg("error.back")}},
	})
}

// Cookieless answers a browser that keeps no cookie.
func (s *Site) Cookieless(w http.ResponseWriter, r *http.Request) {
	s.message(w, r, http.StatusBadRequest, &Message{
		Kind: Failure, Title: Msg("error.cookie-title"), Body: []Text{Msg("error.cookie-body")},
		Links: []Link{{URL: "/account/sign-in", Text: Msg("error.sign-in")}},
	})
}

// busyWait is when a person should try again after a fault of ours.
const busyWait = time.Minute

// Fail answers an error that a page has no words of its own for: a limit, or a dependency
// that failed.
func (s *Site) Fail(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, identity.ErrBusy) { // a limit of ours, too
		err = request.ErrTooMany{Wait: busyWait}
	}
	if many, ok := errors.AsType[request.ErrTooMany](err); ok {
		w.Header().Set("Retry-After", many.RetryAfter())
		s.message(w, r, http.StatusTooManyRequests, &Message{
			Kind: Warning, Title: Msg("error.many-title"), Body: []Text{Msg("error.many-body", "time", waiting(many.Wait))}, Links: s.again(r),
		})
		return
	}
	if r.Context().Err() != nil {
		return // nobody waits for the answer
	}
	wait := busyWait
	if errors.Is(err, account.ErrBusy) {
		wait = time.Second
	}
	request.Fail(r.Context(), http.StatusServiceUnavailable, "Unavailable", err)
	w.Header().Set("Retry-After", request.ErrTooMany{Wait: wait}.RetryAfter())
	s.message(w, r, http.StatusServiceUnavailable, &Message{
		Kind: Failure, Title: Msg("error.busy-title"), Body: []Text{Msg("error.busy-body", "time", waiting(wait))}, Links: s.again(r),
	})
}

// again leads to the page that a fault came from.
func (s *Site) again(r *http.Request) []Link {
	if inFlow(r) {
		return nil // its form is what must be sent again
	}
	return []Link{{URL: r.URL.Path, Text: Msg("error.retry")}}
}

// waiting returns a time to wait in words.
func waiting(d time.Duration) Text {
	minutes := int((d + time.Minute - 1) / time.Minute)
	if minutes > 90 { //nolint:mnd // from there on people count in hours
		return Msg("time.hours", "count", (minutes+59)/60)
	}
	return Msg("time.minutes", "count", max(minutes, 1))
}

// signInProblem returns the problem of a sign-in form that an error of signin.Service.Prove
// or ProvePasskey is shown as, false if it is none of the person's.
func signInProblem(err error) (Problem, bool) {
	say := func(id string) (Problem, bool) { return Problem{Field: "password", Text: Msg(id)}, true }
	switch {
	case errors.Is(err, signin.ErrWrong), errors.Is(err, signin.ErrTooLong):
		return say("signin.wrong")
	case errors.Is(err, signin.ErrAppPassword):
		return say("signin.app-password")
	case errors.Is(err, account.ErrTakenDown):
		return say("signin.takendown")
	case errors.Is(err, signin.ErrClaim):
		return say("signin.expired")
	case errors.Is(err, signin.ErrCeremony):
		return Problem{Text: Msg("signin.passkey-expired")}, true
	case errors.Is(err, signin.ErrNotYours):
		return Problem{Text: Msg("signin.passkey-wrong")}, true
	}
	if wrong, ok := errors.AsType[*signin.WrongFactor](err); ok {
		return factorProblem(wrong), true
	}
	return Problem{}, false
}
