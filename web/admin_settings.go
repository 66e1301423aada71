package web

import (
	"net/http"
	"strings"
)

// DeskSetting is a setting of the server as the admin page shows it.
type DeskSetting struct {
	Name, Group, Value, Origin string
	// Secret: its value is never shown; Set reports whether there is one.
	Secret, Set bool
}

// showSettings is /admin/settings: the values that hold, and where they come from.
func (p *AdminPages) showSettings(q *deskQuery) error {
	page := &Desk{Title: Msg("desk.part-settings"), Lead: Msg("desk.settings-lead")}
	if len(p.Warnings) > 0 {
		page.Sections = append(page.Sections, Section{Title: Msg("desk.settings-ignored"), Code: p.Warnings})
	}
	var groups []string
	byGroup := map[string]*DeskTable{}
	for _, one := range p.Settings {
		t := byGroup[one.Group]
		if t == nil {
			t = &DeskTable{Columns: []Text{Msg("desk.setting"), Msg("desk.setting-value"), Msg("desk.setting-from")}}
			byGroup[one.Group], groups = t, append(groups, one.Group)
		}
		value := any(Name(one.Value))
		switch {
		case !one.Set:
			value = Msg("desk.setting-none")
		case one.Secret:
			value = Msg("desk.setting-secret")
		}
		t.Rows = append(t.Rows, DeskRow{Cells: []Cell{
			{Lines: []any{Name(one.Name)}},
			{Lines: []any{value}},
			{Lines: []any{Msg("desk.from-" + one.Origin)}},
		}})
	}
	for _, g := range groups {
		page.Sections = append(page.Sections, Section{Title: Msg("desk.settings-" + strings.ReplaceAll(g, " ", "-")), Table: byGroup[g]})
	}
	return p.render(q, http.StatusOK, page)
}
