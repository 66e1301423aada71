package signin

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/request"
)

// Proofs is the set of what has proven a person.
type Proofs uint16

// The proofs.
const (
	ByPassword Proofs = 1 << iota
	ByEmail           // a code sent by e-mail
	ByTOTP
	ByRecovery
	ByPasskey // with the user verified, so it counts as both factors
	// ByAged goes with ByTOTP or ByPasskey: the factor was at least MinFactorAge old.
	ByAged
)

// Has reports whether the set holds all of p.
func (ps Proofs) Has(p Proofs) bool { return ps&p == p }

// proofNames are the names of Proofs.Key, in the order of the bits.
func proofNames() []string {
	return []string{"password", "email", "totp", "recovery", "passkey", "aged"}
}

// Key returns the set as browsers' sign-ins keep it: names with commas. It is stored, so
// its names never change.
func (ps Proofs) Key() string {
	var names []string
	for i, name := range proofNames() {
		if ps.Has(1 << i) {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// ParseProofs returns the set that Key has written; names that it does not know are
// nothing.
func ParseProofs(key string) (ps Proofs) {
	for name := range strings.SplitSeq(key, ",") {
		if i := slices.Index(proofNames(), name); i >= 0 {
			ps |= 1 << i
		}
	}
	return ps
}

// Level returns the level of step-up that the set is worth at most: see Standing.Allows.
func (ps Proofs) Level() int {
	switch {
	case ps.Has(ByPasskey), ps.Has(ByPassword) && ps&(ByEmail|ByTOTP|ByRecovery) != 0:
		return 2
	case ps.Has(ByPassword):
		return 1
	default:
		return 0
	}
}

// Renewed returns what is kept of a set when more was proven, given what it was before, and
// whether all of it is new: the older of two proofs decides how long both count, so it is
// left out where the new ones are worth as much alone.
func (ps Proofs) Renewed(before Proofs) (kept Proofs, renewed bool) {
	if fresh := ps &^ before; fresh.Level() >= ps.Level() {
		return fresh, true
	}
	return ps, false
}

// String returns the set in words, for the trail.
func (ps Proofs) String() string {
	text := ""
	for _, one := range []struct {
		Proofs

		name string
	}{
		{ByPassword, "password"},
		{ByEmail, "e-mail code"},
		{ByTOTP, "authenticator code"},
		{ByRecovery, "recovery code"},
		{ByPasskey, "passkey"},
	} {
		if !ps.Has(one.Proofs) {
			continue
		}
		if text != "" {
			text += " and "
		}
		text += one.name
	}
	return text
}

// Claim is what a person has proven with their password while a second factor is still
// needed. A page keeps it, sealed, between two posts, so that nothing is typed twice.
// Continue takes it for ClaimLife.
type Claim struct {
	DID   syntax.DID `json:"did"`
	Epoch int64      `json:"epoch"`
	At    time.Time  `json:"at"`
	// AllowTakenDown is that of the Attempt.
	AllowTakenDown bool `json:"allowTakenDown,omitzero"`
}

// ClaimLife is how long a Claim holds.
const ClaimLife = 30 * time.Minute

// ErrClaim: a Claim is too old, or the password was changed since; the person begins again.
var ErrClaim = errors.New("the password must be typed again")

// ErrAppPassword: an app password was typed where only the account's own will do.
var ErrAppPassword = errors.New("that is an app password")

// ErrAppsOff: the right password, but the owner lets apps use app passwords only.
var ErrAppsOff = errors.New("the account's owner allows app passwords and sign-in through the browser only")

// ErrDigitsNeeded: a dangerous call lacks the code of the authenticator app behind the
// mailed one.
var ErrDigitsNeeded = errors.New("the code of the authenticator app is missing")

// ErrCeremony: a passkey's answer is not to a question of ours, or to one that is too old,
// or that a restart has voided. A fresh one will do.
var ErrCeremony = errors.New("the passkey answers an unknown or outdated question")

// FactorNeeded is the error for the right password of an account that needs a second
// factor as well.
type FactorNeeded struct {
	Account *account.Account
	// Methods are those that pass, the last used first.
	Methods []Method
	// Mailed: a code is on its way.
	Mailed bool
	// Claim is for Continue.
	Claim Claim
}

// Error implements error.
func (e *FactorNeeded) Error() string { return "a second factor is needed" }

// Offers reports whether a method passes.
func (e *FactorNeeded) Offers(m Method) bool { return slices.Contains(e.Methods, m) }

// WrongFactor is the error of a second factor that is not right.
type WrongFactor struct {
	// Method is what it was taken for.
	Method Method
	// Left is how many more wrong ones it takes until the method pauses.
	Left int
	// Late: it is the right code of an earlier time, so the clock of the device is
	// behind, or the code was typed minutes after it was made.
	Late bool
	// Cause is nil, account.ErrCodeInvalid, account.ErrCodeExpired, ErrCeremony or why a
	// passkey was refused.
	Cause error
}

// Error implements error.
func (e *WrongFactor) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("wrong %s: %v", e.Method, e.Cause)
	}
	return "wrong " + string(e.Method)
}

// Unwrap returns the cause.
func (e *WrongFactor) Unwrap() error { return e.Cause }

// Paused is the error of a method that had too many wrong guesses. Others still work.
type Paused struct {
	Method Method
	request.ErrTooMany
}

// Error implements error.
func (e *Paused) Error() string { return fmt.Sprintf("%s pauses: %v", e.Method, e.ErrTooMany) }

// Unwrap returns the limit's error.
func (e *Paused) Unwrap() error { return e.ErrTooMany }

// WrongCode reports whether err is about the code, or the passkey, that came with a
// sign-in.
func WrongCode(err error) bool {
	_, wrong := errors.AsType[*WrongFactor](err)
	return wrong || errors.Is(err, account.ErrCodeInvalid) || errors.Is(err, account.ErrCodeExpired)
}
