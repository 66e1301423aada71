package oauth

import (
	"net/http"
	"net/url"
	"strconv"
)

// PathLogo is that of the picture of a trusted client, which ?client_id= names.
const PathLogo = "/oauth/logo"

// LogoURL returns the address at which a client's picture is shown.
func LogoURL(clientID string) string {
	return PathLogo + "?" + url.Values{"client_id": {clientID}}.Encode()
}

// ServeLogo answers with the picture of a trusted client. A browser asks this server for it,
// and no other host: nobody else learns who signs in. Opened by itself it runs nothing.
func (s *Service) ServeLogo(w http.ResponseWriter, r *http.Request) {
	logo, err := s.Clients.Logo(r.Context(), r.URL.Query().Get("client_id"))
	if err != nil {
		w.Header().Set("Cache-Control", "no-store")
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", logo.Type)
	h.Set("Content-Length", strconv.Itoa(len(logo.Body)))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "private, max-age=3600")
	if r.Method != http.MethodHead {
		_, _ = w.Write(logo.Body) // a browser that has gone needs no answer
	}
}
