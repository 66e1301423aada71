package web

import (
	"errors"
	"net/http"

	"nestbox/account"
	"nestbox/signin"
)

// mails reports whether the server can mail something to an account's owner.
func (p *AccountPages) mails(a *account.Account) bool {
	return p.Codes.Templates != nil && a.Email != ""
}

// showManage is GET …/manage.
func (p *AccountPages) showManage(q *query) error {
	a := q.account
	page := &Manage{
		HandleHolds: !a.HandleInvalid, HandleChecked: a.IdentityCheckedAt, Email: a.Email, Confirmed: !a.EmailConfirmedAt.IsZero(),
		NoMail: p.Codes.Templates == nil, Made: a.CreatedAt, Notices: !a.NoticesOff,
	}
	var err error
	if page.Invites, err = p.invites(q); err != nil {
		return err
	}
	page.Frame, _ = p.frame(q, q.visit.ID)
	p.Pages.Render(q.w, q.r, http.StatusOK, page)
	return nil
}

// shownInvites bounds the invite codes that are listed: the newest.
const shownInvites = 50

// invites returns the codes that the account may give away, the newest first; none while it
// is deactivated.
func (p *AccountPages) invites(q *query) (rows []InviteRow, err error) {
	if !q.account.DeactivatedAt.IsZero() {
		return nil, nil
	}
	codes, err := p.Invites.Mine(q.r.Context(), q.account, true)
	if err != nil {
		return nil, err
	}
	for i := len(codes) - 1; i >= 0 && len(rows) < shownInvites; i-- {
		c := codes[i]
		row := InviteRow{Code: c.Code, Left: max(c.Available-len(c.Uses), 0)}
		for _, use := range c.Uses {
			who := &Account{DID: use.UsedBy.String()}
			switch guest, err := p.Accounts.ByDID(q.r.Context(), use.UsedBy); {
			case err == nil:
				who = shownAccount(guest)
			case !errors.Is(err, account.ErrNotFound): // deleted since
				return nil, err
			}
			row.By = append(row.By, InvitedRow{*who, use.UsedAt})
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// changeManage is POST …/manage.
func (p *AccountPages) changeManage(q *query) error {
	switch q.typed("decision") {
	case "notices-on":
		return p.setNotices(q, true)
	case "notices-off", "confirm": // of the step-up
		return p.steppedUp(signin.NoticesOff, Msg("act.notices"), func(q *query) error { return p.setNotices(q, false) })(q)
	default:
		return q.to(q.r.URL.Path)
	}
}

func (p *AccountPages) setNotices(q *query, on bool) error {
	if err := p.Emails.SetNotices(q.r.Context(), q.account, on); err != nil {
		return err
	}
	word := "notices-off"
	if on {
		word = "notices-on"
	}
	return q.done(q.r.URL.Path, word)
}

// fault is an error and what the person reads of it, at a field.
type fault struct {
	err       error
	field, id string
}

// problemOf returns the problem of the first of faults that err is, false for none.
func problemOf(err error, faults []fault) (Problem, bool) {
	for _, f := range faults {
		if errors.Is(err, f.err) {
			return Problem{f.field, Msg(f.id)}, true
		}
	}
	return Problem{}, false
}

// passwordFaults are those of a password that is chosen in a field.
func passwordFaults(field string) []fault {
	return []fault{
		{account.ErrPasswordTooShort, field, "password.short"},
		{account.ErrPasswordTooLong, field, "password.long"},
		{account.ErrPasswordForm, field, "password.long"},
		{account.ErrPasswordCommon, field, "password.common"},
		{account.ErrPasswordName, field, "password.name"},
	}
}
