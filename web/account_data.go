package web

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"nestbox/account"
	"nestbox/export"
	"nestbox/request"
	"nestbox/signin"
)

// showData is GET …/data.
func (p *AccountPages) showData(q *query) error {
	plan, err := p.Exports.Plan(q.r.Context(), q.account)
	if err != nil {
		return err
	}
	page := &Data{Files: plan.Files, Size: plan.Bytes}
	for i, part := range plan.Parts {
		page.Parts = append(page.Parts, DataPart{Number: i + 1, Files: part.Files, Size: part.Bytes})
	}
	if q.account.Status() == account.Active {
		page.Repo = "/xrpc/com.atproto.sync.getRepo?did=" + q.account.DID.String()
	}
	page.Frame, _ = p.frame(q, q.visit.ID)
	p.Pages.Render(q.w, q.r, http.StatusOK, page)
	return nil
}

// takeData is the form of that page: after a proof, everything or a part is sent.
func (p *AccountPages) takeData(q *query) error {
	return p.steppedUp(signin.Export, Msg("act.export"), p.sendArchive)(q)
}

// The pace at which a download must go on, in bytes a second, and how far it may be behind:
// a slower one is cut off, since it holds a place that others need.
const (
	archivePace     = 64 << 10
	archivePatience = 2 * time.Minute
)

// sendArchive sends an archive while it is made. A fault behind its first bytes cuts the
// connection, so that nobody takes it for whole.
func (p *AccountPages) sendArchive(q *query) error {
	part, err := strconv.Atoi(q.typed("part"))
	if err != nil {
		return q.to(q.r.URL.Path)
	}
	x, err := p.Exports.Begin(q.r.Context(), q.account, part)
	switch {
	case errors.Is(err, export.ErrPart):
		p.Changed(q.w, q.r)
		return nil
	case err != nil:
		return err
	}
	defer x.Close()
	h := q.w.Header()
	h.Set("Content-Type", "application/zip")
	h.Set("Content-Disposition", `attachment; filename="`+x.Name+`"`)
	out := &pacedWriter{w: q.w, conn: http.NewResponseController(q.w), began: time.Now()}
	if err := x.Write(q.r.Context(), out); err != nil {
		if out.sent == 0 {
			h.Del("Content-Disposition")
			return err
		}
		if q.r.Context().Err() == nil && !out.failed {
			request.Fail(q.r.Context(), http.StatusServiceUnavailable, "Unavailable", fmt.Errorf("archive of %s: %w", q.account.DID, err))
		}
		request.Break(q.r.Context())
	}
	return nil
}

// pacedWriter gives each part of an answer its own time, and the whole a pace.
type pacedWriter struct {
	w      http.ResponseWriter
	conn   *http.ResponseController
	began  time.Time
	sent   int64
	failed bool
}

func (p *pacedWriter) Write(b []byte) (int, error) {
	deadline := p.began.Add(archivePatience + time.Duration(p.sent/archivePace)*time.Second)
	if err := p.conn.SetWriteDeadline(deadline); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	n, err := p.w.Write(b)
	p.sent += int64(n)
	p.failed = p.failed || err != nil
	return n, err
}
