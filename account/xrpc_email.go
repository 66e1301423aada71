package account

import (
	"context"
	"errors"
	"time"

	"nestbox/auth"
	"nestbox/ratelimit"
	"nestbox/request"
	"nestbox/xrpc"
)

// Emails answers the endpoints that work by codes sent by e-mail. Its fields are
// set once.
type Emails struct {
	Store   Store
	Codes   *Codes
	Hasher  *Hasher
	Notices *Notices
	// Limits counts requests; nil counts nothing.
	Limits *ratelimit.Limiter
	Now    func() time.Time
}

// The inputs and outputs of the endpoints.
type (
	ConfirmEmailInput struct {
		Email string `json:"email"`
		Token string `json:"token"`
	}
	RequestEmailUpdateOutput struct {
		TokenRequired bool `json:"tokenRequired"`
	}
	UpdateEmailInput struct {
		Email           string `json:"email"`
		EmailAuthFactor *bool  `json:"emailAuthFactor,omitzero"`
		Token           string `json:"token,omitzero"`
	}
	RequestPasswordResetInput struct {
		Email string `json:"email"`
	}
	ResetPasswordInput struct {
		Token    string `json:"token"`
		Password string `json:"password"`
	}
)

// CodeMails are the limits of mails with codes for one account, of one endpoint.
func CodeMails(endpoint string) []ratelimit.Limit {
	return []ratelimit.Limit{
		{Name: endpoint + "-1h", Points: 5, Window: time.Hour},
		{Name: endpoint + "-1d", Points: 15, Window: 24 * time.Hour},
	}
}

// addressChanges are the limits of one account's changes of address: each writes to
// one that the client chose.
var addressChanges = []ratelimit.Limit{
	{Name: "address-changes-1h", Points: 5, Window: time.Hour},
	{Name: "address-changes-1d", Points: 15, Window: 24 * time.Hour},
}

// resetMails is the limit of one address's mails with codes for a new password,
// whoever asks: wider than that of each network, so that a stranger does not use it up.
var resetMails = ratelimit.Limit{Name: "reset-mails-1h", Points: 20, Window: time.Hour}

// The limits of a client network.
var (
	resetRequests = []ratelimit.Limit{
		{Name: "reset-requests-1h", Points: 15, Window: time.Hour},
		{Name: "reset-requests-1d", Points: 50, Window: 24 * time.Hour},
	}
	resets = []ratelimit.Limit{{Name: "resets", Points: 50, Window: 5 * time.Minute}}
)

// CodeError is an error of Codes, or of using up what it proved, as the
// endpoints answer it; any other error is a dependency that failed.
func CodeError(err error) error {
	switch {
	case errors.Is(err, ErrCodeInvalid):
		return xrpc.BadRequest(xrpc.NameInvalidToken, "Token is invalid")
	case errors.Is(err, ErrCodeExpired):
		return xrpc.BadRequest(xrpc.NameExpiredToken, "Token is expired")
	case errors.Is(err, ErrNoEmail):
		return xrpc.InvalidRequest("account does not have an email address")
	case errors.Is(err, ErrNoMail):
		return xrpc.InvalidRequest("This server sends no mail; ask its operator")
	case errors.Is(err, ErrNotFound):
		return auth.Expired() // deleted since the caller was proven
	default:
		return xrpc.Unavailable(err)
	}
}

// RequestConfirmation is com.atproto.server.requestEmailConfirmation.
func (s *Emails) RequestConfirmation(ctx context.Context, caller auth.StandardCaller, _ xrpc.None) (xrpc.None, error) {
	_, err := s.request(ctx, caller.Access, PurposeConfirmEmail)
	return xrpc.None{}, err
}

// RequestAccountDelete is com.atproto.server.requestAccountDelete.
func (s *Emails) RequestAccountDelete(ctx context.Context, caller auth.FullCaller, _ xrpc.None) (xrpc.None, error) {
	_, err := s.request(ctx, caller.Access, PurposeDeleteAccount)
	return xrpc.None{}, err
}

// RequestUpdate is com.atproto.server.requestEmailUpdate. An address that was
// never confirmed can be changed without a code: it may be a mistyped one.
func (s *Emails) RequestUpdate(ctx context.Context, caller auth.FullCaller, _ xrpc.None) (RequestEmailUpdateOutput, error) {
	required, err := s.request(ctx, caller.Access, PurposeUpdateEmail)
	return RequestEmailUpdateOutput{required}, err
}

// request sends a code to whoever is signed in, where its purpose takes one.
func (s *Emails) request(ctx context.Context, caller auth.Access, p Purpose) (sent bool, err error) {
	if err := auth.Admit(ctx, s.Limits, caller.Holder(), 1, CodeMails(string(p))...); err != nil {
		return false, err
	}
	a, err := s.Store.ByDID(ctx, caller.DID)
	if err != nil {
		return false, CodeError(err)
	}
	if p == PurposeUpdateEmail && a.EmailConfirmedAt.IsZero() {
		return false, nil
	}
	if err := s.Codes.Send(ctx, a, p); err != nil {
		return false, CodeError(err)
	}
	return true, nil
}

// Confirm is com.atproto.server.confirmEmail.
func (s *Emails) Confirm(ctx context.Context, caller auth.StandardCaller, in ConfirmEmailInput) (xrpc.None, error) {
	a, err := s.Store.ByDID(ctx, caller.DID)
	if err != nil {
		return xrpc.None{}, CodeError(err)
	}
	if EmailKey(in.Email) != EmailKey(a.Email) {
		return xrpc.None{}, xrpc.BadRequest("InvalidEmail", "invalid email")
	}
	if err := s.ConfirmAddress(ctx, a, in.Token); err != nil {
		return xrpc.None{}, CodeError(err)
	}
	return xrpc.None{}, nil
}

// Update is com.atproto.server.updateEmail: it changes the address, or whether
// sign-ins take a code, which is possible only while the address stays.
// Turning codes on for a confirmed address takes no code: it weakens nothing.
func (s *Emails) Update(ctx context.Context, caller auth.FullCaller, in UpdateEmailInput) (xrpc.None, error) {
	const tries = 3
	var err error
	for range tries {
		if err = s.tryUpdate(ctx, caller, in); !errors.Is(err, ErrStatusConflict) {
			return xrpc.None{}, err
		}
	}
	return xrpc.None{}, errTokenRequired() // overtaken each time
}

// tryUpdate is Update by what is known of the account now: ErrStatusConflict if another
// change was faster.
func (s *Emails) tryUpdate(ctx context.Context, caller auth.FullCaller, in UpdateEmailInput) error {
	email, err := CheckEmail(in.Email)
	if err != nil {
		return xrpc.InvalidRequest("This email address is not supported, please use a different email.")
	}
	a, err := s.Store.ByDID(ctx, caller.DID)
	if err != nil {
		return CodeError(err)
	}
	confirmed, same := !a.EmailConfirmedAt.IsZero(), EmailKey(email) == EmailKey(a.Email)
	turnOn := in.EmailAuthFactor != nil && *in.EmailAuthFactor
	if turnOn && (!same || !confirmed) {
		return xrpc.InvalidRequest("Confirm the email address before you have sign in codes sent to it")
	}
	if in.Token == "" && confirmed && (!same || !turnOn) {
		return errTokenRequired()
	}
	c := EmailChange{Email: email, Unconfirmed: !confirmed}
	if in.Token != "" {
		proof, err := s.Codes.Check(ctx, a, PurposeUpdateEmail, in.Token)
		if err != nil {
			return CodeError(err)
		}
		c.Proof = &proof
	}
	if same {
		c.Email, c.Factor = a.Email, in.EmailAuthFactor
		if c.Factor == nil || *c.Factor == a.EmailFactor {
			return nil // nothing changes
		}
	} else if err := request.Admit(ctx, s.Limits, caller.DID.String(), 1, addressChanges...); err != nil {
		return err
	}
	return updateError(s.setEmail(ctx, a, c))
}

// errTokenRequired is the answer to a change that takes a code.
func errTokenRequired() error { return xrpc.BadRequest("TokenRequired", "confirmation token required") }

// updateError is an error of setEmail as the client sees it; ErrStatusConflict is the
// caller's to handle.
func updateError(err error) error {
	switch {
	case err == nil, errors.Is(err, ErrStatusConflict):
		return err
	case errors.Is(err, ErrEmailTaken):
		return xrpc.InvalidRequest("This email address is already in use, please use a different email.")
	default:
		return CodeError(err)
	}
}

// RequestPasswordReset is com.atproto.server.requestPasswordReset: see AskReset.
func (s *Emails) RequestPasswordReset(ctx context.Context, _ auth.Anyone, in RequestPasswordResetInput) (xrpc.None, error) {
	return xrpc.None{}, resetError(s.AskReset(ctx, in.Email))
}

// ResetPassword is com.atproto.server.resetPassword. It ends all sessions.
func (s *Emails) ResetPassword(ctx context.Context, _ auth.Anyone, in ResetPasswordInput) (xrpc.None, error) {
	return xrpc.None{}, resetError(s.Reset(ctx, in.Token, in.Password))
}

// resetError maps the errors of AskReset and Reset.
func resetError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrPasswordTooLong):
		return xrpc.InvalidRequest("Invalid password length.")
	case errors.Is(err, ErrPasswordTooShort):
		return xrpc.InvalidRequest("Password too short. Minimum length is %d characters.", MinNewPassword)
	case errors.Is(err, ErrPasswordForm):
		return xrpc.InvalidRequest("Password holds a character that cannot be used")
	default:
		return CodeError(err)
	}
}
