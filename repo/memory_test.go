package repo_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"nestbox/repo"
)

// counting counts reads of repositories.
type counting struct {
	repo.Store

	views int
}

func (c *counting) View(ctx context.Context, accountID int64, fn func(repo.View) error) error {
	c.views++
	return c.Store.View(ctx, accountID, fn)
}

// TestMemory: a write behind the last one reads nothing; a write elsewhere does. The
// events are the same with and without memory.
func TestMemory(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	store := &counting{Store: w.Store}
	w.Service.Store = store
	for i := range 300 {
		alice.mustCreate(foo, nil, fmt.Sprintf(`{"n":%d}`, i))
		w.clock.Advance(time.Second)
	}
	if store.views > 3 {
		t.Errorf("%d reads for 300 records, one after the other", store.views)
	}
	store.views = 0
	for i := range 100 {
		rkey := fmt.Sprintf("2k%d", i*7919%100) // before the others
		alice.mustCreate(foo, &rkey, `{}`)
		alice.mustCreate(foo, nil, `{}`)
		if i%3 == 0 {
			if _, err := alice.remove(foo, rkey); err != nil {
				t.Fatal(err)
			}
		}
	}
	if store.views < 100 {
		t.Errorf("%d reads for 100 records here and there", store.views)
	}
	w.Service.Store = store.Store
	alice.records()
	alice.verifyChain(0)
}

// TestMemoryOutOfDate: no answer follows from a remembered repository that another
// process has changed since.
func TestMemoryOutOfDate(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	other, elsewhere := *alice, *w
	elsewhere.Service = &repo.Service{
		Store: w.Store, Accounts: w.Accounts, Keys: w.Keys, Lexicons: w.Lexicons, Now: w.Now, ClockID: 8, Log: w.Log,
	}
	other.w = &elsewhere

	k := "k"
	alice.mustCreate(foo, &k, `{"n":1}`)
	if _, err := other.remove(foo, k); err != nil {
		t.Fatal(err)
	}
	alice.mustCreate(foo, &k, `{"n":2}`) // remembered: there is one

	if _, err := other.put(foo, k, `{"n":3}`); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.put(foo, k, `{"n":2}`); err != nil { // remembered: the value is the same
		t.Fatal(err)
	}
	head := other.head().CID.String()
	if _, err := other.put(foo, k, `{"n":4}`); err != nil {
		t.Fatal(err)
	}
	_, err := w.PutRecord(t.Context(), alice.caller, repo.PutRecordInput{
		Repo: alice.did.String(), Collection: foo, RKey: k, Record: []byte(`{"n":5}`), SwapCommit: &head, // remembered: the head
	})
	wantError(t, "swap", err, 400, "InvalidSwap", "Commit was at "+alice.head().CID.String())
	if got, err := alice.get(foo, k, nil); err != nil || !strings.Contains(string(got), `"n":4`) {
		t.Errorf("the record is %s, %v", got, err)
	}
	alice.verifyChain(0)
}
