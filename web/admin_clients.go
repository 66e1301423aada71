package web

import (
	"net/http"

	"nestbox/admin"
)

// programsShown is how many programs /admin/clients lists.
const programsShown = 30

// showClients is /admin/clients: OAuth clients, and programs that sign in with passwords.
func (p *AdminPages) showClients(q *deskQuery) error { return p.acting(q, noInput, p.viewClients) }

func (p *AdminPages) viewClients(q *deskQuery, _ input) error {
	list, err := admin.Do(q.r.Context(), p.Admin, admin.CmdClientList, admin.Done{})
	if err != nil {
		return err
	}
	programs, err := p.Admin.Views.Programs(q.r.Context(), programsShown)
	if err != nil {
		return err
	}
	end, _ := findAct("clients", "client-end")
	fetch, _ := findAct("clients", "client-fetch")
	apps := Section{Title: Msg("desk.clients-oauth"), Table: &DeskTable{
		Columns: []Text{Msg("desk.client"), Msg("desk.client-sessions"), Msg("desk.client-used"), Msg("desk.client-document")}, Numbers: []int{1},
	}}
	for i := range list {
		c := &list[i]
		document := []any{timeOf(c.FetchedAt)}
		if c.Error != "" {
			document = append(document, Badge{Warning, Msg("desk.client-failed")}, Stranger(c.Error), timeOf(c.FailedAt))
		}
		link, again := end.link(q.r.URL.Path, "client", c.ClientID), fetch.link(q.r.URL.Path, "client", c.ClientID)
		link.Of, again.Of = appName(c.ClientID), appName(c.ClientID)
		name := []any{appName(c.ClientID), Name(c.ClientID)}
		if c.Trusted {
			name = append(name, Badge{Success, Msg("desk.client-trusted")})
		}
		apps.Table.Rows = append(apps.Table.Rows, DeskRow{
			Cells: []Cell{
				{Lines: name},
				{Lines: []any{Count(c.Sessions), Msg("desk.client-accounts", "count", int(c.Accounts))}},
				{Lines: []any{timeOf(c.UsedAt)}},
				{Lines: document},
			},
			Acts: []DeskLink{again, link},
		})
	}
	if len(list) == 0 {
		apps.Empty = Msg("desk.clients-none")
	}
	old := Section{Title: Msg("desk.clients-old"), Table: &DeskTable{
		Columns: []Text{Msg("desk.program"), Msg("desk.client-sessions")},
		Numbers: []int{1},
	}}
	for _, one := range programs {
		name := any(Msg("desk.program-unnamed"))
		if one.UserAgent != "" {
			name = Stranger(one.UserAgent)
		}
		old.Table.Rows = append(old.Table.Rows, DeskRow{Cells: []Cell{{Lines: []any{name}}, {Lines: []any{Count(one.Sessions)}}}})
	}
	if len(programs) == 0 {
		old.Empty = Msg("desk.programs-none")
	}
	return p.render(q, http.StatusOK, &Desk{Title: Msg("desk.part-clients"), Lead: Msg("desk.clients-lead"), Sections: []Section{apps, old}})
}
