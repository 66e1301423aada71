package web_test

import (
	"slices"
	"testing"
	"time"

	"nestbox/web"
)

// TestPlot: steps are drawn from zero, times of which nothing is known stay empty, and the
// axis ends at a round number that no value exceeds.
func TestPlot(t *testing.T) {
	t.Parallel()
	no := web.Unknown()
	p := &web.Plot{
		From: time.Date(2026, 11, 28, 12, 5, 0, 0, time.UTC), Step: 6 * time.Hour,
		Lines: []web.PlotLine{{Values: []float64{no, 0, 0, 5, no, 10, no, 2.5}}, {Values: []float64{no, no, no, no, no, no, no, no}}},
	}
	if got, want := p.Path(p.Lines[0]), "M1 100h2V50h1M5 0h1M7 75h1"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := p.Path(p.Lines[1]); got != "" || !p.Known() || p.Columns() != 8 {
		t.Errorf("%q %v %d", got, p.Known(), p.Columns())
	}
	if got := p.Times(); !slices.Equal(got, []string{"11-28", "11-29", "11-29", "11-30", "11-30"}) {
		t.Error(got)
	}
	if got := p.Lines[0].Highest(); got != 10 {
		t.Error(got)
	}
	for _, c := range []struct {
		unit  web.PlotUnit
		most  float64
		ticks []any
	}{
		{web.PlotNumber, 0, []any{web.Decimal(2), web.Decimal(1), web.Decimal(0)}},
		{web.PlotNumber, 10, []any{web.Decimal(10), web.Decimal(5), web.Decimal(0)}},
		{web.PlotNumber, 10.1, []any{web.Decimal(20), web.Decimal(10), web.Decimal(0)}},
		{web.PlotNumber, 999, []any{web.Decimal(1000), web.Decimal(500), web.Decimal(0)}},
		{web.PlotDuration, 1.2e7, []any{20 * time.Millisecond, 10 * time.Millisecond, time.Duration(0)}},
		{web.PlotDuration, 0, []any{time.Millisecond, 500 * time.Microsecond, time.Duration(0)}},
		{web.PlotBytes, 100 << 20, []any{web.Bytes(128 << 20), web.Bytes(64 << 20), web.Bytes(0)}},
		{web.PlotBytes, 0, []any{web.Bytes(2), web.Bytes(1), web.Bytes(0)}},
	} {
		one := &web.Plot{Unit: c.unit, Lines: []web.PlotLine{{Values: []float64{c.most}}}}
		if got := one.Ticks(); !slices.Equal(got, c.ticks) {
			t.Errorf("%v: %v, want %v", c.most, got, c.ticks)
		}
	}
}
