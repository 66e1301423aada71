package main

import (
	"fmt"
	"slices"
	"strings"
)

// target is a row of goals.
type target struct {
	op       operation
	workers  int
	accounts int
	// cpu is the most that a request may cost, as a part of the reference's
	// cost; rate is how many times as many requests a second there must be. 0:
	// no target.
	cpu, rate float64
}

// loads are the rows of the first table, with the targets of issue 2.
func loads(accounts int) []target {
	var rows []target
	for _, op := range []operation{refresh, replay, getSession, createSession, health} {
		for _, workers := range workersOfCells {
			for _, spread := range accountsOf(op, workers, accounts) {
				row := target{op: op, workers: workers, accounts: spread}
				switch {
				case workers != 64:
				case op.name == refresh.name && spread == accounts:
					row.cpu, row.rate = 1.0/15, 8
				case op.name == replay.name:
					row.cpu = 1.0 / 25
				case op.name == getSession.name:
					row.cpu = 1.0 / 15
				}
				rows = append(rows, row)
			}
		}
	}
	return rows
}

// tables are a group's figures in Markdown.
func (f *figures) tables(g group) string {
	var w strings.Builder
	fmt.Fprintf(&w, "%s, %d cores shared by server and generator, %s, Nestbox %s, %s, took %s.\n", f.Machine, f.CPUs, f.Go, f.Version, f.At.Format("2006-01-02 15:04 MST"), f.Took[g.name])
	g.tables(f, &w)
	return w.String()
}

func (f *figures) sessionTables(w *strings.Builder) {
	f.noise(w, loads(f.accounts()), f.Young, f.Old, f.Few, f.Many, f.Cold)
	f.compared(w, loads(f.accounts()))
	f.floorTable(w)
	f.limits(w)
}

// rowTables is the table of the rows that were measured.
func (f *figures) rowTables(w *strings.Builder) {
	var rows []target
	for _, c := range f.Cells {
		if c.Server == "Nestbox" {
			rows = append(rows, target{op: operation{name: c.Op}, workers: c.Workers, accounts: c.Accounts})
		}
	}
	f.noise(w, rows)
	f.compared(w, rows)
}

// noise writes how many of a group's measurements were disturbed.
func (f *figures) noise(w *strings.Builder, rows []target, others ...[]sample) {
	for _, c := range f.Cells {
		if slices.ContainsFunc(rows, func(t target) bool { return t.op.name == c.Op }) {
			others = append(others, c.Samples)
		}
	}
	noisy, all := 0, 0
	for _, samples := range others {
		for _, s := range samples {
			all++
			if s.noisy() {
				noisy++
			}
		}
	}
	if noisy > 0 {
		fmt.Fprintf(w, "Something else used the machine during %d of %d measurements; rows with ~ have no quiet one.\n", noisy, all)
	}
}

func tilde(samples ...sample) string {
	for _, s := range samples {
		if s.noisy() {
			return "~"
		}
	}
	return ""
}

// accounts are over how many a refresh is spread.
func (f *figures) accounts() (n int) { return f.accountsOf(refresh) }

func (f *figures) accountsOf(op operation) (n int) {
	for _, c := range f.Cells {
		if c.Op == op.name {
			n = max(n, c.Accounts)
		}
	}
	return n
}

// compared is the table beside the reference.
func (f *figures) compared(w *strings.Builder, rows []target) {
	w.WriteString("\n| operation | workers, accounts | reference: CPU/request | per second | p50, p99 | Nestbox: CPU/request | per second | p50, p99 | CPU | rate | to reach | reached |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|---|\n")
	for _, t := range rows {
		ours, ok := f.find("Nestbox", t.op.name, t.workers, t.accounts)
		if !ok {
			continue
		}
		ref, compared := f.find("reference", t.op.name, t.workers, t.accounts)
		fmt.Fprintf(w, "| %s%s | %d, %d | ", tilde(ours, ref), t.op.name, t.workers, t.accounts)
		if compared {
			fmt.Fprintf(w, "%s | %.0f | %s | %s | %.0f | %s | 1/%.1f | × %.1f |", micros(ref.CPU), ref.Rate, latencies(ref),
				micros(ours.CPU), ours.Rate, latencies(ours), ref.CPU/ours.CPU, ours.Rate/ref.Rate)
		} else {
			fmt.Fprintf(w, " | | | %s | %.0f | %s | | |", micros(ours.CPU), ours.Rate, latencies(ours))
		}
		fmt.Fprintf(w, " %s |\n", t.verdict(ref, ours, compared))
	}
}

// verdict fills the last two columns.
func (t target) verdict(ref, ours sample, compared bool) string {
	var want []string
	reached := true
	if t.cpu > 0 {
		want = append(want, fmt.Sprintf("CPU ≤ 1/%.0f", 1/t.cpu))
		reached = reached && ours.CPU <= t.cpu*ref.CPU
	}
	if t.rate > 0 {
		want = append(want, fmt.Sprintf("rate ≥ × %.0f", t.rate))
		reached = reached && ours.Rate >= t.rate*ref.Rate
	}
	if len(want) == 0 || !compared {
		return strings.Join(want, ", ") + " | "
	}
	return strings.Join(want, ", ") + " | " + yes(reached)
}

// floorTable is the table with the floor.
func (f *figures) floorTable(w *strings.Builder) {
	w.WriteString("\n| CPU per request at 64 workers | Nestbox | the same handler without a store | net/http alone, a fixed answer |\n|---|--:|--:|--:|\n")
	fixed, _ := f.find("floor", bare.name, 64, 64)
	for _, op := range []operation{refresh, replay, getSession} {
		ours, _ := f.find("Nestbox", op.name, 64, 64)
		floor, ok := f.find("floor", op.name, 64, 64)
		if ok {
			fmt.Fprintf(w, "| %s%s | %s | %s | %s |\n", tilde(ours, floor, fixed), op.name, micros(ours.CPU), micros(floor.CPU), micros(fixed.CPU))
		}
	}
}

// limits is the table of what must not grow.
func (f *figures) limits(w *strings.Builder) {
	w.WriteString(limitsHead)
	reference := func(format string, value float64) string {
		if value == 0 {
			return ""
		}
		return fmt.Sprintf(format, value)
	}
	growth, ref := f.Memory["growth"], f.Memory["reference"]
	fmt.Fprintf(w, "| memory, idle | %s | %.0f MiB | ≤ 50 MiB | %s |\n", reference("%.0f MiB", ref.Idle), growth.Idle, yes(growth.Idle <= 50))
	fmt.Fprintf(w, "| memory after %d refreshes (reference: after the table above) | %s | %.0f MiB | ≤ 100 MiB | %s |\n",
		f.Refreshes, reference("%.0f MiB", ref.After), growth.After, yes(growth.After <= 100))
	start := func(what, key string) {
		s := median(f.Start[key])
		fmt.Fprintf(w, "| start until READY, %s | %s | %.2f s | ≤ 0.3 s | %s |\n", what, reference("%.1f s", median(f.Start["reference"])), s, yes(s <= 0.3))
	}
	start("empty", "empty")
	start(fmt.Sprintf("%d sessions stored", f.ManySessions), "many")
	ratio(w, fmt.Sprintf("CPU of a refresh after more than %d of its session : after less than %d", f.OldFrom, f.YoungTo), 1.05, f.Young, f.Old)
	ratio(w, fmt.Sprintf("CPU of a refresh, %d sessions in use: %d stored : no others", f.FewSessions, f.ManySessions), 1.3, f.Few, f.Many)
	ratio(w, fmt.Sprintf("CPU of the first refresh of a session, %d stored : of one in use, no others stored", f.ManySessions), 0, f.Few, f.Cold)
}

const limitsHead = "\n| | reference | Nestbox | to reach | reached |\n|---|--:|--:|---|---|\n"

// ratio is a row of what a request costs in two situations; a limit of 0 is
// none.
func ratio(w *strings.Builder, what string, limit float64, base, grown []sample) {
	if len(base) == 0 || len(grown) == 0 {
		return
	}
	a, b := typical(base), typical(grown)
	want, reached := "", ""
	if limit > 0 {
		want, reached = fmt.Sprintf("≤ %.2f", limit), yes(b.CPU <= limit*a.CPU)
	}
	fmt.Fprintf(w, "| %s%s | | %s : %s = %.2f | %s | %s |\n", tilde(a, b), what, micros(b.CPU), micros(a.CPU), b.CPU/a.CPU, want, reached)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "**no**"
}

func micros(us float64) string {
	if us >= 10_000 {
		return fmt.Sprintf("%.1f ms", us/1000)
	}
	return fmt.Sprintf("%.0f µs", us)
}

func latencies(s sample) string { return fmt.Sprintf("%.1f, %.1f ms", s.P50, s.P99) }
