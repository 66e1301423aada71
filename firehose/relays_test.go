package firehose_test

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"nestbox/firehose"
)

// TestRelays: what a relay says of this server, and how the last request to it went.
func TestRelays(t *testing.T) {
	t.Parallel()
	status, answer := http.StatusOK, `{"hostname":"pds.example.com","status":"throttled","seq":12,"accountCount":100}`
	relay := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(relay.Close)
	c := firehose.NewCrawler([]string{relay.URL}, "pds.example.com", relay.Client(), slog.New(slog.DiscardHandler))
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	c.Now = func() time.Time { return now }
	if got := c.Last(relay.URL); got != (firehose.Asked{}) {
		t.Errorf("before: %+v", got)
	}
	if got, err := c.HostStatus(t.Context(), relay.URL); err != nil || got != (firehose.HostStatus{Status: "throttled", Seq: 12, Accounts: 100}) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := c.Ask(t.Context(), relay.URL); err != nil || c.Last(relay.URL) != (firehose.Asked{At: now}) {
		t.Errorf("%v, %+v", err, c.Last(relay.URL))
	}
	status, answer = http.StatusBadRequest, `{"error":"HostNotFound"}`
	if _, err := c.HostStatus(t.Context(), relay.URL); !errors.Is(err, firehose.ErrUnseen) {
		t.Errorf("%v", err)
	}
	if err := c.Ask(t.Context(), relay.URL); err == nil || c.Last(relay.URL).Error == "" {
		t.Errorf("%v, %+v", err, c.Last(relay.URL))
	}
	status, answer = http.StatusOK, `[`
	if _, err := c.HostStatus(t.Context(), relay.URL); err == nil || errors.Is(err, firehose.ErrUnseen) {
		t.Errorf("%v", err)
	}
	if err := c.Ask(t.Context(), "https://other.example"); !errors.Is(err, firehose.ErrUnlisted) {
		t.Errorf("%v", err)
	}
}
