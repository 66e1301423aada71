package faults

import (
	"slices"
	"time"
)

// Preset returns the plan of a name; false if there is none.
func Preset(name string) (Plan, bool) {
	i := slices.IndexFunc(presets(), func(p preset) bool { return p.name == name })
	if i < 0 {
		return Plan{}, false
	}
	return Plan{Name: name, Faults: presets()[i].faults}, true
}

// PresetLine is a preset as the list shows it.
type PresetLine struct {
	Name  string `json:"name"`
	About string `json:"about"`
}

// Presets returns the presets in the order in which to try them.
func Presets() []PresetLine {
	var lines []PresetLine
	for _, p := range presets() {
		lines = append(lines, PresetLine{p.name, p.about})
	}
	return lines
}

type preset struct {
	name, about string
	faults      []Fault
}

// presets are meant for five minutes with an app: access tokens live for seconds, so that it
// refreshes often enough to see something.
func presets() []preset {
	const s, m = Duration(time.Second), Duration(time.Minute)
	refresh := []string{Refresh}
	return []preset{
		{"none", "no fault: calls are only recorded", nil},
		{"mobile", "answers that are lost, and come late", []Fault{
			{Kind: AccessLife, For: 30 * s},
			{Kind: LostAfter, Methods: refresh, Every: 3},
			{Kind: LostBefore, Methods: refresh, Share: 0.1},
			{Kind: LostAfter, Share: 0.05},
			{Kind: LostBefore, Share: 0.05},
			{Kind: Delay, Methods: refresh, Share: 0.3, From: s, To: 30 * s},
			{Kind: Delay, Share: 0.1, From: s, To: 8 * s},
		}},
		{"tabs", "several tabs, or processes, on one session", []Fault{
			{Kind: AccessLife, For: 20 * s},
			{Kind: ReuseWindow, Methods: refresh, For: 10 * s},
			{Kind: LostAfter, Methods: refresh, Every: 5},
			{Kind: Delay, Methods: refresh, From: s, To: 3 * s},
		}},
		{"flaky-host", "a host that fails, behind a proxy that fails", []Fault{
			{Kind: AccessLife, For: 30 * s},
			{Kind: Status, Methods: refresh, Status: 503, RetryAfter: 2 * s, Every: 3},
			{Kind: Page, Methods: refresh, Status: 502, Every: 4},
			{Kind: Status, Methods: refresh, Status: 429, RetryAfter: 5 * s, Every: 5},
			{Kind: Restart, Every: 80, For: 2 * s},
			{Kind: Status, Status: 500, Share: 0.04},
			{Kind: Status, Status: 502, Share: 0.04},
			{Kind: Status, Status: 503, Share: 0.04},
			{Kind: Status, Status: 503, RetryAfter: 3 * s, Share: 0.04},
			{Kind: Status, Status: 429, RetryAfter: 5 * s, Share: 0.04},
			{Kind: Page, Status: 504, Done: true, Share: 0.02},
			{Kind: Cut, Share: 0.04},
			{Kind: Reset, Share: 0.04},
		}},
		{"expiry", "tokens that expire soon, and a clock that is wrong", []Fault{
			{Kind: AccessLife, For: 20 * s},
			{Kind: RefreshLife, For: 5 * m},
			{Kind: Clock, By: 3 * m, Every: 2},
			{Kind: Clock, By: -3 * m, Every: 3},
		}},
		{"end-of-life", "all that ends sessions, and accounts that pause", []Fault{
			{Kind: AccessLife, For: 20 * s},
			{Kind: RefreshLife, For: 2 * m},
			{Kind: ReuseWindow, Methods: refresh, For: 5 * s},
			{Kind: Revoke, Every: 40},
			{Kind: Deactivate, Every: 60, For: 20 * s},
			{Kind: Takedown, Every: 90, For: 20 * s},
		}},
		{"oauth", "what only OAuth clients see, and lost answers", []Fault{
			{Kind: AccessLife, For: 20 * s},
			{Kind: Nonce},
			{Kind: LostAfter, Methods: refresh, Every: 4},
			{Kind: Status, Methods: refresh, Status: 503, RetryAfter: 2 * s, Every: 5},
			{Kind: Page, Methods: refresh, Status: 502, Every: 7},
		}},
	}
}
