package metrics_test

import (
	"net/http"
	"testing"
	"time"

	"nestbox/metrics"
	"nestbox/request"
)

// BenchmarkRefresh is all that metrics do for a refresh that is a transaction of its own.
func BenchmarkRefresh(b *testing.B) {
	m := metrics.New(func() []metrics.Sample { return nil })
	o := request.Outcome{
		Method: http.MethodPost, Route: "/xrpc/com.atproto.server.refreshSession", Status: http.StatusOK,
		Took: 400 * time.Microsecond, Marks: request.RefreshMoved,
	}
	b.ReportAllocs()
	for b.Loop() {
		began := time.Now()
		m.Waited(time.Since(began))
		m.Committed(time.Since(began), 1)
		m.Request(o)
	}
}
