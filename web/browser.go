package web

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"nestbox/device"
)

// Browsers knows the browser that a request comes from: its cookie, the tokens of its
// forms, and whether a form is our own. Its fields are set once.
type Browsers struct {
	Devices *device.Service
	// Origin is the server's, without a slash at the end.
	Origin string
	// Dev is set under --dev, which has no https.
	Dev bool
	// Key keys the tokens of forms: 32 secret bytes.
	Key []byte
}

// cookieLife is how long a browser keeps the cookie, in seconds: the longest that
// browsers allow.
const cookieLife = 400 * 24 * 3600

// cookieName returns the name of the cookie. The prefix makes browsers refuse one that
// another host has set; it wants https.
func (b *Browsers) cookieName() string {
	if b.Dev {
		return "nestbox"
	}
	return "__Host-nestbox"
}

// Visit returns the browser of a request, and notes that it, and the account (0: none)
// whose page is looked at, were used. The answer must Keep it.
func (b *Browsers) Visit(r *http.Request, accountID int64) (device.Visit, error) {
	value := cookieOf(r, b.cookieName())
	if dev, ses := cookieOf(r, inheritedDevice), cookieOf(r, inheritedSession); value == "" && dev != "" && ses != "" {
		var err error
		if value, err = b.Devices.Inherited(r.Context(), dev, ses); err != nil {
			return device.Visit{}, err
		}
	}
	return b.Devices.Visit(r.Context(), value, accountID)
}

// The cookies of the server that this one took over from.
const (
	inheritedDevice  = "dev-id"
	inheritedSession = "ses-id"
)

// cookieOf returns the value of a request's cookie, "" if it has none.
func cookieOf(r *http.Request, name string) string {
	c, err := r.Cookie(name)
	if err != nil {
		return ""
	}
	return c.Value
}

// Keep sends a visit's new cookie, if it has one, with an answer that has not begun.
func (b *Browsers) Keep(w http.ResponseWriter, v device.Visit) {
	if v.Cookie == "" {
		return
	}
	c := &http.Cookie{ //nolint:gosec // Secure but under --dev, which has no https
		Name: b.cookieName(), Value: v.Cookie, Path: "/", MaxAge: cookieLife,
		Secure: !b.Dev, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
	w.Header().Del("Set-Cookie") // of an earlier turn of the same answer
	http.SetCookie(w, c)
}

// Own reports whether a POST comes from a page of ours: what the browser says of the site
// decides, and if it says nothing of it, the origin.
func (b *Browsers) Own(r *http.Request) bool {
	if site := r.Header.Values("Sec-Fetch-Site"); len(site) > 0 {
		return len(site) == 1 && site[0] == "same-origin"
	}
	origin := r.Header.Values("Origin")
	return len(origin) == 1 && origin[0] == b.Origin
}

// PasskeysWork reports whether passkeys can be used at the address that a request was sent
// to: they belong to the server's own name.
func (b *Browsers) PasskeysWork(r *http.Request) bool {
	return !b.Dev || strings.HasSuffix(b.Origin, "//"+r.Host)
}

// tokenNonce is the size, in bytes, of what makes each page's token another.
const tokenNonce = 12

// Token returns a token for the form of a page: what the form must bring back. It is bound
// to the browser, 0 for one that need not be known, and to the page. flow names this one
// showing of the page: it is that of package signin.
func (b *Browsers) Token(browser int64, page string) (token, flow string) {
	nonce := make([]byte, tokenNonce)
	_, _ = rand.Read(nonce) // never fails: crypto/rand ends the process instead
	return base64.RawURLEncoding.EncodeToString(slices.Concat(nonce, b.seal(nonce, browser, page))),
		base64.RawURLEncoding.EncodeToString(nonce[:tokenNonce])
}

// Shown checks the token of a form, and returns its flow.
func (b *Browsers) Shown(browser int64, page, token string) (flow string, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) != tokenNonce+sha256.Size {
		return "", false
	}
	nonce, mac := raw[:tokenNonce], raw[tokenNonce:]
	return base64.RawURLEncoding.EncodeToString(nonce), hmac.Equal(mac, b.seal(nonce, browser, page))
}

func (b *Browsers) seal(nonce []byte, browser int64, page string) []byte {
	h := hmac.New(sha256.New, b.Key)
	h.Write(nonce)
	h.Write([]byte(strconv.FormatInt(browser, 10) + " " + page))
	return h.Sum(nil)
}
