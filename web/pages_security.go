package web

import "time"

// Security shows the second factors of an account. Forms: decision totp-add, totp-remove,
// passkey-add, codes-new, email-on, email-off, trust-end; a passkey's row has the hidden field
// passkey and the decisions rename (field name) and remove; a switch has the hidden field
// switch (SwitchPasskeySecond, …) and the decisions on, off.
type Security struct {
	Frame
	TOTP     *TOTPState
	Passkeys []PasskeyRow
	// Strong: there is a factor that recovery codes stand in for.
	Strong bool
	// Full: the account has as many passkeys as it may.
	Full bool
	// PasskeysElsewhere is set if this address can make none (127.0.0.1 under --dev).
	PasskeysElsewhere bool
	// Codes is how many recovery codes are left; CodesMade is zero if there never were any.
	Codes     int
	CodesMade time.Time
	// EmailCodes is the state of codes by mail; NoMail means that the server sends none,
	// Unconfirmed that nobody has confirmed the address.
	EmailCodes, NoMail, Unconfirmed bool
	// The switches.
	PasskeySecond, DangerousFactor, AppsByPassword bool
	// Trusted is how many browsers skip the second factor.
	Trusted int
	// Actions are the last acts that asked for two proofs.
	Actions []SecurityAction
}

// The values of the hidden field switch.
const (
	SwitchPasskeySecond   = "passkey-second"
	SwitchDangerousFactor = "dangerous-factor"
	SwitchAppsByPassword  = "apps-by-password"
)

// TOTPState is an authenticator app that is set up.
type TOTPState struct{ Since, Used time.Time }

// PasskeyRow is a passkey of the account.
type PasskeyRow struct {
	// ID is the hidden field passkey.
	ID         string
	Name       string
	Made, Used time.Time
	Network    string
	// Synced means that it is kept in a password manager and not on one device.
	Synced bool
}

// SecurityAction is an act that asked for two proofs.
type SecurityAction struct {
	Text             Text
	At               time.Time
	Network, Program string
}

func (*Security) template() string { return "security" }
func (*Security) title() Text      { return Msg("security.title") }

// AnyFactor reports whether a password alone does not sign in.
func (p *Security) AnyFactor() bool { return p.TOTP != nil || p.EmailCodes || p.PasskeySecond }

// TOTPSetup sets up an authenticator app. Fields: code, setup. Decision: confirm.
type TOTPSetup struct {
	Frame
	// Setup is the secret, sealed: the hidden field setup.
	Setup string
	// QR is a PNG, Secret the base32 text, URL the otpauth link of the same key.
	QR     []byte
	Secret string
	URL    string
	// Replaces is set if the account has an authenticator app already.
	Replaces bool
}

func (*TOTPSetup) template() string { return "totpsetup" }
func (*TOTPSetup) title() Text      { return Msg("totp.title") }

// RecoveryCodes shows new recovery codes, once.
type RecoveryCodes struct {
	Frame
	Codes []string
	// First is set for the first ones of the account, which come with its first factor.
	First bool
}

func (*RecoveryCodes) template() string { return "recoverycodes" }
func (*RecoveryCodes) title() Text      { return Msg("codes.title") }

// PasskeyAdd makes a passkey. Fields: name, ceremony, credential. Decision: add.
type PasskeyAdd struct {
	Frame
	Passkey Passkey
	Name    string
}

func (*PasskeyAdd) template() string { return "passkeyadd" }
func (*PasskeyAdd) title() Text      { return Msg("passkey.title") }
