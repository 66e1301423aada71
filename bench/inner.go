package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// The take-over and the backup are measured by benchmarks of their own packages, which can make
// thousands of accounts without a server.

// errNoFigures: the benchmark printed none.
var errNoFigures = errors.New("it printed no figures")

// inner runs a benchmark of a package once, and adds its figures, by their units.
func (b *bench) inner(pkg, name string, flags ...string) error {
	args := append([]string{"test", pkg, "-run", "-", "-bench", "^" + name + "$", "-benchtime", "1x", "-timeout", "30m"}, flags...)
	cmd := exec.Command("go", args...) //nolint:gosec,noctx // a benchmark of this repository, which has a timeout
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.MultiWriter(os.Stdout, &out), os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s of %s: %w", name, pkg, err)
	}
	if b.figures.Inner == nil {
		b.figures.Inner = map[string]map[string]float64{}
	}
	b.figures.Inner[name] = benchmarkFigures(&out, name)
	if len(b.figures.Inner[name]) == 0 {
		return fmt.Errorf("%s of %s: %w", name, pkg, errNoFigures)
	}
	return nil
}

// benchmarkFigures reads the figures of a benchmark from what go test prints, by their units.
func benchmarkFigures(out io.Reader, name string) map[string]float64 {
	figures := map[string]float64{}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != name && !strings.HasPrefix(fields[0], name+"-") {
			continue
		}
		for i := 2; i+1 < len(fields); i += 2 { // behind the name and the number of runs
			if v, err := strconv.ParseFloat(fields[i], 64); err == nil {
				figures[fields[i+1]] = v
			}
		}
	}
	return figures
}

// measureTakeover is the group of the take-over.
func (b *bench) measureTakeover(string) error { return b.inner("./server", "BenchmarkTakeover") }

// measureBackup is the group of backups: a database of a gigabyte, and 100,000 blobs.
func (b *bench) measureBackup(string) error {
	return b.inner("./backup", "BenchmarkSnapshot", "-records", "330000", "-blobs", "100000")
}

// measureMetrics is the group of what metrics cost: by themselves, and as the difference of whole
// servers, 20,000 refreshes of each.
func (b *bench) measureMetrics(string) error {
	return errors.Join(b.inner("./metrics", "BenchmarkRefresh", "-benchtime", "200000x"),
		b.inner("./server", "BenchmarkRefreshMetrics", "-benchtime", "400x"))
}

func (f *figures) takeoverTables(w *strings.Builder) {
	m := f.Inner["BenchmarkTakeover"]
	fmt.Fprintf(w, "\n| accounts | records | took | accounts/s | records/s | memory, beyond that before |\n|--:|--:|--:|--:|--:|--:|\n| %.0f | %.0f | %.1f s | %.0f | %.0f | %.0f MB |\n",
		m["accounts"], m["records"], m["took-s"], m["accounts/s"], m["records/s"], m["memory-MB"])
}

func (f *figures) backupTables(w *strings.Builder) {
	m := f.Inner["BenchmarkSnapshot"]
	fmt.Fprintf(w, "\nThe database has %.0f MB.\n", m["database-MB"])
	fmt.Fprintf(w, "\n| snapshot | took | CPU | heap, beyond that before | sent |\n|---|--:|--:|--:|--:|\n")
	fmt.Fprintf(w, "| first | %.1f s | %.1f s | %.0f MB | %.0f MB |\n", m["first-s"], m["first-cpu-s"], m["first-heap-MB"], m["first-sent-MB"])
	fmt.Fprintf(w, "| second, 1 %% of the records changed | %.1f s | %.1f s | %.0f MB | %.1f %% of the first |\n",
		m["second-s"], m["second-cpu-s"], m["second-heap-MB"], m["second-sent-%"])
	fmt.Fprintf(w, "\n| | | to reach | reached |\n|---|--:|---|---|\n")
	most := max(m["first-heap-MB"], m["second-heap-MB"])
	fmt.Fprintf(w, "| memory | %.0f MB | ≤ 64 MB | %s |\n", most, yes(most <= 64))
	fmt.Fprintf(w, "| sent by the second | %.1f %% | ≤ 5 %% | %s |\n", m["second-sent-%"], yes(m["second-sent-%"] <= 5))
	ratio := m["p99-during-ms"] / m["p99-without-ms"]
	fmt.Fprintf(w, "| p99 of writes, 200 a second, during a snapshot : without | %.1f : %.1f ms = %.2f | ≤ 2 | %s |\n",
		m["p99-during-ms"], m["p99-without-ms"], ratio, yes(ratio <= 2))
}

func (f *figures) metricsTables(w *strings.Builder) {
	alone, m := f.Inner["BenchmarkRefresh"]["ns/op"]/1000, f.Inner["BenchmarkRefreshMetrics"]
	share := 100 * alone / m["µs-off"]
	fmt.Fprintf(w, "\n| CPU of a refresh in the handler | of metrics alone | to reach | reached | two servers with metrics : two without | two equal ones |\n|--:|--:|---|---|--:|--:|\n")
	fmt.Fprintf(w, "| %.0f µs | %.2f µs = %.2f %% | ≤ 2 %% | %s | %+.1f %% | ± %.1f %% |\n",
		m["µs-off"], alone, share, yes(share <= 2), m["%more"], m["%noise"])
}
