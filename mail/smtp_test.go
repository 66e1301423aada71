package mail_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"nestbox/internal/pdstest"
	"nestbox/mail"
)

var start = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// ownCA makes a certificate for 127.0.0.1, and a pool with its issuer.
func ownCA(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a CA of our own"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}, pool
}

// through returns the way to a mailbox, by its URL with something appended.
func through(t *testing.T, url string, pool *x509.CertPool) *mail.SMTP {
	t.Helper()
	server, err := mail.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	return &mail.SMTP{Server: server, From: "Nest <nest@pds.test>", Hostname: "pds.test", RootCAs: pool}
}

func TestSend(t *testing.T) {
	ours, pool := ownCA(t)
	const user, password = "pds@example.com", "p@ss/w#rd%:ü+ "
	for name, c := range map[string]struct {
		box   pdstest.MailboxOptions
		query string
		pool  *x509.CertPool
		tls   bool
		want  string // a part of the error; empty: none
	}{
		"plain":                            {},
		"plain, credentials, this host":    {box: pdstest.MailboxOptions{User: user, Password: password}},
		"TLS":                              {box: pdstest.MailboxOptions{TLS: ours, Implicit: true, User: user, Password: password}, pool: pool, tls: true},
		"TLS of nobody we know":            {box: pdstest.MailboxOptions{TLS: ours, Implicit: true}, want: "certificate"},
		"STARTTLS":                         {box: pdstest.MailboxOptions{TLS: ours, User: user, Password: password}, pool: pool, tls: true},
		"STARTTLS of nobody we know":       {box: pdstest.MailboxOptions{TLS: ours}, want: "certificate"},
		"STARTTLS required":                {box: pdstest.MailboxOptions{TLS: ours}, query: "?requireTLS=true", pool: pool, tls: true},
		"STARTTLS required, not offered":   {query: "?requireTLS=true", want: "STARTTLS"},
		"STARTTLS ignored":                 {box: pdstest.MailboxOptions{TLS: ours}, query: "?ignoreTLS=true"},
		"sign-in demanded, not possible":   {box: pdstest.MailboxOptions{User: user, Password: "another"}, want: "535"},
		"TLS to a server that speaks none": {query: "tls", want: "tls"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			box := pdstest.NewMailbox(t, c.box)
			url := box.URL + c.query
			if c.query == "tls" {
				url = strings.Replace(box.URL, "smtp:", "smtps:", 1)
			}
			if c.want == "535" {
				url = strings.Replace(url, "another", "wrong", 1)
			}
			err := through(t, url, c.pool).SendNow(t.Context(), mail.Message{To: "alice@example.com", Subject: "Grüße", Text: "Hällo\n.\n..\nEnd\n"}, start)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want an error with %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := box.Wait(t, "alice@example.com")
			if got.TLS != c.tls || got.From != "nest@pds.test" || got.Subject != "Grüße" || got.Text != "Hällo\n.\n..\nEnd\n" {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestSession: a refusal of one message concerns that one alone, and the session
// goes on; no message contains anything of another.
func TestSession(t *testing.T) {
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{
		Refuse: func(to string) error {
			switch to {
			case "gone@example.com":
				return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no gone@example.com here"}
			case "grey@example.com":
				return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "greylisted"}
			}
			return nil
		},
		Taken: func(m *pdstest.Mail) error {
			switch m.To {
			case "spam@example.com":
				return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "spam"}
			case "full@example.com":
				return &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 2, 2}, Message: "mailbox full"}
			}
			return nil
		},
	})
	session, err := through(t, box.URL, nil).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	for i, c := range []struct {
		to        string
		code      int
		permanent bool
	}{
		{"one@example.com", 0, false},
		{"gone@example.com", 550, true},
		{"grey@example.com", 451, false},
		{"two@example.com", 0, false},
		{"spam@example.com", 554, false},
		{"full@example.com", 452, false},
		{"no address", -1, true},
		{"three@bücher.example", 0, false},
	} {
		err := session.Send(t.Context(), &mail.Queued{ID: int64(i), QueuedAt: start, Message: mail.Message{To: c.to, Subject: c.to, Text: "for " + c.to + "\n", HTML: "<p>for " + c.to}})
		var refusal *mail.Refusal
		switch {
		case c.code == 0:
			if err != nil {
				t.Errorf("%s: %v", c.to, err)
			}
		case !errors.As(err, &refusal) || refusal.Permanent != c.permanent || refusal.Code != max(c.code, 0):
			t.Errorf("%s: %#v, want %d", c.to, err, c.code)
		}
		if err != nil && strings.Contains(mail.Describe(err), "example.com") {
			t.Errorf("what is logged names the recipient: %s", mail.Describe(err))
		}
	}
	if got := len(box.All()); got != 3 {
		t.Errorf("%d messages arrived, want 3", got)
	}
	ids := map[string]bool{}
	for to, wire := range map[string]string{"one@example.com": "one@example.com", "two@example.com": "two@example.com", "three@bücher.example": "three@xn--bcher-kva.example"} {
		m := box.Wait(t, wire)
		if m.Subject != to || m.Text != "for "+to+"\n" || strings.TrimSpace(m.HTML) != "<p>for "+to || m.Header.Get("Auto-Submitted") != "auto-generated" {
			t.Errorf("%s got %+v", to, m)
		}
		if date, err := m.Header.Date(); err != nil || !date.Equal(start) {
			t.Errorf("date %s, %v", date, err)
		}
		ids[m.Header.Get("Message-Id")] = true
	}
	if len(ids) != 3 {
		t.Errorf("message IDs %v", ids)
	}
}

// TestPermanent: only an answer that there is no such mailbox is final; what the
// operator can repair, or may pass, is not, however final it sounds.
func TestPermanent(t *testing.T) {
	bare := smtp.NoEnhancedCode
	for i, c := range []struct {
		code     int
		enhanced smtp.EnhancedCode
		// ofRecipient and ofMessage report whether it is final as the answer to either.
		ofRecipient, ofMessage bool
	}{
		{550, smtp.EnhancedCode{5, 1, 1}, true, true},
		{550, smtp.EnhancedCode{5, 1, 10}, true, true},
		{550, smtp.EnhancedCode{5, 2, 1}, true, true},
		{550, smtp.EnhancedCode{5, 2, 0}, true, true},
		{550, smtp.EnhancedCode{5, 0, 0}, true, false},
		{550, bare, true, false},
		{551, bare, true, false},
		{553, bare, true, false},
		{550, smtp.EnhancedCode{5, 1, 7}, false, false},
		{550, smtp.EnhancedCode{5, 1, 8}, false, false},
		{550, smtp.EnhancedCode{5, 7, 1}, false, false},
		{554, smtp.EnhancedCode{5, 7, 1}, false, false},
		{530, smtp.EnhancedCode{5, 7, 0}, false, false},
		{530, bare, false, false},
		{552, smtp.EnhancedCode{5, 2, 2}, false, false},
		{552, smtp.EnhancedCode{5, 3, 4}, false, false},
		{552, bare, false, false},
		{554, bare, false, false},
		{450, smtp.EnhancedCode{4, 2, 1}, false, false},
	} {
		answer := &smtp.SMTPError{Code: c.code, EnhancedCode: c.enhanced, Message: "5.1.1.9 says <alice@example.com>, or Alice: no"}
		for name, o := range map[string]pdstest.MailboxOptions{
			"recipient": {Refuse: func(string) error { return answer }},
			"message":   {Taken: func(*pdstest.Mail) error { return answer }},
		} {
			t.Run(fmt.Sprint(i, name, c.code, c.enhanced), func(t *testing.T) {
				t.Parallel()
				session, err := through(t, pdstest.NewMailbox(t, o).URL, nil).Open(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer session.Close()
				var refusal *mail.Refusal
				err = session.Send(t.Context(), &mail.Queued{QueuedAt: start, Message: mail.Message{To: "alice@example.com", Subject: "s", Text: "t\n"}})
				want := map[string]bool{"recipient": c.ofRecipient, "message": c.ofMessage}[name]
				if !errors.As(err, &refusal) || refusal.Code != c.code || refusal.Permanent != want {
					t.Fatalf("%#v, want it final: %t", err, want)
				}
				if got := strings.ToLower(refusal.Said); strings.Contains(got, "alice") || !strings.HasSuffix(got, "5.1.1.9 says … or … no") {
					t.Errorf("for the log: %q", refusal.Said)
				}
			})
		}
	}
}

// TestFailures: an error that is not an answer to a message is a failure of
// everything.
func TestFailures(t *testing.T) {
	closed := pdstest.NewMailbox(t, pdstest.MailboxOptions{Refuse: func(string) error { return nil }})
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := through(t, "smtp://"+l.Addr().String(), nil).SendNow(t.Context(), mail.Message{To: "a@example.com"}, start); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("nobody there: %v", err)
	}
	bad := through(t, closed.URL, nil)
	bad.From = "no address"
	if err := bad.SendNow(t.Context(), mail.Message{To: "a@example.com"}, start); err == nil || !strings.Contains(err.Error(), "sender") {
		t.Errorf("no sender: %v", err)
	}
}

// TestHang: a server that says nothing holds nobody up once the wait has ended.
func TestHang(t *testing.T) {
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{Held: true})
	ctx, cancel := contextWithin(t, 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := through(t, box.URL, nil).Open(ctx); !errors.Is(err, ctx.Err()) || err == nil {
		t.Errorf("a server that hangs: %v", err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
}
