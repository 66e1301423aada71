package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"regexp"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
)

// postbox is a mail server that finds the code in each mail.
type postbox struct {
	server *smtp.Server
	addr   string
	ended  chan error

	mu    sync.Mutex
	codes map[string]chan string // by recipient
}

func newPostbox() (*postbox, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // does not wait
	if err != nil {
		return nil, err
	}
	p := &postbox{addr: l.Addr().String(), ended: make(chan error, 1), codes: map[string]chan string{}}
	p.server = smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &delivery{box: p}, nil }))
	p.server.Domain = "localhost"
	go func() { p.ended <- p.server.Serve(l) }()
	return p, nil
}

func (p *postbox) close() error {
	err := p.server.Close()
	if served := <-p.ended; !errors.Is(served, smtp.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// settings returns the settings that make a server send its mail here.
func (p *postbox) settings() []string {
	return []string{"PDS_EMAIL_SMTP_URL=smtp://" + p.addr, "PDS_EMAIL_FROM_ADDRESS=pds@example.com"}
}

// expect is called before a mail is asked for.
func (p *postbox) expect(to string) chan string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.codes[to] = make(chan string, 1)
	return p.codes[to]
}

// wait waits for the mail.
func (*postbox) wait(code chan string) (string, error) {
	select {
	case c := <-code:
		return c, nil
	case <-time.After(requestTimeout):
		return "", errors.New("no mail came")
	}
}

var codeInMail = regexp.MustCompile(`\b[A-Z2-7]{5}-[A-Z2-7]{5}\b`)

// delivery is one connection of a server that sends mail.
type delivery struct {
	box *postbox
	to  string
}

// Mail implements smtp.Session.
func (*delivery) Mail(string, *smtp.MailOptions) error { return nil }

// Rcpt implements smtp.Session.
func (d *delivery) Rcpt(to string, _ *smtp.RcptOptions) error {
	d.to = to
	return nil
}

// Data implements smtp.Session.
func (d *delivery) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	_, text, _ = bytes.Cut(text, []byte("\r\n\r\n"))
	code := codeInMail.Find(bytes.ReplaceAll(text, []byte("=\r\n"), nil))
	d.box.mu.Lock()
	defer d.box.mu.Unlock()
	// Notices have none.
	if waiting := d.box.codes[d.to]; waiting != nil && code != nil {
		delete(d.box.codes, d.to)
		waiting <- string(code)
	}
	return nil
}

// Reset implements smtp.Session.
func (d *delivery) Reset() { d.to = "" }

// Logout implements smtp.Session.
func (*delivery) Logout() error { return nil }
