package web

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"nestbox/hosting"
	"nestbox/identity"
	"nestbox/moving"
	"nestbox/request"
	"nestbox/signin"
)

// showMove is GET …/move.
func (p *AccountPages) showMove(q *query) error { return p.askMove(q, http.StatusOK) }

func (p *AccountPages) askMove(q *query, status int, problems ...Problem) error {
	ctx := q.r.Context()
	page := &Move{Source: q.typed("source")}
	pointing, perr := p.Hosting.Pointing(ctx, q.account)
	if _, many := errors.AsType[request.ErrTooMany](perr); many || errors.Is(perr, identity.ErrBusy) {
		return perr
	}
	jobs, err := p.Moving.Jobs(ctx, q.account) // first: what a job has done, the list below has
	if err != nil {
		return err
	}
	arrival, err := p.Hosting.Arrival(ctx, q.account)
	if err != nil {
		return err
	}
	page.Lines = moveLines(&arrival, &pointing, perr, shownAccount(q.account).Deactivated)
	page.Complete = perr == nil && pointing.Valid()
	page.Records, page.Missing = arrival.Repo.Head.Records, arrival.Expected-arrival.There
	if perr == nil {
		page.Others = pointing.Others
		if !pointing.Here {
			page.Elsewhere = pointing.Server
		}
	}
	page.Fetches = shownAccount(q.account).Deactivated || page.Missing > 0 || page.Records == 0
	if page.Fetches && page.Source == "" && perr == nil {
		page.Source, _ = p.Moving.Former(ctx, q.account) // one that is not known is typed
	}
	for i := range jobs {
		job := MoveJob{Job: jobs[i]}
		if job.State == moving.Open {
			var wait moving.Wait
			wait, job.Waits = p.Moving.Waits(job.ID)
			job.Due = wait.Due
		}
		page.Jobs = append(page.Jobs, job)
		page.Working = page.Working || jobs[i].State == moving.Open
	}
	if err := p.recommend(q, page); err != nil {
		return err
	}
	page.Frame, _ = p.frame(q, q.visit.ID, problems...)
	p.Pages.Render(q.w, q.r, status, page)
	return nil
}

// recommend notes what the account's identity should say.
func (p *AccountPages) recommend(q *query, page *Move) error {
	c, err := p.Hosting.Recommended(q.account)
	if err != nil {
		return err
	}
	raw, _ := json.MarshalIndent(c, "", "  ") // texts cannot fail
	page.Operation, page.PLC = string(raw), q.account.DID.Method() == "plc"
	page.RotationKeys, page.SigningKey, page.Server = c.RotationKeys, q.account.SigningKey, c.Services["atproto_pds"].Endpoint
	return nil
}

// moveLines returns how completely an account has moved in.
func moveLines(a *hosting.Arrival, d *hosting.Pointing, err error, deactivated bool) (lines []MoveLine) {
	add := func(name string, ok bool, is, lacks Text) {
		line := MoveLine{Kind: Success, Name: Msg("move.line-" + name), Says: is}
		if !ok {
			line.Kind, line.Says = Warning, lacks
		}
		lines = append(lines, line)
	}
	records := a.Repo.Head.Records
	add("repository", a.HasRepo && records > 0, Msg("move.repository-is", "revision", Name(a.Repo.Head.Rev.String())),
		Msg("move.repository-lacks"))
	add("records", records > 0, Msg("move.records-is", "n", Count(records)), Msg("move.records-lacks"))
	some, all := Count(a.There), Count(a.Expected)
	add("blobs", a.There == a.Expected, Msg("move.blobs-is", "n", all), Msg("move.blobs-lacks", "some", some, "all", all))
	add("preferences", a.Preferences > 0, Msg("move.preferences-is", "n", Count(a.Preferences)), Msg("move.preferences-lacks"))
	wrong := func(name string, ok bool, lacks Text) {
		add(name, ok, Msg("move.right"), lacks)
		if last := &lines[len(lines)-1]; !ok {
			last.Kind = Failure
		}
	}
	switch {
	case errors.Is(err, identity.ErrNotRegistered), errors.Is(err, identity.ErrMalformed):
		wrong("identity", false, Msg("move.identity-none"))
	case err != nil:
		add("identity", false, Text{}, Msg("found.silent"))
	default:
		server := Msg("move.server-none")
		if d.Server != "" {
			server = Msg("move.server-other", "server", Stranger(d.Server))
		}
		wrong("server", d.Here, server)
		wrong("key", d.KeyHere, Msg("move.key-other"))
		wrong("handle", d.HandleHere, Msg("move.handle-other", "handle", Host(d.Handle.String())))
		wrong("rotation", d.Rotates, Msg("move.rotation-lacks"))
	}
	add("state", !deactivated, Msg("move.state-is"), Msg("move.state-lacks"))
	return lines
}

// changeMove is POST …/move.
func (p *AccountPages) changeMove(q *query) error {
	switch q.typed("decision") {
	case "repository":
		return p.confirmFetch(q, http.StatusOK)
	case "cancel":
		if err := p.Moving.Cancel(q.r.Context(), q.account); err != nil {
			return err
		}
		return q.to(q.r.URL.Path)
	default: // blobs, confirmed, or a proof
		return p.steppedUp(signin.Import, Msg("act.fetch"), p.fetch)(q)
	}
}

// confirmFetch shows what a repository that is fetched would replace.
func (p *AccountPages) confirmFetch(q *query, status int, problems ...Problem) error {
	source, err := p.Moving.Source(q.typed("source"))
	if err != nil {
		return p.refuseFetch(q, err)
	}
	if err := p.Moving.May(q.r.Context(), q.account); err != nil {
		return p.refuseFetch(q, err)
	}
	now, err := p.Moving.Holdings(q.r.Context(), q.account)
	if err != nil {
		return err
	}
	page := &Confirm{
		Title: Msg("move.confirm"), Button: Msg("move.confirm-button"), Danger: now.Records > 0, Back: q.r.URL.Path,
		Body:   []Text{Msg("move.confirm-from", "server", Stranger(source)), Msg("move.confirm-body", "n", Count(now.Records))},
		Fields: []Field{{"source", source}, {"head", now.Head}},
	}
	page.Frame, _ = p.frame(q, q.visit.ID, problems...)
	p.Pages.Render(q.w, q.r, status, page)
	return nil
}

// fetch begins a job.
func (p *AccountPages) fetch(q *query) error {
	kind := moving.FetchRepo
	if q.typed("decision") == "blobs" {
		kind = moving.FetchBlobs
	}
	err := p.Moving.Fetch(q.r.Context(), q.account, kind, q.typed("source"), q.typed("head"))
	if errors.Is(err, moving.ErrChanged) {
		return p.confirmFetch(q, http.StatusConflict, Problem{"", Msg("bring.changed")})
	}
	if err != nil {
		return p.refuseFetch(q, err)
	}
	return q.to(q.r.URL.Path + "#work")
}

// refuseFetch shows why a job cannot begin.
func (p *AccountPages) refuseFetch(q *query, err error) error {
	problem, ok := problemOf(err, []fault{
		{moving.ErrSource, "source", "move.source-wrong"},
		{moving.ErrJob, "", "move.working-already"},
		{moving.ErrNotEmpty, "", "bring.not-empty"},
		{moving.ErrClosed, "", "bring.closed"},
		{moving.ErrStanding, "", "bring.closed"},
	})
	if !ok {
		return err
	}
	status := http.StatusConflict
	if problem.Field != "" {
		status = http.StatusUnprocessableEntity
	}
	return p.askMove(q, status, problem)
}

// Failure returns why a job failed, in words.
func (j *MoveJob) Failure() Text {
	word, reason, _ := strings.Cut(j.Error, " ")
	if reason != "" {
		return Msg("move.err-"+word, "reason", Stranger(reason))
	}
	return Msg("move.err-" + word)
}
