package repo_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"nestbox/account"
	"nestbox/ratelimit"
	"nestbox/repo"
	"nestbox/request"
	"nestbox/xrpc"
)

// TestCallers is the table of callers and the repositories that they may write to.
func TestCallers(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.person("alice"), w.person("bob")
	try := func(who *person, name string) error {
		_, err := w.CreateRecord(t.Context(), who.caller, repo.CreateRecordInput{Repo: name, Collection: foo, Record: []byte(`{}`)})
		return err
	}
	for _, name := range []string{"did:plc:alice", "alice.test", "Alice.TEST"} {
		if err := try(alice, name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantError(t, "another's", try(alice, "bob.test"), 401, "AuthenticationRequired", "Authentication Required")
	wantError(t, "nobody's", try(alice, "nobody.test"), 403, "AccountNotFound", "Account not found")
	wantError(t, "no name", try(alice, "!!"), 400, "InvalidRequest", `Invalid AT identifier (got "!!") at $.repo`)

	deactivated := func() error { return try(bob, "bob.test") }
	bob.status(account.StatusChange{Deactivated: new(true)})
	wantError(t, "deactivated", deactivated(), 401, "AccountDeactivated", "Account is deactivated")
	bob.status(account.StatusChange{Takedown: &account.Applied{Applied: true}})
	wantError(t, "taken down", deactivated(), 401, "AccountTakedown", "Account has been taken down")
	bob.status(account.StatusChange{Takedown: &account.Applied{}, Deactivated: new(false), Suspended: new(true)})
	wantError(t, "suspended", deactivated(), 401, "AccountTakedown", "Account has been suspended")
	bob.status(account.StatusChange{Suspended: new(false)})
	if err := try(bob, "bob.test"); err != nil {
		t.Errorf("active again: %v", err)
	}
	for what, err := range map[string]error{
		"put":    second(w.PutRecord(t.Context(), alice.caller, repo.PutRecordInput{Repo: "bob.test", Collection: foo, RKey: "k", Record: []byte(`{}`)})),
		"delete": second(w.DeleteRecord(t.Context(), alice.caller, repo.DeleteRecordInput{Repo: "bob.test", Collection: foo, RKey: "k"})),
		"apply":  second(w.ApplyWrites(t.Context(), alice.caller, repo.ApplyWritesInput{Repo: "bob.test"})),
	} {
		wantError(t, what, err, 401, "AuthenticationRequired", "Authentication Required")
	}

	// Deactivated between the check of the account and the commit.
	w.Service.Store = &racing{w.Repos, func() { bob.status(account.StatusChange{Deactivated: new(true)}) }}
	wantError(t, "deactivated meanwhile", deactivated(), 401, "AccountDeactivated", "Account is deactivated")
	w.Service.Store = w.Repos

	// An account that has no repository yet.
	carol := w.stranger("carol")
	wantError(t, "no repository", try(carol, "carol.test"), 400, "RepoNotFound", "Could not find repo: did:plc:carol")
}

func second[T any](_ T, err error) error { return err }

// TestLimits: 5,000 points an hour, by the kind of write.
func TestLimits(t *testing.T) {
	w := newWorld(t)
	w.Limits = ratelimit.New(1000, w.Now)
	alice, bob := w.person("alice"), w.person("bob")
	ctx := request.WithClient(t.Context(), request.Client{})
	left := func() string { return request.Header(ctx).Get("RateLimit-Remaining") }
	for _, c := range []struct {
		what string
		err  func() error
		left string
	}{
		{"create", func() error {
			return second(w.CreateRecord(ctx, alice.caller, repo.CreateRecordInput{Repo: "alice.test", Collection: foo, Record: []byte(`{}`), RKey: new("k")}))
		}, "4997"},
		{"put", func() error {
			return second(w.PutRecord(ctx, alice.caller, repo.PutRecordInput{Repo: "alice.test", Collection: foo, RKey: "k", Record: []byte(`{"a":1}`)}))
		}, "4995"},
		{"delete", func() error {
			return second(w.DeleteRecord(ctx, alice.caller, repo.DeleteRecordInput{Repo: "alice.test", Collection: foo, RKey: "k"}))
		}, "4994"},
		{"apply", func() error {
			return second(w.ApplyWrites(ctx, alice.caller, repo.ApplyWritesInput{Repo: "alice.test", Writes: values(
				step("create", foo, "a", `{}`), step("create", foo, "b", `{}`), step("update", foo, "a", `{}`), step("delete", foo, "a", ""))}))
		}, "4985"},
		{"apply nothing", func() error {
			return second(w.ApplyWrites(ctx, alice.caller, repo.ApplyWritesInput{Repo: "alice.test"}))
		}, "4984"},
		{"what is refused", func() error {
			_, err := w.CreateRecord(ctx, alice.caller, repo.CreateRecordInput{Repo: "bob.test", Collection: foo, Record: []byte(`{}`)})
			if err == nil {
				return errors.New("not refused")
			}
			return nil
		}, "4981"},
	} {
		if err := c.err(); err != nil || left() != c.left {
			t.Errorf("%s: %v, %s left, want %s", c.what, err, left(), c.left)
		}
	}
	for range 4982 / 3 {
		_, _ = w.CreateRecord(ctx, alice.caller, repo.CreateRecordInput{Repo: "bob.test", Collection: foo, Record: []byte(`{}`)})
	}
	_, err := alice.create(foo, nil, `{}`)
	if e := xrpc.AsError(ctx, err); err == nil || e.Status != 429 || e.Name != "RateLimitExceeded" || e.RetryAfter <= 0 {
		t.Errorf("a point too many: %v", err)
	}
	if _, err := bob.create(foo, nil, `{}`); err != nil {
		t.Errorf("another account: %v", err)
	}
	exempt := request.WithClient(t.Context(), request.Client{Unlimited: true})
	if _, err := w.CreateRecord(exempt, alice.caller, repo.CreateRecordInput{Repo: "alice.test", Collection: foo, Record: []byte(`{}`)}); err != nil {
		t.Errorf("a client without limits: %v", err)
	}
}

// TestBackfill: accounts without a repository get one, those that have one keep
// it, and one whose key is gone does not stop the others.
func TestBackfill(t *testing.T) {
	w := newWorld(t)
	alice := w.person("alice")
	alice.mustCreate(foo, nil, `{}`)
	at := alice.head()
	broken := w.stranger("broken")
	key := w.keys[broken.id]
	delete(w.keys, broken.id)
	var others []*person
	for i := range 3 {
		others = append(others, w.stranger(fmt.Sprintf("other%d", i)))
	}
	events := len(w.events(0))
	if err := w.Backfill(t.Context()); err == nil || !strings.Contains(err.Error(), "did:plc:broken") {
		t.Errorf("an account without a key: %v", err)
	}
	if alice.head().CID != at.CID || len(w.events(0)) != events+3 {
		t.Errorf("%d events more, want 3", len(w.events(0))-events)
	}
	w.keys[broken.id] = key
	if err := w.Backfill(t.Context()); err != nil {
		t.Error(err)
	}
	for _, p := range append(others, broken) {
		msg := commitMessage(t, w.eventOf(p.did))
		p.verify(msg)
		if len(msg.Ops) != 0 || msg.Since != nil || msg.PrevData != nil {
			t.Errorf("%s: the first event is %+v", p.did, msg)
		}
		p.mustCreate(foo, nil, `{}`)
		if n := p.verifyChain(0); n != 2 || len(p.records()) != 1 {
			t.Errorf("%s: %d events", p.did, n)
		}
	}
}
