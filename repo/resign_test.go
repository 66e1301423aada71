package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"github.com/bluesky-social/indigo/atproto/identity"
	indigo "github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/dagcbor"
	"nestbox/firehose"
	"nestbox/firehose/event"
)

// jump moves the numbers on, so every account must be announced.
func (w *world) jump(to int64) {
	w.t.Helper()
	if err := w.World.Log.Jump(w.t.Context(), to); err != nil {
		w.t.Fatal(err)
	}
}

// reannounce announces all accounts and returns the number of steps.
func (w *world) reannounce() (steps int) {
	w.t.Helper()
	for more := true; more; steps++ {
		var err error
		if more, err = w.Reannounce(w.t.Context(), w.Announcements); err != nil {
			w.t.Fatal(err)
		}
	}
	return steps
}

// only returns a directory that has just the person's key.
func (p *person) only() identity.Directory {
	dir := identity.NewMockDirectory()
	dir.Insert(identity.Identity{DID: p.did, Keys: map[string]identity.VerificationMethod{
		"atproto": {Type: "Multikey", PublicKeyMultibase: p.public.Multibase()},
	}})
	return dir
}

// synced verifies a sync event with indigo.
func (p *person) synced(e firehose.Logged) *indigo.Commit {
	p.w.t.Helper()
	header, err := dagcbor.Encode(map[string]any{"op": int64(1), "t": string(event.KindSync)})
	if err != nil {
		p.w.t.Fatal(err)
	}
	body, ok := bytes.CutPrefix(e.Frame(e.Seq), header)
	if !ok || e.DID != p.did {
		p.w.t.Fatalf("event %d is a %s of %s", e.Seq, e.Kind, e.DID)
	}
	msg := &comatproto.SyncSubscribeRepos_Sync{}
	if err := msg.UnmarshalCBOR(bytes.NewReader(body)); err != nil {
		p.w.t.Fatal(err)
	}
	commit, err := indigo.VerifySyncMessage(p.w.t.Context(), p.only(), msg)
	if err != nil {
		p.w.t.Fatalf("event %d: %v", e.Seq, err)
	}
	return commit
}

// TestReannounce: after a jump each repository has a new commit of its old tree,
// newer than all that was seen before; indigo verifies its event, and later writes go
// on from it.
func TestReannounce(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.person("alice"), w.person("bob")
	bare := w.stranger("bare")
	for range 3 {
		alice.mustCreate("app.example.note", nil, `{"text":"a"}`)
	}
	bob.mustCreate("app.example.note", nil, `{"text":"b"}`)
	bob.status(account.StatusChange{Deactivated: new(true)})
	if more, err := w.Reannounce(t.Context(), w.Announcements); more || err != nil {
		t.Fatalf("without a jump: %t, %v", more, err)
	}
	before, bobBefore, records := alice.head(), bob.head(), alice.records()

	w.clock.Advance(time.Hour)
	seen := syntax.NewTIDFromTime(w.clock.Now(), 1023) // the newest revision that the network may have
	const to = 5000
	w.jump(to)
	w.reannounce()
	got := w.events(to)
	var kinds []string
	for _, e := range got {
		kinds = append(kinds, fmt.Sprint(e.Seq-to, e.Kind, " ", e.DID))
	}
	want := []string{
		fmt.Sprint(1, "#account ", alice.did), fmt.Sprint(2, "#sync ", alice.did),
		fmt.Sprint(3, "#account ", bob.did), fmt.Sprint(4, "#account ", bare.did),
	}
	if !slices.Equal(kinds, want) {
		t.Fatalf("told %q, want %q", kinds, want)
	}
	commit, after := alice.synced(got[1]), alice.head()
	if commit.Data != before.Root.CID || commit.Rev != after.Rev.String() || commit.Rev <= seen.String() || commit.Prev != nil {
		t.Errorf("told of %+v; it was at %s with %s, and %s was seen", commit, before.Rev, before.Root.CID, seen)
	}
	if after.Root != before.Root || after.NextNode != before.NextNode || after.Records != before.Records || len(alice.records()) != len(records) {
		t.Errorf("the repository is at %+v, was at %+v", after, before)
	}
	// An inactive account makes no event until it comes back.
	if h := bob.head(); h.Rev <= seen || h.Root != bobBefore.Root {
		t.Errorf("the repository of a deactivated account is at %+v, was at %+v", h, bobBefore)
	}
	last := got[len(got)-1].Seq
	bob.status(account.StatusChange{Deactivated: new(false)})
	back := w.events(last)
	if commit := bob.synced(back[len(back)-1]); commit.Rev <= seen.String() {
		t.Errorf("when it is back, it is at %s", commit.Rev)
	}
	// Writes go on from there.
	last = back[len(back)-1].Seq
	alice.mustCreate("app.example.note", nil, `{"text":"c"}`)
	msg := commitMessage(t, w.events(last)[0])
	alice.verify(msg)
	if msg.Since == nil || *msg.Since != after.Rev.String() || msg.PrevData == nil || msg.PrevData.String() != after.Root.CID.String() {
		t.Errorf("a write since %v, %v; the commit before is %s", msg.Since, msg.PrevData, after.Rev)
	}
}

// TestReannounceSteps: many accounts are announced in steps, each once, and an
// interrupted announcement goes on.
func TestReannounceSteps(t *testing.T) {
	w := newWorld(t)
	const people = 230
	for i := range people {
		w.stranger(fmt.Sprintf("p%d", i))
	}
	if err := w.Backfill(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.jump(10_000)
	if more, err := w.Reannounce(t.Context(), w.Announcements); !more || err != nil {
		t.Fatalf("%t, %v", more, err)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if _, err := w.Reannounce(stopped, w.Announcements); !errors.Is(err, context.Canceled) {
		t.Errorf("broken off: %v", err)
	}
	if steps := w.reannounce(); steps != 2 {
		t.Errorf("%d steps for 130 accounts", steps)
	}
	told := map[syntax.DID]int{}
	for _, e := range w.events(0) {
		if e.Kind == event.KindSync {
			told[e.DID]++
		}
	}
	if len(told) != people {
		t.Errorf("told of %d repositories", len(told))
	}
	for did, n := range told {
		if n != 1 {
			t.Errorf("told of %s %d times", did, n)
		}
	}
}

// TestReannounceWrites: accounts that write meanwhile lose nothing, and every event
// goes on where the previous one ended.
func TestReannounceWrites(t *testing.T) {
	w := newWorld(t)
	var people []*person
	for i := range 5 {
		people = append(people, w.person(fmt.Sprintf("p%d", i)))
	}
	stop, done := make(chan struct{}), make(chan int)
	for _, p := range people {
		go func() {
			n := 0
			for ; ; n++ {
				select {
				case <-stop:
					done <- n
					return
				default:
				}
				if _, err := p.create("app.example.note", nil, `{"text":"x"}`); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	for to := int64(1_000_000); to <= 10_000_000; to += 1_000_000 {
		w.jump(to)
		w.reannounce()
	}
	close(stop)
	written := 0
	for range people {
		written += <-done
	}
	kept := 0
	for _, p := range people {
		kept += len(p.records())
		var rev, data string
		for _, e := range w.events(0) {
			if e.DID != p.did || e.Kind == event.KindAccount {
				continue
			}
			if e.Kind == event.KindSync {
				commit := p.synced(e)
				if commit.Rev <= rev || data != "" && data != commit.Data.String() {
					t.Errorf("event %d: %s with %s after %s with %s", e.Seq, commit.Rev, commit.Data, rev, data)
				}
				rev, data = commit.Rev, commit.Data.String()
				continue
			}
			msg := commitMessage(t, e)
			commit := p.verify(msg)
			if rev != "" && (msg.Since == nil || *msg.Since != rev || msg.PrevData.String() != data) {
				t.Errorf("event %d is since %v, %v; after %s with %s", e.Seq, msg.Since, msg.PrevData, rev, data)
			}
			rev, data = commit.Rev, commit.Data.String()
		}
		if h := p.head(); h.Rev.String() != rev {
			t.Errorf("%s is at %s, told was %s", p.did, h.Rev, rev)
		}
	}
	if kept != written || written == 0 {
		t.Errorf("%d records are left of %d", kept, written)
	}
}

// TestReannounceFaults: an account whose key is lost does not stop the others, and is
// announced unchanged.
func TestReannounceFaults(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.person("alice"), w.person("bob")
	delete(w.keys, alice.id)
	was, bobWas := alice.head(), bob.head()
	var logged strings.Builder
	w.Log = slog.New(slog.NewTextHandler(&logged, nil))
	w.jump(1000)
	w.reannounce()
	got := w.events(1000)
	if len(got) != 4 || got[1].Kind != event.KindSync || alice.synced(got[1]).Rev != was.Rev.String() || alice.head().CID != was.CID {
		t.Errorf("told %+v", got)
	}
	if bob.synced(got[3]).Rev <= bobWas.Rev.String() {
		t.Error("the other has no new commit")
	}
	if !strings.Contains(logged.String(), "without a new commit") || !strings.Contains(logged.String(), alice.did.String()) {
		t.Errorf("logged %q", logged.String())
	}
}

// BenchmarkReannounce announces 1,000 accounts in each round.
func BenchmarkReannounce(b *testing.B) {
	const people = 1000
	w := newWorld(b)
	for i := range people {
		w.stranger(fmt.Sprintf("p%d", i))
	}
	if err := w.Backfill(b.Context()); err != nil {
		b.Fatal(err)
	}
	to := int64(0)
	for b.Loop() {
		to += 1_000_000
		w.jump(to)
		w.reannounce()
	}
	b.ReportMetric(float64(b.N)*people/b.Elapsed().Seconds(), "accounts/s")
}
