package web

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"nestbox/account"
	"nestbox/admin"
	"nestbox/auth"
	"nestbox/request"
	"nestbox/signin"
)

// adminName is the name that goes with the admin password, as in HTTP Basic.
const adminName = "admin"

// adminClaim is what the page for the second factor carries of the one before it.
type adminClaim struct {
	Claim   signin.Claim    `json:"claim"`
	Methods []signin.Method `json:"methods"`
	Next    string          `json:"next,omitzero"`
}

const adminClaimLabel = "sign-in on the admin page"

// deskNext returns the path to go to after a sign-in: below /admin, or its first page.
func deskNext(text string) string {
	if !strings.HasPrefix(text, DeskPath) || strings.HasPrefix(text, DeskPath+"sign-") || ownPath(text) != text {
		return DeskPath
	}
	return text
}

// showSignIn is GET /admin/sign-in.
func (p *AdminPages) showSignIn(q *deskQuery) error {
	return p.askSignIn(q, http.StatusOK, "", deskNext(q.asked("next")))
}

func (p *AdminPages) askSignIn(q *deskQuery, status int, name, next string, problems ...Problem) error {
	page := &AdminSignIn{Name: name}
	var flow string
	page.Frame, flow = p.frame(q, problems...)
	page.Form.Next = next
	switch q.asked("done") {
	case "signed-out":
		page.Notices = []Notice{{Kind: Success, Text: Msg("done.signed-out")}}
	case "again":
		page.Notices = []Notice{{Kind: Info, Text: Msg("desk.signin-again")}}
	}
	if p.Browsers.PasskeysWork(q.r) {
		var err error
		if page.Passkey, err = askPasskey(p.SignIns, flow, true); err != nil {
			return err
		}
	}
	p.Pages.Render(q.w, q.r, status, page)
	return nil
}

// signIn is POST /admin/sign-in: the form, or the page for the second factor.
func (p *AdminPages) signIn(q *deskQuery) error {
	if q.typed("step") == "factor" {
		return p.secondFactor(q)
	}
	ctx, next, name := q.r.Context(), deskNext(q.typed("next")), account.CleanIdentifier(q.typed("name"))
	if q.typed("credential") != "" {
		proven, err := p.SignIns.ProvePasskey(ctx, signin.PasskeyAttempt{
			Sealed: q.typed("ceremony"), Answer: q.typed("credential"),
			Flow: q.flow,
		})
		return p.entered(q, proven, err, name, next)
	}
	if name == "" || q.typed("password") == "" {
		var missing []Problem
		if name == "" {
			missing = append(missing, Problem{"name", Msg("desk.name-missing")})
		}
		if q.typed("password") == "" {
			missing = append(missing, Problem{"password", Msg("signin.password-missing")})
		}
		return p.askSignIn(q, http.StatusUnprocessableEntity, name, next, missing...)
	}
	if name == adminName {
		cookie, err := p.Entrance.ByPassword(ctx, q.typed("password"))
		return p.arrived(q, cookie, err, name, next)
	}
	proven, err := p.SignIns.Prove(ctx, signin.Attempt{Identifier: name, Password: q.typed("password"), For: signin.Page, Flow: q.flow})
	if needed, ok := errors.AsType[*signin.FactorNeeded](err); ok {
		// Mailed codes and recovery codes do not open the admin page.
		c := adminClaim{Claim: needed.Claim, Next: next, Methods: slices.DeleteFunc(slices.Clone(needed.Methods), func(m signin.Method) bool {
			return m != signin.TOTP && m != signin.Passkeys
		})}
		if len(c.Methods) == 0 {
			return p.askSignIn(q, http.StatusUnprocessableEntity, name, next, Problem{"name", Msg("desk.signin-weak")})
		}
		return p.askFactor(q, http.StatusOK, c, c.Methods[0], 0)
	}
	return p.entered(q, proven, err, name, next)
}

// entered lets a person in whom signin has proven, or shows what was wrong.
func (p *AdminPages) entered(q *deskQuery, proven signin.Proven, err error, name, next string) error {
	if err != nil {
		return p.arrived(q, "", err, name, next)
	}
	request.SetAccount(q.r.Context(), proven.Account.DID.String())
	cookie, err := p.Entrance.ByAccount(q.r.Context(), proven)
	return p.arrived(q, cookie, err, name, next)
}

// arrived answers a sign-in.
func (p *AdminPages) arrived(q *deskQuery, cookie string, err error, name, next string) error {
	if err == nil {
		p.keep(q.w, cookie)
		return q.to(next)
	}
	problem, mine := signInProblem(err)
	switch {
	case errors.Is(err, auth.ErrNotAdmin):
		problem = Problem{"password", Msg("desk.signin-wrong")}
	case errors.Is(err, admin.ErrWeak):
		problem = Problem{"name", Msg("desk.signin-weak")}
	case errors.Is(err, admin.ErrNoRole):
		problem = Problem{"name", Msg("desk.signin-no-role")}
	case !mine:
		return err
	}
	return p.askSignIn(q, http.StatusUnprocessableEntity, name, next, problem)
}

// askFactor shows the page for the second factor, by a method.
func (p *AdminPages) askFactor(q *deskQuery, status int, c adminClaim, method signin.Method, left int, problems ...Problem) error {
	a, err := p.Accounts.ByDID(q.r.Context(), c.Claim.DID)
	if err != nil {
		return err
	}
	frame, flow := p.frame(q, problems...)
	page, err := factorPage(p.SignIns, a, method, c.Methods, left, flow)
	if err != nil {
		return err
	}
	page.Frame, page.NoRecovery = frame, true
	page.Frame.Account, page.Form.Flow = shownAccount(a), sealed(p.Box, adminClaimLabel, c)
	p.Pages.Render(q.w, q.r, status, page)
	return nil
}

// secondFactor is the form of that page: the code of an authenticator app, a passkey, or
// the other method.
func (p *AdminPages) secondFactor(q *deskQuery) error {
	var c adminClaim
	ok := unsealed(p.Box, adminClaimLabel, q.typed("flow"), &c)
	if !ok {
		return p.askSignIn(q, http.StatusUnprocessableEntity, "", DeskPath, Problem{Text: Msg("signin.expired")})
	}
	if q.typed("decision") == "deny" {
		return q.to(DeskPath + "sign-in")
	}
	if method := signin.Method(q.typed("method")); slices.Contains(c.Methods, method) {
		return p.askFactor(q, http.StatusOK, c, method, 0)
	}
	step, method := signin.Step{Claim: c.Claim, Flow: q.flow, Code: q.typed("code")}, signin.TOTP
	switch {
	case q.typed("credential") != "":
		method = signin.Passkeys
		step.Passkey = signin.PasskeyAttempt{Sealed: q.typed("ceremony"), Answer: q.typed("credential")}
	case !slices.Contains(c.Methods, signin.TOTP):
		return p.askFactor(q, http.StatusUnprocessableEntity, c, signin.Passkeys, 0, Problem{Text: Msg("signin.passkey-wrong")})
	case !sixDigits(step.Code): // so that no recovery code is used up in vain
		return p.askFactor(q, http.StatusUnprocessableEntity, c, method, 0, Problem{"code", Msg("factor.missing")})
	}
	proven, err := p.SignIns.Continue(q.r.Context(), step)
	if paused, ok := errors.AsType[*signin.Paused](err); ok {
		q.w.Header().Set("Retry-After", paused.RetryAfter())
		return p.askFactor(q, http.StatusTooManyRequests, c, method, 0, Problem{"code", Msg("factor.paused")})
	}
	if wrong, ok := errors.AsType[*signin.WrongFactor](err); ok {
		return p.askFactor(q, http.StatusUnprocessableEntity, c, method, wrong.Left, factorProblem(wrong))
	}
	return p.entered(q, proven, err, "", c.Next)
}

// sixDigits reports whether a code is one of an authenticator app; spaces and dashes do not
// count.
func sixDigits(code string) bool {
	digits := 0
	for _, r := range code {
		switch {
		case r >= '0' && r <= '9':
			digits++
		case !unicode.IsSpace(r) && r != '-':
			return false
		}
	}
	return digits == 6 //nolint:mnd // the length of such codes
}
