// Package metrics shows Prometheus what the server does.
//
// It owns the names, the labels and what is counted for Prometheus alone. Everything else is
// read from those who have it, when Prometheus asks.
//
// Invariants:
//   - A label's value is a word of the program or of its settings. What clients and other hosts
//     send never becomes one, so the number of series is bounded, whatever they send.
//   - Nothing here asks the database or waits for a disk: a scrape is answered while both hang.
package metrics

import (
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"nestbox/request"
)

// Metrics are those of one server. New makes them.
type Metrics struct {
	registry *prometheus.Registry
	requests *requests
	samples  func() []Sample

	accounts, sessions, authorizations *prometheus.CounterVec
	refreshes, signIns                 *prometheus.CounterVec

	commit, group, wait, checkpoint prometheus.Histogram
	upstream                        *prometheus.HistogramVec
}

// New returns metrics. samples returns the values of the families; it must be quick.
func New(samples func() []Sample) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), requests: newRequests(), samples: samples}
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		m.registry.MustRegister(v)
		return v
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
		m.registry.MustRegister(h)
		return h
	}
	m.accounts = vec("account_created_total", "Accounts that were created, by the way that led to it.", "source", "deactivated")
	m.sessions = vec("session_created_total", "Sessions that were opened, by the way that led to it.", "source")
	m.authorizations = vec("oauth_authorization_total", "Times that a person allowed an OAuth client something.", "client_first_party")
	m.refreshes = vec("nestbox_session_refresh_total", "Refreshes of sessions, by what came of them.", "outcome")
	m.signIns = vec("nestbox_signin_total", "Sign-ins, by what came of them.", "outcome")
	for _, source := range []string{sourceCreateAccount, sourcePages, sourceOperator} {
		m.accounts.WithLabelValues(source, "false")
	}
	m.accounts.WithLabelValues(sourceCreateAccount, "true")
	for _, source := range []string{sourceCreateSession, sourceCreateAccount, sourceOAuth} {
		m.sessions.WithLabelValues(source)
	}
	for _, first := range []string{"true", "false"} {
		m.authorizations.WithLabelValues(first)
	}
	for _, outcome := range refreshOutcomes {
		m.refreshes.WithLabelValues(outcome.word)
	}
	m.refreshes.WithLabelValues(outcomeRefused)
	for _, outcome := range []string{outcomeDone, outcomeRefused} {
		m.signIns.WithLabelValues(outcome)
	}
	m.commit = histogram("nestbox_db_commit_duration_seconds", "Time that a COMMIT took until it was on the disk.", diskBuckets())
	m.group = histogram("nestbox_db_group_size", "Writes that shared a transaction.", prometheus.ExponentialBuckets(1, 2,
		9)) //nolint:mnd // 1 to 256
	m.wait = histogram("nestbox_db_queue_wait_seconds", "Time that a write waited for its turn.", diskBuckets())
	m.checkpoint = histogram("nestbox_db_checkpoint_duration_seconds", "Time that a checkpoint took.", diskBuckets())
	m.upstream = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "nestbox_upstream_duration_seconds", Help: "Time that a service took to begin its answer to a call that was passed on.",
		Buckets: httpBuckets(),
	}, []string{"service"})
	m.registry.MustRegister(m.upstream, m.requests.histogram, collector{samples},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// diskBuckets are the bounds of what waits for the disk, in seconds.
func diskBuckets() []float64 {
	return []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10}
}

// httpBuckets are those of OpenTelemetry's convention for HTTP, in seconds.
func httpBuckets() []float64 {
	return []float64{.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10}
}

// GoVersion is the label of Families.Build.
func GoVersion() string { return runtime.Version() }

// Committed counts a transaction of the database.
func (m *Metrics) Committed(took time.Duration, group int) {
	m.commit.Observe(took.Seconds())
	m.group.Observe(float64(group))
}

// Waited counts how long a write waited for its turn.
func (m *Metrics) Waited(took time.Duration) { m.wait.Observe(took.Seconds()) }

// Copied counts a checkpoint.
func (m *Metrics) Copied(took time.Duration) { m.checkpoint.Observe(took.Seconds()) }

// Upstream counts a call that was passed on to a service, which has one of few names.
func (m *Metrics) Upstream(service string, took time.Duration) {
	m.upstream.WithLabelValues(service).Observe(took.Seconds())
}

// Handler returns what answers /metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, // what can be shown is
		Registry:      m.registry, MaxRequestsInFlight: scrapesAtOnce, Timeout: scrapeTimeout,
	})
}

const (
	// scrapesAtOnce bounds scrapes: one Prometheus makes one at a time.
	scrapesAtOnce = 4
	scrapeTimeout = 10 * time.Second
)

// Gatherer returns the registry as tests read it.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// collector shows samples.
type collector struct{ samples func() []Sample }

// Describe implements prometheus.Collector. What there is, is seen when it is collected.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	for _, one := range c.samples() {
		desc := prometheus.NewDesc(one.family.Name, one.family.Help, one.family.Labels, nil)
		metric, err := prometheus.NewConstMetric(desc, one.family.kind, one.value, one.labels...)
		if err != nil {
			metric = prometheus.NewInvalidMetric(desc, err)
		}
		out <- metric
	}
}

// The words of sources and outcomes.
const (
	sourceCreateAccount = request.SourceCreateAccount
	sourceCreateSession = request.SourceCreateSession
	sourceOAuth         = request.SourceOAuth
	sourcePages         = request.SourcePages
	sourceOperator      = request.SourceOperator

	outcomeDone    = "done"
	outcomeRefused = "refused"
)

// refreshOutcomes are what came of a refresh, the rarer before what it is a kind of.
var refreshOutcomes = [...]struct {
	mark request.Mark
	word string
}{
	{request.RefreshStale, "stale"},
	{request.RefreshAhead, "ahead"},
	{request.RefreshConverged, "converge"},
	{request.RefreshRepeated, "repeat"},
	{request.RefreshMoved, "advance"},
	{request.RefreshRefused, outcomeRefused},
}

// Request counts a request that has ended.
func (m *Metrics) Request(o request.Outcome) {
	m.requests.ended(o)
	if o.Marks != 0 {
		m.marked(o.Marks, sourceOf(o.Route))
	}
}

// Command counts what a command of the operator did.
func (m *Metrics) Command(marks request.Mark) {
	if marks != 0 {
		m.marked(marks, sourceOperator)
	}
}

// sourceOf returns the word for what a route leads to.
func sourceOf(route string) string {
	switch route {
	case "/xrpc/" + sourceCreateAccount:
		return sourceCreateAccount
	case "/xrpc/" + sourceCreateSession:
		return sourceCreateSession
	case "/oauth/token":
		return sourceOAuth
	default:
		return sourcePages
	}
}

func (m *Metrics) marked(marks request.Mark, source string) {
	has := func(k request.Mark) bool { return marks&k != 0 }
	if has(request.AccountCreated) {
		m.accounts.WithLabelValues(source, word(has(request.Arrived))).Inc()
	}
	if has(request.SessionCreated) {
		m.sessions.WithLabelValues(source).Inc()
	}
	if has(request.ClientAllowed) {
		m.authorizations.WithLabelValues(word(has(request.FirstParty))).Inc()
	}
	for _, one := range refreshOutcomes {
		if has(one.mark) {
			m.refreshes.WithLabelValues(one.word).Inc()
			break
		}
	}
	switch {
	case has(request.SignedIn):
		m.signIns.WithLabelValues(outcomeDone).Inc()
	case has(request.SignInFailed):
		m.signIns.WithLabelValues(outcomeRefused).Inc()
	}
}

func word(yes bool) string {
	if yes {
		return "true"
	}
	return "false"
}
