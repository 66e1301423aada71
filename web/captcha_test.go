package web_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"sync/atomic"
	"testing"

	"nestbox/request"
	"nestbox/web"
)

// TestCaptcha: only what hCaptcha calls right is solved; one that does not say is an error,
// and a form without a solution asks nobody.
func TestCaptcha(t *testing.T) {
	write := func(status int, body string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	for name, row := range map[string]struct {
		solution     string
		answer       func(http.ResponseWriter, *http.Request)
		solved, fail bool
	}{
		"solved":         {"solution", write(http.StatusOK, `{"success":true,"hostname":"pds.example.com"}`), true, false},
		"not solved":     {"solution", write(http.StatusOK, `{"success":false,"error-codes":["invalid-input-response"]}`), false, false},
		"no word of it":  {"solution", write(http.StatusOK, `{}`), false, false},
		"no JSON":        {"solution", write(http.StatusOK, `<html>`), false, true},
		"a fault":        {"solution", write(http.StatusBadGateway, `{"success":true}`), false, true},
		"cut off":        {"solution", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, false, true},
		"none was typed": {"", nil, false, false},
	} {
		var asked atomic.Int32
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			if r.Method != http.MethodPost || r.PostFormValue("secret") != "secret" || r.PostFormValue("sitekey") != "site" || r.PostFormValue("response") != "solution" {
				t.Errorf("%s: %s %v", name, r.Method, r.PostForm)
			}
			row.answer(w, r)
		}))
		c := &web.Captcha{SiteKey: "site", SecretKey: "secret", URL: s.URL, Client: s.Client()}
		solved, err := c.Solved(t.Context(), row.solution, "alice.example.com")
		if solved != row.solved || err != nil != row.fail || asked.Load() > 0 != (row.solution != "") {
			t.Errorf("%s: %v, %v, asked %d times", name, solved, err, asked.Load())
		}
		s.Close()
	}
}

// TestCaptchaTokens: with a salt, hCaptcha gets the reference's hashes, and nothing of them
// without one.
func TestCaptchaTokens(t *testing.T) {
	asked := make(chan url.Values, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm() // what came is compared
		asked <- r.PostForm
		_, _ = w.Write([]byte(`{"success":true}`))
	}))
	defer s.Close()
	ctx := request.WithClient(t.Context(), request.Client{Addr: netip.MustParseAddr("192.0.2.1"), UserAgent: "Mozilla/5.0"})
	for salt, want := range map[string]string{
		// base64(sha256("salt192.0.2.1")), and so on: hashToken of @atproto/oauth-provider.
		"salt": `{"hashedHandle":"BqO489vtEu50bVPOpiSPCybLtuF1BitAcjMVYUi/Xqs=","hashedIp":"DG/M0fbyFFEFCPufBWhkohFd1GU1QstikG/wg0TkVm8=","hashedUserAgent":"ps8E0aAhQgsxm1ZOeKVM4/2b5xLAdjpLLk/Cq/8gANE="}`,
		"":     "",
	} {
		c := &web.Captcha{SiteKey: "site", SecretKey: "secret", TokenSalt: salt, URL: s.URL, Client: s.Client()}
		if ok, err := c.Solved(ctx, "solution", "alice.example.com"); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if got := <-asked; got.Get("client_tokens") != want || got.Get("behavior_type") != "signup" || got.Get("remoteip") != "192.0.2.1" {
			t.Errorf("with the salt %q: %v", salt, got)
		}
	}
}
