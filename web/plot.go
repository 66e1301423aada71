package web

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Plot is figures over time, drawn by the server. It begins at zero, and a time of which
// nothing is known stays empty.
type Plot struct {
	// Name is its anchor.
	Name  string
	Title Text
	// Span names the time that it shows, from From on; each value is that of a Step.
	Span Text
	From time.Time
	Step time.Duration
	Unit PlotUnit
	// Lines have as many values each; at most four, which differ without colour, too.
	Lines []PlotLine
	// More leads to the same as a table; nil for none.
	More *Link
}

// PlotLine is a line of a plot. A value that is not known is NaN.
type PlotLine struct {
	Label  Text
	Values []float64
}

// PlotUnit is what the values of a plot are.
type PlotUnit int

// The units.
const (
	PlotNumber   PlotUnit = iota // of things, or of things a minute
	PlotDuration                 // in nanoseconds
	PlotBytes
	PlotPercent
)

// Unknown is a value that is not known.
func Unknown() float64 { return math.NaN() }

// Value returns a value as people read it.
func (u PlotUnit) Value(v float64) any {
	switch {
	case math.IsNaN(v):
		return "–"
	case u == PlotDuration:
		return time.Duration(v)
	case u == PlotBytes:
		return Bytes(v)
	case u == PlotPercent:
		return Msg("plot.percent", "n", Decimal(v))
	default:
		return Decimal(v)
	}
}

// plotHeight is the height of a drawing, in its own units: a value is drawn to a hundredth.
const plotHeight = 100

// Columns returns how many values a line has.
func (p *Plot) Columns() int {
	if len(p.Lines) == 0 {
		return 0
	}
	return len(p.Lines[0].Values)
}

// Known reports whether there is anything to draw.
func (p *Plot) Known() bool {
	return slices.ContainsFunc(p.Lines, func(l PlotLine) bool {
		return slices.ContainsFunc(l.Values, func(v float64) bool { return !math.IsNaN(v) })
	})
}

// Highest returns the highest value of a line, Latest its last.
func (l PlotLine) Highest() float64 {
	most := Unknown()
	for _, v := range l.Values {
		if math.IsNaN(most) || v > most {
			most = v
		}
	}
	return most
}

// Latest returns the last value of a line.
func (l PlotLine) Latest() float64 { return l.Values[len(l.Values)-1] }

// Top returns where the axis ends: a round number that no value exceeds.
func (p *Plot) Top() float64 {
	most := 0.0
	for _, l := range p.Lines {
		if h := l.Highest(); h > most {
			most = h
		}
	}
	switch p.Unit {
	case PlotBytes:
		return math.Exp2(math.Ceil(math.Log2(max(most, 2)))) //nolint:mnd // at least two bytes, so that there is half
	case PlotDuration:
		return roundUp(max(most, float64(time.Millisecond)))
	case PlotPercent:
		return roundUp(max(most, 2)) //nolint:mnd // below, the axis would make noise look like load
	case PlotNumber:
	}
	return roundUp(max(most, 2)) //nolint:mnd // so that the middle is a whole number
}

// roundUp returns the next of 1, 2, 5, 10, 20, 50 and so on.
func roundUp(v float64) float64 {
	ten := math.Pow(10, math.Floor(math.Log10(v))) //nolint:mnd // decimal
	for _, step := range []float64{1, 2, 5} {
		if v <= step*ten {
			return step * ten
		}
	}
	return 10 * ten //nolint:mnd // decimal
}

// Ticks returns the values of the axis, the highest first.
func (p *Plot) Ticks() []any {
	top := p.Top()
	return []any{p.Unit.Value(top), p.Unit.Value(top / 2), p.Unit.Value(0)} //nolint:mnd // the middle
}

// plotParts is how many parts of the time have a label at their ends.
const plotParts = 4

// Times returns the labels of the times, in UTC.
func (p *Plot) Times() (labels []string) {
	layout := "15:04"
	all := p.Step * time.Duration(p.Columns())
	if all > 24*time.Hour {
		layout = "01-02"
	}
	for i := range plotParts + 1 {
		labels = append(labels, p.From.Add(all*time.Duration(i)/plotParts).UTC().Format(layout))
	}
	return labels
}

// Grid returns the path of the lines behind the labels.
func (p *Plot) Grid() string {
	n := p.Columns()
	var out strings.Builder
	fmt.Fprintf(&out, "M0 0H%dM0 %dH%dM0 %dH%d", n, plotHeight/2, n, plotHeight, n)
	for i := range plotParts + 1 {
		out.WriteString("M" + strconv.FormatFloat(float64(i*n)/plotParts, 'f', -1, 64) + " 0V" + strconv.Itoa(plotHeight))
	}
	return out.String()
}

// Path returns the path of a line: a step for each value.
func (p *Plot) Path(l PlotLine) string {
	var b strings.Builder
	top, last, wide := p.Top(), -1, 0
	flush := func() {
		if wide > 0 {
			b.WriteString("h" + strconv.Itoa(wide))
		}
		wide = 0
	}
	for i, v := range l.Values {
		if math.IsNaN(v) {
			flush()
			last = -1
			continue
		}
		y := plotHeight - int(math.Round(v/top*plotHeight))
		switch {
		case last < 0:
			b.WriteString("M" + strconv.Itoa(i) + " " + strconv.Itoa(y))
		case y != last:
			flush()
			b.WriteString("V" + strconv.Itoa(y))
		}
		last = y
		wide++
	}
	flush()
	return b.String()
}
