package main

import (
	"bytes"
	"fmt"
	"testing"
	"text/tabwriter"
)

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
