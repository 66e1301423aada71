package web

import "net/http"

// showStart is GET /admin/: what needs attention.
func (p *AdminPages) showStart(q *deskQuery) error {
	if q.r.URL.Path != DeskPath {
		return p.missing(q)
	}
	page := &Desk{Title: Msg("desk.part-start"), Lead: Msg("desk.start-lead", "host", Name(p.Pages.settings.Hostname))}
	page.Sections = append(page.Sections, Section{
		Title: Msg("desk.server"),
		Facts: []Fact{{Msg("desk.version"), []any{Name(p.Version)}}, {Msg("desk.running"), []any{p.Started}}},
	})
	return p.render(q, http.StatusOK, page)
}
