package request

import (
	"crypto/rand"
	"net/http"
	"net/netip"
)

// HeaderID is the header with the name of a request.
const HeaderID = "X-Request-Id"

// maxID bounds, in bytes, the name that a proxy may give a request.
const maxID = 128

// idOf returns the name of a request: the one that a trusted proxy gave it, if that can be
// written into a log as it is, or else a new one.
func idOf(r *http.Request, trusted []netip.Prefix) string {
	given := r.Header[HeaderID]
	if len(given) == 1 && isID(given[0]) && len(trusted) > 0 && contains(trusted, ClientAddr(r, nil)) {
		return given[0]
	}
	return rand.Text()
}

// isID reports whether a text is the name of a request as proxies make them: letters, digits and
// what UUIDs, Base64 and trace IDs have beside them.
func isID(s string) bool {
	if s == "" || len(s) > maxID {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case c == '-', c == '_', c == '.', c == ':', c == '+', c == '/', c == '=', c == '@', c == '~':
		default:
			return false
		}
	}
	return true
}
