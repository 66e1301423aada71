package proxy_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"nestbox/internal/pdstest"
)

const (
	serviceDID = "did:web:reports.example.com"
	nsid       = "com.atproto.moderation.createReport"
)

// report sends a report about a record.
func report(t *testing.T, s *pdstest.InProcess, auth, body string) pdstest.Answer {
	t.Helper()
	return s.Do(t, pdstest.Request{Method: http.MethodPost, NSID: nsid, Auth: auth, Body: body})
}

const about = `{"reasonType":"com.atproto.moderation.defs#reasonSpam","reason":"it is spam","subject":{"$type":"com.atproto.admin.defs#repoRef","did":"did:plc:ewvi7nxzyoun6zhxrhs64oiz"},"modTool":{"name":"test"}}`

// TestReport: a report arrives as it was sent, with a token of the account for this
// service and method; what the service answers goes back.
func TestReport(t *testing.T) {
	var answer atomic.Pointer[string]
	status := atomic.Int64{}
	status.Store(http.StatusOK)
	answer.Store(new(`{"id":7,"reasonType":"x"}`))
	got := make(chan *http.Request, 1)
	bodies := make(chan string, 1)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- r
		bodies <- string(body)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(int(status.Load()))
		_, _ = io.WriteString(w, *answer.Load())
	}))
	t.Cleanup(service.Close)
	s := pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_REPORT_SERVICE_URL=" + service.URL, "PDS_REPORT_SERVICE_DID=" + serviceDID}})
	alice := s.SignUp(t, "alice")
	token := pdstest.Bearer(alice.AccessJwt)
	arrived := func() (*http.Request, string) { return <-got, <-bodies }

	a := report(t, s, token, about)
	r, body := arrived()
	if a.Status != http.StatusOK || string(a.Body) != *answer.Load() {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	var sent, want any
	if json.Unmarshal([]byte(body), &sent) != nil || json.Unmarshal([]byte(about), &want) != nil || !equal(sent, want) || r.URL.Path != "/xrpc/"+nsid {
		t.Errorf("%s got %s", r.URL.Path, body)
	}
	claims := payload(t, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	if claims["iss"] != alice.DID || claims["aud"] != serviceDID || claims["lxm"] != nsid || claims["jti"] == "" {
		t.Errorf("token %v", claims)
	}

	for name, c := range map[string]struct {
		status int
		answer string
		want   int
		error  string
	}{
		"a refusal":      {400, `{"error":"InvalidSubject","message":"no"}`, 400, "InvalidSubject"},
		"a limit":        {429, `{"error":"RateLimitExceeded","message":"no"}`, 429, "RateLimitExceeded"},
		"a fault":        {500, `{"error":"InternalServerError"}`, 502, "InternalServerError"},
		"no JSON":        {200, `<html>`, 502, "UpstreamFailure"},
		"no JSON either": {404, `<html>`, 404, "XRPCNotSupported"},
		"too much":       {200, `{"x":"` + strings.Repeat("x", 1<<20) + `"}`, 502, "UpstreamFailure"},
	} {
		status.Store(int64(c.status))
		answer.Store(&c.answer)
		a := report(t, s, token, about)
		arrived()
		if name2, _ := a.Error(t); a.Status != c.want || name2 != c.error {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
		}
	}
	service.Close()
	if a := report(t, s, token, about); a.Status != http.StatusBadGateway {
		t.Errorf("nobody there: %d %s", a.Status, a.Body)
	}
}

// TestReportRefused: a bad report is refused here, and reaches no service.
func TestReportRefused(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was sent") }))
	t.Cleanup(service.Close)
	s := pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_REPORT_SERVICE_URL=" + service.URL, "PDS_REPORT_SERVICE_DID=" + serviceDID}})
	token := pdstest.Bearer(s.SignUp(t, "alice").AccessJwt)
	report(t, s, "", about).WantError(t, 401, "AuthMissing", "Authentication Required")
	for name, body := range map[string]string{
		"no subject": `{"reasonType":"x"}`, "no reason type": `{"subject":{}}`, "a subject that is none": `{"reasonType":"x","subject":"did:plc:x"}`,
		"a long reason": `{"reasonType":"x","subject":{},"reason":"` + strings.Repeat("x", 20_001) + `"}`,
	} {
		if a := report(t, s, token, body); a.Status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
		}
	}
	alone := pdstest.Start(t, pdstest.Options{})
	report(t, alone, pdstest.Bearer(alone.SignUp(t, "alice").AccessJwt), about).WantError(t, 400, "InvalidRequest", "No service configured for "+nsid)
}

// TestReportElsewhere: the service that the client names in atproto-proxy gets the
// report, with a token for it; a name that leads nowhere is refused, and the
// operator's service hears nothing of either.
func TestReportElsewhere(t *testing.T) {
	own := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the operator's service was asked") }))
	t.Cleanup(own.Close)
	type arrival struct{ path, token string }
	arrived := make(chan arrival, 1)
	mux := http.NewServeMux()
	labeler := httptest.NewServer(mux)
	t.Cleanup(labeler.Close)
	_, port, _ := strings.Cut(strings.TrimPrefix(labeler.URL, "http://"), ":")
	did := "did:web:localhost%3A" + port
	mux.HandleFunc("GET /.well-known/did.json", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"id":"`+did+`","service":[{"id":"#atproto_labeler","type":"AtprotoLabeler","serviceEndpoint":"`+labeler.URL+`/"}]}`)
	})
	mux.HandleFunc("POST /xrpc/", func(w http.ResponseWriter, r *http.Request) {
		arrived <- arrival{r.URL.Path, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")}
		_, _ = io.WriteString(w, `{"id":1}`)
	})
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	_, closed, _ := strings.Cut(strings.TrimPrefix(gone.URL, "http://"), ":")

	s := pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_REPORT_SERVICE_URL=" + own.URL, "PDS_REPORT_SERVICE_DID=" + serviceDID}})
	alice := s.SignUp(t, "alice")
	to := func(header string) pdstest.Answer {
		t.Helper()
		return s.Do(t, pdstest.Request{Method: http.MethodPost, NSID: nsid, Auth: pdstest.Bearer(alice.AccessJwt), Body: about, Header: http.Header{"Atproto-Proxy": {header}}})
	}
	if a := to(did + "#atproto_labeler"); a.Status != http.StatusOK || string(a.Body) != `{"id":1}` {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	got := <-arrived
	if claims := payload(t, got.token); got.path != "/xrpc/"+nsid || claims["iss"] != alice.DID || claims["aud"] != did || claims["lxm"] != nsid {
		t.Errorf("%s by %v", got.path, claims)
	}
	for header, message := range map[string]string{
		"#atproto_labeler": "no did specified in proxy header", did: "no service id specified in proxy header", did + "#": "no service id specified in proxy header",
		did + "#a#b": "invalid proxy header format", did + "#a b": "proxy header cannot contain spaces",
		"example.com#atproto_labeler": "could not resolve proxy did", "did:key:z6Mk#x": "could not resolve proxy did",
		"did:plc:ewvi7nxzyoun6zhxrhs64oiz#x": "could not resolve proxy did", did + "#atproto_pds": "could not resolve proxy did service url",
	} {
		a := to(header)
		a.WantError(t, http.StatusBadRequest, "InvalidRequest", message)
	}
	to("did:web:localhost%3A"+closed+"#atproto_labeler").WantError(t, http.StatusBadGateway, "UpstreamFailure", "could not resolve proxy did")
}
