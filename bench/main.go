// Command bench measures Nestbox from outside, over HTTP, beside the reference
// PDS and beside the floor: the same handlers without a store. `make bench` runs
// it; docs/performance.md explains the figures and holds them.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// bench is one run.
type bench struct {
	binary    string
	reference string
	out       string
	page      string

	rounds, retries int
	warmup, window  time.Duration
	accounts        int
	refreshes       int
	stored          int64

	figures figures
}

// workersOfCells are how many requests are under way at a time.
var workersOfCells = []int{1, 16, 64}

func main() {
	if len(os.Args) == 3 && os.Args[1] == "floor" {
		exit(serveFloor(os.Args[2], os.Stdout))
	}
	b := &bench{}
	flag.StringVar(&b.binary, "nestbox", "bin/nestbox", "the binary to measure")
	flag.StringVar(&b.reference, "reference", "", "folder of the installed reference; empty measures without it")
	flag.StringVar(&b.out, "out", "bench/out", "folder of the results")
	flag.StringVar(&b.page, "page", "", "page whose tables are replaced")
	flag.IntVar(&b.rounds, "rounds", 3, "measurements of each figure")
	flag.IntVar(&b.retries, "retries", 20, "how many noisy ones are repeated, in all")
	flag.DurationVar(&b.warmup, "warmup", time.Second, "load before a measurement")
	flag.DurationVar(&b.window, "window", 5*time.Second, "length of a measurement")
	flag.IntVar(&b.accounts, "accounts", 1024, "accounts that refresh")
	flag.IntVar(&b.refreshes, "refreshes", 1_000_000, "refreshes for the figure of memory")
	flag.Int64Var(&b.stored, "stored", 1_000_000, "stored sessions, compared with 1,000")
	flag.Parse()
	exit(b.run())
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func (b *bench) run() (err error) {
	begun := time.Now()
	data := filepath.Join(b.out, "data")
	if err := os.RemoveAll(data); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
	b.figures = figures{
		Machine: machine(), CPUs: runtime.NumCPU(), Go: runtime.Version(), At: begun.UTC().Truncate(time.Second),
		Memory: map[string]idleAfter{}, Start: map[string][]float64{},
	}
	version, err := exec.Command(b.binary, "version").Output() //nolint:noctx // our own binary, which ends by itself
	if err != nil {
		return fmt.Errorf("%s version: %w", b.binary, err)
	}
	b.figures.Version = strings.TrimSpace(string(version))
	for _, part := range []func(data string) error{b.sideBySide, b.growth, b.scale} {
		if err := part(data); err != nil {
			return err
		}
	}
	b.figures.Took = time.Since(begun).Round(time.Second).String()
	return b.write()
}

// write leaves the figures as JSON and as tables.
func (b *bench) write() error {
	raw, err := json.MarshalIndent(b.figures, "", "  ")
	if err != nil {
		return err
	}
	tables := b.figures.tables()
	fmt.Print("\n", tables)
	stamp := b.figures.At.Format("20060102-150405")
	err = errors.Join(
		os.WriteFile(filepath.Join(b.out, stamp+".json"), append(raw, '\n'), 0o600),
		os.WriteFile(filepath.Join(b.out, stamp+".md"), []byte(tables), 0o600),
	)
	if err != nil || b.page == "" || b.reference == "" {
		return err
	}
	return replaceTables(b.page, tables)
}

// The tables of a page stand between these lines.
const (
	beginTables = "<!-- begin: written by bench/run -->\n"
	endTables   = "<!-- end: written by bench/run -->\n"
)

func replaceTables(page, tables string) error {
	old, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, ok := bytes.Cut(old, []byte(beginTables))
	_, after, ok2 := bytes.Cut(rest, []byte(endTables))
	if !ok || !ok2 {
		return fmt.Errorf("%s has no place for the tables", page)
	}
	return os.WriteFile(page, bytes.Join([][]byte{before, []byte(beginTables), []byte("\n" + tables + "\n"), []byte(endTables), after}, nil), 0o644)
}

// measure makes a load, and again where it was noisy and retries are left.
func (b *bench) measure(l load) (sample, error) {
	l.warmup, l.window = b.warmup, b.window
	for {
		s, err := l.run()
		if err != nil {
			return s, fmt.Errorf("%s: %w", l.server.name, err)
		}
		mark := ""
		if s.noisy() {
			mark = fmt.Sprintf("  noisy: others used %.1f cores", s.Others)
		}
		fmt.Printf("%-28s %2d workers  %-10s %8.0f/s  p50 %6.1f ms  p99 %6.1f ms  CPU %7.0f µs  %4.0f MiB%s\n",
			l.op.name, l.workers, l.server.name, s.Rate, s.P50, s.P99, s.CPU, s.Memory, mark)
		if !s.noisy() || l.requests > 0 || b.retries == 0 {
			return s, nil
		}
		b.retries--
	}
}
