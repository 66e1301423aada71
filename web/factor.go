package web

import (
	"slices"
	"strings"

	"nestbox/account"
	"nestbox/signin"
)

// askPasskey asks for a passkey on one showing of a page; conditional offers them in the
// field for the name.
func askPasskey(s *signin.Service, flow string, conditional bool) (*Passkey, error) {
	ask, err := s.AskPasskey(flow, conditional)
	if err != nil {
		return nil, err
	}
	return &Passkey{Options: ask.Options, Ceremony: ask.Sealed, Conditional: conditional}, nil
}

// factorPage returns the page that asks an account's owner for the second factor by one of
// their methods, without its frame.
func factorPage(s *signin.Service, a *account.Account, method signin.Method, all []signin.Method, left int, flow string) (*Factor, error) {
	page := &Factor{Method: Method(method), Others: methodsBut(all, method), Left: fewLeft(left)}
	var err error
	switch method {
	case signin.Email:
		page.Address = masked(a.Email)
	case signin.Passkeys:
		page.Passkey, err = askPasskey(s, flow, false)
	case signin.TOTP, signin.Recovery:
	}
	return page, err
}

// methodsBut returns the methods without one, as pages name them.
func methodsBut(all []signin.Method, one signin.Method) (others []Method) {
	for _, m := range slices.DeleteFunc(slices.Clone(all), func(m signin.Method) bool { return m == one }) {
		others = append(others, Method(m))
	}
	return others
}

// leftShown is from how many guesses on that are left the page says so.
const leftShown = 5

// fewLeft returns how many guesses are left, 0 if that is not worth a word.
func fewLeft(left int) int {
	if left > leftShown {
		return 0
	}
	return max(left, 0)
}

// masked returns an address so that its owner knows it, and nobody learns it.
func masked(email string) string {
	name, host, ok := strings.Cut(email, "@")
	if !ok || name == "" {
		return ""
	}
	first := []rune(name)[0]
	return string(first) + "…@" + host
}
