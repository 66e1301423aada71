package server_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"nestbox/account"
	"nestbox/admin"
	"nestbox/internal/pdstest"
	"nestbox/signin"
)

// TestDoctorServices: the doctor finds an AppView that does not answer, whose clock is
// another, or whose DID leads elsewhere.
func TestDoctorServices(t *testing.T) {
	var date time.Duration
	status, elsewhere := http.StatusOK, ""
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/.well-known/did.json" {
			at := s.URL
			if elsewhere != "" {
				at = elsewhere
			}
			_, _ = fmt.Fprintf(w, `{"id":%q,"service":[{"id":"#bsky_appview","type":"BskyAppView","serviceEndpoint":%q}]}`, didOf(s.URL), at)
			return
		}
		w.Header().Set("Date", time.Now().Add(date).UTC().Format(http.TimeFormat))
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	says := func(url, did string) (bool, string) {
		t.Helper()
		p := pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_BSKY_APP_VIEW_URL=" + url, "PDS_BSKY_APP_VIEW_DID=" + did}})
		defer p.Stop()
		var d admin.Diagnosis
		if err := p.Run(t.Context(), "doctor", struct{}{}, &d); err != nil {
			t.Fatal(err)
		}
		for _, f := range d.Findings {
			if f.What == "other services" {
				return f.OK, f.Says
			}
		}
		t.Fatal("the doctor did not look at other services")
		return false, ""
	}
	for _, c := range []struct {
		name string
		set  func()
		ok   bool
		says string
	}{
		{"sound", func() {}, true, s.URL + " answer"},
		{"another clock", func() { date = 2 * time.Minute }, false, "clock of this machine differs by -"},
		{"a failure", func() { date, status = 0, http.StatusBadGateway }, false, "answers with status 502"},
		{"elsewhere", func() { status, elsewhere = http.StatusNotFound, "https://api.example.com" }, false, "its DID's document says https://api.example.com"},
	} {
		c.set()
		if ok, text := says(s.URL, didOf(s.URL)); ok != c.ok || !strings.Contains(text, c.says) {
			t.Errorf("%s: %t %s", c.name, ok, text)
		}
	}
	if ok, text := says(s.URL, "did:plc:ewvi7nxzyoun6zhxrhs64oiz"); ok || !strings.Contains(text, "has no document") {
		t.Errorf("a wrong DID: %t %s", ok, text)
	}
	s.Close()
	if ok, text := says(s.URL, didOf(s.URL)); ok || !strings.Contains(text, "is not reached") {
		t.Errorf("gone: %t %s", ok, text)
	}
}

// didOf returns the did:web of a server on this machine.
func didOf(url string) string {
	return "did:web:localhost%3A" + url[strings.LastIndexByte(url, ':')+1:]
}

// TestDoctorPasskeys: the doctor warns of passkeys that another host name has made useless.
func TestDoctorPasskeys(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	a, err := account.Find(t.Context(), s.SignIns().Accounts, s.SignUp(t, "alice").DID)
	if err != nil {
		t.Fatal(err)
	}
	look := func() (ok bool, says string) {
		t.Helper()
		var d admin.Diagnosis
		if err := s.Run(t.Context(), "doctor", struct{}{}, &d); err != nil {
			t.Fatal(err)
		}
		for _, f := range d.Findings {
			if f.What == "passkeys" {
				return f.OK, f.Says
			}
		}
		t.Fatal("the doctor did not look at passkeys")
		return false, ""
	}
	q, err := s.SignIns().BeginPasskey(t.Context(), a, "flow")
	if err != nil {
		t.Fatal(err)
	}
	key := pdstest.NewAuthenticator("localhost", s.URL)
	if _, err := s.SignIns().AddPasskey(t.Context(), a, signin.NewPasskey{Sealed: q.Sealed, Flow: "flow", Answer: key.Make(t, q.Options)}); err != nil {
		t.Fatal(err)
	}
	if ok, says := look(); !ok || says != "all belong to localhost" {
		t.Errorf("%v %s", ok, says)
	}
	err = s.SignIns().Factors.ChangeFactors(t.Context(), a.ID, func(_ account.Account, f signin.Factors) (signin.Changed, error) {
		old := f.Passkeys[0]
		old.ID, old.CredentialID, old.Host = 0, []byte("another"), "old.example.com" // as after a change of PDS_HOSTNAME
		f.Passkeys = append(slices.Clone(f.Passkeys), old)
		return signin.Changed{Factors: f}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if ok, says := look(); ok || !strings.Contains(says, "1 belong to another host name than localhost") || !strings.Contains(says, "PDS_HOSTNAME") {
		t.Errorf("%v %s", ok, says)
	}
}
