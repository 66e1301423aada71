package web

import (
	"errors"
	"net/http"

	"nestbox/account"
	"nestbox/signin"
)

// showPassword is GET …/password.
func (p *AccountPages) showPassword(q *query) error { return p.askPassword(q, http.StatusOK) }

func (p *AccountPages) askPassword(q *query, status int, problems ...Problem) error {
	page := &ChangePassword{NeedsCurrent: !proofs(q).Has(signin.ByPassword) && !proofs(q).Has(signin.ByPasskey)}
	page.Frame, _ = p.frame(q, q.visit.ID, problems...)
	p.Pages.Render(q.w, q.r, status, page)
	return nil
}

// changePassword is POST …/password. The new password is judged before the person has to
// prove anything.
func (p *AccountPages) changePassword(q *query) error {
	if q.typed("step") != "step-up" {
		if problem, ok := p.badPassword(q); ok {
			return p.askPassword(q, http.StatusUnprocessableEntity, problem)
		}
	}
	return p.steppedUp(signin.ChangePassword, Msg("act.password"), p.setPassword)(q)
}

// badPassword returns what is wrong with the new password that was typed.
func (p *AccountPages) badPassword(q *query) (Problem, bool) {
	password := q.typed("new_password")
	if password == "" {
		return Problem{"new_password", Msg("password.missing")}, true
	}
	err := account.CheckChosenPassword(password, q.account.Handle.String(), q.account.Email)
	return problemOf(err, passwordFaults("new_password"))
}

// setPassword sets the new password, after the step-up, and signs this browser in again:
// the change signs out everything.
func (p *AccountPages) setPassword(q *query) error {
	in, _ := q.visit.SignIn(q.account.ID)
	remember, by := in.Remember, proofs(q)
	epoch, err := p.Emails.ChoosePassword(q.r.Context(), q.account, q.typed("new_password"))
	switch {
	case errors.Is(err, account.ErrPasswordChanged):
		p.Changed(q.w, q.r)
		return nil
	case err != nil:
		return err
	}
	err = p.enter(q, signin.Proven{Account: q.account, Epoch: epoch, By: by}, remember, false)
	if errors.Is(err, signin.ErrClaim) {
		return q.done("/account/sign-in", "reset")
	}
	if err != nil {
		return err
	}
	return q.done(shownAccount(q.account).Path("manage"), "password")
}
