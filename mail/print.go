package mail

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
)

// Printer is the Sender of development: it writes messages to a terminal.
type Printer struct {
	W io.Writer

	mu sync.Mutex
}

// Open implements Sender.
func (p *Printer) Open(context.Context) (Session, error) { return p, nil }

// Send implements Session.
func (p *Printer) Send(_ context.Context, m *Queued) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "\n  ┌ mail to %s: %s\n  │\n", m.To, oneLine(m.Subject))
	for line := range strings.Lines(m.Text) {
		fmt.Fprintf(&b, "  │ %s\n", strings.TrimRight(line, "\n"))
	}
	b.WriteString("  └\n\n")
	_, _ = io.WriteString(p.W, b.String()) // nobody reads it if the terminal is gone
	return nil
}

// Close implements Session.
func (p *Printer) Close() {}

// Nowhere is the Sender of a server that sends no mail: nothing is queued there,
// and what an earlier server left is dropped.
type Nowhere struct{}

// Open implements Sender.
func (Nowhere) Open(context.Context) (Session, error) { return Nowhere{}, nil }

// Send implements Session.
func (Nowhere) Send(context.Context, *Queued) error {
	return &Refusal{Permanent: true, Text: "this server sends no mail"}
}

// Close implements Session.
func (Nowhere) Close() {}
