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

func (f *figures) takeoverTables(w *strings.Builder) {
	m := f.Inner["BenchmarkTakeover"]
	fmt.Fprintf(w, "\n| accounts | records | took | accounts/s | records/s | memory |\n|-|-|-|-|-|-|\n| %.0f | %.0f | %.1f s | %.0f | %.0f | %.0f MB |\n",
		m["accounts"], m["records"], m["took-s"], m["accounts/s"], m["records/s"], m["resident-MB"])
}

func (f *figures) backupTables(w *strings.Builder) {
	m := f.Inner["BenchmarkSnapshot"]
	fmt.Fprintf(w, "\n| snapshot | took | CPU | heap |\n|-|-|-|-|\n")
	for _, row := range []struct{ name, what string }{{"first", "first"}, {"second", "second, 1 % changed"}} {
		fmt.Fprintf(w, "| %s | %.1f s | %.1f s | %.0f MB |\n", row.what, m[row.name+"-s"], m[row.name+"-cpu-s"], m[row.name+"-heap-MB"])
	}
	fmt.Fprintf(w, "\nThe database has %.0f MB.\n", m["database-MB"])
}
