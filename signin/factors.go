package signin

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/mail"
)

// Method is a kind of second factor. Its text is the value of a form's button.
type Method string

// The methods.
const (
	TOTP     Method = "totp"
	Email    Method = "email"
	Recovery Method = "recovery"
	Passkeys Method = "passkey"
)

// Limits of what one account keeps.
const (
	MaxPasskeys   = 20
	RecoveryCodes = 10
	// FewRecoveryCodes is from how many on that are left the owner should make new ones.
	FewRecoveryCodes = 3
)

// Factors are an account's second factors as they are stored, except the codes by
// e-mail, which account.Account.EmailFactor switches on.
type Factors struct {
	account.Switches

	// TOTP is nil if none was set up.
	TOTP *Authenticator
	// Passkeys are in the order in which they were made.
	Passkeys []Passkey
	// UserHandle is by what passkeys know the account; empty until the first is made. It
	// never changes.
	UserHandle []byte
	// Recovery are the codes, used ones too, RecoveryKey the sealed key of their hashes.
	Recovery       []RecoveryCode
	RecoveryKey    []byte
	RecoveryMadeAt time.Time
}

// Authenticator is an app that makes codes of the time (TOTP, RFC 6238).
type Authenticator struct {
	// SecretSealed opens with SealLabel.
	SecretSealed []byte
	ConfirmedAt  time.Time
	// LastStep is the last step of 30 seconds since 1970 whose code was accepted, LastFlow
	// the flow that sent it, UsedAt when.
	LastStep int64
	LastFlow string
	UsedAt   time.Time
}

// Passkey is one of an account's passkeys.
type Passkey struct {
	// ID is the store's own number, 0 before it is stored.
	ID int64
	// CredentialID is the authenticator's name for it, Credential all that is known of it,
	// as JSON (webauthn.Credential).
	CredentialID, Credential []byte
	// Host is the host name of the pages that it signs in to.
	Host, Name     string
	MadeAt, UsedAt time.Time
	UsedNetwork    string
	// WarnedAt is when we last told the owner that there may be a copy of it.
	WarnedAt time.Time
}

// RecoveryCode is a code that works once.
type RecoveryCode struct {
	// Hash is keyed.
	Hash     []byte
	UsedAt   time.Time
	UsedFlow string
}

// Changed is what becomes of an account's factors.
type Changed struct {
	Factors Factors
	// Entries go to the trail, Mails to the outbox.
	Entries []account.Entry
	Mails   []mail.Message
}

// Store keeps second factors. Every method is one transaction and durable when it returns
// nil; an error other than the sentinels means that the outcome is "not done".
type Store interface {
	// Factors returns an account's factors, read fresh. account.ErrNotFound.
	Factors(ctx context.Context, id int64) (Factors, error)
	// ChangeFactors replaces an account's factors by those that decide makes of them, and
	// of the account; an error of decide changes nothing. Two calls for one account run one
	// after the other. account.ErrNotFound; ErrPasskeyTaken: another account, or the same,
	// has a passkey of that CredentialID.
	ChangeFactors(ctx context.Context, id int64, decide func(account.Account, Factors) (Changed, error)) error
	// ByUserHandle returns the account that passkeys know by a user handle.
	// account.ErrNotFound.
	ByUserHandle(ctx context.Context, handle []byte) (*account.Account, error)
	// PasskeysElsewhere returns how many passkeys belong to another host.
	PasskeysElsewhere(ctx context.Context, host string) (int64, error)
}

// Strong reports whether the account has a factor of its own: codes by e-mail are not.
func (f Factors) Strong() bool { return f.TOTP != nil || len(f.Passkeys) > 0 }

// RecoveryLeft returns how many recovery codes are not used.
func (f Factors) RecoveryLeft() int {
	n := 0
	for _, c := range f.Recovery {
		if c.UsedAt.IsZero() {
			n++
		}
	}
	return n
}

// Wanted reports whether a sign-in with the password takes a second factor.
func (f Factors) Wanted(emailFactor bool) bool { return len(f.second(emailFactor)) > 0 }

// second returns the methods that pass as the second factor of a sign-in with the
// password, the last used first; none if the sign-in needs none.
func (f Factors) second(emailFactor bool) []Method {
	if !emailFactor && f.TOTP == nil && (!f.PasskeySecond || len(f.Passkeys) == 0) {
		return nil
	}
	return f.methods(emailFactor)
}

// methods returns the methods that the account has, the last used first.
func (f Factors) methods(email bool) []Method {
	type used struct {
		Method

		at time.Time
	}
	var all []used
	if len(f.Passkeys) > 0 {
		last := slices.MaxFunc(f.Passkeys, func(a, b Passkey) int { return a.UsedAt.Compare(b.UsedAt) })
		all = append(all, used{Passkeys, last.UsedAt})
	}
	if f.TOTP != nil {
		all = append(all, used{TOTP, f.TOTP.UsedAt})
	}
	slices.SortStableFunc(all, func(a, b used) int { return b.at.Compare(a.at) })
	var out []Method
	for _, u := range all {
		out = append(out, u.Method)
	}
	if email {
		out = append(out, Email)
	}
	if f.RecoveryLeft() > 0 {
		out = append(out, Recovery) // never first, unless there is nothing else
	}
	return out
}

// passkey returns the place of the passkey with a credential ID, -1 if there is none.
func (f Factors) passkey(credentialID []byte) int {
	return slices.IndexFunc(f.Passkeys, func(p Passkey) bool { return bytes.Equal(p.CredentialID, credentialID) })
}

// clone returns a copy whose lists can be changed.
func (f Factors) clone() Factors {
	f.Passkeys, f.Recovery = slices.Clone(f.Passkeys), slices.Clone(f.Recovery)
	if f.TOTP != nil {
		f.TOTP = new(*f.TOTP)
	}
	return f
}

// settled returns the factors without what makes no sense any more: switches whose factor
// is gone, and recovery codes of an account that has nothing to recover.
func (f Factors) settled() Factors {
	f.PasskeySecond = f.PasskeySecond && len(f.Passkeys) > 0
	f.DangerousFactor = f.DangerousFactor && f.TOTP != nil
	if !f.Strong() {
		f.Recovery, f.RecoveryKey, f.RecoveryMadeAt = nil, nil, time.Time{}
	}
	return f
}

// SealKind is the kind of a secret that the Store keeps sealed.
type SealKind string

// The kinds.
const (
	SealTOTP     SealKind = "totp secret"
	SealRecovery SealKind = "recovery code key"
)

// SealLabel is the label of a sealed secret: see package seal.
func SealLabel(kind SealKind, did syntax.DID) string { return string(kind) + " of " + did.String() }
