package web

import (
	"errors"
	"net/http"
	"slices"
	"strconv"

	"nestbox/device"
	"nestbox/signin"
)

// The decisions of the security page that take something away: each is shown once more,
// with what else will happen. They are the values of the hidden field ending, too.
const (
	endTOTP          = "totp-remove"
	endPasskey       = "remove"
	endCodes         = "codes-new"
	endEmail         = "email-off"
	endPasskeySecond = "passkey-second-off"
	endTrust         = "trust-end"
)

// confirmed wraps the acts of the security page: what takes something away is shown first,
// and asks for a proof once the person has confirmed it.
func (p *AccountPages) confirmed(act func(*query) error) func(*query) error {
	return func(q *query) error {
		if q.typed("step") != "" {
			return act(q)
		}
		if q.typed("decision") == "confirm" {
			if q.typed("ending") == endTrust {
				return p.endTrust(q)
			}
			return act(q)
		}
		if err := p.mayChange(q); err != nil {
			return p.securityFailed(q, err)
		}
		ending := endingFactor(q)
		page, word, err := p.factorEnding(q, ending)
		switch {
		case err != nil:
			return err
		case word != "":
			return q.done(q.r.URL.Path, word) // it is gone already, as the form wants
		case page == nil:
			return act(q)
		}
		page.Fields = append(page.Fields, Field{"ending", ending})
		page.Back, page.Danger = q.r.URL.Path, true
		page.Frame, _ = p.frame(q, q.visit.ID)
		p.Pages.Render(q.w, q.r, http.StatusOK, page)
		return nil
	}
}

// mayChange returns why a change cannot be made whatever is proven: that is said before a
// proof is asked for. Errors: those that securityFailed knows.
func (p *AccountPages) mayChange(q *query) error {
	o, err := p.SignIns.Overview(q.r.Context(), q.account)
	if err != nil {
		return err
	}
	decision := q.typed("decision")
	if decision == "on" {
		decision = q.typed("switch")
	}
	switch {
	case decision == "email-on":
		return p.SignIns.MayEmailCodes(q.account)
	case decision == "passkey-add" && len(o.Passkeys) >= signin.MaxPasskeys:
		return signin.ErrTooManyPasskeys
	case decision == endCodes && !o.Strong(),
		decision == SwitchPasskeySecond && len(o.Passkeys) == 0,
		decision == SwitchDangerousFactor && o.TOTP == nil:
		return signin.ErrNoFactor
	case decision == SwitchPasskeySecond && o.RecoveryLeft() == 0 && !o.PasskeySecond:
		return signin.ErrNoRecovery
	}
	return nil
}

// endingFactor returns which of the decisions a form asks for.
func endingFactor(q *query) string {
	decision := q.typed("decision")
	if decision == "off" && q.typed("switch") == SwitchPasskeySecond {
		return endPasskeySecond
	}
	return decision
}

// factorEnding returns the page that shows what a decision will take away; nil if it takes
// nothing away. word, if it is not empty, is that of ?done= for what is gone already.
func (p *AccountPages) factorEnding(q *query, ending string) (page *Confirm, word string, err error) {
	o, err := p.SignIns.Overview(q.r.Context(), q.account)
	if err != nil {
		return nil, "", err
	}
	ask := func(what string, change func(*signin.Factors, *bool), named ...any) (*Confirm, string, error) {
		return &Confirm{
			Title: Msg("confirm."+what, named...), Body: append([]Text{Msg("confirm." + what + "-body")}, losses(o.Losing(change))...),
			Button: Msg("confirm." + what + "-button"),
		}, "", nil
	}
	switch ending {
	case endTOTP:
		if o.TOTP == nil {
			return nil, "totp-off", nil
		}
		return ask("totp", func(f *signin.Factors, _ *bool) { f.TOTP = nil })
	case endPasskey:
		id, _ := strconv.ParseInt(q.typed("passkey"), 10, 64) // 0 is nobody's
		i := slices.IndexFunc(o.Passkeys, func(k signin.Passkey) bool { return k.ID == id })
		if i < 0 {
			return nil, "passkey-removed", nil
		}
		page, word, err := ask("passkey", func(f *signin.Factors, _ *bool) { f.Passkeys = slices.Delete(f.Passkeys, i, i+1) },
			"name", Stranger(o.Passkeys[i].Name))
		page.Fields = []Field{{"passkey", q.typed("passkey")}}
		return page, word, err
	case endCodes:
		if o.RecoveryMadeAt.IsZero() {
			return nil, "", nil // the first ones void none
		}
		return ask("codes", func(*signin.Factors, *bool) {})
	case endEmail:
		if !q.account.EmailFactor {
			return nil, "email-off", nil
		}
		return ask("email", func(_ *signin.Factors, email *bool) { *email = false })
	case endPasskeySecond:
		if !o.PasskeySecond {
			return nil, "switched", nil
		}
		return ask("passkey-second", func(f *signin.Factors, _ *bool) { f.PasskeySecond = false })
	case endTrust:
		return ask("trust", func(*signin.Factors, *bool) {})
	default:
		return nil, "", nil
	}
}

// losses returns what else a factor takes with it, a paragraph each.
func losses(l signin.Loss) (out []Text) {
	for _, one := range []struct {
		lost bool
		id   string
	}{
		{l.Second, "confirm.lose-second"},
		{l.PasskeySecond, "confirm.lose-passkey-second"},
		{l.Dangerous, "confirm.lose-dangerous"},
		{l.Recovery, "confirm.lose-recovery"},
	} {
		if one.lost {
			out = append(out, Msg(one.id))
		}
	}
	return out
}

// trusted returns the browsers that skip the second factor of the account.
func (p *AccountPages) trusted(q *query) (out []device.Browser, err error) {
	all, err := p.Browsers.Devices.List(q.r.Context(), q.account.ID)
	for i := range all {
		if in, ok := all[i].SignIn(q.account.ID); ok && in.Trusted(q.visit.At) {
			out = append(out, all[i])
		}
	}
	return out, err
}

// endTrust makes every browser of the account ask for the second factor again. It stops
// harm, so it asks for no proof.
func (p *AccountPages) endTrust(q *query) error {
	all, err := p.trusted(q)
	if err != nil {
		return err
	}
	for i := range all {
		if err := p.Browsers.Devices.StopTrust(q.r.Context(), q.account.ID, all[i].ID); err != nil && !errors.Is(err, device.ErrUnknown) {
			return err
		}
	}
	return q.done(q.r.URL.Path, "trust-ended")
}
