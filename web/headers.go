package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// hcaptcha are the hosts that a page with a captcha may use.
const hcaptcha = "https://hcaptcha.com https://*.hcaptcha.com"

// inFlow reports whether a request is of the OAuth flow, whose pages send the person on
// to an app: browsers would apply form-action to that redirect, and a popup that isolates
// itself loses the page that opened it.
func inFlow(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/oauth/") }

// secure sets the headers of a page: what it may load and who may frame it.
func (p *Pages) secure(h http.Header, r *http.Request, captcha bool) {
	SecureHeaders(h, r, p.settings.Dev)
	h.Set("Content-Security-Policy", p.policy(inFlow(r), captcha))
	h.Set("Content-Type", "text/html; charset=utf-8")
}

// SecureHeaders sets the headers that every answer to a person's browser has, redirects
// too. Without dev the browser is to use https from now on.
func SecureHeaders(h http.Header, r *http.Request, dev bool) {
	h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Robots-Tag", "noindex")
	// Never no-referrer: browsers then send "Origin: null" with our own forms.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Permissions-Policy", "publickey-credentials-get=(self), publickey-credentials-create=(self)")
	h.Set("Cache-Control", "no-store")
	if !dev {
		h.Set("Strict-Transport-Security", "max-age=63072000")
	}
	if !inFlow(r) {
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
	}
}

// policy returns the Content-Security-Policy of a page.
func (p *Pages) policy(flow, captcha bool) string {
	images := append([]string{"'self'", "data:"}, p.imageOrigins...)
	more := ""
	if captcha {
		more = " " + hcaptcha
	}
	rules := []string{
		"default-src 'none'", "script-src 'self'" + more, "style-src 'self'" + more,
		"img-src " + strings.Join(images, " "), "connect-src 'self'" + more,
		"base-uri 'none'", "frame-ancestors 'none'",
	}
	if captcha {
		rules = append(rules, "frame-src "+hcaptcha)
	}
	if !flow {
		rules = append(rules, "form-action 'self'")
	}
	return strings.Join(rules, "; ")
}

// origins returns the origins of URLs, each once; empty ones are skipped.
func origins(urls ...string) (out []string) {
	for _, one := range urls {
		u, err := url.Parse(one)
		if err != nil || u.Host == "" {
			continue
		}
		if o := u.Scheme + "://" + u.Host; !slices.Contains(out, o) {
			out = append(out, o)
		}
	}
	return out
}
