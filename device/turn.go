package device

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
	"time"
)

// secretSize is that of a secret and of a salt, in bytes.
const secretSize = 32

func random() []byte {
	b := make([]byte, secretSize)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process instead
	return b
}

func hashOf(secret []byte) []byte {
	h := sha256.Sum256(secret)
	return h[:]
}

// next returns the secret that follows another one. It is made of that one, which only
// the browser has, and of the salt, which only the store has: so it can be sent again if
// the answer that carried it was lost, though neither a stolen database nor a stolen
// cookie yields it.
func next(secret, salt []byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte("nestbox device "))
	h.Write(salt)
	return h.Sum(nil)
}

// formatCookie returns the value of a browser's cookie.
func formatCookie(id int64, secret []byte) string {
	return strconv.FormatInt(id, 36) + "." + base64.RawURLEncoding.EncodeToString(secret)
}

// maxCookie bounds what is read of a cookie, in bytes.
const maxCookie = 128

// parseCookie reads what formatCookie wrote; any other spelling is none of ours.
func parseCookie(value string) (id int64, secret []byte, ok bool) {
	num, text, ok := strings.Cut(value, ".")
	if !ok || len(value) > maxCookie {
		return 0, nil, false
	}
	id, err := strconv.ParseInt(num, 36, 64)
	if err != nil || id < 1 {
		return 0, nil, false
	}
	secret, err = base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(secret) != secretSize || formatCookie(id, secret) != value {
		return 0, nil, false
	}
	return id, secret, true
}

// arrival is a browser's secret as it comes with a request.
type arrival struct {
	secret []byte
	// earns: the request has proven its person, for a sign-in or a step-up.
	earns bool
	// salt is fresh, for a secret that may have to be made.
	salt []byte
	at   time.Time
}

// turned is what becomes of a browser's secret when one comes.
type turned struct {
	next Browser
	// known: the secret is this browser's.
	known bool
	// behind: it is the previous one.
	behind bool
	// send is the secret that the answer carries, nil for none.
	send []byte
	// changed: next is to be stored.
	changed bool
}

// turn decides what becomes of a browser's secret when one comes. It is pure.
//
//	presented                    to look                      to sign in, to step up
//	newest                       newest has come; a new one   newest has come; a new one
//	                             once it is SecretLife old
//	previous, newest not earned  newest again                 a new one in its place
//	previous, newest earned      nothing: previous works on   newest again
//	any other                    unknown                      unknown
//
// A newest secret that was earned is not sent for a look: a thief who has the previous one
// only would get what was proven since.
func turn(b Browser, in arrival) turned {
	hash := hashOf(in.secret)
	switch {
	case subtle.ConstantTimeCompare(hash, b.Hash) == 1:
		t := turned{next: b, known: true}
		if len(b.Previous) > 0 {
			t.next.Previous, t.next.Salt, t.next.Earned, t.changed = nil, nil, false, true
		}
		if in.earns || !within(b.RotatedAt, SecretLife, in.at) {
			return t.renew(in)
		}
		return t
	case len(b.Previous) > 0 && subtle.ConstantTimeCompare(hash, b.Previous) == 1:
		t := turned{next: b, known: true, behind: true}
		switch {
		case in.earns == b.Earned:
			t.send = next(in.secret, b.Salt)
		case in.earns:
			return t.renew(in)
		}
		return t
	default:
		return turned{next: b}
	}
}

// renew makes a new secret from the one that came, which becomes the previous one.
func (t turned) renew(in arrival) turned {
	t.send, t.changed = next(in.secret, in.salt), true
	t.next.Previous, t.next.Salt, t.next.Hash = hashOf(in.secret), bytes.Clone(in.salt), hashOf(t.send)
	t.next.Earned, t.next.RotatedAt = in.earns, in.at
	t.next.Generation++
	return t
}

// shown returns the browser as the secret that came proves it: a previous one proves
// nothing that was earned with the newest.
func (t turned) shown() Browser {
	b := t.next
	if !t.behind {
		return b
	}
	b.SignIns = b.without(func(s *SignIn) bool { return b.Earned && s.Generation >= b.Generation })
	for i := range b.SignIns {
		b.SignIns[i].StepUp = StepUp{}
	}
	return b
}

// used notes a look at an account's page, or at a page of no account (0), where that was
// long enough ago, and reports whether it did.
func (b *Browser) used(accountID int64, at time.Time, network, userAgent string) (changed bool) {
	if !within(b.SeenAt, seenStep, at) {
		b.SeenAt, b.Network, b.UserAgent, changed = at, network, userAgent, true
	}
	i := slices.IndexFunc(b.SignIns, func(s SignIn) bool { return s.AccountID == accountID })
	if i >= 0 && b.SignIns[i].Live(at) && !within(b.SignIns[i].UsedAt, seenStep, at) {
		b.SignIns = slices.Clone(b.SignIns)
		b.SignIns[i].UsedAt, changed = at, true
	}
	return changed
}
