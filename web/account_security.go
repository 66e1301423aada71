package web

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/go-webauthn/webauthn/webauthn"

	"nestbox/account"
	"nestbox/device"
	"nestbox/signin"
)

// showSecurity is GET /account/u/{did}/security.
func (p *AccountPages) showSecurity(q *query) error { return p.askSecurity(q, http.StatusOK) }

// askSecurity shows the page.
func (p *AccountPages) askSecurity(q *query, status int, problems ...Problem) error {
	o, err := p.SignIns.Overview(q.r.Context(), q.account)
	if err != nil {
		return err
	}
	page := &Security{
		PasskeysElsewhere: !p.Browsers.PasskeysWork(q.r), Codes: o.RecoveryLeft(), CodesMade: o.RecoveryMadeAt,
		Strong: o.Strong(), EmailCodes: q.account.EmailFactor, NoMail: p.Codes.Templates == nil,
		Unconfirmed: q.account.EmailConfirmedAt.IsZero(), Full: len(o.Passkeys) >= signin.MaxPasskeys,
		PasskeySecond: o.PasskeySecond, DangerousFactor: o.DangerousFactor, AppsByPassword: !o.AppsOff,
	}
	if o.TOTP != nil {
		page.TOTP = &TOTPState{Since: o.TOTP.ConfirmedAt, Used: o.TOTP.UsedAt}
	}
	for _, k := range o.Passkeys {
		var c webauthn.Credential
		_ = json.Unmarshal(k.Credential, &c) // one that is damaged is shown all the same
		page.Passkeys = append(page.Passkeys, PasskeyRow{
			ID: strconv.FormatInt(k.ID, 10), Name: k.Name, Made: k.MadeAt, Used: k.UsedAt, Network: k.UsedNetwork, Synced: c.Flags.BackupState,
		})
	}
	trusted, err := p.trusted(q)
	if err != nil {
		return err
	}
	page.Trusted = len(trusted)
	if page.Actions, err = p.actions(q); err != nil {
		return err
	}
	page.Frame, _ = p.frame(q, q.visit.ID, problems...)
	p.Pages.Render(q.w, q.r, status, page)
	return nil
}

// kept is a form that waits for a step-up.
type kept struct {
	Form url.Values `json:"form"`
	Flow string     `json:"flow"`
}

func keptLabel(q *query) string {
	return "form that waits for a step-up, of " + q.account.DID.String() + " at " + q.r.URL.Path
}

// steppedUp wraps an act that a person must prove themselves for again: the form waits in
// the page that asks for the proof, and goes on after it.
func (p *AccountPages) steppedUp(action signin.Action, act Text, fn func(*query) error) func(*query) error {
	return func(q *query) error {
		waiting := kept{q.r.PostForm, q.flow}
		if q.typed("step") == "step-up" {
			waiting = kept{} // and not that of the proof
			if !unsealed(p.Box, keptLabel(q), q.typed("kept"), &waiting) {
				p.Foreign(q.w, q.r)
				return nil
			}
			if q.typed("method") != "" {
				return p.askStepUp(q, http.StatusOK, action, act, waiting, signin.Method(q.typed("method")), 0)
			}
			if again, err := p.stepUp(q, action, act, waiting); again || err != nil {
				return err
			}
			q.r.PostForm, q.flow = waiting.Form, waiting.Flow
			return fn(q)
		}
		f, err := p.SignIns.Overview(q.r.Context(), q.account)
		if err != nil {
			return err
		}
		if !p.SignIns.StandingOf(q.account, f.Factors).Allows(action, proofs(q)) {
			if q.typed("password") != "" { // the form brings its own
				waiting.Form = maps.Clone(waiting.Form)
				waiting.Form.Del("password")
				if again, err := p.stepUp(q, action, act, waiting); again || err != nil {
					return err
				}
				return fn(q)
			}
			return p.askStepUp(q, http.StatusOK, action, act, waiting, "", 0)
		}
		return fn(q)
	}
}

// proofs returns what was proven on this browser in the last minutes.
func proofs(q *query) signin.Proofs {
	in, ok := q.visit.SignIn(q.account.ID)
	if !ok {
		return 0
	}
	return signin.ParseProofs(in.Proof(q.visit.At).Factors)
}

// stepUp checks what was typed; again: the page was shown once more.
func (p *AccountPages) stepUp(q *query, action signin.Action, act Text, waiting kept) (again bool, err error) {
	in := signin.Stepping{
		DID: q.account.DID, Action: action, Flow: q.flow, Before: proofs(q), Password: q.typed("password"), Code: q.typed("code"),
	}
	if q.typed("credential") != "" {
		in.Passkey = signin.PasskeyAttempt{Sealed: q.typed("ceremony"), Answer: q.typed("credential")}
	}
	by, err := p.SignIns.StepUp(q.r.Context(), in)
	if by != in.Before {
		all, renewed := by.Renewed(in.Before)
		person := device.Person{Account: q.account, Factors: all.Key(), Level: all.Level()}
		if was, ok := q.visit.SignIn(q.account.ID); ok && !renewed {
			person.Since = was.StepUp.At
		}
		v, kept := p.Browsers.Devices.StepUp(q.r.Context(), q.visit, person)
		if kept != nil {
			return false, kept
		}
		q.visit = v
		p.Browsers.Keep(q.w, v)
	}
	const bad = http.StatusUnprocessableEntity
	if needed, ok := errors.AsType[*signin.FactorNeeded](err); ok {
		var method signin.Method // none: what is missing is said in words
		if len(needed.Methods) > 0 {
			method = needed.Methods[0]
		}
		return true, p.askStepUp(q, http.StatusOK, action, act, waiting, method, 0)
	}
	if paused, ok := errors.AsType[*signin.Paused](err); ok {
		q.w.Header().Set("Retry-After", paused.RetryAfter())
		return true, p.askStepUp(q, http.StatusTooManyRequests, action, act, waiting, "", 0, Problem{"code", Msg("factor.paused")})
	}
	if wrong, ok := errors.AsType[*signin.WrongFactor](err); ok {
		return true, p.askStepUp(q, bad, action, act, waiting, wrong.Method, wrong.Left, factorProblem(wrong))
	}
	if errors.Is(err, account.ErrCodeInvalid) || errors.Is(err, account.ErrCodeExpired) {
		return true, p.askStepUp(q, bad, action, act, waiting, "", 0, Problem{"code", Msg("factor.wrong")})
	}
	if errors.Is(err, signin.ErrWrong) || errors.Is(err, signin.ErrTooLong) {
		return true, p.askStepUp(q, bad, action, act, waiting, "", 0, Problem{"password", Msg("password.wrong")})
	}
	if problem, mine := signInProblem(err); mine {
		return true, p.askStepUp(q, bad, action, act, waiting, "", 0, problem)
	}
	return false, err
}

// askStepUp shows the page that asks for a proof, by a method if it is not empty.
func (p *AccountPages) askStepUp(q *query, status int, action signin.Action, act Text, waiting kept, method signin.Method, left int,
	problems ...Problem,
) error {
	f, err := p.SignIns.Overview(q.r.Context(), q.account)
	if err != nil {
		return err
	}
	by := proofs(q)
	st := p.SignIns.StandingOf(q.account, f.Factors)
	wants := st.Wants(action, f.Factors)
	typed := slices.DeleteFunc(slices.Clone(wants), func(m signin.Method) bool { return m == signin.Passkeys })
	page := &StepUp{For: act, Password: !by.Has(signin.ByPassword), Kept: sealed(p.Box, keptLabel(q), waiting), Back: q.r.URL.Path}
	if page.Stuck = p.stuck(q, action, f.Factors); page.Stuck != nil {
		page.Frame, _ = p.frame(q, q.visit.ID)
		p.Pages.Render(q.w, q.r, http.StatusConflict, page)
		return nil
	}
	switch {
	case slices.Contains(wants, method) && (method != signin.Email || by.Has(signin.ByPassword)):
		page.Method = Method(method)
	case len(typed) > 0 && (typed[0] != signin.Email || by.Has(signin.ByPassword)):
		page.Method = Method(typed[0]) // a code is mailed once the password was right
	}
	for _, m := range wants {
		if Method(m) != page.Method && (m != signin.Email || by.Has(signin.ByPassword)) {
			page.Others = append(page.Others, Method(m))
		}
	}
	if page.Method == Email {
		err := p.SignIns.MailStepUp(q.r.Context(), q.account)
		if paused, ok := errors.AsType[*signin.Paused](err); ok {
			q.w.Header().Set("Retry-After", paused.RetryAfter())
			status, page.Method, problems = http.StatusTooManyRequests, "", []Problem{{Text: Msg("factor.paused")}}
		} else if err != nil {
			return err
		}
		page.Address = masked(q.account.Email)
	}
	page.Left = fewLeft(left)
	var flow string
	page.Frame, flow = p.frame(q, q.visit.ID, problems...)
	if len(f.Passkeys) > 0 && st.TakesPasskey(action) && p.Browsers.PasskeysWork(q.r) {
		if page.Passkey, err = askPasskey(p.SignIns, flow, false); err != nil {
			return err
		}
	}
	p.Pages.Render(q.w, q.r, status, page)
	return nil
}

// changeSecurity is POST /account/u/{did}/security, after the step-up.
func (p *AccountPages) changeSecurity(q *query) error {
	ctx, a := q.r.Context(), q.account
	back := shownAccount(a).Path("security")
	passkey, _ := strconv.ParseInt(q.typed("passkey"), 10, 64) // 0 is nobody's
	var err error
	word := "switched"
	decision := q.typed("decision")
	if decision == "confirm" && q.typed("ending") != "" {
		decision = q.typed("ending")
	}
	switch {
	case q.typed("step") == "totp":
		return p.finishTOTP(q)
	case q.typed("step") == "passkey":
		return p.finishPasskey(q)
	case decision == "totp-add":
		setup, err := p.SignIns.BeginTOTP(ctx, a)
		if err != nil {
			return err
		}
		return p.askTOTP(q, http.StatusOK, setup)
	case decision == "passkey-add":
		return p.askPasskey(q, http.StatusOK, "")
	case decision == endTOTP:
		word, err = "totp-off", p.SignIns.RemoveTOTP(ctx, a)
	case decision == "rename":
		word, err = "passkey-renamed", p.SignIns.RenamePasskey(ctx, a, passkey, seen(q.typed("name")))
	case decision == endPasskey:
		word, err = "passkey-removed", p.SignIns.RemovePasskey(ctx, a, passkey)
	case decision == endCodes:
		codes, err := p.SignIns.NewRecoveryCodes(ctx, a)
		if err == nil {
			return p.showRecovery(q, codes, false)
		}
		return p.securityFailed(q, err)
	case decision == "email-on", decision == endEmail:
		word, err = decision, p.SignIns.EmailCodes(ctx, a, decision == "email-on")
	case decision == endPasskeySecond:
		err = p.SignIns.Switch(ctx, a, signin.SwitchPasskeySecond, false)
	case decision == "on", decision == "off":
		err = p.SignIns.Switch(ctx, a, signin.Switch(q.typed("switch")), decision == "on")
	default:
		return q.to(back)
	}
	if err != nil {
		return p.securityFailed(q, err)
	}
	return q.done(back, word)
}

// securityFailed shows the page again with what kept a change from being made.
func (p *AccountPages) securityFailed(q *query, err error) error {
	for known, id := range map[error]string{
		signin.ErrNoFactor: "security.no-factor", signin.ErrNoRecovery: "security.passkey-second-hint",
		signin.ErrNoMail: "security.no-mail", signin.ErrUnconfirmed: "security.email-unconfirmed",
		signin.ErrTooManyPasskeys: "security.too-many", signin.ErrPasskeyName: "security.name-wrong",
	} {
		if errors.Is(err, known) {
			return p.askSecurity(q, http.StatusUnprocessableEntity, Problem{Text: Msg(id)})
		}
	}
	if errors.Is(err, account.ErrStatusConflict) {
		p.Changed(q.w, q.r)
		return nil
	}
	return err
}

func (p *AccountPages) askTOTP(q *query, status int, setup signin.TOTPSetup, problems ...Problem) error {
	f, err := p.SignIns.Overview(q.r.Context(), q.account)
	if err != nil {
		return err
	}
	page := &TOTPSetup{
		Setup: setup.Sealed, QR: setup.PNG, Secret: strings.ReplaceAll(setup.Secret, " ", ""), URL: setup.URL,
		Replaces: f.TOTP != nil,
	}
	page.Frame, _ = p.frame(q, q.visit.ID, problems...)
	p.Pages.Render(q.w, q.r, status, page)
	return nil
}

func (p *AccountPages) finishTOTP(q *query) error {
	ctx, sealed := q.r.Context(), q.typed("setup")
	codes, err := p.SignIns.FinishTOTP(ctx, q.account, sealed, q.typed("code"), q.flow)
	if err == nil {
		if len(codes) > 0 {
			return p.showRecovery(q, codes, true)
		}
		return q.done(shownAccount(q.account).Path("security"), "totp-on")
	}
	setup, again := p.SignIns.ResumeTOTP(ctx, q.account, sealed)
	if errors.Is(err, signin.ErrClaim) || again != nil {
		if setup, err = p.SignIns.BeginTOTP(ctx, q.account); err != nil {
			return err
		}
		return p.askTOTP(q, http.StatusUnprocessableEntity, setup, Problem{Text: Msg("signin.expired")})
	}
	if paused, ok := errors.AsType[*signin.Paused](err); ok {
		q.w.Header().Set("Retry-After", paused.RetryAfter())
		return p.askTOTP(q, http.StatusTooManyRequests, setup, Problem{"code", Msg("factor.paused")})
	}
	if wrong, ok := errors.AsType[*signin.WrongFactor](err); ok {
		return p.askTOTP(q, http.StatusUnprocessableEntity, setup, factorProblem(wrong))
	}
	return err
}

func (p *AccountPages) askPasskey(q *query, status int, name string, problems ...Problem) error {
	page := &PasskeyAdd{Name: name}
	var flow string
	page.Frame, flow = p.frame(q, q.visit.ID, problems...)
	ask, err := p.SignIns.BeginPasskey(q.r.Context(), q.account, flow)
	if err != nil {
		return p.securityFailed(q, err)
	}
	page.Passkey = Passkey{Options: ask.Options, Ceremony: ask.Sealed}
	p.Pages.Render(q.w, q.r, status, page)
	return nil
}

func (p *AccountPages) finishPasskey(q *query) error {
	name := seen(q.typed("name"))
	codes, err := p.SignIns.AddPasskey(q.r.Context(), q.account, signin.NewPasskey{
		Sealed: q.typed("ceremony"), Answer: q.typed("credential"), Flow: q.flow, Name: name,
	})
	const bad = http.StatusUnprocessableEntity
	_, wrong := errors.AsType[*signin.WrongFactor](err)
	switch {
	case err == nil && len(codes) > 0:
		return p.showRecovery(q, codes, true)
	case err == nil, errors.Is(err, signin.ErrPasskeyTaken):
		return q.done(shownAccount(q.account).Path("security"), "passkey-added")
	case errors.Is(err, signin.ErrCeremony), wrong:
		return p.askPasskey(q, bad, name, Problem{Text: Msg("signin.passkey-expired")})
	case errors.Is(err, signin.ErrPasskeyName):
		return p.askPasskey(q, bad, "", Problem{"name", Msg("security.name-wrong")})
	default:
		return p.securityFailed(q, err)
	}
}

// showRecovery shows new recovery codes, once.
func (p *AccountPages) showRecovery(q *query, codes []string, first bool) error {
	page := &RecoveryCodes{Codes: codes, First: first}
	page.Frame, _ = p.frame(q, q.visit.ID)
	page.Self = shownAccount(q.account).Path("security")
	p.Pages.Render(q.w, q.r, http.StatusOK, page)
	return nil
}
