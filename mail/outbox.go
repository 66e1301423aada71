package mail

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"nestbox/internal/tally"
)

// Store keeps the outbox. Every method is one transaction, durable when it returns
// nil. The stores of the domains put messages into it with the changes that these
// report. They replace the oldest message of a recipient who has MaxPerRecipient,
// and refuse a message with ErrFull if MaxWaiting wait, or for a notice of a change
// MaxBeforeNotices.
type Store interface {
	// Queue puts messages into the outbox that report no change, all or none: ErrFull,
	// ErrTooLarge.
	Queue(ctx context.Context, at time.Time, mails ...Message) error
	// Due returns up to limit messages that are due by now, the longest overdue first. So
	// is a message that is due more than LongestPause from now: the clock was ahead when
	// it was queued.
	Due(ctx context.Context, now time.Time, limit int) ([]Queued, error)
	// Done removes a message. It is not an error if it is gone already.
	Done(ctx context.Context, id int64) error
	// Retry records a failed attempt, and when the next one is due.
	Retry(ctx context.Context, id int64, attempts int, due time.Time) error
	// Waiting returns how many messages there are.
	Waiting(ctx context.Context) (int, error)
	// Watch makes the store call f after each commit of this process that put a message
	// into the outbox. f must not block. It is set once, before the first write.
	Watch(f func())
}

const (
	// batch is how many messages are in memory at a time.
	batch = 50
	// pollEvery is how long at most a message waits that no Wake announced.
	pollEvery = 10 * time.Second
	// shortestDown and longestDown bound the pause while nothing can be sent at all.
	shortestDown = 5 * time.Second
	longestDown  = 5 * time.Minute
)

// Outbox sends what is queued. Its fields are set once.
type Outbox struct {
	Store  Store
	Sender Sender
	Now    func() time.Time
	// Doubt returns an error while Now cannot be trusted: then nothing is sent or given up. If
	// it is nil, Now is always trusted.
	Doubt func() error
	Log   *slog.Logger

	wake chan struct{}
	// sent has the messages that the server accepted and the store could not remove, as
	// with a full disk: they are not sent again while it cannot. Run's own.
	sent  map[int64]bool
	past  past
	fates tally.Words
}

// NewOutbox returns an Outbox; call Run to make it send.
func NewOutbox(store Store, sender Sender, now func() time.Time, log *slog.Logger) *Outbox {
	return &Outbox{Store: store, Sender: sender, Now: now, Log: log, wake: make(chan struct{}, 1), sent: map[int64]bool{}}
}

// Wake makes Run check the outbox immediately. It is called after a commit that
// queued something, and never blocks.
func (o *Outbox) Wake() {
	select {
	case o.wake <- struct{}{}:
	default: // it will check anyway
	}
}

// Run sends until ctx ends. While the mail server cannot be reached at all, only
// the clock wakes it, and the messages' own attempts are not counted.
func (o *Outbox) Run(ctx context.Context) {
	down := time.Duration(0)
	for ctx.Err() == nil {
		more, err := o.round(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			down = min(max(2*down, shortestDown), longestDown)
			o.Log.LogAttrs(ctx, slog.LevelError, "no mail can be sent", slog.String("cause", Describe(err)), slog.Duration("again", down))
			o.sleep(ctx, down, nil)
		case more:
			down = 0
		default:
			down = 0
			o.sleep(ctx, pollEvery, o.wake)
		}
	}
}

func (o *Outbox) sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
	}
}

// sure reports whether a time that was read before can be trusted.
func (o *Outbox) sure() bool { return o.Doubt == nil || o.Doubt() == nil }

// round sends what is due, up to a batch, and reports whether there may be more. An
// error means that sending, or the store, does not work at all.
func (o *Outbox) round(ctx context.Context) (more bool, err error) {
	now := o.Now()
	if !o.sure() {
		return false, nil
	}
	list, err := o.Store.Due(ctx, now, batch)
	if err != nil {
		return false, err
	}
	r := round{Outbox: o}
	defer r.close()
	for i := range list {
		if err := r.handle(ctx, &list[i]); err != nil {
			return false, err
		}
	}
	return len(list) == batch, nil
}

// round is the messages of one connection.
type round struct {
	*Outbox

	session Session
}

func (r *round) close() {
	if r.session != nil {
		r.session.Close()
		r.session = nil
	}
}

// handle sends one message, or drops it, or records that it failed. An error means
// that the others need not be tried either.
func (r *round) handle(ctx context.Context, m *Queued) error {
	if r.sent[m.ID] {
		return r.done(ctx, m)
	}
	now := r.Now()
	if !r.sure() {
		return nil // it stays
	}
	if why := m.useless(now); why != "" {
		return r.giveUp(ctx, m, why)
	}
	if r.session == nil {
		session, err := r.Sender.Open(ctx)
		if err != nil {
			return err
		}
		r.session = session
	}
	err := r.session.Send(ctx, m)
	var refusal *Refusal
	switch {
	case err == nil:
		r.sent[m.ID] = true
		return r.done(ctx, m)
	case ctx.Err() != nil:
		return ctx.Err() // the server stops: nobody knows whether this one was accepted, so it stays
	case errors.As(err, &refusal) && refusal.Permanent:
		return r.giveUp(ctx, m, Describe(err), slog.String("said", refusal.Said))
	case refusal == nil:
		r.close() // the next one gets a new connection
	}
	m.Attempts++
	pause := retryAfter(m.Attempts)
	if err := r.Store.Retry(ctx, m.ID, m.Attempts, r.Now().Add(pause)); err != nil {
		return err
	}
	attrs := about(m, slog.String("cause", Describe(err)), slog.Duration("again", pause))
	said := Describe(err)
	if refusal != nil {
		said = refusal.Said
		attrs = append(attrs, slog.String("said", said))
	}
	r.remember(m, Refused, said)
	r.Log.LogAttrs(ctx, slog.LevelWarn, "mail not sent", attrs...)
	return nil
}

// done removes a message that was sent, also while the server stops: else it
// would be sent twice.
func (r *round) done(ctx context.Context, m *Queued) error {
	if err := r.Store.Done(context.WithoutCancel(ctx), m.ID); err != nil {
		return err
	}
	delete(r.sent, m.ID)
	r.remember(m, Sent, "")
	r.Log.LogAttrs(ctx, slog.LevelInfo, "mail sent", about(m)...)
	return nil
}

func (r *round) giveUp(ctx context.Context, m *Queued, why string, more ...slog.Attr) error {
	if err := r.Store.Done(ctx, m.ID); err != nil {
		return err
	}
	r.remember(m, GivenUp, why)
	r.Log.LogAttrs(ctx, slog.LevelWarn, "mail given up", about(m, append(more, slog.String("cause", why))...)...)
	return nil
}

// about returns what a log says about a message: its number, and nothing of its
// content.
func about(m *Queued, more ...slog.Attr) []slog.Attr {
	return append([]slog.Attr{slog.Int64("mail", m.ID), slog.Int("attempts", m.Attempts)}, more...)
}
