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
	"regexp"
	"runtime"
	"slices"
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
	records, writes int
	subscribers     int
	exportFiles     int
	only            string
	// rows selects rows of the tables beside the reference, and nothing else; nil
	// measures all. log is the log level of the servers that these rows measure.
	rows *regexp.Regexp
	log  string

	// env are settings of the servers that are started beside each other, and
	// upstream is what they ask, if anything.
	env      []string
	upstream *server

	figures figures
}

// workersOfCells are how many requests are under way at a time.
var workersOfCells = []int{1, 16, 64}

func main() {
	if len(os.Args) == 4 && os.Args[1] == "serve" {
		exit(serveOwn(os.Args[2], os.Args[3]))
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
	flag.Int64Var(&b.stored, "stored", 1_000_000, "stored sessions, and grants of OAuth, compared with 1,000")
	flag.IntVar(&b.records, "records", 1_000_000, "records of the large repository, compared with 1,000")
	flag.IntVar(&b.writes, "writes", 1000, "writes to it, and to a small one, for a measurement")
	flag.IntVar(&b.subscribers, "subscribers", 1000, "subscribers of the event stream")
	flag.IntVar(&b.exportFiles, "files", 100, "files of 50 MB in the account that is exported")
	flag.StringVar(&b.only, "only", "", "the groups to measure, separated by commas, of "+strings.Join(groupNames(), ", ")+"; empty measures all")
	flag.Func("rows", "a regular expression: measures only the rows whose first two columns it matches, as \"createRecord 16, 16\", and leaves the page alone", func(s string) (err error) {
		b.rows, err = regexp.Compile(s)
		return err
	})
	flag.StringVar(&b.log, "log", logLevel, "the log level of the servers that the rows compare: \"info\" logs each request, as an operator runs it; the reference then logs too, and the page is left alone")
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
	if runtime.GOOS != "linux" {
		return errors.New("the figures come from /proc: run the benchmarks on Linux")
	}
	chosen, err := b.chosen()
	if err != nil {
		return err
	}
	data := filepath.Join(b.out, "data")
	if err := os.RemoveAll(data); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
	b.figures = figures{
		Machine: machine(), CPUs: runtime.NumCPU(), Go: runtime.Version(), At: begun.UTC().Truncate(time.Second),
		Took: map[string]string{}, Memory: map[string]idleAfter{}, Start: map[string][]float64{},
	}
	version, err := exec.Command(b.binary, "version").Output() //nolint:noctx // our own binary, which ends by itself
	if err != nil {
		return fmt.Errorf("%s version: %w", b.binary, err)
	}
	b.figures.Version = strings.TrimSpace(string(version))
	for _, g := range chosen {
		began := time.Now()
		if err := g.measure(b, data); err != nil {
			return fmt.Errorf("%s: %w", g.name, err)
		}
		b.figures.Took[g.name] = time.Since(began).Round(time.Second).String()
	}
	if b.rows != nil {
		if len(b.figures.Cells) == 0 {
			return fmt.Errorf("no row of the chosen groups matches %q", b.rows)
		}
		b.figures.Took["rows"] = time.Since(begun).Round(time.Second).String()
		return b.write([]group{{name: "rows", tables: (*figures).rowTables}})
	}
	return b.write(chosen)
}

// wants reports whether a row is to be measured.
func (b *bench) wants(t target) bool {
	return b.rows == nil || b.rows.MatchString(fmt.Sprintf("%s %d, %d", t.op.name, t.workers, t.accounts))
}

// group is a part that can be measured alone. Its tables have their own place
// in the page, with the machine and the time, so that one group can be
// repeated.
type group struct {
	name    string
	measure func(b *bench, data string) error
	tables  func(f *figures, w *strings.Builder)
}

func groups() []group {
	return []group{
		{"sessions", (*bench).measureSessions, (*figures).sessionTables},
		{"records", (*bench).measureRecords, (*figures).recordTables},
		{"sync", (*bench).measureSync, (*figures).syncTables},
		{"firehose", (*bench).measureFirehose, (*figures).firehoseTables},
		{"accounts", (*bench).measureAccounts, (*figures).accountTables},
		{"proxy", (*bench).measureProxy, (*figures).proxyTables},
		{"oauth", (*bench).measureOAuth, (*figures).oauthTables},
		{"web", (*bench).measureWeb, (*figures).webTables},
		{"takeover", (*bench).measureTakeover, (*figures).takeoverTables},
		{"backup", (*bench).measureBackup, (*figures).backupTables},
		{"metrics", (*bench).measureMetrics, (*figures).metricsTables},
	}
}

func groupNames() (names []string) {
	for _, g := range groups() {
		names = append(names, g.name)
	}
	return names
}

// chosen are the groups to measure.
func (b *bench) chosen() ([]group, error) {
	all := groups()
	if b.only == "" {
		return all, nil
	}
	var chosen []group
	for name := range strings.SplitSeq(b.only, ",") {
		i := slices.IndexFunc(all, func(g group) bool { return g.name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no group %q, only %s", name, strings.Join(groupNames(), ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// write leaves the figures as JSON and as tables.
func (b *bench) write(measured []group) error {
	raw, err := json.MarshalIndent(b.figures, "", "  ")
	if err != nil {
		return err
	}
	tables := map[string]string{}
	var page strings.Builder
	for _, g := range measured {
		tables[g.name] = b.figures.tables(g)
		fmt.Fprintf(&page, "## %s\n\n%s\n", g.name, tables[g.name])
	}
	fmt.Print("\n", page.String())
	stamp := b.figures.At.Format("20060102-150405")
	err = errors.Join(
		os.WriteFile(filepath.Join(b.out, stamp+".json"), append(raw, '\n'), 0o600),
		os.WriteFile(filepath.Join(b.out, stamp+".md"), []byte(page.String()), 0o600),
	)
	if err != nil || b.page == "" || b.reference == "" || b.rows != nil || b.log != logLevel {
		return err
	}
	return replaceTables(b.page, tables)
}

// The tables of a group stand between these lines of a page.
func beginTables(group string) string {
	return "<!-- begin: " + group + ", written by bench/run -->\n"
}

func endTables(group string) string { return "<!-- end: " + group + " -->\n" }

func replaceTables(page string, tables map[string]string) error {
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	for group, table := range tables {
		begin, end := []byte(beginTables(group)), []byte(endTables(group))
		before, rest, ok := bytes.Cut(text, begin)
		_, after, ok2 := bytes.Cut(rest, end)
		if !ok || !ok2 {
			return fmt.Errorf("%s has no place for the tables of %s", page, group)
		}
		text = bytes.Join([][]byte{before, begin, []byte("\n" + table + "\n"), end, after}, nil)
	}
	return os.WriteFile(page, text, 0o644)
}

// measure makes a load, and repeats it if it was noisy and retries are left.
func (b *bench) measure(l load) (sample, error) {
	l.warmup, l.window, l.behind = b.warmup, b.window, b.upstream
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
