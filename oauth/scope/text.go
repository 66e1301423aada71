package scope

import (
	"strings"
)

// normal returns the one text of the permissions that mean what p does.
func (p *Permission) normal() string {
	w := writer{}
	w.text.WriteString(string(p.Kind))
	switch p.Kind {
	case Repo:
		w.positional(paramCollection, p.Collections...)
		if p.Actions != AllActions {
			w.params(paramAction, p.Actions.Names()...)
		}
	case RPC:
		w.positional(paramMethod, p.Methods...)
		w.params(paramAudience, p.Audience)
	case Blob:
		w.positional(paramAccept, p.Accept...)
	case Account:
		w.positional(paramAttr, p.Attr)
		if p.Manage {
			w.params(paramAction, actionManage)
		}
	case Identity:
		w.positional(paramAttr, p.Attr)
	case Include:
		w.positional(paramNSID, p.NSID.String())
		if p.Audience != "" {
			w.params(paramAudience, p.Audience)
		}
	case Atproto, TransitionGeneric, TransitionChat, TransitionEmail:
	}
	return w.text.String()
}

// writer writes a token.
type writer struct {
	text  strings.Builder
	asked bool // there is a "?"
}

// positional writes the values of the first parameter: one alone has no name.
func (w *writer) positional(name string, values ...string) {
	if len(values) != 1 {
		w.params(name, values...)
		return
	}
	w.text.WriteByte(':')
	w.value(values[0])
}

func (w *writer) params(name string, values ...string) {
	for _, value := range values {
		if w.asked {
			w.text.WriteByte('&')
		} else {
			w.text.WriteByte('?')
		}
		w.asked = true
		w.text.WriteString(name)
		w.text.WriteByte('=')
		w.value(value)
	}
}

// value writes a value, percent-encoding what would be read otherwise.
func (w *writer) value(raw string) {
	const hex = "0123456789ABCDEF"
	for i := range len(raw) {
		c := raw[i]
		if isAlphanumeric(c) || strings.IndexByte("-._~:/+,@*!", c) >= 0 {
			w.text.WriteByte(c)
			continue
		}
		w.text.WriteByte('%')
		w.text.WriteByte(hex[c>>4])
		w.text.WriteByte(hex[c&15])
	}
}

// decode undoes percent-encoding. A plus is a plus. The result has only characters
// that a token may have.
func decode(text string) (string, bool) {
	if strings.IndexByte(text, '%') < 0 {
		return text, isPrintable(text)
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '%' {
			if i+2 >= len(text) {
				return "", false
			}
			high, low := hexDigit(text[i+1]), hexDigit(text[i+2])
			if high < 0 || low < 0 {
				return "", false
			}
			c = byte(high<<4 | low) //nolint:gosec // two digits
			i += 2
		}
		b.WriteByte(c)
	}
	return b.String(), isPrintable(b.String())
}

func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// isPrintable reports whether text has only the characters of a scope's token
// (RFC 6749 §3.3).
func isPrintable(text string) bool {
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
