package web

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/request"
	"nestbox/signin"
)

// closed reports whether the page takes no new accounts.
func (r *SignUpRules) closed() bool { return (&SignUp{Policy: r.Policy}).Closed() }

// showSignUp is GET /account/sign-up.
func (p *AccountPages) showSignUp(q *query) error {
	return p.askSignUp(q, http.StatusOK, &SignUp{Invite: cut(q.r.URL.Query().Get("invite"), maxStranger)})
}

// askSignUp shows the form, with what page holds.
func (p *AccountPages) askSignUp(q *query, status int, page *SignUp, problems ...Problem) error {
	page.Policy, page.NeedsInvite, page.Domains = p.SignUp.Policy, p.SignUp.NeedsInvite, p.SignUp.Domains
	if p.SignUp.Captcha != nil {
		page.CaptchaKey = p.SignUp.Captcha.SiteKey
	}
	page.Frame, _ = p.frame(q, 0, problems...)
	p.Pages.Render(q.w, q.r, status, page)
	return nil
}

// signUp is POST /account/sign-up: the form, or the question whether a name is free.
func (p *AccountPages) signUp(q *query) error {
	if p.SignUp.closed() {
		return p.askSignUp(q, http.StatusForbidden, &SignUp{})
	}
	page := &SignUp{
		Invite: q.typed("invite"), Handle: strings.TrimSpace(q.typed("handle")), Domain: q.typed("domain"), Email: q.typed("email"), Terms: q.typed("terms") != "",
	}
	handle := page.Handle + page.Domain
	if q.typed("decision") == "check" {
		err := p.Hosting.CheckNewHandle(q.r.Context(), handle)
		if page.Free = err == nil && page.Handle != ""; page.Free {
			return p.askSignUp(q, http.StatusOK, page)
		}
		return p.signUpFailed(q, page, missingOr(page.Handle, "handle", "signup.handle-missing", err))
	}
	if problems := p.lacking(q, page); len(problems) > 0 {
		return p.askSignUp(q, http.StatusUnprocessableEntity, page, problems...)
	}
	password := q.typed("password")
	if err := account.CheckChosenPassword(password, handle, page.Email); err != nil {
		return p.signUpFailed(q, page, err)
	}
	if p.SignUp.Captcha != nil {
		solved, err := p.SignUp.Captcha.Solved(q.r.Context(), q.typed("h-captcha-response"))
		if err != nil {
			return err
		}
		if !solved {
			return p.askSignUp(q, http.StatusUnprocessableEntity, page, Problem{"captcha", Msg("signup.captcha-missing")})
		}
	}
	a, err := p.Hosting.SignUp(q.r.Context(), hosting.NewAccount{Handle: handle, Email: page.Email, Password: password, InviteCode: strings.TrimSpace(page.Invite)})
	if err != nil {
		return p.signUpFailed(q, page, err)
	}
	return p.begin(q, a)
}

// begin signs the owner of a new account in, and sends the code that confirms its
// address. The account exists from here on, whatever fails.
func (p *AccountPages) begin(q *query, a *account.Account) error {
	ctx := q.r.Context()
	cred, err := p.Accounts.Credentials(ctx, a.ID)
	if err == nil {
		err = p.enter(q, signin.Proven{Account: a, Epoch: cred.Epoch}, false, false)
	}
	if err != nil {
		return q.to("/account/sign-in?account=" + a.Handle.String())
	}
	if err := p.Codes.Send(ctx, a, account.PurposeConfirmEmail); err != nil && !errors.Is(err, account.ErrNoMail) {
		request.Note(ctx, slog.String("confirmation", err.Error())) // asked for again in an app
	}
	return q.done(shownAccount(a).Path("welcome"), signedIn)
}

// lacking returns a problem for each field that is empty.
func (p *AccountPages) lacking(q *query, page *SignUp) (problems []Problem) {
	need := func(missing bool, field, id string) {
		if missing {
			problems = append(problems, Problem{field, Msg(id)})
		}
	}
	need(p.SignUp.NeedsInvite && strings.TrimSpace(page.Invite) == "", "invite", "signup.invite-missing")
	need(page.Handle == "", "handle", "signup.handle-missing")
	need(strings.TrimSpace(page.Email) == "", "email", "signup.email-missing")
	need(q.typed("password") == "", "password", "password.missing")
	need(p.SignUp.Terms && !page.Terms, "terms", "signup.terms-missing")
	return problems
}

// errMissing is the error of an empty field.
type errMissing Problem

// Error implements error.
func (e errMissing) Error() string { return e.Field + " is missing" }

func missingOr(value, field, id string, err error) error {
	if value == "" {
		return errMissing{field, Msg(id)}
	}
	return err
}

// signUpFailed shows what is wrong with a sign-up.
func (p *AccountPages) signUpFailed(q *query, page *SignUp, err error) error {
	if many, ok := errors.AsType[request.ErrTooMany](err); ok && errors.Is(err, hosting.ErrManySignUps) {
		q.w.Header().Set("Retry-After", many.RetryAfter())
		return p.askSignUp(q, http.StatusTooManyRequests, page, Problem{Text: Msg("signup.many", "time", waiting(many.Wait))})
	}
	if missing, ok := errors.AsType[errMissing](err); ok {
		return p.askSignUp(q, http.StatusUnprocessableEntity, page, Problem(missing))
	}
	for _, c := range []struct {
		err       error
		field, id string
	}{
		{account.ErrPasswordTooShort, "password", "password.short"},
		{account.ErrPasswordTooLong, "password", "password.long"},
		{account.ErrPasswordForm, "password", "password.long"},
		{account.ErrPasswordCommon, "password", "password.common"},
		{account.ErrPasswordName, "password", "password.name"},
		{hosting.ErrInviteMissing, "invite", "signup.invite-missing"},
		{account.ErrInviteUsed, "invite", "signup.invite-wrong"},
		{hosting.ErrNoEmail, "email", "signup.email-missing"},
		{account.ErrEmail, "email", "signup.email-invalid"},
		{account.ErrEmailTaken, "email", "signup.email-taken"},
		{account.ErrHandleTaken, "handle", "signup.handle-taken"},
		{account.ErrHandleReserved, "handle", "signup.handle-reserved"},
		{account.ErrHandleTooShort, "handle", "signup.handle-short"},
		{account.ErrHandleTooLong, "handle", "signup.handle-long"},
		{account.ErrUnsupportedDomain, "handle", "signup.handle-invalid"},
		{account.ErrHandleForm, "handle", "signup.handle-invalid"},
		{account.ErrHandleTLD, "handle", "signup.handle-invalid"},
		{account.ErrHandleCharacters, "handle", "signup.handle-invalid"},
	} {
		if errors.Is(err, c.err) {
			return p.askSignUp(q, http.StatusUnprocessableEntity, page, Problem{c.field, Msg(c.id)})
		}
	}
	return err
}
