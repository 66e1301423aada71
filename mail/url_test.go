package mail_test

import (
	"fmt"
	"strings"
	"testing"

	"nestbox/mail"
)

func TestParseURL(t *testing.T) {
	for raw, want := range map[string]mail.Server{
		"smtps://user:pw@mail.example.com":                      {Host: "mail.example.com", Port: 465, TLS: mail.TLSAtOnce, User: "user", Password: "pw"},
		"smtps://user:pw@mail.example.com:2465/":                {Host: "mail.example.com", Port: 2465, TLS: mail.TLSAtOnce, User: "user", Password: "pw"},
		"smtp://user:pw@mail.example.com":                       {Host: "mail.example.com", Port: 587, TLS: mail.TLSRequired, User: "user", Password: "pw"},
		"smtp://mail.example.com:25":                            {Host: "mail.example.com", Port: 25, TLS: mail.TLSOffered},
		"smtp://mail.example.com?requireTLS=true&pool=true":     {Host: "mail.example.com", Port: 587, TLS: mail.TLSRequired},
		"smtp://mail.example.com?ignoreTLS=true":                {Host: "mail.example.com", Port: 587, TLS: mail.TLSNever},
		"smtp://mail.example.com?name=pds.example.com":          {Host: "mail.example.com", Port: 587, TLS: mail.TLSOffered, Name: "pds.example.com"},
		"smtp://user:pw@localhost:25":                           {Host: "localhost", Port: 25, TLS: mail.TLSOffered, User: "user", Password: "pw"},
		"smtp://[::1]:25":                                       {Host: "::1", Port: 25, TLS: mail.TLSOffered},
		"smtps://user:pw@[2001:db8::7]":                         {Host: "2001:db8::7", Port: 465, TLS: mail.TLSAtOnce, User: "user", Password: "pw"},
		"smtps://me%40example.com:p%40s%2Fs%23%25%3A@h.example": {Host: "h.example", Port: 465, TLS: mail.TLSAtOnce, User: "me@example.com", Password: "p@s/s#%:"},
		"smtps://user:a+b=c&d;e$f!g*h(i)'j,k@h.example":         {Host: "h.example", Port: 465, TLS: mail.TLSAtOnce, User: "user", Password: "a+b=c&d;e$f!g*h(i)'j,k"},
		"smtps://resend:re_1234-abcd@smtp.resend.com:465/":      {Host: "smtp.resend.com", Port: 465, TLS: mail.TLSAtOnce, User: "resend", Password: "re_1234-abcd"},
	} {
		got, err := mail.ParseURL(raw)
		if err != nil || got != want {
			t.Errorf("%s: %q %+v, %v", raw, got.Password, got, err)
		}
	}
	for raw, want := range map[string]string{
		"":                                        "write smtps://",
		"mail.example.com":                        "write smtps://",
		"mail.example.com:465":                    "write smtps://",
		"https://user:hunter2@mail.example.com":   "write smtps://",
		"smtps://":                                "write smtps://",
		"smtp://:25":                              "write smtps://",
		"smtp:///?sendmail=true":                  "sendmail",
		"smtps://user:hunt#er2@mail.example.com":  "percent-encoded",
		"smtps://user:hunt/er2@mail.example.com":  "percent-encoded",
		"smtps://key:7?hunter2@example.com:465":   "percent-encoded",
		"smtps://key:7?hunt&er2@example.com:465":  "percent-encoded",
		"smtps://key:7?hunt=er2@example.com:465":  "percent-encoded",
		"smtps://user:hunt%er2@mail.example.com":  "percent-encoded",
		"smtps://user@mail.example.com":           "without a password",
		"smtps://:hunter2@mail.example.com":       "user",
		"smtps://mail.example.com:0":              "port",
		"smtps://mail.example.com:65536":          "port",
		"smtps://mail.example.com:x":              "percent-encoded",
		"smtps://mail.example.com/path":           "behind the host",
		"smtps://mail.example.com?ignoreTLS=true": "smtps:// is TLS",
		"smtp://a?ignoreTLS=true&requireTLS=true": "one of the two",
		"smtp://user:hunter2@a?ignoreTLS=true":    "without TLS",
		"smtp://a?tls.rejectUnauthorized=false":   "unknown",
		"smtps://user:hunter2@[2001:db8::7":       "percent-encoded",
	} {
		got, err := mail.ParseURL(raw)
		switch {
		case err == nil:
			t.Errorf("%s is taken as %+v", raw, got)
		case !strings.Contains(err.Error(), want), strings.Contains(err.Error(), "hunt"):
			t.Errorf("%s: %v, want %q and no password", raw, err, want)
		}
	}
}

// TestServerPrints: a server prints without its password, however it is printed.
func TestServerPrints(t *testing.T) {
	s, err := mail.ParseURL("smtps://user:hunter2@mail.example.com")
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(form, s); strings.Contains(got, "hunter2") || !strings.Contains(got, "mail.example.com:465") {
			t.Errorf("%s: %s", form, got)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, s := range []string{"smtps://u:p@h:465", "smtp://[::1]", "smtp://u:p@h?ignoreTLS=true", "smtp:///?sendmail=true"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		s, err := mail.ParseURL(raw)
		if err != nil {
			return
		}
		local := s.Host == "localhost" || s.Host == "127.0.0.1" || s.Host == "::1"
		if s.Host == "" || s.Port < 1 || s.Port > 65535 || s.Password != "" && !local && s.TLS != mail.TLSAtOnce && s.TLS != mail.TLSRequired {
			t.Fatalf("%q is taken as %#v", raw, s)
		}
	})
}
