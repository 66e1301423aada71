package mail_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"nestbox/internal/pdstest"
	"nestbox/mail"
	"nestbox/store/storetest"
)

// office is an outbox on a database of its own.
type office struct {
	*mail.Outbox

	store mail.Store
	t     *testing.T

	clock *storetest.Clock

	mu   sync.Mutex
	log  bytes.Buffer
	more chan struct{}
}

// Write collects the log.
func (o *office) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.more != nil {
		close(o.more)
		o.more = nil
	}
	return o.log.Write(p)
}

// awaitLog waits until a text is in the log n times.
func (o *office) awaitLog(text string, n int) {
	o.t.Helper()
	timeout := time.After(60 * time.Second)
	for {
		o.mu.Lock()
		have, log := strings.Count(o.log.String(), text), o.log.String()
		if o.more == nil {
			o.more = make(chan struct{})
		}
		more := o.more
		o.mu.Unlock()
		if have >= n {
			return
		}
		select {
		case <-more:
		case <-timeout:
			o.t.Fatalf("%q is %d times in the log, want %d:\n%s", text, have, n, log)
		}
	}
}

// pass lets time pass, and makes the outbox check.
func (o *office) pass(d time.Duration) {
	o.clock.Advance(d)
	o.Wake()
}

func (o *office) queue(mails ...mail.Message) {
	o.t.Helper()
	if err := o.store.Queue(o.t.Context(), o.clock.Now(), mails...); err != nil {
		o.t.Fatal(err)
	}
}

// left returns the recipients of what is in the outbox.
func (o *office) left() string {
	o.t.Helper()
	list, err := o.store.Due(context.WithoutCancel(o.t.Context()), o.clock.Now().Add(1000*time.Hour), 100)
	if err != nil {
		o.t.Fatal(err)
	}
	var to []string
	for _, m := range list {
		to = append(to, m.To)
	}
	return strings.Join(to, " ")
}

// newOffice runs an outbox that sends through sender until the end of the test.
func newOffice(t *testing.T, sender mail.Sender) *office {
	t.Helper()
	o := &office{t: t, clock: storetest.NewClock(start)}
	log := slog.New(slog.NewTextHandler(o, nil))
	o.store = storetest.Open(t, storetest.Options{Log: log}).Outbox
	o.Outbox = mail.NewOutbox(o.store, sender, o.clock.Now, log)
	o.store.Watch(o.Wake)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		o.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-ended
		if log := o.log.String(); strings.Contains(log, "example.com") || strings.Contains(log, "secret") {
			t.Errorf("the log names somebody, or something that was written to them:\n%s", log)
		}
	})
	return o
}

func to(name string) mail.Message {
	return mail.Message{To: name + "@example.com", Subject: "secret subject", Text: "secret text for " + name + "\n"}
}

// TestOutbox: a message that a server refuses for good is given up at once; one
// that it does not accept now is tried again, later each time, and holds up nobody
// else.
func TestOutbox(t *testing.T) {
	t.Parallel()
	var grey atomic.Int32
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{
		Refuse: func(to string) error {
			switch {
			case strings.HasPrefix(to, "gone"):
				return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no mailbox " + to}
			case strings.HasPrefix(to, "never"):
				return &smtp.SMTPError{Code: 450, EnhancedCode: smtp.EnhancedCode{4, 2, 0}, Message: "not now " + to}
			case strings.HasPrefix(to, "grey") && grey.Add(1) <= 2:
				return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "greylisted " + to}
			}
			return nil
		},
	})
	o := newOffice(t, through(t, box.URL, nil))
	code := to("never-code")
	code.Until = start.Add(15 * time.Minute)
	o.queue(to("alice"), to("gone"), to("grey"), to("never"), code, to("bob"))
	for _, name := range []string{"alice", "bob"} {
		if got := box.Wait(t, name+"@example.com"); got.Text != "secret text for "+name+"\n" {
			t.Errorf("%s got %q", name, got.Text)
		}
	}
	o.awaitLog("mail given up", 1)
	o.awaitLog("mail not sent", 3)
	o.awaitLog("mail sent", 2)
	o.pass(29 * time.Second) // the first pause is 30 s
	o.queue(to("carol"))     // so that something happens
	box.Wait(t, "carol@example.com")
	o.awaitLog("mail sent", 3)
	if got := o.left(); got != "grey@example.com never@example.com never-code@example.com" {
		t.Errorf("left: %s", got)
	}
	o.pass(time.Second)
	o.awaitLog("mail not sent", 6)
	o.pass(time.Minute)
	box.Wait(t, "grey@example.com")
	o.awaitLog("mail not sent", 8)
	o.pass(15 * time.Minute) // the code has expired
	o.awaitLog("what it says has expired", 1)
	o.awaitLog("mail not sent", 9)
	if got := o.left(); got != "never@example.com" {
		t.Errorf("left: %s", got)
	}
	o.pass(mail.GiveUpAfter)
	o.awaitLog("has not taken it in time", 1)
	if got := o.left(); got != "" {
		t.Errorf("left: %s", got)
	}
	if got := len(box.All()); got != 4 {
		t.Errorf("%d messages arrived, want 4", got)
	}
}

// TestOutboxRelaying: a mail server that does not relay for us loses nothing, and
// the operator can read why.
func TestOutboxRelaying(t *testing.T) {
	t.Parallel()
	var mended atomic.Bool
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{Refuse: func(to string) error {
		if mended.Load() {
			return nil
		}
		return &smtp.SMTPError{Code: 554, EnhancedCode: smtp.EnhancedCode{5, 7, 1}, Message: "<" + to + ">: Relay access denied"}
	}})
	o := newOffice(t, through(t, box.URL, nil))
	o.queue(to("alice"))
	o.awaitLog(`said="5.7.1 … Relay access denied"`, 1)
	mended.Store(true)
	o.pass(time.Minute)
	box.Wait(t, "alice@example.com")
}

// TestOutboxDown: while the server is down nothing is lost, and no message's
// attempts are counted; when it comes back, all are sent.
func TestOutboxDown(t *testing.T) {
	t.Parallel()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	o := newOffice(t, through(t, "smtp://"+address, nil))
	o.queue(to("alice"), to("bob"))
	o.awaitLog("no mail can be sent", 1)
	list, err := o.store.Due(t.Context(), o.clock.Now(), 10)
	if err != nil || len(list) != 2 || list[0].Attempts != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{Address: address})
	box.Wait(t, "alice@example.com")
	box.Wait(t, "bob@example.com")
	o.awaitLog("mail sent", 2)
	if got := o.left(); got != "" {
		t.Errorf("left: %s", got)
	}
}

// TestOutboxMany: more than a batch is sent, each to its own recipient.
func TestOutboxMany(t *testing.T) {
	t.Parallel()
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	o := newOffice(t, through(t, box.URL, nil))
	const many = 120
	for i := range many {
		o.queue(to(fmt.Sprint("user", i)))
	}
	o.awaitLog("mail sent", many)
	all := box.All()
	if len(all) != many {
		t.Errorf("%d arrived, want %d", len(all), many)
	}
	for _, m := range all {
		name, _, _ := strings.Cut(m.To, "@")
		if m.Text != "secret text for "+name+"\n" || m.Header.Get("To") != "<"+m.To+">" {
			t.Errorf("%s got %q for %s", m.To, m.Text, m.Header.Get("To"))
		}
	}
}

// TestOutboxStops: a server that hangs does not keep ours from stopping, and
// the message stays.
func TestOutboxStops(t *testing.T) {
	t.Parallel()
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{Held: true})
	o := newOffice(t, through(t, box.URL, nil))
	ctx, stop := context.WithCancel(t.Context())
	other := mail.NewOutbox(o.store, through(t, box.URL, nil), o.clock.Now, slog.New(slog.DiscardHandler))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		other.Run(ctx)
	}()
	o.queue(to("alice"))
	other.Wake()
	stop()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("it did not stop")
	}
	if got := o.left(); got != "alice@example.com" {
		t.Errorf("left: %s", got)
	}
}

func TestPrinter(t *testing.T) {
	var out bytes.Buffer
	o := newOffice(t, &mail.Printer{W: &out})
	o.queue(to("alice"))
	o.awaitLog("mail sent", 1)
	if got := out.String(); !strings.Contains(got, "mail to alice@example.com: secret subject") || !strings.Contains(got, "  │ secret text for alice\n") {
		t.Errorf("%s", got)
	}
}

// TestNowhere: a server that sends no mail forgets what an earlier one queued.
func TestNowhere(t *testing.T) {
	o := newOffice(t, mail.Nowhere{})
	o.queue(to("alice"))
	o.awaitLog("mail given up", 1)
	if got := o.left(); got != "" {
		t.Errorf("left: %s", got)
	}
}

// TestOutboxClock: while the clock cannot be trusted no message is sent, or given up
// because it has expired. One that was queued by a clock that was ahead leaves once the
// clock is right.
func TestOutboxClock(t *testing.T) {
	t.Parallel()
	box := pdstest.NewMailbox(t, pdstest.MailboxOptions{})
	o := newOffice(t, through(t, box.URL, nil))
	const jump = 1000 * time.Hour
	asked := make(chan struct{})
	other := mail.NewOutbox(storetest.Open(t).Outbox, through(t, box.URL, nil), o.clock.Now, slog.New(slog.DiscardHandler))
	other.Doubt = func() error { asked <- struct{}{}; return errors.New("the clock is ahead") }
	code := to("alice")
	code.Until = start.Add(time.Hour)
	ahead := start.Add(jump)
	if err := errors.Join(other.Store.Queue(t.Context(), start, code), other.Store.Queue(t.Context(), ahead, to("bob"))); err != nil {
		t.Fatal(err)
	}
	o.clock.Set(ahead)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); other.Run(ctx) }()
	for range 3 {
		<-asked
		other.Wake()
	}
	stop()
	select {
	case <-asked:
		<-ended
	case <-ended:
	}
	if list, err := other.Store.Due(t.Context(), ahead, 10); err != nil || len(list) != 2 || len(box.All()) != 0 {
		t.Fatalf("%d wait, %d were sent, %v", len(list), len(box.All()), err)
	}
	o.clock.Set(start) // set right
	o.queue(to("carol"))
	if err := o.store.Queue(t.Context(), ahead, to("bob")); err != nil {
		t.Fatal(err)
	}
	o.Wake()
	o.awaitLog("mail sent", 2)
}
