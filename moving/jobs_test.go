package moving_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/account"
	"nestbox/blob"
	"nestbox/dagcbor"
	"nestbox/hosting"
	"nestbox/moving"
	"nestbox/store/storetest"
)

// lacks are the blobs of accounts that lack so many, and keep what they are brought nowhere.
type lacks struct {
	blob.Store

	many int
}

func (l lacks) Count(context.Context, int64) (expected, there int64, err error) {
	return int64(l.many), 0, nil
}

func (l lacks) Missing(_ context.Context, _ int64, cursor string, limit int, _ blob.Pay) (out []blob.Missing, err error) {
	behind := cursor == ""
	for i := range l.many {
		id := dagcbor.RawCID(sha256.Sum256(fmt.Append(nil, i)))
		if behind && len(out) < limit {
			out = append(out, blob.Missing{CID: id, Record: "app.bsky.feed.post/x"})
		}
		behind = behind || id.String() == cursor
	}
	return out, nil
}

func (lacks) Bring(_ context.Context, _ syntax.DID, _ cid.Cid, body io.Reader, _ int64, _ string) error {
	_, err := io.Copy(io.Discard, body)
	return err
}

// line is a service whose jobs are worked on; its clock runs speed times as fast.
type line struct {
	*moving.Service

	t  *testing.T
	db *storetest.Database
}

func newLine(t *testing.T, many, speed int, pauses ...time.Duration) *line {
	t.Helper()
	db, begun := storetest.Open(t), time.Now()
	l := &line{t: t, db: db, Service: &moving.Service{
		Store: db.Jobs, Accounts: db.Accounts, Blobs: lacks{db.Blobs, many}, HTTP: http.DefaultClient, Pauses: pauses,
		Now: func() time.Time { return begun.Add(time.Since(begun) * time.Duration(speed)) }, Log: slog.New(slog.DiscardHandler),
	}}
	ctx, end := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.RunJobs(ctx)
	}()
	t.Cleanup(func() {
		end()
		<-done
	})
	return l
}

// fetch makes an account and its job.
func (l *line) fetch(name, source string) *account.Account {
	l.t.Helper()
	a, err := storetest.AddAccount(l.t.Context(), l.db.Stores, hosting.Pending{Handle: syntax.Handle(name + ".test"), CreatedAt: time.UnixMilli(0)})
	if err == nil {
		err = l.Fetch(l.t.Context(), a, moving.FetchBlobs, source, "")
	}
	if err != nil {
		l.t.Fatal(err)
	}
	return a
}

// await waits until a job is as it should be.
func (l *line) await(a *account.Account, what string, ok func(moving.Job) bool) moving.Job {
	l.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		jobs, err := l.Jobs(l.t.Context(), a)
		if err != nil || len(jobs) != 1 {
			l.t.Fatal(jobs, err)
		}
		if ok(jobs[0]) {
			return jobs[0]
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("%s: the job is %+v, not %s", a.Handle, jobs[0], what)
		}
	}
}

func (l *line) ends(a *account.Account, state moving.State, words string) moving.Job {
	l.t.Helper()
	return l.await(a, string(state)+" "+words, func(j moving.Job) bool { return j.State == state && j.Error == words })
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// TestPauses: a job that pauses has no place, for minutes at most whatever the other server
// asks for; a takedown ends it meanwhile, and so does its owner.
func TestPauses(t *testing.T) {
	t.Parallel()
	l := newLine(t, 3, 1, time.Minute)
	busy := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "86400")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	alice, bob := l.fetch("alice", busy), l.fetch("bob", busy)
	for _, a := range []*account.Account{alice, bob} {
		l.await(a, "paused", func(j moving.Job) bool {
			wait, waits := l.Waits(j.ID)
			return j.State == moving.Open && waits && wait.Due.After(time.Now()) && wait.Due.Before(time.Now().Add(11*time.Minute))
		})
	}
	carol := l.fetch("carol", serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("x")) }))
	if j := l.ends(carol, moving.Done, ""); j.Got != 3 {
		t.Errorf("%+v", j)
	}
	down := account.StatusChange{Takedown: &account.Applied{Applied: true}}
	if _, err := l.db.Accounts.SetStatus(t.Context(), alice.ID, down, account.Entry{At: time.Now(), Kind: account.EntryTakedown}); err != nil {
		t.Fatal(err)
	}
	l.Look(t.Context())
	l.ends(alice, moving.Cancelled, "")
	if err := l.Cancel(t.Context(), bob); err != nil {
		t.Fatal(err)
	}
	l.ends(bob, moving.Cancelled, "")
}

// TestGivesUp: a server that gives nothing several times in turn, or cannot be one, ends the
// job with its reason.
func TestGivesUp(t *testing.T) {
	t.Parallel()
	l := newLine(t, 1, 1, time.Millisecond, time.Millisecond)
	l.HTTP = &http.Client{Transport: unknown{}}
	if j := l.ends(l.fetch("alice", "https://nowhere.example"), moving.Broken, "network name does not resolve"); j.LackingAll != 0 {
		t.Errorf("%+v", j)
	}
	l = newLine(t, 1, 1, time.Millisecond, time.Millisecond)
	asked := make(chan struct{}, 100)
	l.ends(l.fetch("bob", serve(t, func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		w.WriteHeader(http.StatusTooManyRequests)
	})), moving.Broken, "refused")
	if len(asked) != 3 {
		t.Errorf("asked %d times, want 3", len(asked))
	}
	l.ends(l.fetch("carol", "http://127.0.0.1:1"), moving.Broken, "network connection failed: it was refused")
}

// unknown knows no name.
type unknown struct{}

func (unknown) RoundTrip(r *http.Request) (*http.Response, error) {
	return nil, &net.DNSError{Err: "no such host", Name: r.Host, IsNotFound: true}
}

// TestSlow: a blob that comes a byte in 20 seconds is given up, and after some the server.
func TestSlow(t *testing.T) {
	t.Parallel()
	l := newLine(t, 5, 1000)
	slow := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			_, _ = w.Write([]byte("x"))
			_ = http.NewResponseController(w).Flush()
			time.Sleep(20 * time.Millisecond)
		}
	})
	if j := l.ends(l.fetch("alice", slow), moving.Broken, "slow"); j.LackingAll != 2 {
		t.Errorf("%+v", j)
	}
}

// TestTurns: a job gives its place to those that wait.
func TestTurns(t *testing.T) {
	t.Parallel()
	l := newLine(t, 300, 1000)
	source := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(5 * time.Millisecond)
		_, _ = w.Write([]byte("x"))
	})
	var all []*account.Account
	for _, name := range []string{"alice", "bob", "carol"} {
		all = append(all, l.fetch(name, source))
	}
	l.await(all[2], "begun before the others end", func(j moving.Job) bool { return j.Got > 0 })
	for _, a := range all[:2] {
		l.await(a, "open", func(j moving.Job) bool { return j.State == moving.Open && j.Got < 300 })
	}
	for _, a := range all {
		if j := l.ends(a, moving.Done, ""); j.Got != 300 || strings.Contains(j.Error, " ") {
			t.Errorf("%s: %+v", a.Handle, j)
		}
	}
}
