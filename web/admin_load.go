package web

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"nestbox/load"
)

// figure is one plot of /admin/load. Its title is the message load.NAME, the labels of its
// lines are load.NAME-LINE.
type figure struct {
	name  string
	unit  PlotUnit
	lines []figureLine
}

type figureLine struct {
	name string
	of   func(*load.Slot) float64
}

// perMinute makes a number of things one a minute.
func perMinute(s *load.Slot, n uint32) float64 {
	if s.Covered <= 0 {
		return Unknown()
	}
	return float64(n) / s.Covered.Minutes()
}

func requests(name string, c load.Class) figureLine {
	return figureLine{name, func(s *load.Slot) float64 { return perMinute(s, s.Requests[c]) }}
}

func counted(name string, k load.Kind) figureLine {
	return figureLine{name, func(s *load.Slot) float64 { return perMinute(s, s.Counts[k]) }}
}

// quantile is a line of a histogram: of a time in which nothing was measured nothing is known.
func quantile(name string, q float64, of func(*load.Slot) *load.Histogram) figureLine {
	return figureLine{name, func(s *load.Slot) float64 {
		h := of(s)
		if h.Total() == 0 {
			return Unknown()
		}
		return float64(h.Quantile(q))
	}}
}

// The quantiles that are shown.
const (
	median = 0.5
	most   = 0.99
)

// figures are the plots of /admin/load.
func figures() []figure {
	took := func(s *load.Slot) *load.Histogram { return &s.Took }
	saved := func(s *load.Slot) *load.Histogram { return &s.Saved }
	return []figure{
		{"requests", PlotNumber, []figureLine{
			requests("succeeded", load.Succeeded), requests("redirected", load.Redirected), requests("refused", load.Refused),
			requests("failed", load.Failed),
		}},
		{"took", PlotDuration, []figureLine{quantile("p50", median, took), quantile("p99", most, took)}},
		{"refreshes", PlotNumber, []figureLine{
			counted("moved", load.RefreshMoved), counted("repeated", load.RefreshRepeated), counted("refused", load.RefreshRefused),
		}},
		{"signins", PlotNumber, []figureLine{counted("failed", load.SignInFailed)}},
		{"writes", PlotNumber, []figureLine{counted("writes", load.Write), counted("events", load.Event)}},
		{"saved", PlotDuration, []figureLine{quantile("p50", median, saved), quantile("p99", most, saved)}},
		{"subscribers", PlotNumber, []figureLine{{"most", func(s *load.Slot) float64 { return float64(s.Subscribers) }}}},
		{"memory", PlotBytes, []figureLine{{"most", func(s *load.Slot) float64 { return float64(s.Memory) }}}},
		{"cpu", PlotPercent, []figureLine{{"used", func(s *load.Slot) float64 {
			if s.Covered <= 0 {
				return Unknown()
			}
			return 100 * s.CPU.Seconds() / s.Covered.Seconds()
		}}}},
	}
}

// loadSpan is a time that the plots show.
type loadSpan struct {
	name string
	// step is the length of what is kept; all plots together show groups of so many, one
	// plot on a page of its own rows of them, pages in all.
	step               time.Duration
	group, rows, pages int
	slots              func(r *load.Recorder, n, group int) (time.Time, []load.Slot)
}

func loadSpans() []loadSpan {
	return []loadSpan{
		{"day", time.Minute, 5, 60, load.KeptMinutes / 60, (*load.Recorder).Minutes},
		{"month", time.Hour, 3, 48, load.KeptHours / 48, (*load.Recorder).Hours},
	}
}

func (s *loadSpan) kept() int { return s.rows * s.pages }

// plot draws a figure of slots.
func (s *loadSpan) plot(f figure, from time.Time, step time.Duration, slots []load.Slot) *Plot {
	p := &Plot{Name: f.name, Title: Msg("load." + f.name), From: from, Step: step, Unit: f.unit, Span: Msg("load.span-" + s.name)}
	for _, l := range f.lines {
		line := PlotLine{Label: Msg("load." + f.name + "-" + l.name), Values: make([]float64, len(slots))}
		for i := range slots {
			line.Values[i] = Unknown()
			if slots[i].Known() {
				line.Values[i] = l.of(&slots[i])
			}
		}
		p.Lines = append(p.Lines, line)
	}
	return p
}

// showLoad is /admin/load: plots of all figures, or one by the minute or the hour, with the
// same as a table.
func (p *AdminPages) showLoad(q *deskQuery) error {
	spans := loadSpans()
	span := &spans[max(slices.IndexFunc(spans, func(s loadSpan) bool { return s.name == q.asked("span") }), 0)]
	all := figures()
	one := slices.IndexFunc(all, func(f figure) bool { return f.name == q.asked("show") })
	at := func(span, show string, page int) string {
		v := url.Values{"span": {span}}
		if show != "" {
			v.Set("show", show)
		}
		if page > 0 {
			v.Set("page", strconv.Itoa(page))
		}
		return q.r.URL.Path + "?" + v.Encode()
	}
	page := &Desk{Title: Msg("desk.part-load"), Lead: Msg("load.lead-" + span.name), Filter: &DeskFilter{}}
	show := ""
	if one >= 0 {
		show = all[one].name
		page.Title, page.Lead = Msg("load."+show), Msg("load.lead-one-"+span.name)
		page.Up = &Link{URL: at(span.name, "", 0), Text: Msg("desk.part-load")}
	}
	for _, s := range spans {
		page.Filter.Ways = append(page.Filter.Ways, NavItem{
			Href: at(s.name, show, 0), Text: Msg("load.span-" + s.name), Current: s.name == span.name,
		})
	}
	if one >= 0 {
		shift := min(max(int(number(q.asked("page"))), 0), span.pages-1)
		s := p.oneFigure(span, all[one], shift)
		if shift+1 < span.pages {
			s.More = &Link{URL: at(span.name, show, shift+1), Text: Msg("desk.older")}
		}
		page.Sections = []Section{s}
		return p.render(q, http.StatusOK, page)
	}
	s := Section{}
	from, slots := span.slots(p.Load, span.kept()/span.group, span.group)
	for _, f := range all {
		plot := span.plot(f, from, span.step*time.Duration(span.group), slots)
		plot.More = &Link{URL: at(span.name, f.name, 0), Text: Msg("load.more-" + span.name)}
		s.Plots = append(s.Plots, plot)
	}
	page.Sections = []Section{s}
	return p.render(q, http.StatusOK, page)
}

// oneFigure shows a figure by the minute or the hour, so many pages back, and the same as a
// table, the latest first.
func (p *AdminPages) oneFigure(span *loadSpan, f figure, shift int) Section {
	from, slots := span.slots(p.Load, (shift+1)*span.rows, 1)
	slots = slots[:span.rows]
	plot := span.plot(f, from, span.step, slots)
	t := &DeskTable{Columns: []Text{Msg("load.when")}}
	for i, l := range plot.Lines {
		t.Columns, t.Numbers = append(t.Columns, l.Label), append(t.Numbers, i+1)
	}
	for i := range slices.Backward(slots) {
		row := DeskRow{Cells: []Cell{{Lines: []any{from.Add(time.Duration(i) * span.step)}}}}
		for _, l := range plot.Lines {
			row.Cells = append(row.Cells, Cell{Lines: []any{f.unit.Value(l.Values[i])}})
		}
		t.Rows = append(t.Rows, row)
	}
	plot.Span = Msg("load.lead-one-" + span.name)
	return Section{Plots: []*Plot{plot}, Table: t}
}
