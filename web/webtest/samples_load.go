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
