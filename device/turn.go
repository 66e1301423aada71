package device

import (
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

// secret is what a browser's cookie holds: 256 bits that only the browser has.
type secret [HashSize]byte

func random() (b [HashSize]byte) {
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return b
}

// next returns the secret that follows s. It is made of s, which only the browser has, and
// of a salt, which only the store has: so it can be sent again if the answer that carried
// it was lost, though neither a stolen database nor a stolen cookie yields it.
func (s secret) next(salt [HashSize]byte) secret {
	h := hmac.New(sha256.New, s[:])
	h.Write([]byte("nestbox device "))
	h.Write(salt[:])
	return secret(h.Sum(nil))
}

func (s secret) hash() [HashSize]byte { return sha256.Sum256(s[:]) }

// formatCookie returns the value of a browser's cookie.
func formatCookie(id int64, s secret) string {
	return strconv.FormatInt(id, 36) + "." + base64.RawURLEncoding.EncodeToString(s[:])
}

// maxCookie bounds what is read of a cookie, in bytes.
const maxCookie = 128

// parseCookie reads what formatCookie wrote; any other spelling is none of ours.
func parseCookie(value string) (id int64, s secret, ok bool) {
	num, text, ok := strings.Cut(value, ".")
	if !ok || len(value) > maxCookie {
		return 0, s, false
	}
	id, err := strconv.ParseInt(num, 36, 64)
	if err != nil || id < 1 {
		return 0, s, false
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) != len(s) {
		return 0, s, false
	}
	s = secret(raw)
	return id, s, formatCookie(id, s) == value
}

// arrival is a browser's secret as it comes with a request.
type arrival struct {
	secret secret
	// earns: the request has proven its person, for a sign-in or a step-up.
	earns bool
	// salt is fresh, for a secret that may have to be made.
	salt [HashSize]byte
	at   time.Time
}

// turned is what becomes of a browser's secrets when one comes.
type turned struct {
	next Browser
	// known: the secret is one of this browser's, of that generation.
	known      bool
	generation int64
	// send is the secret that the answer carries, nil for none.
	send *secret
	// changed: next is to be stored.
	changed bool
}

// MaxSecrets is how many secrets of a browser work at once: one that has come, and those
// that were sent since, of which none has come. The oldest of these gives way.
const MaxSecrets = 8

// turn decides what becomes of a browser's secrets when one comes: those before it work no
// longer, and the answer carries another. It is pure.
//
//	what comes                                           to look          to sign in, to step up
//	the newest                                           a new one, once  a new one
//	                                                     it is old
//	an earlier one; the newest was sent for a look       the newest       a new one
//	an earlier one; the newest was earned                none             a new one
//	any other                                            unknown          unknown
//
// A secret that was earned is sent once, to the request that earned it: a thief who has an
// earlier one, and earns with an account of their own, would get what others prove since.
// What others had proven by then, and the earlier one does not show, ends: the new secret
// would show it.
func turn(b Browser, in arrival) turned {
	i := b.find(in.secret)
	if i < 0 {
		return turned{next: b}
	}
	newest := len(b.Secrets) - 1
	t := turned{next: b, known: true, generation: b.Generation - int64(newest-i), changed: i > 0}
	t.next.Secrets = slices.Clone(b.Secrets[i:])
	last, old := t.follow(in.secret), !within(b.RotatedAt, SecretLife, in.at)
	if in.earns {
		t.next.SignIns = t.shown().SignIns
	}
	switch {
	case in.earns, i == newest && old:
		t.renew(last, in)
	case i < newest && !b.Earned:
		t.send = &last
	}
	return t
}

// find returns which of the browser's secrets s is, -1 for none.
func (b *Browser) find(s secret) int {
	hash := s.hash()
	return slices.IndexFunc(b.Secrets, func(k Secret) bool { return subtle.ConstantTimeCompare(k.Hash[:], hash[:]) == 1 })
}

// follow returns the newest secret, from the one that came.
func (t *turned) follow(s secret) secret {
	for _, k := range t.next.Secrets[1:] {
		s = s.next(k.Salt)
	}
	return s
}

// renew makes a secret after the newest.
func (t *turned) renew(newest secret, in arrival) {
	if len(t.next.Secrets) == MaxSecrets {
		t.next.Secrets = slices.Delete(t.next.Secrets, 1, 2) // earned, and not used since
	}
	made := newest.next(in.salt)
	t.send, t.changed = &made, true
	t.next.Secrets = append(t.next.Secrets, Secret{Hash: made.hash(), Salt: in.salt})
	t.next.Earned, t.next.RotatedAt = in.earns, in.at
	t.next.Generation++
}

// shown returns the browser as the secret that came proves it: an earlier one proves
// nothing that was earned since.
func (t *turned) shown() Browser {
	b := t.next
	b.SignIns = b.without(func(s *SignIn) bool { return s.Generation > t.generation })
	for i := range b.SignIns {
		if b.Earned && t.generation < b.Generation {
			b.SignIns[i].StepUp = StepUp{}
		}
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
