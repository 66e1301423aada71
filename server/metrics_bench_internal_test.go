package server

import (
	"encoding/json"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nestbox/config"
	"nestbox/internal/system"
)

// BenchmarkRefreshMetrics compares what a refresh costs with metrics on and off, in CPU time: in
// turns, so that what else the machine does falls on all. A second server of each kind shows what the
// difference of two equal ones is. The goal is 2 % more at most.
func BenchmarkRefreshMetrics(b *testing.B) {
	type side struct {
		handler http.Handler
		token   string
		used    time.Duration
	}
	open := func(settings ...string) *side {
		c, _, err := config.Load(config.Flags{Listen: "127.0.0.1:0", Data: b.TempDir(), Dev: true}, settings)
		if err != nil {
			b.Fatal(err)
		}
		s, err := Open(b.Context(), Options{
			Config: c, Version: "bench", Log: slog.New(slog.DiscardHandler), Now: time.Now, Listen: true, DevMail: io.Discard,
			Fatal: func(err error) { b.Error(err) },
		})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			if err := s.Close(); err != nil {
				b.Error(err)
			}
		})
		return &side{handler: s.handler()}
	}
	call := func(s *side, nsid, auth, body string) {
		r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/xrpc/com.atproto.server."+nsid, strings.NewReader(body))
		if body != "" {
			r.Header.Set("Content-Type", "application/json")
		}
		if auth != "" {
			r.Header.Set("Authorization", "Bearer "+auth)
		}
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, r)
		var got struct{ RefreshJwt string }
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK {
			b.Fatalf("%s: %d %s", nsid, w.Code, w.Body)
		}
		s.token = got.RefreshJwt
	}
	listen := func() string { return "PDS_METRICS_LISTEN=" + filepath.Join(b.TempDir(), "m") }
	off, on, offAgain, onAgain := open(), open(listen()), open(), open(listen())
	sides := []*side{off, on, offAgain, onAgain}
	for _, s := range sides {
		call(s, "createAccount", "", `{"handle":"alice.test","email":"alice@example.com","password":"correct-horse"}`)
	}
	const turn = 50
	n := 0
	for b.Loop() {
		n++
		for i := range sides {
			s := sides[(n+i)%len(sides)]
			before, err := system.CPUTime()
			if err != nil {
				b.Fatal(err)
			}
			for range turn {
				call(s, "refreshSession", s.token, "")
			}
			after, err := system.CPUTime()
			if err != nil {
				b.Fatal(err)
			}
			s.used += after - before
		}
	}
	each := func(a, b *side) float64 { return float64((a.used + b.used).Microseconds()) / float64(2*n*turn) }
	differ := func(a, b *side) float64 { return 100 * math.Abs(float64(a.used)/float64(b.used)-1) }
	b.ReportMetric(each(off, offAgain), "µs-off")
	b.ReportMetric(each(on, onAgain), "µs-on")
	b.ReportMetric(100*(each(on, onAgain)/each(off, offAgain)-1), "%more")
	b.ReportMetric(max(differ(offAgain, off), differ(onAgain, on)), "%noise")
}
