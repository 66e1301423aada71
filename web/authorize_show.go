package web

import (
	"errors"
	"net/http"
	"slices"

	"nestbox/account"
	"nestbox/oauth"
	"nestbox/signin"
)

// show answers with what comes next.
func (p *FlowPages) show(x *flow, next oauth.Next) error {
	switch {
	case next.Allowed:
		return p.decide(x, oauth.Allow, next.Who, x.request.Parameters.Scope)
	case next.Error != "":
		p.send(x, p.OAuth.Fail(x.request, next.Error, next.Description))
		return nil
	}
	var who *account.Account
	if next.Who != nil {
		a, err := p.Accounts.ByDID(x.r.Context(), next.Who.DID)
		if errors.Is(err, account.ErrNotFound) {
			p.Changed(x.w, x.r)
			return nil
		}
		if err != nil {
			return err
		}
		who = a
	}
	switch next.Step {
	case oauth.StepAccount:
		return p.showChooser(x)
	case oauth.StepSignIn:
		return p.showSignInStep(x, next, who)
	case oauth.StepSignUp:
		return p.showSignUpStep(x)
	case oauth.StepDeactivated:
		page := &Deactivated{Frame: p.formFrame(x, next.Step, who), DeleteAt: who.DeleteAfter}
		p.Pages.Render(x.w, x.r, x.status, page)
		return nil
	case oauth.StepConsent:
		return p.showConsent(x, who)
	case oauth.StepFactor: // shown by the sign-in that needs it
	}
	return errors.New("web: a step without a page: " + string(next.Step))
}

// showChooser lists the accounts that are signed in here, the hinted one first.
func (p *FlowPages) showChooser(x *flow) error {
	ask, err := p.OAuth.Look(x.r.Context(), x.request, x.client, oauth.Flow{Request: x.request.ID}, &x.visit)
	if err != nil {
		return err
	}
	slices.SortStableFunc(ask.Here, func(a, b oauth.Here) int {
		hinted := func(h oauth.Here) int {
			if ask.Hint != nil && h.DID == *ask.Hint {
				return 0
			}
			return 1
		}
		return hinted(a) - hinted(b)
	})
	page := &Chooser{}
	for _, h := range ask.Here {
		shown := Account{DID: h.DID.String(), Handle: h.Handle.String(), Deactivated: h.Status == account.Deactivated}
		if h.Handle.IsInvalidHandle() {
			shown.Handle = ""
		}
		page.Accounts = append(page.Accounts, ChooserAccount{Account: shown, Stale: !ask.IsFresh(&h) || x.request.Parameters.Prompt.Login})
	}
	page.Frame = p.formFrame(x, oauth.StepAccount, nil)
	p.Pages.Render(x.w, x.r, x.status, page)
	return nil
}

// showSignInStep asks for the password, or a passkey.
func (p *FlowPages) showSignInStep(x *flow, next oauth.Next, who *account.Account) error {
	page := &SignIn{Identifier: next.Fill, Remember: x.state.Remember, OfferSignUp: !p.SignUp.closed()}
	if typed := x.typed("identifier"); typed != "" && x.r.Method == http.MethodPost {
		page.Identifier, page.Remember = cut(typed, maxIdentifier), x.typed("remember") != ""
	}
	if x.signUp != nil && x.signUp.Handle != "" { // "I have an account already": perhaps the one that was just made
		page.Identifier = cut(x.signUp.Handle+x.signUp.Domain, maxIdentifier)
	}
	if who != nil {
		page.Identifier, page.Fixed, page.OfferSignUp = who.Handle.String(), true, false
		if who.HandleInvalid {
			page.Identifier = who.DID.String()
		}
	}
	if next.Lost && len(x.problems) == 0 {
		x.notices = append(x.notices, Notice{Kind: Warning, Text: Msg("signin.hint-unknown", "account",
			Stranger(x.request.Parameters.LoginHint))})
		page.Identifier = ""
	}
	if next.Closed {
		x.notices = append(x.notices, Notice{Kind: Info, Text: Msg("signin.sign-up-closed")})
	}
	page.Frame = p.formFrame(x, oauth.StepSignIn, nil)
	if p.Browsers.PasskeysWork(x.r) {
		var err error
		if page.Passkey, err = askPasskey(p.SignIns, x.state.Page, true); err != nil {
			return err
		}
	}
	p.Pages.Render(x.w, x.r, x.status, page)
	return nil
}

// showFactor asks for the second factor by a method.
func (p *FlowPages) showFactor(x *flow, method signin.Method) error {
	a, err := p.Accounts.ByDID(x.r.Context(), x.state.Claim.DID)
	if err != nil {
		return err
	}
	x.state.Method = method
	frame := p.formFrame(x, oauth.StepFactor, a)
	page, err := factorPage(p.SignIns, a, method, x.state.Methods, x.left, x.state.Page)
	if err != nil {
		return err
	}
	page.Frame, page.OfferTrust, page.Trust = frame, true, x.typed("trust") != ""
	p.Pages.Render(x.w, x.r, x.status, page)
	return nil
}

// showSignUpStep asks for a new account.
func (p *FlowPages) showSignUpStep(x *flow) error {
	page := x.signUp
	if page == nil {
		page = &SignUp{}
	}
	p.SignUp.fill(page)
	page.Frame = p.formFrame(x, oauth.StepSignUp, nil)
	p.Pages.Render(x.w, x.r, x.status, page)
	return nil
}

// showConsent asks whether the app may have what it asks for.
func (p *FlowPages) showConsent(x *flow, who *account.Account) error {
	list, err := p.OAuth.Permissions(x.r.Context(), x.request)
	if err != nil {
		return err
	}
	x.state.DID = who.DID
	if x.state.ProvenAt.IsZero() {
		if in, ok := x.visit.SignIn(who.ID); ok {
			x.state.ProvenAt = in.At
		}
	}
	if who.Status() == account.Suspended {
		x.notices = append(x.notices, Notice{Kind: Warning, Text: Msg("signin.suspended")})
	}
	page := &Consent{
		Frame: p.formFrame(x, oauth.StepConsent, who), Permissions: Permissions(list, shownAccount(who)),
		Unknown: x.request.Parameters.Dropped,
	}
	if host, foreign := x.client.ForeignRedirect(x.request.Parameters.RedirectURI); foreign && !x.client.Loopback {
		page.Destination = host
	}
	if len(x.problems) > 0 { // shown again: as it was ticked
		for i := range page.Permissions {
			one := &page.Permissions[i]
			one.Ticked = one.Fixed || slices.Contains(x.r.PostForm["permission"], one.Scope)
		}
		page.Understood = x.typed("understood") != ""
	}
	p.Pages.Render(x.w, x.r, x.status, page)
	return nil
}
