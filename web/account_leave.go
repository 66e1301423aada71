package web

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/mail"
	"nestbox/signin"
)

const (
	// deleteAfter is how long at least a deactivated account waits for its deletion.
	deleteAfter = 7 * 24 * time.Hour
	// dateForm is the form of a date in a form.
	dateForm = time.DateOnly
)

// soonest returns the first day on which a deactivated account may be deleted.
func (p *AccountPages) soonest() time.Time {
	return p.Now().UTC().Add(deleteAfter).Truncate(24*time.Hour).AddDate(0, 0, 1)
}

// showDeactivate is GET …/deactivate.
func (p *AccountPages) showDeactivate(q *query) error { return p.askDeactivate(q, http.StatusOK) }

func (p *AccountPages) askDeactivate(q *query, status int, problems ...Problem) error {
	page := &Deactivate{
		Date: q.typed("delete_on"), Delete: q.typed("delete") != "", Soonest: p.soonest().Format(dateForm),
		Permanent: q.account.DID.Method() == "plc", Mailed: p.Emails.Notices.Wanted(q.account, mail.NoticeDeletion),
	}
	page.Frame, _ = p.frame(q, q.visit.ID, problems...)
	p.Pages.Render(q.w, q.r, status, page)
	return nil
}

// deletionDay returns the day of deletion that was typed, zero for never.
func (p *AccountPages) deletionDay(q *query) (time.Time, *Problem) {
	if q.typed("delete") == "" {
		return time.Time{}, nil
	}
	day, err := time.Parse(dateForm, strings.TrimSpace(q.typed("delete_on")))
	if err != nil {
		return day, &Problem{"delete_on", Msg("deactivate.date-wrong")}
	}
	if day.Before(p.soonest()) {
		return day, &Problem{"delete_on", Msg("deactivate.date-soon")}
	}
	return day, nil
}

// deactivate is POST …/deactivate.
func (p *AccountPages) deactivate(q *query) error {
	if q.typed("step") != "step-up" {
		if _, problem := p.deletionDay(q); problem != nil {
			return p.askDeactivate(q, http.StatusUnprocessableEntity, *problem)
		}
	}
	return p.steppedUp(signin.Deactivate, Msg("act.deactivate"), p.setDeactivated)(q)
}

func (p *AccountPages) setDeactivated(q *query) error {
	day, problem := p.deletionDay(q)
	if problem != nil {
		return p.askDeactivate(q, http.StatusUnprocessableEntity, *problem)
	}
	if err := p.Hosting.Deactivate(q.r.Context(), q.account, day); err != nil {
		return err
	}
	shown := shownAccount(q.account)
	if shown.TakenDown {
		return q.done(shown.Path("about"), "deactivated")
	}
	return q.done(shown.Path("manage"), "deactivated")
}

// showReactivate is GET …/reactivate.
func (p *AccountPages) showReactivate(q *query) error {
	if q.account.DeactivatedAt.IsZero() {
		return q.to(shownAccount(q.account).Path("manage"))
	}
	return p.askReactivate(q, http.StatusOK)
}

func (p *AccountPages) askReactivate(q *query, status int, problems ...Problem) error {
	page := &Reactivate{}
	page.Frame, _ = p.frame(q, q.visit.ID, problems...)
	p.Pages.Render(q.w, q.r, status, page)
	return nil
}

// reactivate is POST …/reactivate, and the bar of a deactivated account.
func (p *AccountPages) reactivate(q *query) error {
	shown := shownAccount(q.account)
	back, word := shown.Path("manage"), "reactivated"
	if shown.Suspended {
		word = "reactivated-held"
	}
	if q.account.DeactivatedAt.IsZero() {
		return q.done(back, word)
	}
	e := account.NewEntry(q.r.Context(), p.Now().UTC().Truncate(time.Millisecond), account.EntryActivated, account.ActorOwner)
	switch err := p.Hosting.Activate(q.r.Context(), q.account, e); {
	case err == nil:
		return q.done(back, word)
	case hosting.Elsewhere(err):
		return p.askReactivate(q, http.StatusConflict, Problem{Text: Msg("reactivate.elsewhere")})
	case errors.Is(err, account.ErrTakenDown):
		p.Changed(q.w, q.r)
		return nil
	default:
		return err
	}
}

// showDelete is GET …/delete.
func (p *AccountPages) showDelete(q *query) error { return p.askDelete(q, http.StatusOK) }

func (p *AccountPages) askDelete(q *query, status int, problems ...Problem) error {
	page := &DeleteAccount{
		NoMail: !p.mails(q.account), Held: q.account.MayLeave() != nil, Typed: q.typed("handle"), Code: q.typed("code"),
		Permanent: q.account.DID.Method() == "plc",
	}
	var err error
	if page.Stuck, err = p.stuckAt(q, signin.DeleteAccount); err != nil {
		return err
	}
	page.Frame, _ = p.frame(q, q.visit.ID, problems...)
	p.Pages.Render(q.w, q.r, status, page)
	return nil
}

// deleteAccount is POST …/delete: it asks for the code, or deletes.
func (p *AccountPages) deleteAccount(q *query) error {
	if q.account.MayLeave() != nil {
		return p.askDelete(q, http.StatusConflict)
	}
	if q.typed("decision") == "delete" {
		var wrong []Problem
		if p.mails(q.account) && strings.TrimSpace(q.typed("code")) == "" {
			wrong = append(wrong, Problem{"code", Msg("reset.code-missing")})
		}
		if typed := account.CleanIdentifier(q.typed("handle")); typed != shownAccount(q.account).Label() {
			wrong = append(wrong, Problem{"handle", Msg("delete.handle-wrong")})
		}
		if len(wrong) > 0 {
			return p.askDelete(q, http.StatusUnprocessableEntity, wrong...)
		}
	}
	return p.steppedUp(signin.DeleteAccount, Msg("act.delete"), p.finishDelete)(q)
}

// finishDelete sends the code, or deletes the account, after the step-up. Where no mail
// brings a code, the step-up stands for it.
func (p *AccountPages) finishDelete(q *query) error {
	ctx, code := q.r.Context(), q.typed("code")
	if q.typed("decision") != "delete" {
		if err := p.Emails.SendCode(ctx, q.account, account.PurposeDeleteAccount); err != nil {
			return err
		}
		return q.done(q.r.URL.Path, "code-sent")
	}
	if !p.mails(q.account) {
		var err error
		if code, err = p.Emails.GiveCode(ctx, q.account, account.PurposeDeleteAccount, account.ActorOwner); err != nil {
			return err
		}
	}
	err := p.Hosting.Leave(ctx, q.account, code)
	switch {
	case err == nil, errors.Is(err, account.ErrNotFound):
		return q.done("/account/sign-in", "deleted")
	case errors.Is(err, account.ErrHeld), errors.Is(err, account.ErrPasswordChanged):
		p.Changed(q.w, q.r)
		return nil
	}
	problem, ok := problemOf(err, []fault{
		{account.ErrCodeInvalid, "code", "reset.code-wrong"}, {account.ErrCodeExpired, "code", "reset.code-wrong"},
	})
	if !ok {
		return err
	}
	return p.askDelete(q, http.StatusUnprocessableEntity, problem)
}
