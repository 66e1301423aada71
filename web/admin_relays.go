package web

import (
	"net/http"

	"nestbox/admin"
)

// showRelays is /admin/relays: what each relay knows of this server, once somebody asks for
// it, and how the last request to be crawled went.
func (p *AdminPages) showRelays(q *deskQuery) error { return p.acting(q, noInput, p.viewRelays) }

func (p *AdminPages) viewRelays(q *deskQuery, _ input) error {
	asked := q.asked("ask") != ""
	var st admin.RelayStatus
	var err error
	if asked {
		st, err = admin.Do(q.r.Context(), p.Admin, admin.CmdRelayStatus, admin.Done{})
	} else {
		st, err = p.Admin.Relays(q.r.Context())
	}
	if err != nil {
		return err
	}
	ours := Section{Title: Msg("desk.relay-ours"), Facts: []Fact{
		{Msg("desk.events-last"), []any{Count(st.Seq)}},
		{Msg("desk.relay-accounts"), []any{Count(st.Accounts)}},
	}}
	if st.Limit > 0 {
		ours.Facts[1].Values = append(ours.Facts[1].Values, Msg("desk.relay-limit", "limit", Count(st.Limit)))
	}
	theirs := Section{Title: Msg("desk.relay-theirs"), Table: &DeskTable{Columns: []Text{
		Msg("desk.relay"), Msg("desk.state"), Msg("desk.relay-seen"), Msg("desk.relay-accounts"), Msg("desk.relay-asked"),
	}, Numbers: []int{2, 3}}}
	crawl, _ := findAct("relays", "crawl")
	for i := range st.Relays {
		row := relayRow(&st.Relays[i], asked)
		link := crawl.link(q.r.URL.Path, "relay", st.Relays[i].Relay)
		link.Of = Name(st.Relays[i].Relay)
		row.Acts = []DeskLink{link}
		theirs.Table.Rows = append(theirs.Table.Rows, row)
	}
	if len(st.Relays) == 0 {
		theirs.Empty = Msg("desk.relays-none")
	} else if !asked {
		theirs.Acts = []DeskLink{{Href: q.r.URL.Path + "?ask=1", Text: Msg("desk.relays-ask")}}
	}
	return p.render(q, http.StatusOK, &Desk{Title: Msg("desk.part-relays"), Lead: Msg("desk.relays-lead"), Sections: []Section{ours, theirs}})
}

// relayRow is the row of a relay.
func relayRow(r *admin.RelayLine, asked bool) DeskRow {
	state, seen, accounts := Cell{Lines: []any{Msg("desk.relay-unknown")}}, Cell{Lines: []any{"–"}}, Cell{Lines: []any{"–"}}
	switch {
	case !asked:
	case r.Unseen:
		state.Lines = []any{Badge{Warning, Msg("desk.relay-unseen")}}
	case r.Error != "":
		state.Lines = []any{Badge{Failure, Msg("desk.attention-fault")}, English(r.Error)}
	default:
		kind := Success
		if r.Status != "active" && r.Status != "idle" {
			kind = Warning
		}
		state.Lines = []any{Badge{kind, Msg("desk.relay-says", "status", Name(r.Status))}}
		seen.Lines, accounts.Lines = []any{Count(r.Seq)}, []any{Count(r.Accounts)}
	}
	last := Cell{Lines: []any{timeOf(r.AskedAt)}}
	if r.AskedError != "" {
		last.Lines = append(last.Lines, English(r.AskedError))
	}
	return DeskRow{Cells: []Cell{{Lines: []any{Name(r.Relay)}}, state, seen, accounts, last}}
}
