package web

import (
	"net/http"
	"time"

	"nestbox/account"
	"nestbox/admin"
)

// showStart is GET /admin/: what needs attention.
func (p *AdminPages) showStart(q *deskQuery) error {
	if q.r.URL.Path != DeskPath {
		return p.missing(q)
	}
	page := &Desk{Title: Msg("desk.part-start"), Lead: Msg("desk.start-lead", "host", Name(p.Pages.settings.Hostname))}
	if q.who.Role.Holds(admin.RoleAdmin) {
		attention, err := p.attention(q)
		if err != nil {
			return err
		}
		page.Sections = append(page.Sections, attention)
	}
	today, err := p.takedownsOfToday(q)
	if err != nil {
		return err
	}
	page.Sections = append(page.Sections, today, Section{
		ID: "server", Title: Msg("desk.server"),
		Facts: []Fact{{Msg("desk.version"), []any{Name(p.Version)}}, {Msg("desk.running"), []any{p.Started}}},
	})
	return p.render(q, http.StatusOK, page)
}

// attention lists what the last look found wrong, and mail that fails.
func (p *AdminPages) attention(q *deskQuery) (Section, error) {
	s := Section{ID: "attention", Title: Msg("desk.attention")}
	last := p.Admin.Examiner.Last()
	t := &DeskTable{Columns: []Text{Msg("desk.attention-what"), Msg("desk.attention-says")}}
	for _, f := range last.Found {
		if !f.OK {
			t.Rows = append(t.Rows, DeskRow{Cells: []Cell{
				{Lines: []any{Badge{Failure, Msg("desk.attention-fault")}, Name(f.What)}},
				{Lines: []any{English(f.Says)}},
			}})
		}
	}
	waiting, err := p.Admin.Views.Waiting(q.r.Context())
	if err != nil {
		return s, err
	}
	if waiting.Failed > 0 {
		t.Rows = append(t.Rows, DeskRow{Cells: []Cell{
			{Lines: []any{Badge{Warning, Msg("desk.attention-warning")}, Msg("desk.attention-mail")}},
			{Lines: []any{Msg("desk.mail-failing", "count", int(waiting.Failed), "since", waiting.OldestAt)}},
		}})
	}
	s.Table = t
	switch {
	case len(t.Rows) > 0 && !last.At.IsZero():
		s.Body = []Text{Msg("desk.looked", "time", last.At)}
	case len(t.Rows) > 0:
	case last.At.IsZero():
		s.Empty = Msg("desk.looking")
	default:
		s.Empty = Msg("desk.all-well", "time", last.At)
	}
	return s, nil
}

// takedownsOfToday lists what was taken down since midnight (UTC).
func (p *AdminPages) takedownsOfToday(q *deskQuery) (Section, error) {
	s := Section{ID: "takedowns", Title: Msg("desk.takedowns-today"), Table: &DeskTable{
		Columns: []Text{Msg("desk.what"), Msg("desk.audit-whom"), Msg("desk.audit-by"), Msg("desk.when")},
	}}
	since := q.who.At.Truncate(24 * time.Hour).Format(time.RFC3339)
	for _, what := range []string{string(account.EntryTakedown), admin.ActionTakedown} {
		page, err := admin.Do(q.r.Context(), p.Admin, admin.CmdAudit, admin.AuditArgs{What: what, Since: since})
		if err != nil {
			return s, err
		}
		for _, a := range page.Actions[:min(len(page.Actions), takedownsShown)] {
			row := auditRow(a)
			row.Cells[1].Href = accountPath(a.Account)
			s.Table.Rows = append(s.Table.Rows, row)
		}
	}
	if len(s.Table.Rows) == 0 {
		s.Empty = Msg("desk.takedowns-none")
	}
	return s, nil
}

// takedownsShown is how many takedowns of a kind the first page lists.
const takedownsShown = 10
