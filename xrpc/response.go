package xrpc

import (
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"nestbox/request"
)

// Header values that every answer shares. They are assigned, not copied: never
// append to them in place.
var (
	headerAny    = []string{"*"}
	headerExpose = []string{"DPoP-Nonce, WWW-Authenticate, " +
		"RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, RateLimit-Policy, Retry-After, " +
		"Atproto-Repo-Rev, Atproto-Content-Labelers, Atproto-Upstream-Lag, Content-Range, Accept-Ranges, ETag, " + request.HeaderID}
	headerPrivate     = []string{"private"}
	headerVary        = []string{"Authorization"}
	headerJSON        = []string{"application/json; charset=utf-8"}
	headerErrorJSON   = []string{"application/json"}
	headerAllowVerbs  = []string{"GET, HEAD, POST, OPTIONS"}
	headerPreflightOK = []string{"86400"}
)

// allowHeaders are the request headers that a preflight always allows: "*" does
// not cover Authorization.
var allowHeaders = []string{"Authorization", "Content-Type", "Atproto-Proxy", "Atproto-Accept-Labelers", "DPoP"}

func setCommonHeaders(h http.Header) {
	h["Access-Control-Allow-Origin"] = headerAny
	h["Access-Control-Expose-Headers"] = headerExpose
}

// preflight answers a CORS preflight: it allows the headers that we know and all
// that the page asks for.
func preflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["Access-Control-Allow-Methods"] = headerAllowVerbs
	h["Access-Control-Max-Age"] = headerPreflightOK
	h["Vary"] = []string{"Access-Control-Request-Headers"}
	allow := strings.Join(allowHeaders, ", ")
	for asked := range strings.SplitSeq(strings.Join(r.Header.Values("Access-Control-Request-Headers"), ","), ",") {
		asked = strings.TrimSpace(asked)
		if asked != "" && isToken(asked) && !hasFold(allowHeaders, asked) && len(allow) < 2048 {
			allow += ", " + asked
		}
	}
	h.Set("Access-Control-Allow-Headers", allow)
	w.WriteHeader(http.StatusNoContent)
}

func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?={}`, c) >= 0 {
			return false
		}
	}
	return true
}

func hasFold(list []string, s string) bool {
	for _, v := range list {
		if strings.EqualFold(v, s) {
			return true
		}
	}
	return false
}

// CORS wraps a handler outside of /xrpc/ with the same cross-origin rules.
func CORS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setCommonHeaders(w.Header())
		if r.Method == http.MethodOptions {
			preflight(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// RawJSON is an output that its handler encoded: one JSON value.
type RawJSON []byte

func writeOutput[Out any](w *request.Writer, r *http.Request, out Out) error {
	if raw, ok := any(out).(RawJSON); ok {
		send(w, r, http.StatusOK, headerJSON, raw)
		return nil
	}
	if reflect.TypeFor[Out]() == noneType {
		w.WriteHeader(http.StatusOK)
		return nil
	}
	// Names are checked when something is stored; a struct has each once.
	body, err := json.Marshal(out, jsontext.AllowDuplicateNames(true))
	if err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	send(w, r, http.StatusOK, headerJSON, body)
	return nil
}

func writeError(w *request.Writer, r *http.Request, e *Error) {
	body, err := json.Marshal(struct {
		Error   string `json:"error"`
		Message string `json:"message"`
	}{e.Name, strings.ToValidUTF8(e.Message, "\uFFFD")})
	if err != nil { // two valid strings always encode
		body = []byte(`{"error":"InternalServerError","message":"Internal Server Error"}`)
	}
	if e.Challenge != "" {
		w.Header()["Www-Authenticate"] = []string{e.Challenge}
	}
	if e.RetryAfter > 0 {
		w.Header()["Retry-After"] = []string{request.ErrTooMany{Wait: e.RetryAfter}.RetryAfter()}
	}
	send(w, r, e.Status, headerErrorJSON, body)
}

// send writes a whole body. It ignores a write error: that means the client has left.
func send(w *request.Writer, r *http.Request, status int, contentType []string, body []byte) {
	h := w.Header()
	h["Content-Type"] = contentType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}
