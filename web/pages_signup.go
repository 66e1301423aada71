package web

// SignUp makes an account: the step sign-up of the flow, and /account/sign-up. Fields:
// invite, handle, domain, email, password, terms. Decisions: sign-up, check (is the name
// free?), sign-in (there is an account already; in the flow), deny (in the flow).
type SignUp struct {
	Frame
	// Policy is PDS_SIGNUP: open, invite, migration-only or closed. The last two show what
	// to do instead, and no form.
	Policy string
	// NeedsInvite shows the field for an invite code.
	NeedsInvite bool
	// Invite, Handle, Domain, Email are what was typed; Handle is the name without the
	// domain.
	Invite, Handle, Domain, Email string
	// Domains are the domains to choose from, with their leading dot.
	Domains []string
	// Terms is the state of the tick box, which is shown if the operator has terms or a
	// privacy policy.
	Terms bool
	// Free is set when "check" found that the name is free; a taken one is a Problem.
	Free bool
	// CaptchaKey is hCaptcha's site key; empty if there is no captcha.
	CaptchaKey string
	// again: the account was made when the same form came before.
	again bool
}

func (*SignUp) template() string { return "signup" }

func (p *SignUp) title() Text {
	if p.Closed() {
		return Msg("signup.title-closed")
	}
	return Msg("signup.title")
}

// Closed reports whether the server takes no new accounts through this page.
func (p *SignUp) Closed() bool { return p.Policy == "closed" || p.Policy == "migration-only" }

// Welcome follows a sign-up outside of the flow.
type Welcome struct {
	Frame
	// Email is where the confirmation was mailed; empty if the server sends no mail.
	Email string
	// Passkeys offers to make one.
	Passkeys bool
}

func (*Welcome) template() string { return "welcome" }
func (*Welcome) title() Text      { return Msg("welcome.title") }

// Reset asks for the address to which a code for a new password is mailed. Field: email.
// Decision: send.
type Reset struct {
	Frame
	Email string
	// NoMail is set if the server sends no mail: the page names the operator's contact.
	NoMail bool
}

func (*Reset) template() string { return "reset" }
func (*Reset) title() Text      { return Msg("reset.title") }

// ResetCode asks for the mailed code and the new password. The link of the mail has the
// code in its fragment, from which local.js fills it in. Fields: code, new_password.
// Decision: reset.
type ResetCode struct {
	Frame
	// Sent says that a mail is on its way if there is an account.
	Sent bool
	Code string
}

func (*ResetCode) template() string { return "resetcode" }
func (*ResetCode) title() Text      { return Msg("reset.title-code") }
