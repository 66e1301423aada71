package server

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"nestbox/account"
	"nestbox/admin"
	"nestbox/config"
	"nestbox/internal/seal"
	"nestbox/mail"
	"nestbox/ratelimit"
	"nestbox/web"
)

// devSender is the sender of mail in development if none is configured.
const devSender = "nestbox@localhost.invalid"

// noticeBuckets bounds for how many accounts notices are counted, with two buckets
// each.
const noticeBuckets = 40_000

// buildMail wires the outbox, the codes and the notices.
func (s *Server) buildMail(box *seal.Box) error {
	c := &s.opts.Config
	sender, err := mailSender(c, s.opts.DevMail)
	if err != nil {
		return err
	}
	s.outbox = mail.NewOutbox(s.stores.Outbox, sender, s.opts.Now, s.opts.Log)
	s.outbox.Doubt = s.clock.Check
	s.stores.Outbox.Watch(s.outbox.Wake)
	s.codes = &account.Codes{Store: s.stores.Codes, Key: box.Derive("e-mail codes"), Now: s.opts.Now}
	s.notices = &account.Notices{Limits: ratelimit.New(noticeBuckets, s.opts.Now)}
	// A command may not know the mail server; the server sends what it queues.
	if c.SMTPURL.Reveal() != mail.Disabled {
		templates := MailTemplates(c)
		templates.ResetLink = s.URL + web.ResetLink
		s.codes.Templates, s.notices.Templates = templates, templates
	}
	return nil
}

// MailTemplates returns the texts of a server's mails.
func MailTemplates(c *config.Config) *mail.Templates {
	return &mail.Templates{Hostname: c.Hostname, Service: c.Service(), Contact: c.ContactEmail}
}

// mailSender returns the way that mail is sent: through the mail server, to
// nowhere, or in development to the terminal.
func mailSender(c *config.Config, terminal io.Writer) (mail.Sender, error) {
	switch {
	case c.SendsMail():
		return MailServer(c)
	case c.DevMode && !c.SMTPURL.IsSet():
		if terminal == nil {
			terminal = io.Discard
		}
		return &mail.Printer{W: terminal}, nil
	default:
		return mail.Nowhere{}, nil
	}
}

// MailServer returns the configured mail server.
func MailServer(c *config.Config) (*mail.SMTP, error) {
	server, err := mail.ParseURL(c.SMTPURL.Reveal())
	if err != nil {
		return nil, fmt.Errorf("PDS_EMAIL_SMTP_URL: %w", err)
	}
	s := &mail.SMTP{Server: server, From: c.EmailFrom, Hostname: c.Hostname}
	if s.From == "" {
		s.From = devSender
	}
	if c.SMTPCAFile == "" {
		return s, nil
	}
	raw, err := os.ReadFile(c.SMTPCAFile)
	if err != nil {
		return nil, fmt.Errorf("PDS_EMAIL_SMTP_CA_FILE: %w", err)
	}
	if s.RootCAs, err = x509.SystemCertPool(); err != nil {
		return nil, fmt.Errorf("read the system's certificates: %w", err)
	}
	if !s.RootCAs.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("PDS_EMAIL_SMTP_CA_FILE: %s holds no certificate", c.SMTPCAFile)
	}
	return s, nil
}

// errNoServer: there is nothing to test.
var errNoServer = errors.New("PDS_EMAIL_SMTP_URL names no mail server")

// TestMail sends a test message immediately, bypassing the outbox, and returns how
// it went, with the whole conversation.
func TestMail(ctx context.Context, c *config.Config, now time.Time, to string) (admin.MailTested, error) {
	if !c.SendsMail() {
		return admin.MailTested{}, errNoServer
	}
	if _, err := account.CheckEmail(to); err != nil {
		return admin.MailTested{}, fmt.Errorf("%q: %w", to, err)
	}
	smtp, err := MailServer(c)
	if err != nil {
		return admin.MailTested{}, err
	}
	var said strings.Builder
	smtp.Transcript = &said
	result := admin.MailTested{To: to, Server: smtp.Server.String()}
	if err := smtp.SendNow(ctx, MailTemplates(c).Test(to), now); err != nil {
		result.Error = err.Error()
	}
	result.Transcript = said.String()
	return result, nil
}
