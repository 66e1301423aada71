package web

import (
	"errors"
	"net/http"
	"strings"

	"nestbox/account"
	"nestbox/signin"
)

// showEmail is GET …/email.
func (p *AccountPages) showEmail(q *query) error { return p.askEmail(q, http.StatusOK, false) }

// askEmail shows the page; sent: a code is on its way to the address that was typed.
func (p *AccountPages) askEmail(q *query, status int, sent bool, problems ...Problem) error {
	page := &ChangeEmail{
		Email: q.account.Email, Confirmed: !q.account.EmailConfirmedAt.IsZero(), NoMail: p.Codes.Templates == nil,
		Typed: strings.TrimSpace(q.typed("email")), Sent: sent,
	}
	var err error
	if page.CodeSent, err = p.Codes.SentWithin(q.r.Context(), q.account, account.PurposeConfirmEmail, account.CodeLife); err != nil {
		return err
	}
	page.Frame, _ = p.frame(q, q.visit.ID, problems...)
	p.Pages.Render(q.w, q.r, status, page)
	return nil
}

// changeEmail is POST …/email.
func (p *AccountPages) changeEmail(q *query) error {
	const bad = http.StatusUnprocessableEntity
	empty := func(name string) bool { return strings.TrimSpace(q.typed(name)) == "" }
	switch decision := q.typed("decision"); {
	case decision == "send":
		if err := p.Emails.SendCode(q.r.Context(), q.account, account.PurposeConfirmEmail); err != nil {
			return err
		}
		return q.done(q.r.URL.Path, "code-sent")
	case decision == "confirm" && q.typed("step") != "step-up":
		if empty("code") {
			return p.askEmail(q, bad, false, Problem{"code", Msg("reset.code-missing")})
		}
		if err := p.Emails.ConfirmAddress(q.r.Context(), q.account, q.typed("code")); err != nil {
			return p.emailFailed(q, err, "code", false)
		}
		return q.done(shownAccount(q.account).Path("manage"), "email-confirmed")
	case decision == "change" && empty("email"):
		return p.askEmail(q, bad, false, Problem{"email", Msg("signup.email-missing")})
	case decision == "new" && empty("code"):
		return p.askEmail(q, bad, true, Problem{"new_code", Msg("reset.code-missing")})
	}
	return p.steppedUp(signin.ChangeEmail, Msg("act.email"), p.newEmail)(q)
}

// newEmail sends a code to the new address or, with that, changes the address, after the
// step-up.
func (p *AccountPages) newEmail(q *query) error {
	ctx, address := q.r.Context(), q.typed("email")
	if q.typed("decision") == "change" && p.Codes.Templates != nil {
		if err := p.Emails.AskNewEmail(ctx, q.account, address); err != nil {
			return p.emailFailed(q, err, "email", false)
		}
		return p.askEmail(q, http.StatusOK, true)
	}
	if err := p.Emails.ChangeEmail(ctx, q.account, address, q.typed("code")); err != nil {
		return p.emailFailed(q, err, "new_code", p.Codes.Templates != nil)
	}
	return q.done(shownAccount(q.account).Path("manage"), "email")
}

// emailFailed shows the page again with what was wrong; codes are typed in a field.
func (p *AccountPages) emailFailed(q *query, err error, code string, sent bool) error {
	if errors.Is(err, account.ErrStatusConflict) {
		p.Changed(q.w, q.r)
		return nil
	}
	problem, ok := problemOf(err, []fault{
		{account.ErrEmail, "email", "signup.email-invalid"},
		{account.ErrSameEmail, "email", "email.same"},
		{account.ErrEmailTaken, "email", "email.taken"},
		{account.ErrCodeInvalid, code, "reset.code-wrong"},
		{account.ErrCodeExpired, code, "reset.code-wrong"},
	})
	if !ok {
		return err
	}
	return p.askEmail(q, http.StatusUnprocessableEntity, sent && problem.Field != "email", problem)
}
