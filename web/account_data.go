package web

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"nestbox/blob"
	"nestbox/export"
	"nestbox/repo"
	"nestbox/request"
	"nestbox/signin"
)

// showData is GET …/data.
func (p *AccountPages) showData(q *query) error { return p.askData(q, http.StatusOK) }

// askData shows the page.
func (p *AccountPages) askData(q *query, status int, problems ...Problem) error {
	plan, err := p.Exports.Plan(q.r.Context(), q.account)
	if err != nil {
		return err
	}
	page := &Data{Files: plan.Files, Size: plan.Bytes}
	for i, part := range plan.Parts {
		page.Parts = append(page.Parts, DataPart{Number: i + 1, Files: part.Files, Size: part.Bytes})
	}
	page.Frame, _ = p.frame(q, q.visit.ID, problems...)
	p.Pages.Render(q.w, q.r, status, page)
	return nil
}

// takeData is the form of that page: the repository is sent at once, since it is what everybody
// may see; all else, which is private, after a proof.
func (p *AccountPages) takeData(q *query) error {
	if q.typed("part") == "repo" {
		x, err := p.Exports.BeginRepo(q.r.Context(), q.account)
		if errors.Is(err, repo.ErrNoRepo) {
			p.Missing(q.w, q.r)
			return nil
		}
		return p.sendArchive(q, "application/vnd.ipld.car", x, err)
	}
	return p.steppedUp(signin.Export, Msg("act.export"), p.sendPrivate)(q)
}

// sendPrivate sends preferences, everything, or a part.
func (p *AccountPages) sendPrivate(q *query) error {
	if q.typed("part") == "preferences" {
		name, content, err := p.Exports.Preferences(q.r.Context(), q.account)
		if err != nil {
			return err
		}
		q.w.Header().Set("Content-Type", "application/json")
		q.w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
		_, _ = q.w.Write(content) //nolint:gosec // JSON, as its type says; a client that has gone needs no answer
		return nil
	}
	part, err := strconv.Atoi(q.typed("part"))
	if err != nil {
		return q.to(q.r.URL.Path)
	}
	x, err := p.Exports.Begin(q.r.Context(), q.account, part)
	if errors.Is(err, export.ErrPart) {
		p.Changed(q.w, q.r)
		return nil
	}
	return p.sendArchive(q, "application/zip", x, err)
}

// showFiles is GET …/files: a list of the files, each with its link.
func (p *AccountPages) showFiles(q *query) error {
	kept, next, err := p.Exports.FilesAfter(q.r.Context(), q.account, q.r.URL.Query().Get("after"))
	if err != nil {
		return err
	}
	page := &Files{First: q.r.URL.Query().Get("after") == ""}
	for i := range kept {
		k := &kept[i]
		row := FileRow{Name: k.CID.String(), Type: k.MimeType, Size: Bytes(k.Size), Records: k.Records, TakenDown: k.TakenDown}
		row.Href = shownAccount(q.account).Path("file") + "?cid=" + row.Name
		page.Rows = append(page.Rows, row)
	}
	if next != "" {
		page.Next = q.r.URL.Path + "?after=" + next
	}
	page.Frame, _ = p.frame(q, q.visit.ID)
	p.Pages.Render(q.w, q.r, http.StatusOK, page)
	return nil
}

// sendFile is GET …/file: one of them.
func (p *AccountPages) sendFile(q *query) error {
	err := p.Exports.SendFile(q.w, q.r, q.account, q.r.URL.Query().Get("cid"))
	if errors.Is(err, blob.ErrNotFound) {
		p.Missing(q.w, q.r)
		return nil
	}
	return err
}

// The pace at which a download must go on, in bytes a second, and how far it may be behind:
// a slower one is cut off, since it holds a place that others need.
const (
	archivePace     = 64 << 10
	archivePatience = 2 * time.Minute
)

// noPlace shows the page again for a download that found no place: another one of the
// account is under way, or too many of others are, which is not the person's doing.
func (p *AccountPages) noPlace(q *query, err error) error {
	q.w.Header().Set("Retry-After", request.ErrTooMany{Wait: busyWait}.RetryAfter())
	if errors.Is(err, export.ErrRunning) {
		return p.askData(q, http.StatusTooManyRequests, Problem{Text: Msg("data.running")})
	}
	request.SetRefusal(q.r.Context())
	return p.askData(q, http.StatusServiceUnavailable, Problem{Text: Msg("data.busy")})
}

// sendArchive sends an archive while it is made, unless it could not begin. A fault behind its
// first bytes cuts the connection, so that nobody takes it for whole.
func (p *AccountPages) sendArchive(q *query, kind string, x *export.Archive, err error) error {
	switch {
	case errors.Is(err, export.ErrRunning), errors.Is(err, export.ErrBusy), errors.Is(err, repo.ErrBusy):
		return p.noPlace(q, err)
	case err != nil:
		return err
	}
	defer x.Close()
	h := q.w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Disposition", `attachment; filename="`+x.Name+`"`)
	out := &pacedWriter{w: q.w, conn: http.NewResponseController(q.w), began: time.Now(), moved: x.Moved}
	x.Watch(func() {
		// The current write ends, and the connection with it. A writer without deadlines is
		// not a connection.
		_ = out.conn.SetWriteDeadline(time.Unix(1, 0))
	})
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
	moved  func() bool // reports whether the download still has its place
	sent   int64
	failed bool
}

// errPlaceLost: nobody read a download while another person waited. Its connection is cut.
var errPlaceLost = errors.New("download was given up for another one, since nobody read it")

func (p *pacedWriter) Write(b []byte) (int, error) {
	deadline := p.began.Add(archivePatience + time.Duration(p.sent/archivePace)*time.Second)
	if err := p.conn.SetWriteDeadline(deadline); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return 0, err
	}
	if !p.moved() { // behind the deadline, which would undo that of the loss
		p.failed = true
		return 0, errPlaceLost
	}
	n, err := p.w.Write(b)
	p.sent += int64(n)
	p.failed = p.failed || err != nil
	return n, err
}
