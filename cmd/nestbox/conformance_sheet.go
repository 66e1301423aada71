package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"nestbox/conformance"
)

// sheet prints checks for people, one by one: a line for what passed, and what was expected,
// what came and why it matters for what did not.
type sheet struct {
	out    io.Writer
	colors bool
}

func newSheet(f *os.File) sheet {
	return sheet{f, term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func (s sheet) head(t conformance.Target) {
	fmt.Fprintf(printable{s.out}, "%s: %d checks, at most %d calls\n\n", t.Origin, len(conformance.Names()), conformance.MostCalls())
}

// marks are how outcomes are shown, and in which colour of a terminal.
var marks = map[conformance.Outcome]struct{ word, color string }{
	conformance.Pass:    {"pass", "\x1b[32m"},
	conformance.Fail:    {"FAIL", "\x1b[1;31m"},
	conformance.Differs: {"differs", "\x1b[33m"},
	conformance.Skipped: {"skipped", "\x1b[2m"},
}

func (s sheet) line(r conformance.Result) {
	mark := marks[r.Outcome]
	word := fmt.Sprintf("%-7s", mark.word)
	if s.colors {
		word = mark.color + word + "\x1b[0m"
	}
	text := r.Check
	switch r.Outcome {
	case conformance.Pass:
	case conformance.Skipped:
		text += ": " + r.Detail
	case conformance.Fail, conformance.Differs:
		text += fmt.Sprintf("\n         expected  %s\n         found     %s\n         because   %s", r.Expects, r.Detail, r.Why)
	}
	_, _ = io.WriteString(s.out, word+"  ")
	fmt.Fprintln(printable{s.out}, text)
}

func (s sheet) foot(r conformance.Report) {
	var counts []string
	for _, o := range []conformance.Outcome{conformance.Pass, conformance.Fail, conformance.Differs, conformance.Skipped} {
		counts = append(counts, fmt.Sprintf("%d %s", r.Counts[o], o))
	}
	fmt.Fprintf(printable{s.out}, "\n%s. %d calls in %.1f s, as %s.\n", strings.Join(counts, ", "), r.Calls, r.Seconds, r.DID)
	if r.Left+r.Unanswered+r.Unseen == 0 {
		fmt.Fprintln(s.out, "Signed out of every session.")
		return
	}
	if r.Left > 0 {
		fmt.Fprintf(s.out, "deleteSession refused %d refresh tokens of this run.\n", r.Left)
	}
	if r.Unanswered > 0 {
		fmt.Fprintf(s.out, "deleteSession did not answer for %d refresh tokens of this run.\n", r.Unanswered)
	}
	if r.Unseen > 0 {
		fmt.Fprintf(s.out, "createSession did not answer %d times: each time a session may have been opened.\n", r.Unseen)
	}
	fmt.Fprintln(s.out, "Look at the account's sessions.")
}
