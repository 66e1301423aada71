package storetest

import (
	"errors"
	"reflect"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/moving"
)

var jobTests = tests{"Jobs": testJobs, "JobsCollect": testJobsCollect}

func addJob(t *testing.T, s *Database, j moving.Job) moving.Job {
	t.Helper()
	var err error
	if j.ID, err = s.Jobs.AddJob(t.Context(), j); err != nil || j.ID == 0 {
		t.Fatalf("add a job: %d, %v", j.ID, err)
	}
	return j
}

func saveJob(t *testing.T, s *Database, j moving.Job, want bool) {
	t.Helper()
	if open, err := s.Jobs.SaveJob(t.Context(), j); err != nil || open != want {
		t.Errorf("save job %d: %t, %v; want %t", j.ID, open, err, want)
	}
}

func jobOwner(t *testing.T, s *Database, name string) *account.Account {
	t.Helper()
	a, err := AddAccount(t.Context(), s.Stores, hosting.Pending{Handle: syntax.Handle(name + ".test"), CreatedAt: at(0)})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func testJobs(t *testing.T, s *Database) {
	alice, bob := jobOwner(t, s, "alice"), jobOwner(t, s, "bob")
	is := func(what string, got []moving.Job, err error, want ...moving.Job) {
		t.Helper()
		if err != nil || len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v %v, want %+v", what, got, err, want)
		}
	}
	open := func(what string, want ...moving.Job) {
		t.Helper()
		got, err := s.Jobs.OpenJobs(t.Context())
		is(what, got, err, want...)
	}
	if _, err := s.Jobs.AddJob(t.Context(), moving.Job{AccountID: 999, Kind: moving.FetchRepo, State: moving.Open, MadeAt: at(0), ChangedAt: at(0)}); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("a job of nobody: %v", err)
	}
	first := moving.Job{AccountID: alice.ID, DID: alice.DID, Kind: moving.FetchRepo, Source: "https://old.example", State: moving.Open, MadeAt: at(1), ChangedAt: at(1)}
	first = addJob(t, s, first)
	if _, err := s.Jobs.AddJob(t.Context(), moving.Job{AccountID: alice.ID, DID: alice.DID, Kind: moving.FetchBlobs, State: moving.Open, MadeAt: at(2), ChangedAt: at(2)}); !errors.Is(err, moving.ErrJob) {
		t.Errorf("a second job that is open: %v", err)
	}
	others := addJob(t, s, moving.Job{AccountID: bob.ID, DID: bob.DID, Kind: moving.FetchBlobs, Source: "https://old.example", State: moving.Open, MadeAt: at(2), ChangedAt: at(2)})
	open("two are open", first, others)

	first.Progress = moving.Progress{Bytes: 1 << 40, Got: 3, Total: 9, Records: 7, Lacking: []moving.Lacking{{CID: "c", Record: "a/b", Why: moving.Gone}}, LackingAll: 12}
	first.ChangedAt = at(3)
	saveJob(t, s, first, true)
	open("one went on", first, others)
	first.State, first.Error, first.ChangedAt = moving.Broken, "timed out", at(4)
	saveJob(t, s, first, true)
	open("one ended", others)
	late := first
	late.State, late.Error, late.ChangedAt = moving.Done, "", at(5)
	saveJob(t, s, late, false)
	second := addJob(t, s, moving.Job{AccountID: alice.ID, DID: alice.DID, Kind: moving.FetchBlobs, State: moving.Open, MadeAt: at(6), ChangedAt: at(6)})
	got, err := s.Jobs.Jobs(t.Context(), alice.ID, 10)
	is("hers", got, err, second, first)
	got, err = s.Jobs.Jobs(t.Context(), alice.ID, 1)
	is("her last", got, err, second)

	if err := Leave(t.Context(), s.Stores, alice.ID, at(7)); err != nil {
		t.Fatal(err)
	}
	open("she has left", others)
	saveJob(t, s, second, false)
}

func testJobsCollect(t *testing.T, s *Database) {
	alice, bob := jobOwner(t, s, "alice"), jobOwner(t, s, "bob")
	ended := addJob(t, s, moving.Job{AccountID: alice.ID, DID: alice.DID, Kind: moving.FetchRepo, State: moving.Open, MadeAt: at(0), ChangedAt: at(0)})
	ended.State, ended.ChangedAt = moving.Done, at(5)
	saveJob(t, s, ended, true)
	addJob(t, s, moving.Job{AccountID: bob.ID, DID: bob.DID, Kind: moving.FetchRepo, State: moving.Open, MadeAt: at(0), ChangedAt: at(0)})
	if n, err := s.Jobs.CollectJobs(t.Context(), at(5)); err != nil || n != 0 {
		t.Errorf("before it ended: %d, %v", n, err)
	}
	if n, err := s.Jobs.CollectJobs(t.Context(), at(6)); err != nil || n != 1 {
		t.Errorf("the one that ended: %d, %v", n, err)
	}
	if open, err := s.Jobs.OpenJobs(t.Context()); err != nil || len(open) != 1 {
		t.Errorf("the one that is open: %d, %v", len(open), err)
	}
}
