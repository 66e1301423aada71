package mail

import (
	"errors"
	"strings"
	"time"
)

// The bounds of the outbox.
const (
	// MaxMessage bounds subject, text and HTML of a message together, in bytes.
	MaxMessage = 256 << 10
	// MaxPerRecipient bounds what waits for one address: a new message replaces the
	// oldest.
	MaxPerRecipient = 50
	// MaxWaiting bounds what waits in all. A notice is queued only while fewer than
	// MaxBeforeNotices wait: the rest is kept for codes.
	MaxWaiting       = 10_000
	MaxBeforeNotices = MaxWaiting * 8 / 10
	// GiveUpAfter is how long we try to send a message that the server does not accept
	// (RFC 5321 section 4.5.4.1 asks for 4 to 5 days).
	GiveUpAfter = 4 * 24 * time.Hour
)

// Errors of queueing a message.
var (
	ErrFull     = errors.New("the outbox is full")
	ErrTooLarge = errors.New("the message is too large")
)

// Message is one mail to one person, ready to be sent.
type Message struct {
	To      string
	Subject string
	Text    string
	// HTML may be empty.
	HTML string
	// Until, if set, is when the message becomes useless, as when its code expires.
	Until time.Time
}

// Check returns ErrTooLarge for a message over MaxMessage.
func (m *Message) Check() error {
	if len(m.Subject)+len(m.Text)+len(m.HTML) > MaxMessage {
		return ErrTooLarge
	}
	return nil
}

// Queued is a message in the outbox.
type Queued struct {
	Message

	ID       int64
	QueuedAt time.Time
	// Attempts counts those that failed.
	Attempts int
}

// useless returns why a message need not be sent any more; empty if it must.
func (q *Queued) useless(now time.Time) string {
	switch {
	case !q.Until.IsZero() && !now.Before(q.Until):
		return "what it says has expired"
	case now.Sub(q.QueuedAt) >= GiveUpAfter:
		return "the mail server has not taken it in time"
	default:
		return ""
	}
}

// LongestPause is the longest between two attempts to send a message.
const LongestPause = 3 * time.Hour

// retryAfter returns the pause after the n-th failed attempt: short ones first, for
// servers that turn strangers away for some minutes, and for codes that expire.
func retryAfter(n int) time.Duration {
	pauses := []time.Duration{
		30 * time.Second, time.Minute, 3 * time.Minute, 5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, LongestPause,
	}
	return pauses[min(max(n, 1), len(pauses))-1]
}

// oneLine makes a header a single line.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
