package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/alecthomas/kong"

	"nestbox/backup"
	"nestbox/backup/depot"
	"nestbox/oauth/dpop"
	"nestbox/server"
	"nestbox/takeover"
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

// TestChoices: the usage of a command shows flags of which one must be given as a choice.
func TestChoices(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"account adopt": "Usage: nestbox account adopt (--from=URL | --car=FILE) --email=ADDRESS <did> [flags]\n",
		"firehose jump": "Usage: nestbox firehose jump (--to=N | --from-relay=URL) [flags]\n",
		"restore":       "Usage: nestbox restore --to=DIR <store> [flags]\n",
	} {
		var out bytes.Buffer
		parser := newParser(&cli{}, kong.Writers(&out, &out), kong.Exit(func(int) {}))
		_, _ = parser.Parse(append(strings.Fields(line), "--help")) // it goes on behind the help, and something is missing
		if got := out.String(); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %.200s", line, got)
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

// TestTakeoverNext: the report of a take-over names the next step, and none after a failure.
func TestTakeoverNext(t *testing.T) {
	t.Parallel()
	done := takeover.Report{Source: "/pds", Target: "/pds/nestbox", Done: true}
	elsewhere := takeover.Report{Source: "/pds", Target: "/srv/new", Done: true}
	for _, c := range []struct {
		report *takeover.Report
		pass   server.Pass
		err    error
		want   string // empty for no such line
	}{
		{&done, server.Finish, nil, "start nestbox serve with the same env file;"},
		{&elsewhere, server.Finish, nil, "with PDS_DATA_DIRECTORY=/srv/new;"},
		{&takeover.Report{}, server.Prepare, nil, "stop the old server for good"},
		{&takeover.Report{}, server.Prepare, errors.New("no space left on device"), ""},
		{&takeover.Report{Faults: []takeover.Fault{{}}}, server.Finish, takeover.ErrFaults, "behind each fault"},
	} {
		var out bytes.Buffer
		printReport(&out, c.report, c.pass, c.err)
		_, next, ok := strings.Cut(out.String(), "\nnext\t")
		if ok != (c.want != "") || !strings.Contains(next, c.want) {
			t.Errorf("%s, %v: %q, want %q", c.pass, c.err, next, c.want)
		}
	}
	for _, err := range []error{fmt.Errorf("records: %w", context.Canceled), fmt.Errorf("open: %w", fs.ErrPermission)} {
		if got := hinted(err).Error(); !strings.Contains(got, "run the command") {
			t.Errorf("%v: %q", err, got)
		}
	}
}

// TestParseAt: a time is read; the error for a wrong one shows the form.
func TestParseAt(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"": "", "2026-11-29T22:00:00Z": "", "2026-11-29T23:00:00+01:00": "", "yesterday": "2026-11-29T22:00:00Z"} {
		at, err := parseAt(text)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) || at.IsZero() != (text == "" || err != nil) {
			t.Errorf("%q: %s, %v", text, at, err)
		}
	}
}

// TestDeveloping: faults on purpose stand around a server of --dev alone, and are refused by name
// elsewhere.
func TestDeveloping(t *testing.T) {
	t.Parallel()
	if around, err := developing(false, "", io.Discard); around != nil || err != nil {
		t.Errorf("production: %v, %v", around, err)
	}
	if around, err := developing(false, "mobile", io.Discard); around != nil || err == nil || !strings.Contains(err.Error(), "--faults") {
		t.Errorf("faults in production: %v, %v", around, err)
	}
	file := filepath.Join(t.TempDir(), "mine.json")
	if err := os.WriteFile(file, []byte(`{"seed":3,"faults":[{"fault":"cut","methods":["/nothing"]}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for plan, want := range map[string]string{"": "", "mobile:7": "Faults on purpose: mobile, seed 7. See nestbox dev faults.\n\n", file: ""} {
		var notices strings.Builder
		around, err := developing(true, plan, &notices)
		if err != nil {
			t.Fatal(err)
		}
		_, err = around.Handler(http.NotFoundHandler(), server.Inside{Now: time.Now, Proofs: &dpop.Checker{}})
		if notices.String() != want || (err != nil) != (plan == file) {
			t.Errorf("%s: noticed %q, %v", plan, notices.String(), err)
		}
	}
	if err := os.WriteFile(file, []byte(`{"seed":3,"faults":[{"fault":"cut"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{file: "mine.json 3", file + ":9": "mine.json 9", "oauth": "oauth 0", "oauth:5": "oauth 5"} {
		p, err := findPlan(name)
		if got := fmt.Sprint(p.Name, " ", p.Seed); err != nil || got != want {
			t.Errorf("%s: %s, %v, want %s", name, got, err, want)
		}
	}
	if _, err := findPlan("mobile:0"); err == nil || !strings.Contains(err.Error(), "a seed is above 0") {
		t.Errorf("seed 0: %v", err)
	}
	if _, err := findPlan("magic"); err == nil || !strings.Contains(err.Error(), "neither a preset nor a file") {
		t.Errorf("a plan that is not there: %v", err)
	}
}

// TestVerifiedText: that the keys were not looked at is said.
func TestVerifiedText(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		done backup.Verified
		want string
	}{
		{backup.Verified{Snapshots: 1}, "1 snapshots restored and verified, 0 objects, 0 blobs: 0 faults"},
		{backup.Verified{Snapshots: 1, KeysUnchecked: true}, "name their file with --keys"},
		{backup.Verified{HashesOnly: true, KeysUnchecked: true}, "name the identity with --identity"},
	} {
		if got := verifiedText(&c.done); !strings.HasSuffix(got, c.want) {
			t.Errorf("%+v: %q, want %q", c.done, got, c.want)
		}
	}
	raw, err := json.Marshal(backup.Verified{KeysUnchecked: true})
	if err != nil || !strings.Contains(string(raw), `"keysUnchecked":true`) {
		t.Errorf("%s, %v", raw, err)
	}
}

// TestPercentOf: a step ends with all of it, also one in which there was nothing to do.
func TestPercentOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		done, total int64
		want        int
	}{{0, 8, 0}, {1, 8, 12}, {8, 8, 100}, {0, 0, 100}, {786432, 540672, 100}} {
		if got := percentOf(backup.Step{Done: c.done, Total: c.total}); got != c.want {
			t.Errorf("%d of %d: %d %%, want %d", c.done, c.total, got, c.want)
		}
	}
}

// TestListTimes: what the list says can be restored can be named with restore --at: its times are whole.
func TestListTimes(t *testing.T) {
	t.Parallel()
	from := time.Date(2026, 11, 29, 22, 0, 0, 345_000_000, time.UTC)
	var out bytes.Buffer
	listText(&out, []listedLine{{At: from}}, []backup.Span{{From: from, To: from.Add(time.Millisecond)}})
	line, rest, _ := strings.Cut(out.String(), "\n")
	_, times, _ := strings.Cut(line, ": ")
	first, last, _ := strings.Cut(times, " to ")
	_, row, _ := strings.Cut(rest, "\n")
	made, _, _ := strings.Cut(row, "\t")
	for text, want := range map[string]time.Time{first: from, last: from.Add(time.Millisecond), made: from} {
		if at, err := parseAt(text); err != nil || !at.Equal(want) {
			t.Errorf("%q is %s, want %s; %v", text, at, want, err)
		}
	}
}

// TestListUnreadable: of a snapshot whose manifest cannot be read, the list has when it was made and
// why it cannot.
func TestListUnreadable(t *testing.T) {
	t.Parallel()
	dir, name := t.TempDir(), "snapshots/20261129T220000.000Z-"+strings.Repeat("ab", 32)+".json"
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "snapshots"), 0o700), os.WriteFile(filepath.Join(dir, name), []byte("{}"), 0o600)); err != nil {
		t.Fatal(err)
	}
	store, err := depot.OpenFolder(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := listed(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	listText(&out, lines, nil)
	_, row, _ := strings.Cut(out.String(), "\n")
	if !strings.HasPrefix(row, "2026-11-29T22:00:00.000Z\t") || !strings.Contains(row, "\tcannot be read: "+name) || strings.Contains(row, "0 kB") {
		t.Errorf("%q", row)
	}
	if raw, err := json.Marshal(lines); !strings.Contains(string(raw), `"at":"2026-11-29T22:00:00Z"`) || err != nil {
		t.Errorf("%s, %v", raw, err)
	}
}
