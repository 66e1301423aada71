package webtest

import (
	"fmt"

	"nestbox/web"
)

// deskFrame is what the pages below /admin have in common; current is the part that is shown.
func deskFrame(path, current string, problems ...web.Problem) web.Frame {
	f := place(path, problems...)
	f.Desk = &web.DeskFrame{Who: web.Name("@operator-with-a-name.example.com"), Role: web.Msg("desk.role-admin"), SignOut: "dG9rZW4"}
	for _, g := range [][]string{{"people", "start", "accounts", "content", "invites", "sessions", "clients"}, {"server", "load", "storage", "doctor", "relays", "firehose", "mail", "settings", "audit"}} {
		group := web.NavGroup{Title: web.Msg("desk.group-" + g[0])}
		for _, part := range g[1:] {
			group.Items = append(group.Items, web.NavItem{Href: web.DeskPath + part, Text: web.Msg("desk.part-" + part), Current: part == current})
		}
		f.Desk.Groups = append(f.Desk.Groups, group)
	}
	return f
}

func badge(kind web.Kind, id string) web.Badge { return web.Badge{Kind: kind, Text: web.Msg(id)} }

func cell(lines ...any) web.Cell { return web.Cell{Lines: lines} }

func links(ids ...string) (out []web.DeskLink) {
	for _, id := range ids {
		out = append(out, web.DeskLink{Href: "?act=x", Text: web.Msg("desk." + id + "-button"), Danger: id == "takedown" || id == "delete" || id == "suspend"})
	}
	return out
}

// deskAccounts are rows of the list: usual ones, and names that strangers chose.
func deskAccounts() *web.DeskTable {
	t := &web.DeskTable{Columns: []web.Text{web.Msg("desk.account"), web.Msg("desk.address"), web.Msg("desk.state"), web.Msg("desk.made")}}
	states := [][]any{
		{badge(web.Success, "desk.state-active")},
		{badge(web.Failure, "desk.state-takendown"), web.Msg("desk.case", "ref", web.Stranger(hostile))},
		{badge(web.Warning, "desk.state-suspended")},
		{badge(web.Info, "desk.state-deactivated")},
	}
	for i := range 12 {
		name, address := fmt.Sprintf("@person-%d.example.com", i), []any{web.Name(fmt.Sprintf("person%d@example.com", i))}
		switch i {
		case 2:
			name = "@" + long
		case 3:
			address = []any{web.Name("مدونة@example.com"), web.Msg("desk.unconfirmed")}
		case 5:
			address = []any{web.Msg("desk.no-address")}
		}
		t.Rows = append(t.Rows, web.DeskRow{Cells: []web.Cell{
			{Href: web.DeskPath + "accounts/" + did, Lines: []any{web.Name(name), web.Name(did)}}, {Lines: address}, {Lines: states[i%len(states)]}, cell(at(day * 3)),
		}})
	}
	return t
}

func deskStart() []Sample {
	start := func(sections ...web.Section) *web.Desk {
		return &web.Desk{
			Frame: deskFrame(web.DeskPath, "start"), Title: web.Msg("desk.part-start"),
			Lead: web.Msg("desk.start-lead", "host", web.Name("pds.example.com")), Sections: sections,
		}
	}
	server := web.Section{Title: web.Msg("desk.server"), Facts: []web.Fact{
		{Label: web.Msg("desk.version"), Values: []any{web.Name("1.4.0")}}, {Label: web.Msg("desk.running"), Values: []any{at(12 * day)}},
	}}
	attention := web.Section{Title: web.Msg("desk.attention"), Body: []web.Text{web.Msg("desk.looked", "time", at(0))}, Table: &web.DeskTable{
		Columns: []web.Text{web.Msg("desk.attention-what"), web.Msg("desk.attention-says")},
		Rows: []web.DeskRow{
			{Cells: []web.Cell{cell(badge(web.Failure, "desk.attention-fault"), web.Name("handles")), cell(web.Name("https://handle-of-nobody.example.com/.well-known/atproto-did leads elsewhere: make a wildcard record"))}},
			{Cells: []web.Cell{cell(badge(web.Warning, "desk.attention-warning"), web.Msg("desk.attention-mail")), cell(web.Msg("desk.mail-failing", "count", 12, "since", at(day)))}},
		},
	}}
	none := web.Section{Title: web.Msg("desk.takedowns-today"), Empty: web.Msg("desk.takedowns-none")}
	return []Sample{
		{"admin-start", web.DeskPath, 200, start(attention, none, server)},
		{"admin-start-well", web.DeskPath, 200, start(web.Section{Title: web.Msg("desk.attention"), Empty: web.Msg("desk.all-well", "time", at(0))}, none, server)},
	}
}

func deskAccount() *web.Desk {
	path := web.DeskPath + "accounts/" + did
	trail := &web.DeskTable{Columns: []web.Text{web.Msg("desk.what"), web.Msg("desk.when"), web.Msg("desk.from")}}
	sessions := &web.DeskTable{Columns: []web.Text{web.Msg("sessions.what"), web.Msg("sessions.used"), web.Msg("desk.made")}}
	for i := range 6 {
		trail.Rows = append(trail.Rows, web.DeskRow{Cells: []web.Cell{
			cell(web.Name("refresh-refused"), web.Msg("desk.by", "actor", web.Name("owner")), web.Stranger(emoji)), cell(at(day)), cell(web.Name("2001:db8:1234::/48"), web.Stranger(hostile)),
		}})
		sessions.Rows = append(sessions.Rows, web.DeskRow{
			Cells: []web.Cell{cell(web.Stranger(arabic), web.Msg("desk.app-password", "name", web.Stranger(emoji))), cell(at(day), web.Name("192.0.2.0/24")), cell(at(9 * day))},
			Acts:  []web.DeskLink{{Href: fmt.Sprintf("?act=session-end&session=%d", i), Text: web.Msg("desk.session-end-button"), Of: web.Stranger(arabic), Danger: true}},
		})
	}
	return &web.Desk{
		Frame: deskFrame(path, "accounts"), Title: web.Msg("desk.account-title", "account", web.Name("@alice.example.com")),
		Up: &web.Link{URL: web.DeskPath + "accounts", Text: web.Msg("desk.part-accounts")},
		Sections: []web.Section{
			{Facts: []web.Fact{
				{Label: web.Msg("desk.state"), Values: []any{badge(web.Failure, "desk.state-takendown"), web.Msg("desk.case", "ref", web.Stranger("2026-114"))}},
				{Label: web.Msg("desk.address"), Values: []any{web.Name("alice@example.com"), web.Msg("desk.unconfirmed")}},
				{Label: web.Msg("desk.did"), Values: []any{web.Name(did)}},
				{Label: web.Msg("desk.made"), Values: []any{at(400 * day)}},
				{Label: web.Msg("desk.stored"), Values: []any{web.Msg("desk.records", "count", 12345, "n", web.Count(12345)), web.Msg("desk.blobs", "count", 678, "n", web.Count(678), "size", web.Bytes(5_432_100_000))}},
			}, Acts: links("untakedown", "suspend", "mail")},
			{Title: web.Msg("desk.ways-title"), Facts: []web.Fact{
				{Label: web.Msg("desk.factor-totp"), Values: []any{badge(web.Success, "desk.on")}},
				{Label: web.Msg("desk.factor-passkeys"), Values: []any{web.Count(2)}},
				{Label: web.Msg("desk.factor-mail"), Values: []any{web.Msg("desk.off")}},
			}, Acts: links("reset", "password", "email", "handle", "codes-off", "factors-off")},
			{Title: web.Msg("desk.identity-title"), Body: []web.Text{web.Msg("desk.identity-body")}, Acts: links("repair", "rotate")},
			{Title: web.Msg("desk.sessions-title", "count", 6), Table: sessions, Acts: links("signout")},
			{Title: web.Msg("desk.trail-title"), Table: trail},
			{Title: web.Msg("desk.end-title"), Body: []web.Text{web.Msg("desk.end-body")}, Acts: links("delete")},
		},
	}
}

func desks() []Sample {
	key := &web.Passkey{Options: options, Ceremony: "c2VhbGVk", Conditional: true}
	const in, accounts = "/admin/sign-in", "/admin/accounts"
	filter := &web.DeskFilter{
		Fields: []web.ActField{{Name: "q", Label: "desk.search-text", Kind: web.CodeField, Value: emoji}, {Name: "network", Label: "desk.search-network", Kind: web.CodeField}},
		Ways:   []web.NavItem{{Href: accounts, Text: web.Msg("desk.states-all"), Current: true}, {Href: accounts + "?state=new", Text: web.Msg("desk.states-new")}, {Href: accounts + "?state=unconfirmed", Text: web.Msg("desk.states-unconfirmed")}},
	}
	list := func(s web.Section) *web.Desk {
		return &web.Desk{Frame: deskFrame(accounts, "accounts"), Title: web.Msg("desk.part-accounts"), Filter: filter, Sections: []web.Section{s}}
	}
	ask := func(path, name string, danger bool, problems []web.Problem, fields ...web.ActField) *web.DeskAct {
		return &web.DeskAct{
			Frame: deskFrame(path, "accounts", problems...), Title: web.Msg("desk."+name+"-title", "account", web.Name("@"+long)), Body: []web.Text{web.Msg("desk." + name + "-body")},
			Button: web.Msg("desk." + name + "-button"), Danger: danger, Hidden: []web.Field{{Name: "act", Value: name}},
			Fields:  append(fields, web.ActField{Name: "note", Label: "desk.note", Hint: "desk.note-hint", Kind: web.TextField}),
			Command: "nestbox account takedown " + did + " --ref 'case 12'", Back: path,
		}
	}
	numbers := &web.DeskTable{
		Columns: []web.Text{web.Msg("desk.subscriber"), web.Msg("desk.subscriber-since"), web.Msg("desk.subscriber-sent"), web.Msg("desk.subscriber-behind")}, Numbers: []int{2, 3},
		Rows: []web.DeskRow{{Cells: []web.Cell{cell(web.Name("2001:db8:1234:5678::1"), web.Stranger(hostile)), cell(at(day)), cell(web.Count(1_234_567)), cell(web.Count(0))}, Acts: links("disconnect")}},
	}
	path := accounts + "/" + did
	return append(deskStart(),
		Sample{"admin-signin", in, 200, &web.AdminSignIn{Frame: place(in), Passkey: key}},
		Sample{"admin-signin-wrong", in, 422, &web.AdminSignIn{Frame: place(in, wrong("password", "desk.signin-wrong")), Name: "admin"}},
		Sample{"admin-accounts", accounts, 200, list(web.Section{Table: deskAccounts(), More: &web.Link{URL: accounts + "?before=7", Text: web.Msg("desk.older")}})},
		Sample{"admin-accounts-none", accounts, 200, list(web.Section{Empty: web.Msg("desk.accounts-none")})},
		Sample{"admin-account", path, 200, deskAccount()},
		Sample{"admin-takedown", path, 200, ask(path, "takedown", true, nil)},
		Sample{"admin-mail-wrong", path, 422, ask(path, "mail", false, []web.Problem{wrong("subject", "desk.field-missing"), wrong("text", "desk.field-missing")},
			web.ActField{Name: "subject", Label: "desk.mail-subject", Kind: web.TextField, Required: true}, web.ActField{Name: "text", Label: "desk.mail-text", Kind: web.AreaField, Required: true})},
		Sample{"admin-password", path, 200, &web.Desk{Frame: deskFrame(path, "accounts"), Title: web.Msg("desk.password-done"), Sections: []web.Section{{Body: []web.Text{web.Msg("desk.once")}, Code: []string{"k3wq7ymz2h5tq6r8v4nbx3pd"}}}}},
		Sample{"admin-content", "/admin/content", 200, &web.Desk{
			Frame: deskFrame("/admin/content", "content"), Title: web.Msg("desk.part-content"), Lead: web.Msg("desk.content-lead"),
			Filter: &web.DeskFilter{Fields: []web.ActField{
				{Name: "uri", Label: "desk.content-uri", Kind: web.CodeField, Value: "at://" + did + "/app.bsky.feed.post/3k2yihcrp6f2c"},
				{Name: "account", Label: "desk.content-account", Kind: web.CodeField},
				{Name: "blob", Label: "desk.content-blob", Kind: web.CodeField},
			}},
			Sections: []web.Section{{Facts: []web.Fact{
				{Label: web.Msg("desk.account"), Values: []any{web.Name(did)}},
				{Label: web.Msg("desk.content-cid"), Values: []any{web.Name("bafyreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy")}},
				{Label: web.Msg("desk.state"), Values: []any{badge(web.Success, "desk.content-shown")}},
			}, Code: []string{"{", `  "$type": "app.bsky.feed.post",`, `  "text": "` + hostile + `",`, `  "long": "` + long + long + `"`, "}"}, Acts: links("content-takedown")}},
		}},
		Sample{"admin-audit-wrong", "/admin/audit", 422, &web.Desk{
			Frame: deskFrame("/admin/audit", "audit", wrong("since", "desk.day-wrong")), Title: web.Msg("desk.part-audit"), Lead: web.Msg("desk.audit-lead"),
			Filter: &web.DeskFilter{Fields: []web.ActField{
				{Name: "account", Label: "desk.audit-account", Kind: web.CodeField},
				{Name: "who", Label: "desk.audit-who", Kind: web.CodeField},
				{Name: "what", Label: "desk.audit-what", Kind: web.CodeField},
				{Name: "since", Label: "desk.audit-since", Kind: web.CodeField, Value: "yesterday"},
			}},
			Sections: []web.Section{{Empty: web.Msg("desk.audit-none")}},
		}},
		Sample{"admin-firehose", "/admin/firehose", 200, &web.Desk{Frame: deskFrame("/admin/firehose", "firehose"), Title: web.Msg("desk.part-firehose"), Lead: web.Msg("desk.firehose-lead"), Sections: []web.Section{
			{Facts: []web.Fact{{Label: web.Msg("desk.events-last"), Values: []any{web.Count(1_234_567)}}, {Label: web.Msg("desk.events-size"), Values: []any{web.Bytes(123_456_789)}}}},
			{Title: web.Msg("desk.subscribers"), Table: numbers},
		}}},
	)
}
