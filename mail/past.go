package mail

import (
	"slices"
	"sync"
	"time"
)

// Fate is what became of a message.
type Fate string

// The fates.
const (
	Sent    Fate = "sent"
	Refused Fate = "refused" // it is tried again
	GivenUp Fate = "given-up"
)

// Past is what became of a message at an attempt. It has nothing of its text.
type Past struct {
	At          time.Time
	To, Subject string
	Fate        Fate
	// Why is the mail server's answer, or what else is the reason; empty if it was sent.
	Why string
}

// keptPast is how many attempts are remembered.
const keptPast = 2000

// past are the latest attempts of this process, the latest last.
type past struct {
	mu  sync.Mutex
	all []Past
}

func (p *past) add(one Past) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.all) == keptPast {
		p.all = slices.Delete(p.all, 0, keptPast/10) //nolint:mnd // not one by one
	}
	p.all = append(p.all, one)
}

// Past returns up to limit attempts since the start that are wanted, the latest first.
func (o *Outbox) Past(limit int, wanted func(Past) bool) (out []Past) {
	o.past.mu.Lock()
	defer o.past.mu.Unlock()
	for _, one := range slices.Backward(o.past.all) {
		if len(out) == limit {
			break
		}
		if wanted(one) {
			out = append(out, one)
		}
	}
	return out
}

// Fates returns how many attempts ended how since the start, by Fate.
func (o *Outbox) Fates() map[string]uint64 { return o.fates.Counts() }

// remember keeps what became of a message.
func (r *round) remember(m *Queued, f Fate, why string) {
	r.fates.Add(string(f), 1)
	r.past.add(Past{At: r.Now().UTC(), To: m.To, Subject: m.Subject, Fate: f, Why: why})
}
