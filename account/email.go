package account

import (
	"errors"
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// The lengths of RFC 5321 section 4.5.3.1, in bytes.
const (
	maxEmail     = 254
	maxEmailUser = 64
)

// ErrEmail: not an e-mail address that mail can be sent to.
var ErrEmail = errors.New("not an e-mail address")

// CheckEmail returns the address as it is kept: the given text, when it is a
// plain user@domain address with a domain of at least two labels. Quoted local parts
// and those beyond ASCII, comments, display names and address literals are refused.
func CheckEmail(raw string) (string, error) {
	// What is quoted, or has a comment, comes back without it, and is another.
	addr, err := mail.ParseAddress(raw)
	if err != nil || addr.Address != raw || addr.Name != "" || len(raw) > maxEmail || !utf8.ValidString(raw) {
		return "", ErrEmail
	}
	at := strings.LastIndexByte(raw, '@')
	user, domain := raw[:at], raw[at+1:]
	if len(user) > maxEmailUser || !isASCII(user) { // few mail servers take others
		return "", ErrEmail
	}
	ascii, err := idna.Lookup.ToASCII(domain)
	if err != nil || !strings.Contains(ascii, ".") || strings.HasPrefix(ascii, ".") || strings.HasSuffix(ascii, ".") {
		return "", ErrEmail
	}
	return raw, nil
}

// EmailKey is the form of an address that is compared: in lower case, and with an
// international domain in its ASCII form, so that one mailbox has one key.
func EmailKey(email string) string {
	key := strings.ToLower(email)
	user, domain, _ := strings.Cut(key, "@")
	if isASCII(domain) {
		return key
	}
	ascii, err := idna.Lookup.ToASCII(domain)
	if err != nil {
		return key
	}
	return user + "@" + ascii
}

// OlderEmailKey is the key that an address with an international domain had before
// EmailKey gave such domains one form; that of others is EmailKey.
func OlderEmailKey(email string) string {
	user, domain, _ := strings.Cut(EmailKey(email), "@")
	if text, err := idna.Lookup.ToUnicode(domain); err == nil {
		domain = text
	}
	return user + "@" + domain
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
}
