package metrics_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"nestbox/metrics"
	"nestbox/request"
)

// names returns the names that a server exports, of histograms those of their series, too.
func names(t *testing.T) map[string]bool {
	t.Helper()
	m := metrics.New(everything)
	m.Request(request.Outcome{Status: 200, Took: time.Millisecond, Method: "GET", Route: "/xrpc/a.b.c"})
	m.Upstream("appview", time.Millisecond)
	all := map[string]bool{"up": true} // Prometheus's own
	for line := range strings.Lines(scrape(t, m)) {
		if !strings.HasPrefix(line, "#") {
			all[line[:strings.IndexAny(line, "{ ")]] = true
		}
	}
	return all
}

var metricName = regexp.MustCompile(`\b(?:nestbox|http_server|account|session|oauth|go|process)_[a-z0-9_]+\b`)

// TestPackaging: the dashboard and the alerts ask for what the server exports, and nothing of
// ours is without a place on the dashboard.
func TestPackaging(t *testing.T) {
	known := names(t)
	raw, err := os.ReadFile("../packaging/grafana/nestbox.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(raw, &dashboard); err != nil {
		t.Fatal(err)
	}
	labels := []string{"http_response_status_code", "http_route"}
	used := map[string]bool{}
	look := func(where, text string) {
		for _, name := range metricName.FindAllString(text, -1) {
			if used[name] = true; !known[name] && !slices.Contains(labels, name) {
				t.Errorf("%s: no server exports %s", where, name)
			}
		}
	}
	queries := 0
	for _, p := range dashboard.Panels {
		for _, q := range p.Targets {
			queries++
			look("panel "+p.Title, q.Expr)
		}
	}
	if queries < 40 {
		t.Errorf("the dashboard has %d queries", queries)
	}
	for name := range known {
		family := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count"), "_sum")
		ours := !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") && !strings.HasPrefix(name, "promhttp_") && name != "up"
		if ours && !used[name] && !used[family+"_bucket"] && !used[family+"_count"] {
			t.Errorf("%s is on no panel", name)
		}
	}
	rules, err := os.ReadFile("../packaging/prometheus/nestbox.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	look("the alerts", string(rules))
	manual, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(string(rules), -1) {
		if !strings.Contains(string(manual), "| `"+m[1]+"` |") {
			t.Errorf("docs/operations.md does not explain the alert %s", m[1])
		}
	}
	for name := range known {
		family := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count"), "_sum")
		if strings.HasPrefix(name, "nestbox_") && !strings.Contains(string(manual), "`"+family+"`") {
			t.Errorf("docs/operations.md does not explain %s", family)
		}
	}
}

// TestRules: promtool, where it is installed, loads the alerts, and each comes when it should.
func TestRules(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("there is no promtool here")
	}
	folder, err := filepath.Abs("../packaging/prometheus")
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"check", "rules", "nestbox.rules.yml"}, {"test", "rules", "nestbox.rules.test.yml"}} {
		cmd := exec.CommandContext(t.Context(), promtool, args...)
		cmd.Dir = folder
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}
