package metrics_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"nestbox/metrics"
	"nestbox/request"
)

// everything returns a sample of each family.
func everything() []metrics.Sample {
	var out []metrics.Sample
	families := reflect.ValueOf(metrics.NewFamilies()).Elem()
	for _, field := range families.Fields() {
		f, ok := reflect.TypeAssert[metrics.Family](field)
		if !ok {
			panic("not a family")
		}
		labels := make([]string, len(f.Labels))
		for n := range labels {
			labels[n] = "x"
		}
		out = append(out, f.Of(7, labels...))
	}
	return out
}

// scrape returns what Prometheus gets.
func scrape(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody))
	text, err := io.ReadAll(w.Body)
	if err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %v: %s", w.Code, err, text)
	}
	return string(text)
}

// series returns how many series a scrape has.
func series(text string) (n int) {
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			n++
		}
	}
	return n
}

// TestLint: the names and the words are as Prometheus wants them, by its library and, where it
// is installed, by promtool.
func TestLint(t *testing.T) {
	m := metrics.New(everything)
	m.Request(request.Outcome{Status: 200, Took: time.Millisecond, Method: http.MethodGet, Route: "/xrpc/a.b.c"})
	m.Upstream("appview", time.Millisecond)
	m.Committed(time.Millisecond, 3)
	m.Waited(time.Millisecond)
	m.Copied(time.Millisecond)
	problems, err := testutil.GatherAndLint(m.Gatherer())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("there is no promtool here")
	}
	check := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	check.Stdin = strings.NewReader(scrape(t, m))
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

// TestFamilies: each is there with its value, and a wrong number of labels shows.
func TestFamilies(t *testing.T) {
	text := scrape(t, metrics.New(everything))
	families := reflect.ValueOf(metrics.NewFamilies()).Elem()
	for _, field := range families.Fields() {
		f, _ := reflect.TypeAssert[metrics.Family](field)
		labels := ""
		for n, name := range f.Labels {
			labels += fmt.Sprintf("%s%s=%q", strings.Repeat(",", min(n, 1)), name, "x")
		}
		if labels != "" {
			labels = "{" + labels + "}"
		}
		// Prometheus sorts labels; two of ours are in that order or have equal values.
		if !strings.Contains(text, "\n"+f.Name+labels+" 7\n") && !strings.Contains(text, "\n"+f.Name+"{goversion=\"x\",version=\"x\"} 7\n") {
			t.Errorf("%s%s is missing", f.Name, labels)
		}
	}
	f := metrics.NewFamilies()
	wrong := metrics.New(func() []metrics.Sample { return []metrics.Sample{f.Mail.Of(1), f.MailQueue.Of(2)} })
	if _, err := wrong.Gatherer().Gather(); err == nil {
		t.Error("a sample without its label is no error")
	}
	if text := scrape(t, wrong); !strings.Contains(text, "\nnestbox_mail_queue 2\n") {
		t.Error("a wrong sample hides the others")
	}
}

// TestSeriesAreBounded: whatever clients send, and whatever services answer, there are fewer than
// 2,000 series, and no more come once all rooms are taken.
func TestSeriesAreBounded(t *testing.T) {
	m := metrics.New(everything)
	next := uint32(1)
	random := func(n uint32) uint32 { // a linear generator: the test is the same each time
		next = next*1664525 + 1013904223
		return next >> 8 % n
	}
	methods := []string{"GET", "POST", "HEAD", "OPTIONS", "PUT", "get", "\xff\n"}
	send := func(times int) {
		for range times {
			o := request.Outcome{Status: int(100 + random(900)), Took: time.Duration(random(3000)) * time.Millisecond}
			o.Method = methods[random(7)]
			if random(4) > 0 { // else no route of ours
				o.Route = fmt.Sprintf("/xrpc/com.example.method%d", random(120))
			}
			m.Request(o)
		}
	}
	send(100_000)
	before := series(scrape(t, m))
	send(200_000)
	text := scrape(t, m)
	if after := series(text); after != before || after >= 2000 {
		t.Errorf("%d series, then %d", before, after)
	}
	total := 0
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "http_server_request_duration_seconds_count") {
			var n int
			if _, err := fmt.Sscan(line[strings.LastIndexByte(line, ' '):], &n); err != nil {
				t.Fatal(line, err)
			}
			total += n
		}
	}
	if total < 250_000 { // a ninth are below 200: streams
		t.Errorf("%d requests were counted", total)
	}
}

// TestRequests: a request is counted under its route, or as another one, and what found no room
// under the last resort of its class. What a client can provoke leaves room for the rest.
func TestRequests(t *testing.T) {
	m := metrics.New(func() []metrics.Sample { return nil })
	count := func(method, route string, status int) {
		m.Request(request.Outcome{Status: status, Method: method, Route: route})
	}
	for i := range 60 {
		count("POST", fmt.Sprintf("/xrpc/a.b.route%d", i), 401)
	}
	for i := range 60 {
		count("PUT", "", 400+i)
	}
	count("POST", "/xrpc/a.b.write", 200)
	count("POST", "/xrpc/a.b.write", 503)
	count("GET", "/xrpc/a.b.stream", 101)
	text := scrape(t, m)
	for line, want := range map[string]bool{
		`{http_request_method="POST",http_response_status_code="401",http_route="/xrpc/a.b.route3"} 1`:  true,
		`{http_request_method="POST",http_response_status_code="401",http_route="/xrpc/a.b.route40"} 1`: false,
		`{http_request_method="POST",http_response_status_code="401",http_route="other"} 48`:            true,
		`{http_request_method="_OTHER",http_response_status_code="400",http_route="other"} 51`:          true,
		`{http_request_method="POST",http_response_status_code="200",http_route="/xrpc/a.b.write"} 1`:   true,
		`{http_request_method="POST",http_response_status_code="503",http_route="/xrpc/a.b.write"} 1`:   true,
		`{http_request_method="GET",http_response_status_code="101",http_route="/xrpc/a.b.stream"} 1`:   false,
		`{http_request_method="PUT",http_response_status_code="400",http_route="other"}`:                false,
	} {
		if strings.Contains(text, "http_server_request_duration_seconds_count"+line) != want {
			t.Errorf("%s: want it %t", line, want)
		}
	}
}

// TestMarks: what requests and commands did is counted by the way that led to it.
func TestMarks(t *testing.T) {
	m := metrics.New(func() []metrics.Sample { return nil })
	const xrpc = "/xrpc/com.atproto.server."
	for route, marks := range map[string][]request.Mark{
		xrpc + "createAccount":  {request.AccountCreated | request.SessionCreated, request.AccountCreated | request.SessionCreated | request.Arrived},
		xrpc + "createSession":  {request.SessionCreated | request.SignedIn, request.SignInFailed},
		xrpc + "refreshSession": {request.RefreshMoved, request.RefreshMoved | request.RefreshAhead, request.RefreshRepeated, request.RefreshRepeated | request.RefreshConverged, request.RefreshRefused, request.RefreshRefused | request.RefreshStale},
		"/oauth/token":          {request.SessionCreated, request.RefreshMoved},
		"":                      {request.AccountCreated, request.ClientAllowed, request.ClientAllowed | request.FirstParty, request.SignedIn},
	} {
		for _, k := range marks {
			m.Request(request.Outcome{Status: 200, Method: "POST", Route: route, Marks: k})
		}
	}
	m.Command(request.AccountCreated)
	m.Command(0)
	text := scrape(t, m)
	for _, line := range []string{
		`account_created_total{deactivated="false",source="com.atproto.server.createAccount"} 1`,
		`account_created_total{deactivated="true",source="com.atproto.server.createAccount"} 1`,
		`account_created_total{deactivated="false",source="pages"} 1`,
		`account_created_total{deactivated="false",source="operator"} 1`,
		`session_created_total{source="com.atproto.server.createAccount"} 2`,
		`session_created_total{source="com.atproto.server.createSession"} 1`,
		`session_created_total{source="oauth"} 1`,
		`oauth_authorization_total{client_first_party="true"} 1`,
		`oauth_authorization_total{client_first_party="false"} 1`,
		`nestbox_session_refresh_total{outcome="advance"} 2`,
		`nestbox_session_refresh_total{outcome="ahead"} 1`,
		`nestbox_session_refresh_total{outcome="repeat"} 1`,
		`nestbox_session_refresh_total{outcome="converge"} 1`,
		`nestbox_session_refresh_total{outcome="stale"} 1`,
		`nestbox_session_refresh_total{outcome="refused"} 1`,
		`nestbox_signin_total{outcome="done"} 2`,
		`nestbox_signin_total{outcome="refused"} 1`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("%s is missing", line)
		}
	}
}

// BenchmarkRequest is what counting adds to each request.
func BenchmarkRequest(b *testing.B) {
	m := metrics.New(func() []metrics.Sample { return nil })
	o := request.Outcome{Status: 200, Took: time.Millisecond, Method: "POST", Route: "/xrpc/com.atproto.server.refreshSession", Marks: request.RefreshMoved}
	b.ReportAllocs()
	for b.Loop() {
		m.Request(o)
	}
}
