package auth

import (
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Scope names what a session token may be used for.
type Scope string

// The scopes of session tokens. An app-password session keeps its own across
// refreshes.
const (
	ScopeAccess            Scope = "com.atproto.access"
	ScopeAppPass           Scope = "com.atproto.appPass"
	ScopeAppPassPrivileged Scope = "com.atproto.appPassPrivileged"
	ScopeTakenDown         Scope = "com.atproto.takendown"
	ScopeRefresh           Scope = "com.atproto.refresh"
)

const (
	algHS256   = "HS256"
	typAccess  = "at+jwt"
	typRefresh = "refresh+jwt"
)

// claims are the members of both session tokens as we write them. Times are
// integers: clients decode them without checks.
type claims struct {
	Scope Scope  `json:"scope"`
	Aud   string `json:"aud"`
	Sub   string `json:"sub"`
	JTI   string `json:"jti,omitempty"`
	SID   string `json:"sid"`
	IAT   int64  `json:"iat"`
	EXP   int64  `json:"exp"`
}

// presented are the claims of a token that a client sent, each as it was sent: a
// value of the wrong type must be refused, not coerced.
type presented struct {
	Scope jsontext.Value `json:"scope"`
	Aud   jsontext.Value `json:"aud"`
	Sub   jsontext.Value `json:"sub"`
	JTI   jsontext.Value `json:"jti"`
	SID   jsontext.Value `json:"sid"`
	IAT   jsontext.Value `json:"iat"`
	EXP   jsontext.Value `json:"exp"`
	NBF   jsontext.Value `json:"nbf"`
	LXM   jsontext.Value `json:"lxm"`
	CNF   jsontext.Value `json:"cnf"`

	by *key // the key that signed it
}

// rawString returns a claim that must be a string; "" and true if it is absent.
func rawString(raw jsontext.Value) (string, bool) {
	if len(raw) == 0 {
		return "", true
	}
	s, err := jsontext.AppendUnquote(make([]byte, 0, len(raw)), raw)
	return string(s), err == nil
}

// rawTime returns a NumericDate in seconds and cuts off the fraction that RFC 7519
// allows.
func rawTime(raw jsontext.Value) (t time.Time, present, ok bool) {
	if len(raw) == 0 {
		return time.Time{}, false, true
	}
	var f float64
	if json.Unmarshal(raw, &f) != nil || raw[0] == 'n' || f < 0 || f > 1<<40 {
		return time.Time{}, true, false
	}
	return time.Unix(int64(f), 0), true, true
}
