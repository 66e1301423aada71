package web

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/oauth"
	"nestbox/oauth/scope"
	"nestbox/request"
	"nestbox/signin"
)

// wrong has the page shown again with what is wrong.
func (x *flow) wrong(problems ...Problem) {
	x.problems, x.status = problems, http.StatusUnprocessableEntity
}

// choose is the form of the chooser.
func (p *FlowPages) choose(x *flow, ask oauth.Ask) error {
	of := func(field string) *oauth.Here {
		did := syntax.DID(x.typed(field))
		i := slices.IndexFunc(ask.Here, func(h oauth.Here) bool { return h.DID == did })
		if i < 0 {
			return nil
		}
		return &ask.Here[i]
	}
	if x.typed("sign_out") != "" {
		x.state.Wish = oauth.WishChoose
		h := of("sign_out")
		if h == nil {
			return nil // signed out already
		}
		v, err := p.Browsers.Devices.SignOut(x.r.Context(), x.visit, h.ID)
		if err == nil {
			x.visit = v
			p.Browsers.Keep(x.w, v)
		}
		return err
	}
	if x.typed("decision") == "other" {
		x.state.Wish = oauth.WishOther
		return nil
	}
	x.state.Wish = oauth.WishChoose
	if h := of("did"); h != nil {
		x.state.DID, x.state.ProvenAt, x.state.InFlow, x.state.Wish = h.DID, h.At, false, oauth.WishNone
		x.state.By = 0
	}
	return nil
}

// signInStep is the form of the sign-in page.
func (p *FlowPages) signInStep(x *flow, now oauth.Next) (answered bool, err error) {
	if x.typed("decision") == "sign-up" && !p.SignUp.closed() {
		x.state.Wish, x.state.DID = oauth.WishSignUp, ""
		return false, nil
	}
	identifier := x.typed("identifier")
	var only syntax.DID
	if now.Step == oauth.StepSignIn && now.Who != nil {
		only = now.Who.DID
		identifier = only.String()
	}
	var proven signin.Proven
	switch {
	case x.typed("credential") != "":
		proven, err = p.SignIns.ProvePasskey(x.r.Context(), signin.PasskeyAttempt{
			Sealed: x.typed("ceremony"), Answer: x.typed("credential"), Flow: x.flow, DID: only,
		})
	case strings.TrimSpace(identifier) == "" || x.typed("password") == "":
		if strings.TrimSpace(identifier) == "" {
			x.problems = append(x.problems, Problem{"identifier", Msg("signin.identifier-missing")})
		}
		if x.typed("password") == "" {
			x.problems = append(x.problems, Problem{"password", Msg("signin.password-missing")})
		}
		x.status = http.StatusUnprocessableEntity
		return false, nil
	default:
		proven, err = p.SignIns.Prove(x.r.Context(), signin.Attempt{
			Identifier: identifier, Password: x.typed("password"), For: signin.Page, Flow: x.flow,
			Trusted: func(_ context.Context, a *account.Account) (bool, error) { return x.visit.Trusts(a.ID), nil },
		})
	}
	x.state.Remember = x.typed("remember") != ""
	if needed, ok := errors.AsType[*signin.FactorNeeded](err); ok {
		x.state.Claim, x.state.Methods = &needed.Claim, needed.Methods
		return true, p.showFactor(x, needed.Methods[0])
	}
	if err == nil {
		err = p.proved(x, proven, false)
	}
	return false, p.notProven(x, err)
}

// notProven has the sign-in page shown again if the person was not proven; any other error it
// returns.
func (p *FlowPages) notProven(x *flow, err error) error {
	if err == nil {
		return nil
	}
	problem, mine := signInProblem(err)
	if !mine {
		return err
	}
	x.wrong(problem)
	return nil
}

// proved takes a person into the flow, and signs them in on the browser if that is wanted.
func (p *FlowPages) proved(x *flow, proven signin.Proven, trust bool) error {
	s := &x.state
	if s.Remember || trust {
		if err := p.enter(&x.query, proven, s.Remember, trust); err != nil {
			return err
		}
	}
	s.DID, s.ProvenAt, s.InFlow, s.Epoch = proven.Account.DID, p.Now().UTC().Truncate(time.Millisecond), true, proven.Epoch
	s.By = proven.By
	noteSignIn(x.r.Context(), proven, request.ForClient(x.request.ClientID))
	s.Claim, s.Methods, s.Wish = nil, nil, oauth.WishNone
	return nil
}

// factorStep is the form of the second factor.
func (p *FlowPages) factorStep(x *flow) (answered bool, err error) {
	s := &x.state
	if s.Claim == nil {
		return false, nil
	}
	if m := signin.Method(x.typed("method")); x.typed("method") != "" && slices.Contains(s.Methods, m) {
		if m == signin.Email {
			if err := p.SignIns.MailCode(x.r.Context(), *s.Claim); err != nil {
				return p.factorWrong(x, m, err)
			}
		}
		return true, p.showFactor(x, m)
	}
	step := signin.Step{Claim: *s.Claim, Flow: x.flow, Code: x.typed("code")}
	if x.typed("credential") != "" {
		step.Passkey = signin.PasskeyAttempt{Sealed: x.typed("ceremony"), Answer: x.typed("credential")}
	} else if strings.TrimSpace(step.Code) == "" {
		x.wrong(Problem{"code", Msg("factor.missing")})
		return true, p.showFactor(x, s.Method)
	}
	proven, err := p.SignIns.Continue(x.r.Context(), step)
	if err == nil {
		err = p.proved(x, proven, x.typed("trust") != "")
	}
	if err != nil {
		return p.factorWrong(x, s.Method, err)
	}
	return false, nil
}

// factorWrong shows what was wrong with a second factor.
func (p *FlowPages) factorWrong(x *flow, method signin.Method, err error) (answered bool, _ error) {
	if paused, ok := errors.AsType[*signin.Paused](err); ok {
		x.w.Header().Set("Retry-After", paused.RetryAfter())
		x.problems, x.status = []Problem{{"code", Msg("factor.paused")}}, http.StatusTooManyRequests
		return true, p.showFactor(x, method)
	}
	if wrong, ok := errors.AsType[*signin.WrongFactor](err); ok {
		x.wrong(factorProblem(wrong))
		x.left = wrong.Left
		return true, p.showFactor(x, method)
	}
	if errors.Is(err, account.ErrCodeInvalid) || errors.Is(err, account.ErrCodeExpired) {
		x.wrong(Problem{"code", Msg("factor.wrong")})
		return true, p.showFactor(x, method)
	}
	if errors.Is(err, account.ErrTakenDown) {
		p.send(x, p.OAuth.TakenDownAnswer(x.request))
		return true, nil
	}
	x.state.Claim, x.state.Methods = nil, nil
	return false, p.notProven(x, err)
}

// signUpStep is the form of a new account.
func (p *FlowPages) signUpStep(x *flow, now oauth.Next) (answered bool, err error) {
	if x.typed("decision") == "sign-in" {
		x.state.Wish, x.signUp = oauth.WishSignIn, typedSignUp(&x.query)
		return false, nil
	}
	if now.Step != oauth.StepSignUp {
		return false, nil // an account was made already
	}
	x.signUp = typedSignUp(&x.query)
	a, status, problems, err := p.register(&x.query, x.signUp)
	if err != nil {
		return false, err
	}
	if a == nil {
		x.status, x.problems = status, problems
		return false, nil
	}
	if !x.signUp.again {
		noteSignUp(x.r.Context(), a, x.signUp, request.Source(request.SourceOAuth), request.ForClient(x.request.ClientID))
		p.confirmAddress(x.r.Context(), a)
	}
	cred, err := p.Accounts.Credentials(x.r.Context(), a.ID)
	if err == nil {
		err = p.proved(x, signin.Proven{Account: a, Epoch: cred.Epoch}, false)
	}
	return false, err
}

// reactivateStep is the form of a deactivated account.
func (p *FlowPages) reactivateStep(x *flow, now oauth.Next) error {
	if now.Step != oauth.StepDeactivated {
		return nil // it is active again
	}
	switch x.typed("decision") {
	case "continue":
		x.state.GoOn = true
	case "reactivate":
		a, err := p.Accounts.ByDID(x.r.Context(), now.Who.DID)
		if err != nil {
			return err
		}
		e := account.NewEntry(x.r.Context(), p.Now().UTC().Truncate(time.Millisecond), account.EntryActivated, account.ActorOwner)
		err = p.Hosting.Activate(x.r.Context(), a, e)
		if hosting.Elsewhere(err) {
			x.wrong(Problem{Text: Msg("error.changed-body")})
			return nil
		}
		if err != nil && !errors.Is(err, account.ErrTakenDown) {
			return err
		}
	}
	// The account that is reactivated is the one that the flow goes on with.
	x.state.DID = now.Who.DID
	if x.state.ProvenAt.IsZero() {
		x.state.ProvenAt = now.Who.At
	}
	return nil
}

// consentStep is the form of the consent page.
func (p *FlowPages) consentStep(x *flow, now oauth.Next) (answered bool, err error) {
	switch x.typed("decision") {
	case "switch":
		x.state = oauth.Flow{Request: x.request.ID, Wish: oauth.WishChoose}
		return false, nil
	case "allow":
	default:
		return false, nil
	}
	if now.Who == nil || now.Step != oauth.StepConsent && !now.Allowed || now.Who.DID != x.state.DID {
		// What proved the person does not hold any more.
		x.state.DID, x.state.Wish = "", oauth.WishChoose
		x.wrong(Problem{Text: Msg("signin.again")})
		return false, nil
	}
	granted := x.request.Ticked(x.r.PostForm["permission"])
	// What is granted counts, however the form spells it.
	dangerous := func(one scope.Permission) bool { return one.Dangerous() }
	if slices.ContainsFunc(scope.Parse(granted).Permissions(nil), dangerous) && x.typed("understood") == "" {
		x.wrong(Problem{"understood", Msg("consent.understood-missing")})
		return false, nil
	}
	return true, p.decide(x, oauth.Allow, now.Who, granted)
}
