package takeover

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/admin"
	"nestbox/internal/seal"
	"nestbox/mail"
)

// Settings are what an operator decides, and what the servers' settings say.
type Settings struct {
	// Source names the data directory that is taken over, Target the new one.
	Source, Target string
	// URL is the server's public one.
	URL string
	// KeepEvents and MaxEvents (bytes) bound the event log.
	KeepEvents time.Duration
	MaxEvents  int64
	Manner     Manner
	// Skip are accounts that are left out. KeepDeleteAfter keeps the times at which owners
	// wanted their accounts deleted.
	Skip            map[syntax.DID]bool
	KeepDeleteAfter bool
	// Stopped: the old server does not run. Force takes over what is older than it should be.
	Stopped, Force bool
}

// TakeOver is one take-over. Its fields are set once.
type TakeOver struct {
	Settings Settings
	Source   Source
	// Store is nil for a dry run; Files then only looks whether there is a file.
	Store Store
	Files Files
	// Relay has the repositories of accounts whose own are damaged; nil if none is asked.
	Relay Relay
	// Letters returns the mails to an account's owner about its deletion, none if none can be
	// sent. Nil sends none.
	Letters func(a *account.Account) []mail.Message
	// Sessions brings the sessions, once the accounts are stored.
	Sessions func(ctx context.Context, now time.Time) (Arrived, error)
	// Box seals the private keys, Codes keys the hashes of e-mail codes.
	Box   *seal.Box
	Codes *account.Codes
	Now   func() time.Time
	// Still is called before the end: an error if the source was written meanwhile.
	Still func(ctx context.Context) error
	// Progress is called with what is being done.
	Progress func(line string)

	fetching fetching
}

// maxWorkers bounds the actors that are in memory at once.
const maxWorkers = 8

// DryRun reads and proves everything, and stores nothing.
func (t *TakeOver) DryRun(ctx context.Context, r *Report) error {
	begun := time.Now()
	rows, err := t.accounts(r)
	if err != nil {
		return err
	}
	if err := errors.Join(t.actors(ctx, rows.Rows, nil, r), t.strays(ctx, r)); err != nil {
		return err
	}
	if r.Events.Last, _, err = t.Source.LastEvent(); err != nil {
		return err
	}
	r.close(time.Since(begun))
	r.estimate()
	return t.blobsThere(r.Blobs.Count, r)
}

// estimate guesses how long the passes take from the time of a dry run, which has read all:
// storing takes about as long again.
func (r *Report) estimate() {
	const stored, changed = 2, 100
	r.FirstPass = r.Took * stored
	r.FinalPass = 1000 + r.FirstPass/changed
}

// Prepare is the first pass: actors and blobs that changed since an earlier one. The old
// server may run.
func (t *TakeOver) Prepare(ctx context.Context, r *Report) error {
	begun := time.Now()
	defer func() { r.close(time.Since(begun)) }()
	return t.bring(ctx, r)
}

// bring brings accounts, actors and blobs.
func (t *TakeOver) bring(ctx context.Context, r *Report) error {
	rows, err := t.accounts(r)
	if err != nil {
		return err
	}
	t.Progress(fmt.Sprintf("%d accounts", len(rows.Rows)))
	if err := t.Store.SetAccounts(ctx, rows); err != nil {
		return err
	}
	done, err := t.Store.Progress(ctx)
	if err != nil {
		return err
	}
	if err := t.actors(ctx, rows.Rows, done, r); err != nil {
		return err
	}
	if err := errors.Join(t.Store.Flush(ctx), t.Files.Settle(ctx)); err != nil {
		return err
	}
	counts, err := t.Store.Counts(ctx)
	if err != nil {
		return err
	}
	return t.blobsThere(counts.Blobs, r)
}

// Finish is the second pass: what changed since the first, and everything else. ErrFaults:
// something cannot be taken over, and the target cannot be served yet.
func (t *TakeOver) Finish(ctx context.Context, r *Report) error {
	begun := time.Now()
	defer func() { r.close(time.Since(begun)) }()
	err := t.bring(ctx, r)
	if err != nil {
		return err
	}
	if err := t.strays(ctx, r); err != nil {
		return err
	}
	if len(r.Faults) > 0 {
		return ErrFaults
	}
	now := t.Now().UTC().Truncate(time.Millisecond)
	if t.Sessions != nil {
		t.Progress("sessions")
		counts, err := t.Sessions(ctx, now)
		if err != nil {
			return fmt.Errorf("sessions: %w", err)
		}
		r.Sessions = &counts
	}
	t.Progress("events")
	r.Events = Events{}
	if err := t.bringEvents(ctx, r); err != nil {
		return fmt.Errorf("events: %w", err)
	}
	if err := t.announce(ctx, r); err != nil {
		return fmt.Errorf("events: %w", err)
	}
	if err := t.sweepFiles(ctx); err != nil {
		return err
	}
	if r.DeleteAfter.Mailed, err = t.Store.Mail(ctx, r.letters, now); err != nil {
		return fmt.Errorf("mails about deletions: %w", err)
	}
	counts, err := t.Store.Counts(ctx)
	if err != nil {
		return err
	}
	r.Stored = &counts
	if r.Events.Last, _, err = t.Source.LastEvent(); err != nil {
		return err
	}
	if err := t.Still(ctx); err != nil {
		return err
	}
	t.Progress("making it durable")
	e := account.Entry{At: now, Kind: account.EntryTakenOver, By: account.ActorServer}
	a := admin.Action{
		At: now, Who: string(account.ActorServer), What: "taken-over",
		Details: fmt.Sprintf("%d accounts, %d records, %d blobs, %d sessions, events up to %d from %s",
			counts.Accounts, counts.Records, counts.Blobs, counts.Sessions, r.Events.Last, t.Settings.Source),
	}
	return t.Store.Finish(ctx, e, a, now)
}

// strays notes actors that no account has. A running server may be making the account.
func (t *TakeOver) strays(ctx context.Context, r *Report) error {
	list, bad, err := t.Source.Accounts()
	if err != nil {
		return err
	}
	known := make(map[syntax.DID]bool, len(list))
	for _, a := range list {
		known[a.DID] = true
	}
	for _, f := range bad {
		known[f.DID] = true
	}
	names, err := t.Source.Strays(known)
	if err != nil {
		return err
	}
	for _, name := range names {
		did := syntax.DID(name)
		if t.Settings.Skip[did] {
			r.Skipped = append(r.Skipped, did)
			continue
		}
		if !t.Settings.Stopped {
			made, err := t.Source.Registered(ctx, did)
			if err != nil {
				return err
			}
			if !made {
				r.remark("%s: there is an actor store, and no account yet; if that is said again, leave it out with --skip %s", did, did)
			}
			continue
		}
		r.fault(Fault{
			DID: did, What: "there is an actor store, and no account",
			Do: "bring back account.sqlite with its account.sqlite-wal, or leave it out with --skip " + name,
		})
	}
	return nil
}

// actors reads the actors of these accounts, but those that are as they were when they were
// settled, with a worker for each core, and one for the time in which the others wait for the
// disk. What is wrong with one is a fault of the report.
func (t *TakeOver) actors(ctx context.Context, rows []AccountRow, done map[syntax.DID]Progress, r *Report) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	beside, err := t.copies()
	if err != nil {
		return err
	}
	queue := make(chan queued)
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0)+1, maxWorkers) {
		workers.Go(func() {
			w := &work{derive: newDerive(), report: r}
			for q := range queue {
				if err := t.one(ctx, q, w); err != nil {
					cancel(err)
				}
			}
		})
	}
	read := 0
	for i, row := range rows {
		said, serr := t.saidOf(beside, row.DID)
		if serr != nil {
			cancel(serr)
			break
		}
		if p, ok := done[row.DID]; ok {
			if now, err := t.Source.ActorState(row.DID); err == nil && now == p.State {
				if behind := said.check(p.Rev); behind != nil {
					r.fault(faultOf(row.DID, behind))
				}
				continue
			}
		}
		select {
		case queue <- queued{row, said}:
			read++
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		if read%100 == 0 {
			t.Progress(fmt.Sprintf("account %d of %d", i+1, len(rows)))
		}
	}
	close(queue)
	workers.Wait()
	return context.Cause(ctx)
}

// deleted leaves out an account that the old server deleted meanwhile.
func (t *TakeOver) deleted(ctx context.Context, did syntax.DID, r *Report) error {
	r.remark("%s: the old server deleted it meanwhile", did)
	if t.Store == nil {
		return nil
	}
	return t.Store.Drop(ctx, did)
}

// queued is an actor to read.
type queued struct {
	row  AccountRow
	said said
}

// one takes over an actor, or notes why that cannot be.
func (t *TakeOver) one(ctx context.Context, q queued, w *work) error {
	if ctx.Err() != nil {
		return nil //nolint:nilerr // its cause is known
	}
	did := q.row.DID
	err := t.actorOf(ctx, q, w)
	_, known := errors.AsType[*faulty](err)
	if t.Relay != nil && !known && (errors.Is(err, errProof) || errors.Is(err, ErrNoActor) && t.Settings.Stopped) {
		err = t.rescue(ctx, q, err, w)
	}
	switch {
	case errors.Is(err, ErrNoActor), errors.Is(err, errProof), errors.Is(err, ErrMoved):
		if errors.Is(err, ErrNoActor) && !t.Settings.Stopped {
			there, err := t.Source.Registered(ctx, did)
			if err != nil {
				return err
			}
			if !there {
				return t.deleted(ctx, did, w.report)
			}
		}
		f := faultOf(did, err)
		if errors.Is(err, ErrMoved) {
			f.Do = "run the command again, or stop the old server first"
		}
		w.report.fault(f)
		if t.Store != nil {
			return t.Store.Drop(ctx, did)
		}
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w", did, err)
	}
	return nil
}
