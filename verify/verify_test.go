package verify_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json/jsontext"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/blob/disk"
	"nestbox/hosting"
	"nestbox/internal/durable"
	"nestbox/internal/seal"
	"nestbox/lexicon"
	"nestbox/repo"
	"nestbox/store/storetest"
	"nestbox/verify"
)

// world is a data directory with repositories, and the service that writes to them.
type world struct {
	*repo.Service

	tb   testing.TB
	dir  string
	db   *storetest.Database
	mu   sync.Mutex // guards keys
	keys map[int64]atcrypto.PrivateKey
	dids []syntax.DID
}

// SigningKey implements repo.Keys.
func (w *world) SigningKey(_ context.Context, id int64) (atcrypto.PrivateKey, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.keys[id], nil
}

// directory finds accounts in the store.
type directory struct{ account.Store }

func (d directory) Find(ctx context.Context, name syntax.AtIdentifier) (repo.Account, error) {
	a, err := account.Find(ctx, d.Store, name.Normalize().String())
	if err != nil {
		return repo.Account{}, err
	}
	return repo.Account{ID: a.ID, DID: a.DID, Handle: a.Handle, Document: a.Document, Status: string(a.Status())}, nil
}

func newWorld(tb testing.TB, repos, records int) *world {
	tb.Helper()
	w := &world{tb: tb, dir: tb.TempDir(), keys: map[int64]atcrypto.PrivateKey{}}
	w.db = storetest.Open(tb, storetest.Options{Dir: w.dir})
	w.Service = &repo.Service{
		Store: w.db.Repos, Accounts: directory{w.db.Accounts}, Keys: w, Lexicons: lexicon.Known(),
		Now: time.Now, Log: slog.New(slog.DiscardHandler),
	}
	for n := range repos {
		w.account(n)
	}
	if err := w.Backfill(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	next := make(chan syntax.DID)
	var writers sync.WaitGroup
	for range 16 { // they share commits
		writers.Go(func() {
			for did := range next {
				w.write(did, 0, records)
			}
		})
	}
	for _, did := range w.dids {
		next <- did
	}
	close(next)
	writers.Wait()
	return w
}

func (w *world) account(n int) {
	w.tb.Helper()
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		w.tb.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		w.tb.Fatal(err)
	}
	name := fmt.Sprintf("a%d.test", n)
	a, err := storetest.AddAccount(w.tb.Context(), w.db.Stores, hosting.Pending{
		DID: syntax.DID("did:web:" + name), Handle: syntax.Handle(name), SigningKey: public.DIDKey(), CreatedAt: time.Now(),
	})
	if err != nil {
		w.tb.Fatal(err)
	}
	w.keys[a.ID] = key
	w.dids = append(w.dids, a.DID)
}

// write creates records at keys of their own.
func (w *world) write(did syntax.DID, from, to int) {
	var steps []jsontext.Value
	for n := from; n < to; n++ {
		step, err := json.Marshal(map[string]any{
			"$type": "com.atproto.repo.applyWrites#create", "collection": "com.example.post", "rkey": fmt.Sprintf("post-%06d", n),
			"value": map[string]any{
				"$type": "com.example.post", "createdAt": "2026-08-01T12:00:00.000Z", "langs": []string{"en"},
				"text": fmt.Sprintf("Post number %d of %s, which is about as long as posts are when people write them on the way to somewhere.", n, did),
			},
		})
		if err != nil {
			w.tb.Error(err)
			return
		}
		steps = append(steps, step)
	}
	_, err := w.ApplyWrites(w.tb.Context(), auth.NewScoped(auth.StandardCaller{Access: auth.Access{DID: did}}), repo.ApplyWritesInput{Repo: did.String(), Writes: steps})
	if err != nil {
		w.tb.Error(err)
	}
}

// verification returns a Verification that finds no keys to check.
func (w *world) verification(fault func(string)) verify.Verification {
	blobs := filepath.Join(w.dir, "blobs")
	return verify.Verification{
		Lock: func() (func() error, error) { return durable.Lock(w.dir) }, Database: w.db.Inspect, Blobs: disk.Look(blobs, ""),
		Keys: func(func(string)) *seal.Box { return nil }, Now: time.Now,
		Fault: fault, Remark: func(line string) { w.tb.Error(line) }, Progress: func(string) {},
	}
}

// TestOnline: a verification of a server that goes on writing finds no fault, sees
// one moment, and repairs nothing.
func TestOnline(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 8, 20)
	defer w.db.Close()
	release, err := durable.Lock(w.dir) // as a server has it
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := release(); err != nil {
			t.Error(err)
		}
	}()
	v := w.verification(func(line string) { t.Error(line) })
	ctx, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for _, did := range w.dids {
		writers.Go(func() {
			for n := 20; ctx.Err() == nil; n++ {
				w.write(did, n, n+1) //nolint:contextcheck // a write under way is not cut off
			}
		})
	}
	for range 5 {
		done, err := v.Run(t.Context())
		if err != nil {
			t.Error(err)
		}
		if done.Repositories != 8 || done.Records < 8*20 {
			t.Errorf("verified %+v", done)
		}
	}
	stop()
	writers.Wait()
	v.Repaired = func(line string) { t.Error(line) }
	if _, err := v.Run(t.Context()); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("a repair of a running server: %v", err)
	}
}

// TestOrder: faults come in the order of accounts, however many work at it.
func TestOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 30, 5)
	var want, got []string
	for n, did := range w.dids {
		if n%2 == 0 { // another key signs from here on
			key, err := atcrypto.GeneratePrivateKeyK256()
			if err != nil {
				t.Fatal(err)
			}
			id := slices.Sorted(maps.Keys(w.keys))[n]
			w.keys[id] = key
			w.write(did, 5, 6)
			want = append(want, did.String())
		}
	}
	w.db.Close()
	v := w.verification(func(line string) { got = append(got, line) })
	done, err := v.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) || done.Faults != int64(len(got)) {
		t.Fatalf("%d faults: %q, want %q", done.Faults, got, want)
	}
	for i, did := range want {
		if !strings.HasPrefix(got[i], did+": commit ") {
			t.Errorf("fault %d: %s, want one of %s", i, got[i], did)
		}
	}
}

var (
	benchRepos   = flag.Int("repos", 100, "repositories that BenchmarkVerify verifies")
	benchRecords = flag.Int("records", 200, "records of each of them")
)

// BenchmarkVerify is a verification of a stopped server:
// go test ./verify -run '^$' -bench . -args -repos 3000
func BenchmarkVerify(b *testing.B) {
	w := newWorld(b, *benchRepos, *benchRecords)
	w.db.Close()
	v := w.verification(func(line string) { b.Error(line) })
	for b.Loop() {
		done, err := v.Run(b.Context())
		if err != nil || done.Records != int64(*benchRepos**benchRecords) {
			b.Fatalf("verified %+v, %v", done, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N**benchRepos**benchRecords), "µs/record")
}
