package conformance

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// name returns method and NSID in short, for people.
func (q call) name() string {
	path, _, _ := strings.Cut(q.path, "?")
	return strings.TrimSpace(q.method + " " + path[strings.LastIndexAny(path, "./")+1:])
}

// lists reports whether a header that is a list has a value, in any case.
func lists(h http.Header, name, value string) bool {
	for item := range strings.SplitSeq(strings.Join(h.Values(name), ","), ",") {
		if strings.EqualFold(strings.TrimSpace(item), value) {
			return true
		}
	}
	return false
}

// somewhere is an origin of an app in a browser.
const somewhere = "https://app.example.com"

func preflight(ctx context.Context, r *runner) verdict {
	asked := []string{"authorization", "content-type", "atproto-proxy"}
	q := xrpc(http.MethodOptions, refreshSession, "")
	q.header = map[string]string{"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": strings.Join(asked, ",")}
	a := r.do(ctx, q)
	if v, none := a.unanswered(); none {
		return v
	}
	if a.status != http.StatusNoContent && a.status != statusOK {
		return failed("%s instead of 204 or 200", a.said())
	}
	parts := []verdict{a.readable()}
	for _, name := range asked {
		const allow = "Access-Control-Allow-Headers"
		if !lists(a.header, allow, name) && (name == "authorization" || !lists(a.header, allow, "*")) {
			parts = append(parts, failed("it does not allow the header %s", name))
		}
	}
	return worst(parts...)
}

// readable returns Fail unless scripts of any origin may read an answer.
func (a answer) readable() verdict {
	switch got := a.header.Get("Access-Control-Allow-Origin"); got {
	case "*", somewhere:
		return passed()
	case "":
		return failed("no Access-Control-Allow-Origin")
	default:
		return failed("Access-Control-Allow-Origin is %s", got)
	}
}

// answers returns what methods of the server have answered so far, but to preflights.
func (r *runner) answers() []seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.seen), func(s seen) bool { return s.call.method == http.MethodOptions || s.answer.err != nil })
}

func corsAnswers(_ context.Context, r *runner) verdict {
	var parts []verdict
	for _, s := range r.answers() {
		parts = append(parts, s.answer.readable().about(s.call.name()+" "+strconv.Itoa(s.answer.status)))
	}
	return worst(parts...)
}

func corsExposed(_ context.Context, r *runner) verdict {
	var missing []string
	for _, name := range []string{"Retry-After", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"} {
		if h := r.first.header; !lists(h, "Access-Control-Expose-Headers", name) && !lists(h, "Access-Control-Expose-Headers", "*") {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return differs("Access-Control-Expose-Headers lacks %s", strings.Join(missing, ", "))
	}
	return passed()
}

// errorsSeen returns the answers that are errors and have a body.
func (r *runner) errorsSeen() []seen {
	return slices.DeleteFunc(r.answers(), func(s seen) bool {
		return s.answer.status < http.StatusBadRequest || s.call.method == http.MethodHead
	})
}

func errorForm(_ context.Context, r *runner) verdict {
	var parts []verdict
	for _, s := range r.errorsSeen() {
		a, v := s.answer, passed()
		switch {
		case a.status >= http.StatusInternalServerError:
			v = failed("%s", a.said())
		case !a.isJSON():
			v = failed("%d with Content-Type %q", a.status, a.header.Get("Content-Type"))
		case a.text("error") == "" || a.text("message") == "":
			v = failed("%d without error or message", a.status)
		}
		parts = append(parts, v.about(s.call.name()))
	}
	return worst(parts...)
}

func errorType(_ context.Context, r *runner) verdict {
	for _, s := range r.errorsSeen() {
		if kind := s.answer.header.Get("Content-Type"); s.answer.isJSON() && kind != "application/json" {
			return differs("%s: %s", s.call.name(), kind)
		}
	}
	return passed()
}

// epoch is above what counts seconds from now, and below any time of today.
const epoch = 1_000_000_000

func rateLimits(_ context.Context, r *runner) verdict {
	parts, there := []verdict{}, false
	for _, s := range r.answers() {
		for _, name := range []string{"RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "Retry-After"} {
			value := s.answer.header.Get(name)
			if value == "" {
				continue
			}
			there = true
			n, err := strconv.ParseInt(value, 10, 64)
			v, resets := passed(), name == "RateLimit-Reset"
			switch {
			case (err != nil || n < 0) && resets:
				v = failed("%s is %q", name, value)
			case err != nil || n < 0 || resets && n < epoch:
				v = differs("%s is %q", name, value)
			}
			parts = append(parts, v.about(s.call.name()))
		}
	}
	if !there {
		return skipped("the server sends none")
	}
	return worst(parts...)
}

func privateAnswers(_ context.Context, r *runner) verdict {
	var parts []verdict
	for _, s := range r.three()[1:] {
		if s.answer.header == nil {
			continue
		}
		if h := s.answer.header; !lists(h, "Cache-Control", "private") && !lists(h, "Cache-Control", "no-store") {
			parts = append(parts, differs("Cache-Control is %q", h.Get("Cache-Control")).about(s.call.name()))
		}
	}
	return worst(parts...)
}
