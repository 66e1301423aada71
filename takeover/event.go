package takeover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/account"
	"nestbox/dagcbor"
	"nestbox/firehose"
	"nestbox/firehose/event"
)

// maxGap is how many numbers without an event are filled with removed events. Behind a larger
// gap the log begins.
const maxGap = 100_000

// kinds are the types of the source's events. It has had others, which nobody sends any more.
func kindOf(sourceType string) event.Kind {
	switch sourceType {
	case "append":
		return event.KindCommit
	case "sync":
		return event.KindSync
	case "identity":
		return event.KindIdentity
	case "account":
		return event.KindAccount
	default:
		return ""
	}
}

// EventOf returns an event of the source as it is stored here: the message with its time in
// canonical form, and where its number belongs. Its frame is then the source's, byte for byte.
// One that is invalidated, or of a type that nobody sends any more, is Removed.
func EventOf(e SourceEvent) (firehose.Logged, error) {
	out := firehose.Logged{Seq: e.Seq}
	at, err := time.Parse(time.RFC3339Nano, e.At)
	if err != nil {
		return out, fmt.Errorf("event %d: its time: %w", e.Seq, err)
	}
	out.At = at.UTC().Truncate(time.Millisecond)
	kind := kindOf(e.Type)
	if kind == "" || e.Invalidated {
		return out, nil
	}
	did, err := syntax.ParseDID(e.DID)
	if err != nil {
		return out, fmt.Errorf("event %d: %w", e.Seq, err)
	}
	message, err := messageOf(e)
	if err != nil {
		return out, err
	}
	message["time"] = e.At
	body, split, err := splitBody(message)
	if err != nil {
		return out, fmt.Errorf("event %d: %w", e.Seq, err)
	}
	out.Event = event.Event{Kind: kind, DID: did, Body: body, Split: split}
	return out, nil
}

// Revision returns the revision that an event of a repository names, empty for none.
func (e SourceEvent) Revision() string {
	message, err := messageOf(e)
	if err != nil {
		return ""
	}
	rev, _ := message["rev"].(string)
	return rev
}

// messageOf decodes the message of an event.
func messageOf(e SourceEvent) (map[string]any, error) {
	v, err := dagcbor.Decode(e.Body)
	if err != nil {
		return nil, fmt.Errorf("event %d: %w", e.Seq, err)
	}
	message, ok := v.(map[string]any)
	const most = 20 // keys; with time and seq their head is one byte
	if !ok || len(message) == 0 || len(message) > most {
		return nil, fmt.Errorf("event %d is not a message", e.Seq)
	}
	return message, nil
}

// splitBody encodes a message without its number, and returns where that belongs.
func splitBody(message map[string]any) (body []byte, split int, err error) {
	delete(message, number)
	keys := make([]string, 0, len(message))
	for k := range message {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compareKeys)
	body = dagcbor.AppendMapHead(nil, len(keys))
	for _, k := range keys {
		if split == 0 && compareKeys(k, number) > 0 {
			split = len(body)
		}
		body = dagcbor.AppendText(body, k)
		if body, err = dagcbor.Append(body, message[k]); err != nil {
			return nil, 0, err
		}
	}
	if split == 0 {
		split = len(body)
	}
	return body, split, nil
}

// number is the key of a message's number.
const number = "seq"

// compareKeys orders keys as DAG-CBOR does: short ones first.
func compareKeys(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// bringEvents replaces the event log by the source's: what the settings keep of it.
func (t *TakeOver) bringEvents(ctx context.Context, r *Report) error {
	last, _, err := t.Source.LastEvent()
	if err != nil {
		return err
	}
	from, err := t.Source.FirstKept(t.Now().Add(-t.Settings.KeepEvents), t.Settings.MaxEvents)
	if err != nil {
		return err
	}
	if from, err = t.beginBehindGap(from, last); err != nil {
		return err
	}
	rows, stop := t.eventsFrom(ctx, from)
	defer stop()
	return t.Store.SetEvents(ctx, last, (&eventFiller{rows: rows, last: last, report: r}).next)
}

// beginBehindGap returns the number that the log begins with: from, or that behind the last
// gap which is too large; 0 if nothing is left.
func (t *TakeOver) beginBehindGap(from, last int64) (int64, error) {
	if from == 0 {
		return 0, nil
	}
	before := from - 1
	err := t.Source.Numbers(from, func(seq int64) error {
		if seq-before > maxGap {
			from = seq
		}
		before = seq
		return nil
	})
	if err != nil || last-before > maxGap {
		return 0, err
	}
	return from, nil
}

// pulled is an event as EventOf returned it, or why there is none.
type pulled struct {
	event firehose.Logged
	bad   error // of EventOf
	err   error // of the source
}

// eventsFrom reads and converts the source's events, one after the other, until stop is
// called.
func (t *TakeOver) eventsFrom(ctx context.Context, from int64) (rows <-chan pulled, stop func()) {
	const ahead = 64
	read, out := make(chan SourceEvent, ahead), make(chan pulled, ahead)
	ctx, cancel := context.WithCancel(ctx)
	var readErr error
	var both sync.WaitGroup
	both.Go(func() {
		defer close(read)
		if from > 0 {
			readErr = t.Source.Events(from, func(e SourceEvent) error { return send(ctx, read, e) })
		}
	})
	both.Go(func() {
		defer close(out)
		for e := range read {
			event, bad := EventOf(e)
			if send(ctx, out, pulled{event: event, bad: bad}) != nil {
				return
			}
		}
		if readErr != nil {
			_ = send(ctx, out, pulled{err: readErr}) // nobody reads it any more
		}
	})
	return out, func() { cancel(); both.Wait() }
}

// send waits until somebody receives v.
func send[T any](ctx context.Context, to chan<- T, v T) error {
	select {
	case to <- v:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// eventFiller returns events without a gap between their numbers, up to last.
type eventFiller struct {
	rows   <-chan pulled
	last   int64
	report *Report

	seq  int64 // of the one before, 0 at the beginning
	at   time.Time
	held *firehose.Logged // what comes behind a gap
	end  bool
}

func (f *eventFiller) next() (firehose.Logged, bool, error) {
	if f.held == nil && !f.end {
		p, more := <-f.rows
		switch {
		case p.err != nil:
			return firehose.Logged{}, false, p.err
		case !more:
			f.end = true
		default:
			if p.bad != nil {
				f.report.remark("%v: it is left out of the event stream", p.bad)
				p.event = firehose.Logged{Seq: p.event.Seq, At: f.at}
			}
			f.held = &p.event
		}
	}
	gap := f.held != nil && f.seq != 0 && f.held.Seq > f.seq+1 || f.held == nil && f.seq != 0 && f.seq < f.last
	switch {
	case gap:
		f.seq++
		f.report.Events.Removed++
		return firehose.Logged{Seq: f.seq, At: f.at}, true, nil
	case f.held == nil:
		return firehose.Logged{}, false, nil
	}
	e := *f.held
	f.held, f.seq, f.at = nil, e.Seq, e.At
	if e.Removed() {
		f.report.Events.Removed++
	} else {
		f.report.Events.Kept++
	}
	return e, true, nil
}

// announce appends what the source's log does not say of its repositories and accounts: a
// crash between its databases leaves a repository ahead of its event.
func (t *TakeOver) announce(ctx context.Context, r *Report) error {
	now := t.Now().UTC().Truncate(time.Millisecond)
	oldest, err := t.Source.Oldest()
	if err != nil {
		return err
	}
	statuses, err := t.Source.Statuses()
	if err != nil {
		return err
	}
	heads, err := t.Store.Heads(ctx)
	if err != nil {
		return err
	}
	ahead, err := t.repositoriesAhead(ctx, heads, oldest)
	if err != nil {
		return err
	}
	var events []event.Event
	for i, h := range heads {
		if statusBehind(h, statuses[h.DID]) {
			r.Events.Statuses++
			events = append(events, event.Account{DID: h.DID, Status: string(h.Status), Time: now}.Event())
		}
		if ahead[i] {
			r.Events.Syncs++
			events = append(events, account.SyncEvent(h.DID, h.Head, now))
		}
	}
	return t.Store.Announce(ctx, events, now)
}

// repositoriesAhead returns repositoryAhead of each: the last events are read one after the
// other, and checked on every core.
func (t *TakeOver) repositoriesAhead(ctx context.Context, heads []Head, oldest time.Time) ([]bool, error) {
	ahead := make([]bool, len(heads))
	type latest struct {
		of    int
		event SourceEvent
	}
	read := make(chan latest)
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), maxWorkers) {
		workers.Go(func() {
			for l := range read {
				ahead[l.of] = repositoryAhead(heads[l.of], l.event, oldest)
			}
		})
	}
	err := func() error {
		defer close(read)
		for i, h := range heads {
			last, err := t.Source.LatestOf(h.DID)
			if err := cmp.Or(err, ctx.Err()); err != nil {
				return err
			}
			read <- latest{i, last}
		}
		return nil
	}()
	workers.Wait()
	return ahead, err
}

// statusBehind reports whether the last event about an account's status, if there is one,
// says another than it has.
func statusBehind(h Head, last SourceEvent) bool {
	if last.Seq == 0 {
		return h.Status != account.Active
	}
	message, err := messageOf(last)
	if err != nil {
		return true
	}
	said, _ := message["status"].(string)
	if active, _ := message["active"].(bool); active {
		said = ""
	}
	return said != string(h.Status)
}

// repositoryAhead reports whether the last event about an active account's repository does
// not name its commit. Without one, it does if the repository is newer than the log.
func repositoryAhead(h Head, last SourceEvent, oldest time.Time) bool {
	if h.Status != account.Active {
		return false // it is announced when it becomes active
	}
	if last.Seq == 0 {
		return oldest.IsZero() || h.Head.Rev.Time().After(oldest)
	}
	named, err := commitOf(last)
	return err != nil || !named.Equals(h.Head.Commit.CID)
}

var errNoCommit = errors.New("it names no commit")

// commitOf returns the commit that an event of a repository names: a sync's is the root of
// its blocks.
func commitOf(e SourceEvent) (cid.Cid, error) {
	logged, err := EventOf(e)
	if err != nil {
		return cid.Undef, err
	}
	if logged.Removed() {
		return cid.Undef, errNoCommit
	}
	said, err := logged.CheckForeign(e.Seq)
	return said.Commit, err
}
