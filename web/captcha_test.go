package web_test

import (
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

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
		solved, err := c.Solved(t.Context(), row.solution)
		if solved != row.solved || err != nil != row.fail || asked.Load() > 0 != (row.solution != "") {
			t.Errorf("%s: %v, %v, asked %d times", name, solved, err, asked.Load())
		}
		s.Close()
	}
}
