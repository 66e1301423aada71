package main

import (
	"cmp"
	"slices"
	"time"
)

// figures are everything that one run measured; they are written as JSON.
type figures struct {
	Machine string    `json:"machine"`
	CPUs    int       `json:"cpus"`
	Go      string    `json:"go"`
	Version string    `json:"version"`
	At      time.Time `json:"at"`
	// Took is how long each group took.
	Took map[string]string `json:"took"`

	Cells []cell `json:"cells"`

	// Idle and After are resident memory, in MiB: before the first request, and
	// after Refreshes of them, or for the reference after its part of the cells.
	Memory    map[string]idleAfter `json:"memoryMiB"`
	Refreshes int                  `json:"refreshes"`

	// Inner are the figures of benchmarks of packages, by benchmark and unit.
	Inner map[string]map[string]float64 `json:"inner,omitempty"`
	// Start is the time from exec to the first answer, in seconds.
	Start map[string][]float64 `json:"startSeconds"`

	// Young and Old are refreshes of sessions that were refreshed less than
	// YoungTo, and more than OldFrom times.
	Young, Old       []sample
	YoungTo, OldFrom int

	// Few and Many are refreshes of FewSessions sessions, again and again, with
	// that many stored and with ManySessions stored; Cold are refreshes, with
	// ManySessions stored, of sessions that were not used before.
	Few, Many, Cold           []sample
	FewSessions, ManySessions int64

	// Disk is what small records take, by server.
	Disk map[string]disk `json:"disk,omitempty"`
	// Large is about a repository with many records.
	Large *large `json:"large,omitempty"`
	// Stream is about many subscribers.
	Stream *stream `json:"stream,omitempty"`
	// Crowd is about many accounts.
	Crowd *crowd `json:"crowd,omitempty"`
	// Passing and Dead are about calls that are passed on.
	Passing map[string]passing `json:"passing,omitempty"`
	Dead    []dead             `json:"dead,omitempty"`
	// Grants is about many grants of OAuth, Pages about pages, by server.
	Grants *grants           `json:"grants,omitempty"`
	Pages  map[string][]page `json:"pages,omitempty"`
	// Web is about the pages for people.
	Web *webFigures `json:"web,omitempty"`
}

// disk is what one record takes, in bytes.
type disk struct {
	Records int     `json:"records"`
	Written float64 `json:"writtenPerRecord"`
	Kept    float64 `json:"keptPerRecord"`
}

// large is what was done with a repository of Records records, and beside it
// with one of Few. Memory is in MB.
type large struct {
	Records    int     `json:"records"`
	Few        int     `json:"few"`
	Import     float64 `json:"importSeconds"`
	ImportPeak float64 `json:"importPeakMB"`
	Export     float64 `json:"exportSeconds"`
	ExportMB   float64 `json:"exportMB"`
	ExportIdle float64 `json:"exportIdleMB"`
	ExportPeak float64 `json:"exportPeakMB"`

	// Appended and Scattered are createRecord: of new posts, and at random keys.
	Appended, Scattered struct{ Few, Many []sample }
}

// stream is the result of Events events, PerSecond of them, at Subscribers.
type stream struct {
	Subscribers int     `json:"subscribers"`
	Events      int     `json:"events"`
	PerSecond   float64 `json:"perSecond"`
	FrameBytes  int     `json:"frameBytes"`
	// KeptUp are the subscribers that got every event.
	KeptUp int `json:"keptUp"`
	// Delay is from the request until the last subscriber had the event of it.
	DelayP50   float64 `json:"delayP50Milliseconds"`
	DelayWorst float64 `json:"delayWorstMilliseconds"`
	// CPU is the server's, in µs per event and subscriber.
	CPU    float64 `json:"cpuMicroseconds"`
	Memory float64 `json:"serverMemoryMiB"`
	Others float64 `json:"otherCores"`
}

type idleAfter struct {
	Idle  float64 `json:"idle"`
	After float64 `json:"after"`
}

// cell is one load on one server, measured several times.
type cell struct {
	Server   string   `json:"server"`
	Op       string   `json:"operation"`
	Workers  int      `json:"workers"`
	Accounts int      `json:"accounts"`
	Samples  []sample `json:"samples"`
}

// find returns a server's figures for a load; ok is false if there are none.
func (f *figures) find(server, op string, workers, accounts int) (sample, bool) {
	i := slices.IndexFunc(f.Cells, func(c cell) bool {
		return c.Server == server && c.Op == op && c.Workers == workers && c.Accounts == accounts
	})
	if i < 0 {
		return sample{}, false
	}
	return typical(f.Cells[i].Samples), true
}

// typical returns the median of the quiet samples, by CPU per request, or of
// all if none was quiet.
func typical(all []sample) sample {
	quiet := slices.DeleteFunc(slices.Clone(all), sample.noisy)
	if len(quiet) == 0 {
		quiet = slices.Clone(all)
	}
	slices.SortFunc(quiet, func(a, b sample) int { return cmp.Compare(a.CPU, b.CPU) })
	return quiet[len(quiet)/2]
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(values))[len(values)/2]
}
