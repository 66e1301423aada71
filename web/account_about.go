package web

import (
	"net/http"
	"slices"

	"nestbox/account"
	"nestbox/signin"
)

// showAbout is GET …/about.
func (p *AccountPages) showAbout(q *query) error {
	page := &About{ServerFacts: p.Facts, TakenDownAt: q.account.TakenDownAt, Case: q.account.TakedownRef}
	files, used, err := p.Blobs.Used(q.r.Context(), q.account.ID)
	if err != nil {
		return err
	}
	page.Files, page.Used = int(files), Bytes(used)
	page.Frame, _ = p.frame(q, q.visit.ID)
	p.Pages.Render(q.w, q.r, http.StatusOK, page)
	return nil
}

// showToolCodes is GET …/codes.
func (p *AccountPages) showToolCodes(q *query) error { return p.askToolCodes(q, "", "") }

func (p *AccountPages) askToolCodes(q *query, purpose, code string) error {
	page := &ToolCodes{Purpose: purpose, Code: code, Digits: q.account.DangerousFactor}
	var err error
	if page.Stuck, err = p.stuckAt(q, signin.CodesForTools); err != nil {
		return err
	}
	page.Frame, _ = p.frame(q, q.visit.ID)
	p.Pages.Render(q.w, q.r, http.StatusOK, page)
	return nil
}

// giveToolCode is POST …/codes, after the step-up.
func (p *AccountPages) giveToolCode(q *query) error {
	purpose := account.Purpose(q.typed("purpose"))
	if !slices.Contains(account.ToolPurposes(), purpose) {
		return q.to(q.r.URL.Path)
	}
	code, err := p.Emails.GiveCode(q.r.Context(), q.account, purpose, account.ActorOwner)
	if err != nil {
		return err
	}
	return p.askToolCodes(q, string(purpose), code)
}

// toolCodes is POST …/codes.
func (p *AccountPages) toolCodes(q *query) error {
	return p.steppedUp(signin.CodesForTools, Msg("act.codes"), p.giveToolCode)(q)
}
