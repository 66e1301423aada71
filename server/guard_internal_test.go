package server

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"nestbox/firehose"
)

// TestDoctorRelays: that no relay answered is not that none is ahead.
func TestDoctorRelays(t *testing.T) {
	s := openForTest(t)
	relay := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"hostname":"localhost","seq":0}`)
	}))
	t.Cleanup(relay.Close)
	down := httptest.NewServer(nil)
	down.Close()
	for _, c := range []struct {
		relays []string
		ok     bool
		says   string
	}{
		{nil, true, "no relay is set"},
		{[]string{relay.URL}, true, "this server has not given"},
		{[]string{down.URL}, false, "no relay answered, which were " + down.URL},
		{[]string{relay.URL, down.URL}, true, "not asked, because there was no answer: " + down.URL},
	} {
		s.crawler = firehose.NewCrawler(c.relays, "localhost", http.DefaultClient, s.opts.Log)
		says, err := s.lookAtNumbers(t.Context())
		if err != nil {
			says = err.Error()
		}
		if (err == nil) != c.ok || !strings.HasSuffix(says, c.says) {
			t.Errorf("%s: %t, %q, want %t, %q", c.relays, err == nil, says, c.ok, c.says)
		}
	}
}
