package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	gomail "github.com/wneessen/go-mail"
	"github.com/wneessen/go-mail/log"
	"golang.org/x/net/idna"
)

// conversation bounds each wait for the mail server: for the connection, with its
// TLS and sign-in, and for each message. RFC 5321 section 4.5.3.2 allows a server
// minutes; a server that uses them holds up all other mail.
const conversation = 60 * time.Second

// Sender is a way to send mail. Open is called for a round of messages.
type Sender interface {
	// Open returns an error if nothing can be sent now, whatever the message.
	Open(ctx context.Context) (Session, error)
}

// Session sends messages, one after the other.
type Session interface {
	// Send returns nil once the other side has answered for the message. A *Refusal is
	// its answer to this message, and the session goes on; after any other error the
	// session is unusable, and the message may have been accepted or not.
	Send(ctx context.Context, m *Queued) error
	Close()
}

// Refusal is a mail server's refusal of one message.
type Refusal struct {
	// Permanent means that nobody gets mail at that address.
	Permanent bool
	// Code is the server's answer (RFC 5321 section 4.2), Enhanced that of RFC 3463 if
	// there is one.
	Code     int
	Enhanced string
	// Text is all that the server said, which may name the recipient: not for a log.
	Text string
	// Said is the server's answer behind its code, without the people and addresses
	// that it names.
	Said string
}

func (r *Refusal) Error() string {
	return strings.TrimSpace(fmt.Sprintf("refused with %d %s", r.Code, r.Enhanced))
}

// SMTP sends through a mail server.
type SMTP struct {
	Server Server
	// From is the sender, with or without a name.
	From string
	// Hostname is the server's public name: the right side of Message-IDs.
	Hostname string
	// RootCAs may have issued the server's certificate; nil: the system's.
	RootCAs *x509.CertPool
	// Transcript, if set, gets each line of the conversation, without the sign-in and
	// the message.
	Transcript io.Writer
}

// SendNow sends one message over a connection of its own. Its error has exactly
// what the server said: for the operator, not for a log.
func (s *SMTP) SendNow(ctx context.Context, m Message, now time.Time) error {
	session, err := s.Open(ctx)
	if err != nil {
		return err
	}
	defer session.Close()
	err = session.Send(ctx, &Queued{Message: m, QueuedAt: now})
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		return errors.New(refusal.Text)
	}
	return err
}

// smtpSession is a connection.
type smtpSession struct {
	smtp   *SMTP
	client *gomail.Client

	mu   sync.Mutex // guards conn, which is closed to end a wait
	conn net.Conn
}

// Open connects and signs in.
func (s *SMTP) Open(ctx context.Context) (Session, error) {
	ctx, cancel := context.WithTimeout(ctx, conversation)
	defer cancel()
	session := &smtpSession{smtp: s}
	client, err := gomail.NewClient(s.Server.Host, s.options(session)...)
	if err != nil {
		return nil, fmt.Errorf("set up mail: %w", err)
	}
	session.client = client
	if err := session.within(ctx, func() error { return client.DialWithContext(ctx) }); err != nil {
		session.drop()
		return nil, fmt.Errorf("connect to the mail server: %w", err)
	}
	return session, nil
}

func (s *SMTP) options(session *smtpSession) []gomail.Option {
	config := &tls.Config{ServerName: s.Server.Host, MinVersion: tls.VersionTLS12, RootCAs: s.RootCAs}
	policy := gomail.NoTLS
	switch s.Server.TLS {
	case TLSRequired:
		policy = gomail.TLSMandatory
	case TLSOffered:
		policy = gomail.TLSOpportunistic
	case TLSAtOnce, TLSNever:
	}
	name := s.Server.Name
	if name == "" {
		name = s.Hostname
	}
	options := []gomail.Option{
		gomail.WithPort(s.Server.Port), gomail.WithTimeout(conversation), gomail.WithHELO(name),
		gomail.WithTLSConfig(config), gomail.WithTLSPolicy(policy),
		gomail.WithDialContextFunc(func(ctx context.Context, network, address string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			if s.Server.TLS == TLSAtOnce {
				secure := tls.Client(conn, config)
				if err := secure.HandshakeContext(ctx); err != nil {
					return nil, errors.Join(err, conn.Close())
				}
				conn = secure
			}
			session.mu.Lock()
			defer session.mu.Unlock()
			session.conn = conn
			return conn, nil
		}),
	}
	if s.Server.Password != "" {
		options = append(options, gomail.WithUsername(s.Server.User), gomail.WithPassword(s.Server.Password),
			gomail.WithOpportunisticSMTPAuth(gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthSCRAMSHA1,
				gomail.SMTPAuthPlain, gomail.SMTPAuthLogin, gomail.SMTPAuthCramMD5))
	}
	if s.Transcript != nil {
		options = append(options, gomail.WithLogger(transcript{s.Transcript}), gomail.WithDebugLog())
	}
	return options
}

// within runs a step of the conversation; when ctx ends, so does the connection.
func (s *smtpSession) within(ctx context.Context, step func() error) error {
	done := make(chan struct{})
	cut := make(chan struct{})
	go func() { // ends with the step
		defer close(cut)
		select {
		case <-ctx.Done():
			s.drop()
		case <-done:
		}
	}()
	err := step()
	close(done)
	<-cut
	if ctx.Err() != nil && err != nil {
		return errors.Join(ctx.Err(), err)
	}
	return err
}

func (s *smtpSession) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		_ = s.conn.Close() // it is not needed any more
	}
}

// Close says goodbye and hangs up.
func (s *smtpSession) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = s.within(ctx, s.client.Close) // a server that does not say goodbye still has the messages
	s.drop()
}

// Send implements Session.
func (s *smtpSession) Send(ctx context.Context, m *Queued) error {
	msg, err := s.smtp.compose(m)
	if err != nil {
		// The address or the sender cannot be encoded: no server will change that.
		return &Refusal{Permanent: true, Text: err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, conversation)
	defer cancel()
	err = s.within(ctx, func() error { return s.client.Send(msg) })
	if err == nil || msg.IsDelivered() {
		return nil
	}
	return judge(err, msg.GetTo()[0].Address)
}

// judge distinguishes a server's answer to a message from a failure of everything.
func judge(err error, to string) error {
	var failed *gomail.SendError
	if !errors.As(err, &failed) || failed.ErrorCode() == 0 {
		return err
	}
	ofMessage := []gomail.SendErrReason{gomail.ErrSMTPMailFrom, gomail.ErrSMTPRcptTo, gomail.ErrSMTPData, gomail.ErrSMTPDataClose}
	if !slices.Contains(ofMessage, failed.Reason) {
		return err
	}
	answer := answerOf(failed)
	r := &Refusal{Code: failed.ErrorCode(), Text: failed.Error(), Said: impersonal(answer, to)}
	if first, _, _ := strings.Cut(answer, " "); enhancedForm.MatchString(first) {
		r.Enhanced = first
	}
	r.Permanent = failed.Reason != gomail.ErrSMTPMailFrom && r.ofRecipient(failed.Reason == gomail.ErrSMTPRcptTo)
	return r
}

// answerOf returns what the server said behind its code: go-mail has it as the text
// of a textproto.Error between words of its own.
func answerOf(failed *gomail.SendError) string {
	_, answer, _ := strings.Cut(failed.Error(), strconv.Itoa(failed.ErrorCode())+" ")
	if quoted, err := strconv.QuotedPrefix(answer); err == nil {
		if said, err := strconv.Unquote(quoted); err == nil {
			return said
		}
	}
	answer, _, _ = strings.Cut(answer, ", affected ")
	return answer
}

// enhancedForm is the form of a code of RFC 3463.
var enhancedForm = regexp.MustCompile(`^[245]\.\d{1,3}\.\d{1,3}$`)

// ofRecipient reports whether a refusal is final and about the recipient: there is
// no such mailbox. Anything else, however final it sounds (no relaying, no sign-in,
// a quota, taken for spam), is for the operator to repair, or may pass.
func (r *Refusal) ofRecipient(atRecipient bool) bool {
	if r.Code < 500 {
		return false
	}
	class, rest, _ := strings.Cut(r.Enhanced, ".")
	subject, detail, _ := strings.Cut(rest, ".")
	switch {
	case class == "5" && subject == "1":
		return detail != "7" && detail != "8" // those are about the sender's address
	case class == "5" && subject == "2":
		return detail == "0" || detail == "1"
	case r.Enhanced == "", class == "5" && subject == "0": // that says no more than the code does
		return atRecipient && slices.Contains([]int{550, 551, 553}, r.Code)
	default:
		return false
	}
}

// maxSaid bounds, in characters, what is logged of an answer.
const maxSaid = 300

// impersonal returns an answer on one line, without the words that contain an
// address, or a part of the recipient's.
func impersonal(answer, to string) string {
	user, domain, _ := strings.Cut(strings.ToLower(to), "@")
	words := strings.Fields(answer)
	for i, word := range words {
		lower := strings.ToLower(word)
		if strings.Contains(word, "@") || strings.Contains(lower, user) || strings.Contains(lower, domain) {
			words[i] = "…"
		}
	}
	return shorten(strings.Join(words, " "), maxSaid)
}

// compose returns the message as it is sent.
func (s *SMTP) compose(m *Queued) (*gomail.Msg, error) {
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	if err := msg.From(s.From); err != nil {
		return nil, fmt.Errorf("sender: %w", err)
	}
	to, err := wireAddress(m.To)
	if err != nil {
		return nil, err
	}
	if err := msg.To(to); err != nil {
		return nil, fmt.Errorf("recipient: %w", err)
	}
	msg.Subject(oneLine(m.Subject))
	msg.SetDateWithValue(m.QueuedAt)
	msg.SetMessageIDWithValue(fmt.Sprintf("%d.%d@%s", m.QueuedAt.UnixMilli(), m.ID, s.Hostname))
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no out-of-office answers
	msg.SetBodyString(gomail.TypeTextPlain, m.Text)
	if m.HTML != "" {
		msg.AddAlternativeString(gomail.TypeTextHTML, m.HTML)
	}
	return msg, nil
}

// wireAddress writes an international domain as every server can read it.
func wireAddress(address string) (string, error) {
	user, domain, found := strings.Cut(address, "@")
	ascii, err := idna.Lookup.ToASCII(domain)
	if !found || err != nil {
		return "", errors.New("recipient is no address")
	}
	return user + "@" + ascii, nil
}

// Describe returns an error of Sender or Session as text for a log: what a server
// said may name people, so of that only the code.
func Describe(err error) string {
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		return refusal.Error()
	}
	if said, ok := errors.AsType[*textproto.Error](err); ok {
		return fmt.Sprintf("the mail server answered %d", said.Code)
	}
	if failed, ok := errors.AsType[*gomail.SendError](err); ok {
		return "the conversation with the mail server broke off: " + failed.Reason.String()
	}
	return err.Error()
}

// transcript writes go-mail's debug log as a conversation.
type transcript struct{ w io.Writer }

func (t transcript) Debugf(l log.Log) {
	arrow := "<"
	if l.Direction == log.DirClientToServer {
		arrow = ">"
	}
	for line := range strings.Lines(fmt.Sprintf(l.Format, l.Messages...)) {
		_, _ = fmt.Fprintf(t.w, "%s %s\n", arrow, strings.TrimRight(line, "\r\n")) // the conversation goes on without its record
	}
}

func (t transcript) Infof(l log.Log)  { t.Debugf(l) }
func (t transcript) Warnf(l log.Log)  { t.Debugf(l) }
func (t transcript) Errorf(l log.Log) { t.Debugf(l) }
