package pdstest

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// Mailbox is a real SMTP server on loopback that keeps what it is given.
type Mailbox struct {
	// URL is the PDS_EMAIL_SMTP_URL that leads to it.
	URL string

	options MailboxOptions
	server  *smtp.Server

	mu      sync.Mutex
	mails   []*Mail
	more    chan struct{} // closed by the next mail; nil: nobody waits
	tries   int           // MAIL commands
	release chan struct{} // closed: connections are served
}

// MailboxOptions of NewMailbox; the zero value accepts everything from
// everybody.
type MailboxOptions struct {
	// TLS offers STARTTLS, with Implicit TLS from the first byte.
	TLS      *tls.Config
	Implicit bool
	// User and Password, if set, are required.
	User, Password string
	// Refuse, when it returns an error, is the answer to a recipient.
	Refuse func(to string) error
	// Taken, when it returns an error, is the answer to a whole message.
	Taken func(m *Mail) error
	// Held: no client is answered before Release.
	Held bool
	// Address is where it listens; a free port of 127.0.0.1 if empty.
	Address string
}

// Mail is a message as it arrived.
type Mail struct {
	From, To            string // of the envelope
	Header              mail.Header
	Subject, Text, HTML string
	TLS                 bool

	seen bool
}

// NewMailbox runs a mail server until the end of the test.
func NewMailbox(tb testing.TB, o MailboxOptions) *Mailbox {
	tb.Helper()
	m := &Mailbox{options: o, release: make(chan struct{})}
	if !o.Held {
		close(m.release)
	}
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	var lc net.ListenConfig
	l, err := lc.Listen(tb.Context(), "tcp", o.Address)
	if err != nil {
		tb.Fatal(err)
	}
	m.server = smtp.NewServer(smtp.BackendFunc(m.session))
	m.server.Domain, m.server.AllowInsecureAuth = "mail.test", true
	m.server.ErrorLog = silent{}
	scheme := "smtp"
	if o.Implicit {
		l, scheme = tls.NewListener(l, o.TLS), "smtps"
	} else {
		m.server.TLSConfig = o.TLS
	}
	to := url.URL{Scheme: scheme, Host: l.Addr().String()}
	if o.User != "" {
		to.User = url.UserPassword(o.User, o.Password)
	}
	m.URL = to.String()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = m.server.Serve(l) // ends with ErrServerClosed, below
	}()
	tb.Cleanup(func() {
		m.Release()
		_ = m.server.Close() // clients that are still connected are cut off
		<-ended
	})
	return m
}

type silent struct{}

func (silent) Printf(string, ...any) {}
func (silent) Println(...any)        {}

// Release serves those that a Held mailbox has kept waiting.
func (m *Mailbox) Release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	select {
	case <-m.release:
	default:
		close(m.release)
	}
}

// Settings are those of a server that sends its mail here.
func (m *Mailbox) Settings() []string {
	return []string{"PDS_EMAIL_SMTP_URL=" + m.URL, "PDS_EMAIL_FROM_ADDRESS=Nest <nest@pds.test>"}
}

// mailTimeout is how long a mail may take on a loaded machine.
const mailTimeout = 60 * time.Second

// Wait returns the oldest mail to an address that Wait did not return before.
func (m *Mailbox) Wait(tb testing.TB, to string) *Mail {
	tb.Helper()
	timeout := time.After(mailTimeout)
	for {
		found, more := m.next(to)
		if found != nil {
			return found
		}
		select {
		case <-more:
		case <-timeout:
			tb.Fatalf("no mail to %s after %s; there are %d others", to, mailTimeout, len(m.All()))
		}
	}
}

func (m *Mailbox) next(to string) (*Mail, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, one := range m.mails {
		if !one.seen && strings.EqualFold(one.To, to) {
			one.seen = true
			return one, nil
		}
	}
	if m.more == nil {
		m.more = make(chan struct{})
	}
	return nil, m.more
}

var mailCode = regexp.MustCompile(`(?m)^ +([A-Z2-7]{5}-[A-Z2-7]{5})$`)

// Code is the code in a mail; empty if there is none.
func (m *Mail) Code() string {
	if found := mailCode.FindStringSubmatch(m.Text); found != nil {
		return found[1]
	}
	return ""
}

// Code is Wait for a mail with a code, which it returns.
func (m *Mailbox) Code(tb testing.TB, to string) string {
	tb.Helper()
	got := m.Wait(tb, to)
	code := got.Code()
	if code == "" {
		tb.Fatalf("no code in %q:\n%s", got.Subject, got.Text)
	}
	return code
}

// All are the mails that arrived so far.
func (m *Mailbox) All() []*Mail {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]*Mail(nil), m.mails...)
}

// Tries is how many messages were begun.
func (m *Mailbox) Tries() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tries
}

func (m *Mailbox) session(c *smtp.Conn) (smtp.Session, error) {
	<-m.release
	return &mailSession{box: m, conn: c, proven: m.options.User == ""}, nil
}

// mailSession is one connection to a mailbox.
type mailSession struct {
	box      *Mailbox
	conn     *smtp.Conn
	proven   bool
	from, to string
}

func (s *mailSession) Reset()        { s.from, s.to = "", "" }
func (s *mailSession) Logout() error { return nil }

func (s *mailSession) AuthMechanisms() []string {
	if s.box.options.User == "" {
		return nil
	}
	return []string{sasl.Plain}
}

func (s *mailSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != s.box.options.User || password != s.box.options.Password {
			return smtp.ErrAuthFailed
		}
		s.proven = true
		return nil
	}), nil
}

func (s *mailSession) Mail(from string, _ *smtp.MailOptions) error {
	s.box.mu.Lock()
	s.box.tries++
	s.box.mu.Unlock()
	if !s.proven {
		return smtp.ErrAuthRequired
	}
	s.from = from
	return nil
}

func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if s.to != "" {
		return errors.New("a second recipient")
	}
	if s.box.options.Refuse != nil {
		if err := s.box.options.Refuse(to); err != nil {
			return err
		}
	}
	s.to = to
	return nil
}

func (s *mailSession) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	got, err := parseMail(raw)
	if err != nil {
		return err
	}
	_, got.TLS = s.conn.TLSConnectionState()
	got.From, got.To = s.from, s.to
	if s.box.options.Taken != nil {
		if err := s.box.options.Taken(got); err != nil {
			return err
		}
	}
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	s.box.mails = append(s.box.mails, got)
	if s.box.more != nil {
		close(s.box.more)
		s.box.more = nil
	}
	return nil
}

// parseMail reads a message of one text part, or of a text and an HTML part.
func parseMail(raw []byte) (*Mail, error) {
	msg, err := mail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	m := &Mail{Header: msg.Header}
	if m.Subject, err = new(mime.WordDecoder).DecodeHeader(msg.Header.Get("Subject")); err != nil {
		return nil, err
	}
	kind, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil {
		return nil, err
	}
	if kind == "text/plain" {
		text, err := io.ReadAll(quotedprintable.NewReader(msg.Body))
		m.Text = unixLines(text)
		return m, err
	}
	parts := multipart.NewReader(msg.Body, params["boundary"])
	for {
		part, err := parts.NextPart() // decodes quoted-printable
		if errors.Is(err, io.EOF) {
			return m, nil
		}
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(part)
		if err != nil {
			return nil, err
		}
		switch kind, _, _ := mime.ParseMediaType(part.Header.Get("Content-Type")); kind {
		case "text/plain":
			m.Text = unixLines(text)
		case "text/html":
			m.HTML = unixLines(text)
		default:
			return nil, fmt.Errorf("part of type %q", kind)
		}
	}
}

func unixLines(text []byte) string { return strings.ReplaceAll(string(text), "\r\n", "\n") }
