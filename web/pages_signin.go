package web

import "time"

// SignIn asks for identifier and password, or a passkey: the step sign-in of the flow,
// and /account/sign-in. Fields: identifier, password, remember; ceremony and credential
// if Passkey is set. Decisions: sign-in, passkey, sign-up (in the flow, if OfferSignUp),
// deny (in the flow).
type SignIn struct {
	Frame
	// Identifier is what the field holds at first.
	Identifier string
	// Fixed means that it cannot be changed: the client's login_hint named an account of
	// this server.
	Fixed bool
	// Remember is the state of the tick box.
	Remember bool
	// OfferSignUp shows the way to a new account.
	OfferSignUp bool
	// Passkey is nil if the server can make none, as at 127.0.0.1.
	Passkey *Passkey
}

func (*SignIn) template() string { return "signin" }

func (p *SignIn) title() Text {
	if p.Client != nil {
		return Msg("signin.title-app")
	}
	return Msg("signin.title")
}

// Chooser lists the accounts that are signed in on this browser: the step account of the
// flow. Buttons did and sign_out with the DID; decisions other, deny.
type Chooser struct {
	Frame
	Accounts []ChooserAccount
}

// ChooserAccount is a row of the chooser.
type ChooserAccount struct {
	Account
	// Stale means that the password is asked again.
	Stale bool
}

func (*Chooser) template() string { return "chooser" }
func (*Chooser) title() Text      { return Msg("chooser.title") }

// Method is a way to prove a second factor.
type Method string

// The methods; each is the value of a button "method".
const (
	TOTP     Method = "totp"
	Email    Method = "email"
	Recovery Method = "recovery"
	Key      Method = "passkey"
)

// Factor asks for the second factor: the step factor of the flow and of sign-in. Fields:
// code, trust; ceremony and credential for a passkey. Buttons method; decisions continue,
// deny.
type Factor struct {
	Frame
	// Method is the one that is asked for, Others the further ones that the account has.
	Method Method
	Others []Method
	// Left is how many guesses are left; shown if it is above zero.
	Left int
	// OfferTrust shows the tick box, Trust is its state.
	OfferTrust, Trust bool
	// NoRecovery: no recovery code passes.
	NoRecovery bool
	// Address is where the code was mailed, masked (a…@example.com); of Email only.
	Address string
	// Passkey is set for the method Key.
	Passkey *Passkey
}

func (*Factor) template() string { return "factor" }

func (p *Factor) title() Text { return Msg("factor.title-" + string(p.Method)) }

// Deactivated asks what to do with an account that is deactivated: the step deactivated.
// Decisions: reactivate, continue, deny.
type Deactivated struct {
	Frame
	// DeleteAt is when the account is going to be deleted; zero if never.
	DeleteAt time.Time
}

func (*Deactivated) template() string { return "deactivated" }
func (*Deactivated) title() Text      { return Msg("deactivated.title") }
