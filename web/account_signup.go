package web

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

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
	p.SignUp.fill(page)
	page.Frame, _ = p.frame(q, 0, problems...)
	p.Pages.Render(q.w, q.r, status, page)
	return nil
}

// fill puts the operator's rules into a page.
func (r *SignUpRules) fill(page *SignUp) {
	page.Policy, page.NeedsInvite, page.Domains = r.Policy, r.NeedsInvite, r.Domains
	if r.Captcha != nil {
		page.CaptchaKey = r.Captcha.SiteKey
	}
}

// signUp is POST /account/sign-up: the form, or the question whether a name is free.
func (p *AccountPages) signUp(q *query) error {
	page := typedSignUp(q)
	a, status, problems, err := p.register(q, page)
	if err != nil {
		return err
	}
	if a == nil {
		return p.askSignUp(q, status, page, problems...)
	}
	if !page.again {
		noteSignUp(q.r.Context(), a, page, request.Source(request.SourcePages))
	}
	return p.begin(q, a, page.again)
}

// noteSignUp writes an account that was just made into the log.
func noteSignUp(ctx context.Context, a *account.Account, page *SignUp, attrs ...slog.Attr) {
	request.Event(ctx, request.EventAccountCreated, a.DID.String(),
		append(attrs, slog.Bool("invited", strings.TrimSpace(page.Invite) != ""), slog.Bool("deactivated", false))...)
}

// typedSignUp returns what was typed into the form.
func typedSignUp(q *query) *SignUp {
	return &SignUp{
		Invite: q.typed("invite"), Handle: strings.TrimSpace(q.typed("handle")), Domain: q.typed("domain"), Email: q.typed("email"),
		Terms: q.typed("terms") != "",
	}
}

// register makes the account that a form asks for. If it makes none, the page is shown again with
// a status and what is wrong; if the form only asked whether a name is free, nothing need be.
func (p *AccountPages) register(q *query, page *SignUp) (a *account.Account, status int, problems []Problem, err error) {
	if p.SignUp.closed() {
		return nil, http.StatusForbidden, nil, nil
	}
	handle := page.Handle + page.Domain
	if q.typed("decision") == "check" {
		err := p.Hosting.CheckNewHandle(q.r.Context(), handle)
		if page.Free = err == nil && page.Handle != ""; page.Free {
			return nil, http.StatusOK, nil, nil
		}
		return signUpFailed(q, missingOr(page.Handle, "handle", "signup.handle-missing", err))
	}
	if problems := p.lacking(q, page); len(problems) > 0 {
		return nil, http.StatusUnprocessableEntity, problems, nil
	}
	password := q.typed("password")
	if err := account.CheckChosenPassword(password, handle, page.Email); err != nil {
		return signUpFailed(q, err)
	}
	unlock, err := p.signUps.Lock(q.r.Context(), strings.ToLower(handle))
	if err != nil {
		return nil, 0, nil, err
	}
	defer unlock()
	if a := p.madeBefore(q, page, password); a != nil {
		page.again = true
		return a, 0, nil, nil
	}
	if p.SignUp.Captcha != nil {
		solved, err := p.SignUp.Captcha.Solved(q.r.Context(), q.typed("h-captcha-response"), handle)
		if err != nil {
			return nil, 0, nil, err
		}
		if !solved {
			return nil, http.StatusUnprocessableEntity, []Problem{{"captcha", Msg("signup.captcha-missing")}}, nil
		}
	}
	a, err = p.Hosting.SignUp(q.r.Context(), hosting.NewAccount{
		Handle: handle, Email: page.Email, Password: password,
		InviteCode: strings.TrimSpace(page.Invite),
	})
	if err != nil {
		return signUpFailed(q, err)
	}
	return a, 0, nil, nil
}

// formLife is how long a form may be sent again, if the answer was lost.
const formLife = 30 * time.Minute

// madeBefore returns the account that the same form has made already, nil if there is none: one
// that is new, has the name and the address, and whose password it is. That is counted, and
// limited, as a sign-in, since it proves as much.
func (p *AccountPages) madeBefore(q *query, page *SignUp, password string) *account.Account {
	handle, err := account.NormalizeHandle(page.Handle + page.Domain)
	if err != nil {
		return nil
	}
	a, err := p.Accounts.ByHandle(q.r.Context(), handle)
	if err != nil || p.Now().Sub(a.CreatedAt).Abs() >= formLife {
		return nil
	}
	_, err = p.SignIns.Prove(q.r.Context(), signin.Attempt{Identifier: a.DID.String(), Password: password, For: signin.Page, Flow: q.flow})
	if err != nil || account.EmailKey(a.Email) != account.EmailKey(strings.TrimSpace(page.Email)) {
		return nil // somebody else wants the name: they are answered that it is taken
	}
	return a
}

// begin signs the owner of a new account in, and sends the code that confirms its
// address. The account exists from here on, whatever fails. again: the form came before.
func (p *AccountPages) begin(q *query, a *account.Account, again bool) error {
	ctx := q.r.Context()
	if in, ok := q.visit.SignIn(a.ID); again && ok && in.Live(q.visit.At) {
		return q.done(shownAccount(a).Path("welcome"), signedIn)
	}
	cred, err := p.Accounts.Credentials(ctx, a.ID)
	if err == nil {
		err = p.enter(q, signin.Proven{Account: a, Epoch: cred.Epoch}, false, false)
	}
	if err != nil {
		return q.to("/account/sign-in?account=" + a.Handle.String())
	}
	if !again {
		p.confirmAddress(ctx, a)
	}
	return q.done(shownAccount(a).Path("welcome"), signedIn)
}

// confirmAddress sends the code that confirms a new account's address. If that fails, it is asked for
// again in an app.
func (p *AccountPages) confirmAddress(ctx context.Context, a *account.Account) {
	if err := p.Codes.Send(ctx, a, account.PurposeConfirmEmail); err != nil && !errors.Is(err, account.ErrNoMail) {
		request.Note(ctx, slog.String("confirmation", err.Error()))
	}
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

// signUpFailed returns what is wrong with a sign-up: see register.
func signUpFailed(q *query, err error) (*account.Account, int, []Problem, error) {
	if many, ok := errors.AsType[request.ErrTooMany](err); ok && errors.Is(err, hosting.ErrManySignUps) {
		q.w.Header().Set("Retry-After", many.RetryAfter())
		return nil, http.StatusTooManyRequests, []Problem{{Text: Msg("signup.many", "time", waiting(many.Wait))}}, nil
	}
	if missing, ok := errors.AsType[errMissing](err); ok {
		return nil, http.StatusUnprocessableEntity, []Problem{Problem(missing)}, nil
	}
	faults := append(passwordFaults("password"), []fault{
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
	}...)
	if problem, ok := problemOf(err, faults); ok {
		return nil, http.StatusUnprocessableEntity, []Problem{problem}, nil
	}
	return nil, 0, nil, err
}
