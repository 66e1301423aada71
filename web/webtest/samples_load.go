package webtest

import (
	"math"
	"time"

	"nestbox/web"
)

// wave returns n values that go up and down around a middle, none before known.
func wave(n, known int, middle float64) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = web.Unknown()
		if i >= known {
			out[i] = middle * (1 + math.Sin(float64(i)/20) + math.Abs(math.Sin(float64(i*i)))/3)
		}
	}
	return out
}

func plot(name string, unit web.PlotUnit, n, known int, lines map[string]float64, order ...string) *web.Plot {
	p := &web.Plot{
		Name: name, Title: web.Msg("load." + name), Span: web.Msg("load.span-day"), From: at(day).Truncate(time.Minute), Step: 24 * time.Hour / time.Duration(n),
		Unit: unit, More: &web.Link{URL: "?show=" + name, Text: web.Msg("load.more-day")},
	}
	for _, line := range order {
		p.Lines = append(p.Lines, web.PlotLine{Label: web.Msg("load." + name + "-" + line), Values: wave(n, known, lines[line])})
	}
	return p
}

// plots are all plots of the load, of which nothing is known before a value.
func plots(known int) []*web.Plot {
	const n = 288
	ms := float64(time.Millisecond)
	return []*web.Plot{
		plot("requests", web.PlotNumber, n, known, map[string]float64{"succeeded": 1200, "redirected": 40, "refused": 130, "failed": 0.4}, "succeeded", "redirected", "refused", "failed"),
		plot("took", web.PlotDuration, n, known, map[string]float64{"p50": 1.4 * ms, "p99": 60 * ms}, "p50", "p99"),
		plot("refreshes", web.PlotNumber, n, known, map[string]float64{"moved": 12, "repeated": 0.7}, "moved", "repeated", "refused"),
		plot("signins", web.PlotNumber, n, known, map[string]float64{"failed": 0.3}, "failed"),
		plot("writes", web.PlotNumber, n, known, map[string]float64{"writes": 20, "events": 31}, "writes", "events"),
		plot("saved", web.PlotDuration, n, known, map[string]float64{"p50": 2.1 * ms, "p99": 8.9 * ms}, "p50", "p99"),
		plot("subscribers", web.PlotNumber, n, known, map[string]float64{"most": 3}, "most"),
		plot("memory", web.PlotBytes, n, known, map[string]float64{"most": 90 << 20}, "most"),
		plot("cpu", web.PlotPercent, n, known, map[string]float64{"used": 11}, "used"),
	}
}

func loads() []Sample {
	const path = "/admin/load"
	page := func(up bool, title string, s ...web.Section) *web.Desk {
		d := &web.Desk{Frame: deskFrame(path, "load"), Title: web.Msg(title), Lead: web.Msg("load.lead-day"), Sections: s, Filter: &web.DeskFilter{Ways: []web.NavItem{
			{Href: path + "?span=day", Text: web.Msg("load.span-day"), Current: true}, {Href: path + "?span=month", Text: web.Msg("load.span-month")},
		}}}
		if up {
			d.Lead, d.Up = web.Msg("load.lead-one-day"), &web.Link{URL: path, Text: web.Msg("desk.part-load")}
		}
		return d
	}
	one := plot("requests", web.PlotNumber, 60, 0, map[string]float64{"succeeded": 1200, "redirected": 40, "refused": 130}, "succeeded", "redirected", "refused", "failed")
	one.More = nil
	table := &web.DeskTable{Columns: []web.Text{web.Msg("load.when")}, Numbers: []int{1, 2, 3, 4}}
	for _, l := range one.Lines {
		table.Columns = append(table.Columns, l.Label)
	}
	for i := range 60 {
		row := web.DeskRow{Cells: []web.Cell{cell(at(time.Duration(i) * time.Minute))}}
		for _, l := range one.Lines {
			row.Cells = append(row.Cells, cell(one.Unit.Value(l.Values[59-i])))
		}
		table.Rows = append(table.Rows, row)
	}
	return []Sample{
		{"admin-load", path, 200, page(false, "desk.part-load", web.Section{Plots: plots(70)})},
		{"admin-load-none", path, 200, page(false, "desk.part-load", web.Section{Plots: plots(288)})},
		{"admin-load-requests", path, 200, page(true, "load.requests", web.Section{
			Plots: []*web.Plot{one}, Table: table, More: &web.Link{URL: "?page=1", Text: web.Msg("desk.older")},
		})},
	}
}

// storages are the page of the storage, with much and with nothing.
func storages() []Sample {
	const path = "/admin/storage"
	unknown := web.Msg("storage.growth-unknown")
	page := func(much bool) *web.Desk {
		backups := []any{web.Msg("storage.backup-unknown")}
		if much {
			backups = []any{
				at(day), web.Msg("storage.backup-verified", "time", at(5*day)),
				web.Badge{Kind: web.Failure, Text: web.Msg("storage.backup-unsent")},
				web.English("the store of the backups cannot be reached: what was written waits until it can"),
			}
		}
		held := web.Section{Facts: []web.Fact{
			{Label: web.Msg("storage.database"), Values: []any{web.Bytes(12_345_678_901), web.Msg("storage.event-log", "size", web.Bytes(2_000_000_000))}},
			{Label: web.Msg("desk.wal-size"), Values: []any{web.Bytes(4 << 20)}},
			{Label: web.Msg("storage.blobs"), Values: []any{web.Bytes(987_654_321_098), web.Msg("storage.blob-count", "count", 1_234_567, "n", web.Count(1_234_567))}},
			{Label: web.Msg("storage.transfers"), Values: []any{web.Bytes(0)}},
			{Label: web.Msg("storage.unused"), Values: []any{web.Bytes(5 << 20), web.Msg("storage.blob-count", "count", 1, "n", web.Count(1)), web.Msg("storage.unused-hint")}},
			{Label: web.Msg("storage.backup"), Values: backups},
		}}
		disks := web.Section{Title: web.Msg("storage.disks"), Table: &web.DeskTable{Numbers: []int{1}, Columns: []web.Text{
			web.Msg("storage.disk"), web.Msg("storage.free"), web.Msg("storage.growth"), web.Msg("storage.days-left"),
		}}}
		big := web.Section{ID: "biggest", Title: web.Msg("storage.biggest"), Table: &web.DeskTable{
			Columns: []web.Text{web.Msg("desk.account"), web.Msg("storage.blobs"), web.Msg("storage.records")}, Numbers: []int{1, 2},
		}}
		row := func(lines ...web.Cell) web.DeskRow { return web.DeskRow{Cells: lines} }
		if !much {
			disks.Table.Rows = []web.DeskRow{row(cell(web.Name("/data")), cell(web.Bytes(40<<30)), cell(unknown), cell(unknown))}
			big.Empty = web.Msg("storage.biggest-none")
			return &web.Desk{Frame: deskFrame(path, "storage"), Title: web.Msg("desk.part-storage"), Lead: web.Msg("storage.looked", "time", at(0)), Sections: []web.Section{held, disks, big}}
		}
		grows := cell(web.Msg("storage.a-day", "size", web.Bytes(700<<20)), web.Msg("storage.since", "time", at(20*day)))
		disks.Table.Rows = []web.DeskRow{
			row(cell(web.Name("/var/lib/nestbox/a/long/path/of/the/data/directory")), cell(web.Bytes(3<<30)), grows, cell(web.Badge{Kind: web.Failure, Text: web.Msg("storage.days", "count", 4, "n", web.Count(4))})),
			row(cell(web.Name("/mnt/blobs")), cell(web.Bytes(40<<30)), cell(web.Msg("storage.a-day", "size", web.Bytes(0))), cell(web.Msg("storage.does-not-grow"))),
		}
		for i := range 20 {
			name := []string{"@alice.example.com", "@" + long}[i%2]
			big.Table.Rows = append(big.Table.Rows, row(
				web.Cell{Href: web.DeskPath + "accounts/" + did, Lines: []any{web.Name(name)}},
				cell(web.Bytes(int64(90)<<30/int64(i+1)), web.Msg("storage.blob-count", "count", 40000, "n", web.Count(40000))), cell(web.Count(100_000/(i+1))),
			))
		}
		return &web.Desk{Frame: deskFrame(path, "storage"), Title: web.Msg("desk.part-storage"), Lead: web.Msg("storage.looked", "time", at(0)), Sections: []web.Section{held, disks, big}}
	}
	return []Sample{{"admin-storage", path, 200, page(true)}, {"admin-storage-new", path, 200, page(false)}}
}

// deskLists are lists of the admin page with much, and with nothing.
func deskLists() []Sample {
	desk := func(part string, s ...web.Section) *web.Desk {
		return &web.Desk{Frame: deskFrame("/admin/"+part, part), Title: web.Msg("desk.part-" + part), Sections: s}
	}
	row := func(acts []web.DeskLink, cells ...web.Cell) web.DeskRow { return web.DeskRow{Cells: cells, Acts: acts} }
	table := func(numbers []int, columns ...string) *web.DeskTable {
		t := &web.DeskTable{Numbers: numbers}
		for _, c := range columns {
			t.Columns = append(t.Columns, web.Msg(c))
		}
		return t
	}
	ended := table(nil, "desk.subscriber", "desk.ended-why", "desk.when")
	behind := table([]int{2, 3}, "desk.subscriber", "desk.subscriber-since", "desk.subscriber-sent", "desk.subscriber-behind")
	mails := table(nil, "desk.mail-subject", "desk.mail-fate", "desk.when")
	signIns := table(nil, "desk.account", "desk.what", "desk.from", "desk.when")
	apps := table([]int{1}, "desk.client", "desk.client-sessions", "desk.client-used", "desk.client-document")
	for i := range 12 {
		ago := at(day * 3)
		behind.Rows = append(behind.Rows, row(links("disconnect"), cell(web.Name("2001:db8:1234:5678::1"), web.Stranger(hostile)), cell(ago), cell(web.Count(1_234_567)), cell(web.Count(i*4000), 90*time.Second)))
		ended.Rows = append(ended.Rows, row(nil, cell(web.Name("192.0.2.1"), web.Stranger(arabic)), cell(web.Name("ConsumerTooSlow")), cell(ago)))
		fate := cell(web.Badge{Kind: web.Failure, Text: web.Msg("desk.mail-given-up")}, web.English("550 5.1.1 <alice@mail.example>: no such user here; see https://mail.example/help/why-was-this-refused-0123456789"))
		if i%2 == 0 {
			fate = cell(web.Badge{Kind: web.Warning, Text: web.Msg("desk.mail-refused")}, web.English("451 4.7.1 try again later"))
		}
		mails.Rows = append(mails.Rows, row(nil, cell(web.Stranger(emoji), web.Name("somebody.with.a.long.address@subdomain.mail.example.com")), fate, cell(ago)))
		signIns.Rows = append(signIns.Rows, row(links("session-end"), web.Cell{Href: web.DeskPath + "accounts/" + did, Lines: []any{web.Name([]string{"@alice.example.com", "@" + long}[i%2])}}, cell(web.Name("sign-in"), web.Stranger(emoji)), cell(web.Name("203.0.113.7"), web.Stranger(hostile)), cell(ago)))
		apps.Rows = append(apps.Rows, row(links("client-fetch", "client-end"), cell(web.Stranger(arabic), web.Name("https://app.example.com/a/long/path/client-metadata.json"), badge(web.Success, "desk.client-trusted")), cell(web.Count(1200), web.Msg("desk.client-accounts", "count", 12)), cell(ago), cell(ago, badge(web.Warning, "desk.client-failed"), web.Stranger("status 404"), ago)))
	}
	return []Sample{
		{"admin-firehose-much", "/admin/firehose", 200, desk("firehose", web.Section{Title: web.Msg("desk.subscribers"), Table: behind}, web.Section{Title: web.Msg("desk.ended"), Table: ended})},
		{"admin-mail-failures", "/admin/mail", 200, desk("mail", web.Section{Title: web.Msg("desk.mail-failures"), Body: []web.Text{web.Msg("desk.mail-failures-body")}, Table: mails})},
		{"admin-mail-none", "/admin/mail", 200, desk("mail", web.Section{Title: web.Msg("desk.mail-failures"), Empty: web.Msg("desk.mail-failures-none")})},
		{"admin-signins", "/admin/sessions", 200, desk("sessions", web.Section{Table: signIns})},
		{"admin-clients", "/admin/clients", 200, desk("clients", web.Section{Title: web.Msg("desk.clients-oauth"), Table: apps}, web.Section{Title: web.Msg("desk.clients-old"), Empty: web.Msg("desk.programs-none")})},
		{"admin-account-create", "/admin/accounts", 200, &web.DeskAct{
			Frame: deskFrame("/admin/accounts", "accounts"), Title: web.Msg("desk.account-create-title"), Body: []web.Text{web.Msg("desk.account-create-body")},
			Button: web.Msg("desk.account-create-button"), Command: "nestbox account create … …", Back: "/admin/accounts", Hidden: []web.Field{{Name: "act", Value: "account-create"}},
			Fields: []web.ActField{
				{Name: "handle", Label: "desk.handle-new", Kind: web.CodeField, Required: true},
				{Name: "email", Label: "desk.address", Kind: web.EmailField, Required: true},
				{Name: "note", Label: "desk.note", Hint: "desk.note-hint", Kind: web.TextField},
			},
		}},
	}
}
