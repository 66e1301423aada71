package web

import (
	"errors"
	"net/http"
	"slices"

	"nestbox/account"
	"nestbox/session"
	"nestbox/signin"
)

// appPasswordsShown is how many app passwords a page shows.
const appPasswordsShown = 30

// showAppPasswords is GET …/app-passwords.
func (p *AccountPages) showAppPasswords(q *query) error {
	return p.askAppPasswords(q, http.StatusOK, &AppPasswords{})
}

// askAppPasswords shows the list, and the form for another one.
func (p *AccountPages) askAppPasswords(q *query, status int, page *AppPasswords, problems ...Problem) error {
	cred, err := p.Accounts.Credentials(q.r.Context(), q.account.ID)
	if err != nil {
		return err
	}
	sessions, err := p.Sessions.List(q.r.Context(), q.account.DID)
	if err != nil {
		return err
	}
	slices.Reverse(cred.AppPasswords) // the newest first
	page.Full = account.RoomForAppPassword(len(cred.AppPasswords)) != nil
	var shown []account.AppPassword
	shown, page.Pager = paged(q, cred.AppPasswords, appPasswordsShown)
	for _, app := range shown {
		page.Rows = append(page.Rows, appPasswordRow(app, sessions))
	}
	page.Frame, _ = p.frame(q, q.visit.ID, problems...)
	p.Pages.Render(q.w, q.r, status, page)
	return nil
}

// appPasswordRow returns an app password as the page lists it.
func appPasswordRow(app account.AppPassword, sessions []session.State) AppPasswordRow {
	row := AppPasswordRow{
		Ref: refAppPassword.named(app.Name), Name: exact(app.Name), Privileged: app.Privileged, Made: app.CreatedAt, Used: app.UsedAt,
		Network: app.UsedNetwork,
	}
	for i := range sessions {
		st := &sessions[i]
		if st.AppPasswordID != app.ID {
			continue
		}
		row.Sessions++
		if st.RotatedAt.After(row.Used) {
			row.Used, row.Network = st.RotatedAt, st.Network
		}
	}
	return row
}

// changeAppPasswords is the form of that page. To make one takes a proof, to end one none.
func (p *AccountPages) changeAppPasswords(q *query) error {
	if q.typed("end") != "" {
		return p.endSessions(q)
	}
	if q.typed("step") != "step-up" {
		// Before the proof, so that a name that is wrong is said at once.
		if err := account.CheckAppPasswordName(seen(q.typed("name"))); err != nil {
			return p.appPasswordFailed(q, err)
		}
	}
	return p.steppedUp(signin.MakeAppPassword, Msg("act.app-password"), p.makeAppPassword)(q)
}

// makeAppPassword makes an app password, and shows it once.
func (p *AccountPages) makeAppPassword(q *query) error {
	made, password, err := p.AppPasswords.Make(q.r.Context(), q.account, seen(q.typed("name")), q.typed("privileged") != "")
	if err != nil {
		return p.appPasswordFailed(q, err)
	}
	page := &AppPasswordMade{Name: made.Name, Password: password, Privileged: made.Privileged}
	page.Frame, _ = p.frame(q, q.visit.ID)
	p.Pages.Render(q.w, q.r, http.StatusOK, page)
	return nil
}

// appPasswordFailed shows the page again with what kept an app password from being made.
func (p *AccountPages) appPasswordFailed(q *query, err error) error {
	for known, id := range map[error]string{
		account.ErrAppPasswordName: "app-passwords.name-wrong", account.ErrNameTaken: "app-passwords.name-taken",
		account.ErrTooMany: "app-passwords.too-many",
	} {
		if errors.Is(err, known) {
			typed := &AppPasswords{Name: q.typed("name"), MayPrivileged: q.typed("privileged") != ""}
			return p.askAppPasswords(q, http.StatusUnprocessableEntity, typed, Problem{"name", Msg(id)})
		}
	}
	return err
}
