package web

import (
	"net/http"

	"nestbox/account"
)

// showSecure is GET …/secure: the walk after "This was not me", through what somebody who got
// in may have left behind.
func (p *AccountPages) showSecure(q *query) error {
	all, err := p.living(q)
	if err != nil {
		return err
	}
	cred, err := p.Accounts.Credentials(q.r.Context(), q.account.ID)
	if err != nil {
		return err
	}
	factors, err := p.SignIns.Overview(q.r.Context(), q.account)
	if err != nil {
		return err
	}
	trail, err := p.Accounts.Trail(q.r.Context(), q.account.ID, account.TrailLimit)
	if err != nil {
		return err
	}
	who := shownAccount(q.account)
	page := &Secure{}
	step := func(name, path string, now Text) {
		if path = p.pathOf(who, path); path != "" {
			page.Steps = append(page.Steps, SecureStep{
				Title: Msg("secure." + name), Body: []Text{Msg("secure." + name + "-body"), now}, Link: Link{
					URL:  path,
					Text: Msg("secure." + name + "-link"),
				},
			})
		}
	}
	changed := Msg("secure.password-unknown")
	for _, e := range trail {
		if e.Kind == account.EntryPasswordChanged {
			changed = Msg("secure.password-changed", "time", e.At)
			break
		}
	}
	step("password", "password", changed)
	step("app-passwords", "app-passwords", Msg("secure.app-passwords-now", "count", len(cred.AppPasswords)))
	second := Msg("secure.factors-off")
	if factors.TOTP != nil || q.account.EmailFactor || factors.PasskeySecond {
		second = Msg("secure.factors-on")
	}
	step("factors", "security", second)
	step("sessions", "sessions", Msg("secure.sessions-now", "count", len(all.rows(q))-1)) // this browser is one
	step("keys", "identity", Msg("secure.keys-now"))
	page.Frame, _ = p.frame(q, q.visit.ID)
	p.Pages.Render(q.w, q.r, http.StatusOK, page)
	return nil
}

// pathOf returns the address of a part of the account's pages, "" if this server has none.
func (p *AccountPages) pathOf(who *Account, part string) string {
	if _, ok := p.Find(who.Path(part)); ok {
		return who.Path(part)
	}
	return ""
}
