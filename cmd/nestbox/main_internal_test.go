package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/alecthomas/kong"

	"nestbox/web"
)

// TestLinesOfPages: the commands that the admin page shows are there.
func TestLinesOfPages(t *testing.T) {
	lines := web.ActLines()
	if len(lines) < 50 {
		t.Fatalf("only %d lines", len(lines))
	}
	for _, line := range lines {
		if i := slices.Index(line, "<"); i >= 0 { // the rest is the shell's
			line = line[:i]
		}
		if _, err := kong.Must(&cli{}).Parse(line); err != nil {
			t.Errorf("nestbox %s: %v", strings.Join(line, " "), err)
		}
	}
}

// TestPrintable: a stranger's text does not steer the operator's terminal.
func TestPrintable(t *testing.T) {
	var out bytes.Buffer
	w := tabwriter.NewWriter(printable{&out}, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "%s\t%s\n", "é\x1b[31m\u009b1mname\u202e\x00\r", "次")
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "é?[31m?1mname???  次\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
