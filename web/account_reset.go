package web

import (
	"errors"
	"net/http"
	"strings"

	"nestbox/account"
)

// ResetLink is where the mail with a code for a new password leads, below the server's
// origin: the code goes into the fragment, which no log and no referrer gets.
const ResetLink = "/account/reset-password?step=code#code="

// showReset is GET /account/reset-password: the address, or with ?step=code the code.
func (p *AccountPages) showReset(q *query) error {
	query := q.r.URL.Query()
	if query.Get("step") == "code" || query.Get("done") == "sent" {
		return p.askNewPassword(q, http.StatusOK, &ResetCode{Sent: query.Get("done") == "sent"})
	}
	return p.askAddress(q, http.StatusOK, "")
}

func (p *AccountPages) askAddress(q *query, status int, email string, problems ...Problem) error {
	page := &Reset{Email: email, NoMail: p.Codes.Templates == nil}
	page.Frame, _ = p.frame(q, 0, problems...)
	p.Pages.Render(q.w, q.r, status, page)
	return nil
}

func (p *AccountPages) askNewPassword(q *query, status int, page *ResetCode, problems ...Problem) error {
	page.Frame, _ = p.frame(q, 0, problems...)
	p.Pages.Render(q.w, q.r, status, page)
	return nil
}

// reset is POST /account/reset-password. The answer to an address is the same whosever it
// is.
func (p *AccountPages) reset(q *query) error {
	if q.typed("step") == "reset-code" {
		return p.newPassword(q)
	}
	email := strings.TrimSpace(q.typed("email"))
	if email == "" {
		return p.askAddress(q, http.StatusUnprocessableEntity, "", Problem{"email", Msg("signup.email-missing")})
	}
	switch err := p.Emails.AskReset(q.r.Context(), email); {
	case errors.Is(err, account.ErrNoMail):
		return p.askAddress(q, http.StatusOK, email)
	case err != nil:
		return err
	}
	return q.done("/account/reset-password", "sent")
}

// newPassword is the form with the code.
func (p *AccountPages) newPassword(q *query) error {
	page := &ResetCode{Code: q.typed("code")}
	password := q.typed("new_password")
	var missing []Problem
	if strings.TrimSpace(page.Code) == "" {
		missing = append(missing, Problem{"code", Msg("reset.code-missing")})
	}
	if password == "" {
		missing = append(missing, Problem{"new_password", Msg("password.missing")})
	}
	if len(missing) > 0 {
		return p.askNewPassword(q, http.StatusUnprocessableEntity, page, missing...)
	}
	err := p.Emails.ResetChosen(q.r.Context(), page.Code, password)
	faults := append(passwordFaults("new_password"), fault{account.ErrCodeInvalid, "code", "reset.code-wrong"},
		fault{account.ErrCodeExpired, "code", "reset.code-wrong"})
	if problem, ok := problemOf(err, faults); ok {
		return p.askNewPassword(q, http.StatusUnprocessableEntity, page, problem)
	}
	if err != nil {
		return err
	}
	return q.done("/account/sign-in", "reset")
}
