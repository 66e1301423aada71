package web

import (
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"nestbox/moving"
	"nestbox/prefs"
	"nestbox/repo"
	"nestbox/request"
	"nestbox/signin"
)

// settleIn is how long a form waits for the work that it begins: mostly that is done then.
const settleIn = 5 * time.Second

// showBring is GET …/data/bring.
func (p *AccountPages) showBring(q *query) error { return p.askBring(q, http.StatusOK) }

// bringPath is the page's address: an upload is shown there too.
func bringPath(q *query) string { return shownAccount(q.account).Path("data/bring") }

// toBring is GET …/data/upload, where an answer to a form was shown.
func (p *AccountPages) toBring(q *query) error { return q.to(bringPath(q)) }

func (p *AccountPages) askBring(q *query, status int, problems ...Problem) error {
	ctx := q.r.Context()
	page := &Bring{Most: Bytes(p.Moving.MaxSize())}
	switch err := p.Moving.May(ctx, q.account); {
	case errors.Is(err, moving.ErrClosed), errors.Is(err, moving.ErrStanding):
		page.Closed = true
	case errors.Is(err, moving.ErrNotEmpty):
		page.NotEmpty = true
	case err != nil:
		return err
	}
	var err error
	if page.Now, err = p.Moving.Holdings(ctx, q.account); err != nil {
		return err
	}
	switch f, err := p.Moving.File(q.account); {
	case errors.Is(err, moving.ErrNothing):
	case err != nil:
		return err
	default:
		page.File = shownFile(&f)
	}
	if page.Proven, err = p.allowed(q, signin.Import); err != nil {
		return err
	}
	page.Frame, _ = p.frame(q, q.visit.ID, problems...)
	at := bringPath(q)
	page.Frame.Form.Action, page.Frame.Self = at, at
	page.Frame.Form.CSRF, _ = p.Browsers.Token(q.visit.ID, at)
	page.Upload.Action = shownAccount(q.account).Path("data/upload")
	page.Upload.CSRF, _ = p.Browsers.Token(q.visit.ID, page.Upload.Action)
	p.Pages.Render(q.w, q.r, status, page)
	return nil
}

// allowed reports whether what was proven on this browser suffices for an action.
func (p *AccountPages) allowed(q *query, action signin.Action) (bool, error) {
	f, err := p.SignIns.Overview(q.r.Context(), q.account)
	if err != nil {
		return false, err
	}
	return p.SignIns.StandingOf(q.account, f.Factors).Allows(action, proofs(q)), nil
}

// shownFile returns a file as the page shows it.
func shownFile(f *moving.File) *BroughtFile {
	out := &BroughtFile{File: *f}
	if f.Err != nil {
		out.Problem = bringProblem(f.Err)
	}
	return out
}

// bringProblem returns why a file cannot be brought in, in words.
func bringProblem(err error) Text {
	if many, ok := errors.AsType[request.ErrTooMany](err); ok {
		return Msg("error.many-body", "time", waiting(many.Wait))
	}
	problem, ok := problemOf(err, []fault{
		{moving.ErrGaveWay, "", "bring.gave-way"},
		{moving.ErrNewer, "", "bring.newer"},
		{moving.ErrOther, "", "bring.other"},
		{moving.ErrDamaged, "", "bring.damaged"},
		{moving.ErrBomb, "", "bring.bomb"},
		{moving.ErrArchive, "", "bring.no-archive"},
		{moving.ErrNotEmpty, "", "bring.not-empty"},
		{moving.ErrClosed, "", "bring.closed"},
		{moving.ErrStanding, "", "bring.closed"},
		{repo.ErrTooLarge, "", "bring.repo-large"},
		{repo.ErrImport, "", "bring.repo-wrong"},
		{repo.ErrConflict, "", "bring.conflict"},
		{repo.ErrImporting, "", "bring.working"},
		{repo.ErrBusy, "", "bring.full"},
		{prefs.ErrTooMany, "", "bring.preferences"},
	})
	if !ok {
		return Msg("bring.failed")
	}
	return problem.Text
}

// uploadBring is POST …/data/upload: the file is taken and examined, and changes nothing.
func (p *AccountPages) uploadBring(q *query) error {
	ok, err := p.allowed(q, signin.Import)
	if err != nil {
		return err
	}
	u, _ := q.r.Context().Value(uploadKey{}).(*upload)
	err = u.file(func(r io.Reader) error {
		if !ok {
			return errUnproven
		}
		return p.Moving.Accept(q.r.Context(), q.account, r)
	})
	if many, is := errors.AsType[request.ErrTooMany](err); is {
		return many
	}
	switch {
	case err == nil:
		p.Moving.Settled(q.r.Context(), q.account, settleIn)
		return q.to(bringPath(q))
	case errors.Is(err, errUnproven):
		return p.askBring(q, http.StatusForbidden, Problem{"", Msg("bring.unproven")})
	case errors.Is(err, errNoFile):
		return p.askBring(q, http.StatusUnprocessableEntity, Problem{"file", Msg("bring.no-file")})
	case errors.Is(err, repo.ErrTooLarge):
		return p.askBring(q, http.StatusRequestEntityTooLarge, Problem{"file", Msg("bring.large", "size", Bytes(p.Moving.MaxSize()))})
	case errors.Is(err, repo.ErrImport):
		return p.askBring(q, http.StatusRequestTimeout, Problem{"file", Msg("bring.slow")})
	case errors.Is(err, repo.ErrBusy), errors.Is(err, moving.ErrFull):
		q.w.Header().Set("Retry-After", request.ErrTooMany{Wait: busyWait}.RetryAfter())
		return p.askBring(q, http.StatusServiceUnavailable, Problem{"file", Msg("bring.full")})
	case errors.Is(err, moving.ErrWorking):
		return p.askBring(q, http.StatusConflict, Problem{"", Msg("bring.working")})
	case errors.Is(err, moving.ErrNotEmpty), errors.Is(err, moving.ErrClosed), errors.Is(err, moving.ErrStanding):
		return p.askBring(q, http.StatusConflict)
	default:
		return err
	}
}

// errUnproven: what was proven on this browser does not suffice, or was too long ago.
var errUnproven = errors.New("not proven")

// changeBring is POST …/data/bring: what was uploaded is brought in, or dropped.
func (p *AccountPages) changeBring(q *query) error {
	if q.typed("decision") == "discard" {
		if err := p.Moving.Discard(q.account); err != nil {
			return p.askBring(q, http.StatusConflict, Problem{"", Msg("bring.working")})
		}
		return q.to(q.r.URL.Path)
	}
	return p.steppedUp(signin.Import, Msg("act.import"), p.replaceByFile)(q)
}

// replaceByFile brings in the file that waits, after the step-up.
func (p *AccountPages) replaceByFile(q *query) error {
	if q.typed("decision") != "replace" { // only the step-up was wanted
		return q.to(q.r.URL.Path)
	}
	seen := moving.Seen{File: q.typed("sent"), Head: q.typed("head")}
	seen.Preferences, _ = strconv.Atoi(q.typed("preferences")) // other texts are 0
	switch err := p.Moving.Bring(q.r.Context(), q.account, seen); {
	case errors.Is(err, moving.ErrChanged):
		return p.askBring(q, http.StatusConflict, Problem{"", Msg("bring.changed")})
	case errors.Is(err, moving.ErrNothing):
		if f, ferr := p.Moving.File(q.account); ferr == nil && f.Phase != moving.Examining {
			return q.to(q.r.URL.Path) // a repeated post: the page shows what became of it
		}
		return p.askBring(q, http.StatusConflict, Problem{"", Msg("bring.gone")})
	case errors.Is(err, moving.ErrNotEmpty), errors.Is(err, moving.ErrClosed), errors.Is(err, moving.ErrStanding):
		return p.askBring(q, http.StatusConflict)
	case err != nil:
		return err
	}
	p.Moving.Settled(q.r.Context(), q.account, settleIn)
	return q.to(q.r.URL.Path)
}
