package device

import (
	"errors"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Lives of what a browser proves.
const (
	// AuthorizeLife is how long after a sign-in the browser may let an app in without the
	// password.
	AuthorizeLife = 7 * 24 * time.Hour
	// LookLife is how long after a sign-in the account's pages can be read.
	LookLife = 30 * 24 * time.Hour
	// RememberLife and TabLife are how long a sign-in lasts unused, where the person asked
	// to be remembered and where not.
	RememberLife = 30 * 24 * time.Hour
	TabLife      = 2 * time.Hour
	// StepUpLife is how long a proof counts for what needs one.
	StepUpLife = 10 * time.Minute
	// TrustLife is how long a browser that the person trusts needs no second factor.
	TrustLife = 30 * 24 * time.Hour
	// SecretLife is how long a secret is used before the next one is sent.
	SecretLife = 24 * time.Hour
	// EmptyLife is how long a browser on which nobody is signed in is remembered.
	EmptyLife = 7 * 24 * time.Hour
)

// Bounds.
const (
	// MaxAccounts bounds the accounts of one browser, MaxBrowsers the browsers of one
	// account: the sign-ins that were unused for longest give way.
	MaxAccounts = 20
	MaxBrowsers = 100
)

// Browser is a browser that somebody has signed in on.
type Browser struct {
	// ID numbers the browser in the store, from 1; an ID is not given twice.
	ID int64
	// Secrets are what the store knows of the browser's secrets, the newest last. There
	// are earlier ones while the newest has not come, at most MaxSecrets in all.
	Secrets []Secret
	// Earned: the newest secret was sent with a sign-in or a step-up, so that only
	// another one sends it again.
	Earned bool
	// Generation counts the secrets: it is that of the newest. RotatedAt is when that was
	// made.
	Generation int64
	RotatedAt  time.Time

	MadeAt time.Time
	// SeenAt, Network and UserAgent are those of the last page, SeenAt exact to seenStep.
	SeenAt    time.Time
	Network   string
	UserAgent string

	// SignIns are the accounts, latest used first.
	SignIns []SignIn
}

// Secret is what the store knows of a browser's secret.
type Secret struct {
	Hash [HashSize]byte
	// Salt is what the secret was made of, and the one before: see next.
	Salt [HashSize]byte
}

// HashSize is that of a Secret's parts, in bytes.
const HashSize = 32

// SignIn is an account that is signed in on a browser.
type SignIn struct {
	AccountID int64
	DID       syntax.DID
	// Generation is that of the secret that was sent with the sign-in: earlier ones do
	// not prove it.
	Generation int64
	At         time.Time
	// UsedAt is when the account was last used here, exact to seenStep.
	UsedAt time.Time
	// Factors are what proved the person, as package signin names them.
	Factors  string
	Remember bool
	StepUp   StepUp
	// TrustedUntil is when the browser needs the second factor again, zero for now.
	TrustedUntil time.Time
}

// StepUp is the last proof of an account's owner on a browser.
type StepUp struct {
	// At is when the oldest of the proofs was given.
	At time.Time
	// Level and Factors are what package signin made of it.
	Level   int
	Factors string
}

// seenStep is how exact the times of last use are: each costs a write.
const seenStep = 5 * time.Minute

// within reports whether at is less than life away from now, in either direction: what a
// clock that was ahead has written does not last for ever.
func within(at time.Time, life time.Duration, now time.Time) bool {
	return !at.IsZero() && now.Sub(at).Abs() < life
}

// Live reports whether the account is still signed in: not unused for too long.
func (s *SignIn) Live(now time.Time) bool {
	if s.Remember {
		return within(s.UsedAt, RememberLife, now)
	}
	return within(s.UsedAt, TabLife, now)
}

// MayLook reports whether the account's pages may be read.
func (s *SignIn) MayLook(now time.Time) bool { return s.Live(now) && within(s.At, LookLife, now) }

// MayAuthorize reports whether an app may be let in without the password.
func (s *SignIn) MayAuthorize(now time.Time) bool {
	return s.Live(now) && within(s.At, AuthorizeLife, now)
}

// Proof returns the step-up that counts now, the zero StepUp if there is none.
func (s *SignIn) Proof(now time.Time) StepUp {
	if !s.Live(now) || !within(s.StepUp.At, StepUpLife, now) {
		return StepUp{}
	}
	return s.StepUp
}

// Trusted reports whether the second factor is not asked for here.
func (s *SignIn) Trusted(now time.Time) bool {
	return now.Before(s.TrustedUntil) && s.TrustedUntil.Sub(now) <= TrustLife
}

// SignIn returns the sign-in of an account, live or not.
func (b *Browser) SignIn(accountID int64) (*SignIn, bool) {
	i := slices.IndexFunc(b.SignIns, func(s SignIn) bool { return s.AccountID == accountID })
	if i < 0 {
		return nil, false
	}
	return &b.SignIns[i], true
}

// without returns the sign-ins except those that drop selects, in a slice of its own.
func (b *Browser) without(drop func(*SignIn) bool) []SignIn {
	kept := make([]SignIn, 0, len(b.SignIns))
	for i := range b.SignIns {
		if !drop(&b.SignIns[i]) {
			kept = append(kept, b.SignIns[i])
		}
	}
	return kept
}

// Errors of the package.
var (
	// ErrUnknown: the account is not signed in on this browser, or there is no such
	// browser.
	ErrUnknown = errors.New("not signed in on this browser")
	// ErrChanged: the account, or the credentials that were checked, changed meanwhile.
	ErrChanged = errors.New("what proved the person has changed")
)
