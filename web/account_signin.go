package web

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"nestbox/account"
	"nestbox/device"
	"nestbox/request"
	"nestbox/signin"
)

// claimed is what the page for the second factor carries of the one before it.
type claimed struct {
	Claim    signin.Claim    `json:"claim"`
	Methods  []signin.Method `json:"methods"`
	Remember bool            `json:"remember"`
	Next     string          `json:"next,omitzero"`
}

const claimLabel = "sign-in on a page"

// showSignIn is GET /account/sign-in.
func (p *AccountPages) showSignIn(q *query) error {
	query := q.r.URL.Query()
	identifier := account.CleanIdentifier(query.Get("account"))
	if len(identifier) > maxIdentifier {
		identifier = ""
	}
	return p.askSignIn(q, http.StatusOK, identifier, nextOf(query.Get("next")))
}

// maxIdentifier is the longest that can be: an e-mail address.
const maxIdentifier = 320

// askSignIn shows the form.
func (p *AccountPages) askSignIn(q *query, status int, identifier, next string, problems ...Problem) error {
	page := &SignIn{Identifier: identifier, OfferSignUp: !p.SignUp.closed(), Remember: q.typed("remember") != ""}
	var flow string
	page.Frame, flow = p.frame(q, 0, problems...)
	page.Form.Next = next
	if p.Browsers.PasskeysWork(q.r) {
		var err error
		if page.Passkey, err = askPasskey(p.SignIns, flow, true); err != nil {
			return err
		}
	}
	p.Pages.Render(q.w, q.r, status, page)
	return nil
}

// signIn is POST /account/sign-in: the form, or the page for the second factor.
func (p *AccountPages) signIn(q *query) error {
	if q.typed("step") == "factor" {
		return p.secondFactor(q)
	}
	next, identifier, remember := nextOf(q.typed("next")), q.typed("identifier"), q.typed("remember") != ""
	var proven signin.Proven
	var err error
	switch {
	case q.typed("credential") != "":
		proven, err = p.SignIns.ProvePasskey(q.r.Context(), signin.PasskeyAttempt{
			Sealed: q.typed("ceremony"), Answer: q.typed("credential"), Flow: q.flow, AllowTakenDown: true,
		})
	case strings.TrimSpace(identifier) == "" || q.typed("password") == "":
		var missing []Problem
		if strings.TrimSpace(identifier) == "" {
			missing = append(missing, Problem{"identifier", Msg("signin.identifier-missing")})
		}
		if q.typed("password") == "" {
			missing = append(missing, Problem{"password", Msg("signin.password-missing")})
		}
		return p.askSignIn(q, http.StatusUnprocessableEntity, identifier, next, missing...)
	default:
		proven, err = p.SignIns.Prove(q.r.Context(), signin.Attempt{
			Identifier: identifier, Password: q.typed("password"), For: signin.Page, Flow: q.flow, AllowTakenDown: true,
			Trusted: func(_ context.Context, a *account.Account) (bool, error) { return q.visit.Trusts(a.ID), nil },
		})
	}
	if needed, ok := errors.AsType[*signin.FactorNeeded](err); ok {
		return p.askFactor(q, http.StatusOK, claimed{needed.Claim, needed.Methods, remember, next}, needed.Methods[0], 0)
	}
	if err == nil {
		err = p.enter(q, proven, remember, false)
	}
	if err != nil {
		problem, mine := signInProblem(err)
		if !mine {
			return err
		}
		return p.askSignIn(q, http.StatusUnprocessableEntity, identifier, next, problem)
	}
	noteSignIn(q.r.Context(), proven)
	return q.to(arrival(next))
}

// noteSignIn writes a sign-in on a page into the log. Nothing proves the owner of a new account:
// that is a sign-up.
func noteSignIn(ctx context.Context, proven signin.Proven, attrs ...slog.Attr) {
	if proven.By != 0 {
		request.Event(ctx, request.EventSignedIn, proven.Account.DID.String(), attrs...)
	}
}

// arrival returns where a sign-in leads.
func arrival(next string) string {
	if next == "" {
		next = "/account"
	}
	if strings.Contains(next, "?") {
		return next
	}
	return next + "?done=" + signedIn
}

// enter signs a proven person in on the browser.
func (p *AccountPages) enter(q *query, proven signin.Proven, remember, trust bool) error {
	v, err := p.Enter(q.r.Context(), q.visit, proven, remember, trust)
	if err != nil {
		return err
	}
	q.visit = v
	p.Browsers.Keep(q.w, v)
	return nil
}

// Enter signs a proven person in on the browser of a visit, whose answer must Keep the new
// one. signin.ErrClaim: what proved them has changed meanwhile.
func (p *AccountPages) Enter(ctx context.Context, v device.Visit, proven signin.Proven, remember, trust bool) (device.Visit, error) {
	request.SetAccount(ctx, proven.Account.DID.String())
	e := proven.Entry(ctx, p.Now().UTC().Truncate(time.Millisecond))
	e.Reason += ", on a page of this server"
	who := *proven.Account
	who.Language = cmp.Or(who.Language, request.Language(ctx))
	mails, err := p.Arrived(ctx, &who, e)
	if err != nil {
		return v, err
	}
	by := proven.By
	if by == 0 {
		by = signin.ByPassword // just chosen
	}
	v, err = p.Browsers.Devices.SignIn(ctx, v, device.Person{
		Account: proven.Account, Epoch: proven.Epoch, Factors: by.Key(), Level: by.Level(), Since: proven.Since,
		Code: proven.Code, Entry: e, Mails: mails, Remember: remember, Trust: trust,
	})
	if errors.Is(err, device.ErrChanged) {
		err = signin.ErrClaim
	}
	return v, err
}

// askFactor shows the page for the second factor, by a method.
func (p *AccountPages) askFactor(q *query, status int, c claimed, method signin.Method, left int, problems ...Problem) error {
	a, err := p.Accounts.ByDID(q.r.Context(), c.Claim.DID)
	if err != nil {
		return err
	}
	frame, flow := p.frame(q, 0, problems...)
	page, err := factorPage(p.SignIns, a, method, c.Methods, left, flow)
	if err != nil {
		return err
	}
	page.Frame, page.OfferTrust, page.Trust = frame, true, q.typed("trust") != ""
	page.Frame.Account, page.Form.Flow = shownAccount(a), sealed(p.Box, claimLabel, c)
	p.Pages.Render(q.w, q.r, status, page)
	return nil
}

// secondFactor is the form of that page: a code, a passkey, or another method.
func (p *AccountPages) secondFactor(q *query) error {
	var c claimed
	ok := unsealed(p.Box, claimLabel, q.typed("flow"), &c)
	if !ok || q.typed("decision") == "deny" {
		if !ok {
			return p.askSignIn(q, http.StatusUnprocessableEntity, "", "", Problem{Text: Msg("signin.expired")})
		}
		return q.to("/account/sign-in")
	}
	method := signin.Method(q.typed("method"))
	if q.typed("method") != "" && slices.Contains(c.Methods, method) {
		if method == signin.Email {
			if err := p.SignIns.MailCode(q.r.Context(), c.Claim); err != nil {
				return p.factorFailed(q, c, method, err)
			}
		}
		return p.askFactor(q, http.StatusOK, c, method, 0)
	}
	step := signin.Step{Claim: c.Claim, Flow: q.flow, Code: q.typed("code")}
	if q.typed("credential") != "" {
		step.Passkey = signin.PasskeyAttempt{Sealed: q.typed("ceremony"), Answer: q.typed("credential")}
	} else if strings.TrimSpace(step.Code) == "" {
		return p.askFactor(q, http.StatusUnprocessableEntity, c, p.methodOf(q, c), 0, Problem{"code", Msg("factor.missing")})
	}
	proven, err := p.SignIns.Continue(q.r.Context(), step)
	if err == nil {
		err = p.enter(q, proven, c.Remember, q.typed("trust") != "")
	}
	if err != nil {
		return p.factorFailed(q, c, p.methodOf(q, c), err)
	}
	noteSignIn(q.r.Context(), proven)
	return q.to(arrival(c.Next))
}

// methodOf returns the method that a form was for: a passkey's carries a ceremony.
func (p *AccountPages) methodOf(q *query, c claimed) signin.Method {
	if q.typed("ceremony") != "" && slices.Contains(c.Methods, signin.Passkeys) {
		return signin.Passkeys
	}
	for _, m := range c.Methods {
		if m != signin.Passkeys {
			return m
		}
	}
	return c.Methods[0]
}

// factorFailed shows what was wrong with a second factor.
func (p *AccountPages) factorFailed(q *query, c claimed, method signin.Method, err error) error {
	if paused, ok := errors.AsType[*signin.Paused](err); ok {
		q.w.Header().Set("Retry-After", paused.RetryAfter())
		return p.askFactor(q, http.StatusTooManyRequests, c, method, 0, Problem{"code", Msg("factor.paused")})
	}
	if wrong, ok := errors.AsType[*signin.WrongFactor](err); ok {
		return p.askFactor(q, http.StatusUnprocessableEntity, c, method, wrong.Left, factorProblem(wrong))
	}
	if problem, mine := signInProblem(err); mine {
		return p.askSignIn(q, http.StatusUnprocessableEntity, "", c.Next, problem)
	}
	if errors.Is(err, account.ErrCodeInvalid) || errors.Is(err, account.ErrCodeExpired) {
		return p.askFactor(q, http.StatusUnprocessableEntity, c, method, 0, Problem{"code", Msg("factor.wrong")})
	}
	return err
}

// factorProblem returns the problem of a second factor that is not right.
func factorProblem(wrong *signin.WrongFactor) Problem {
	id := "factor.wrong"
	switch {
	case wrong.Method == signin.Passkeys && errors.Is(wrong, signin.ErrCeremony):
		return Problem{Text: Msg("signin.passkey-expired")}
	case wrong.Method == signin.Passkeys:
		return Problem{Text: Msg("signin.passkey-other")}
	case wrong.Late:
		id = "factor.expired"
	case wrong.Method == signin.Email && errors.Is(wrong, account.ErrCodeExpired):
		id = "reset.code-wrong"
	}
	return Problem{"code", Msg(id)}
}
