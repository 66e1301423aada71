package hosting_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"nestbox/account"
	"nestbox/admin"
	"nestbox/firehose/event"
	"nestbox/hosting"
	"nestbox/identity"
	"nestbox/plc"
	"nestbox/repo"
)

// withRepo gives an account its repository, as a server does.
func (p *place) withRepo() {
	p.t.Helper()
	if err := p.repos().Backfill(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
}

// repos returns the repositories that sign with the place's keys.
func (p *place) repos() *repo.Service {
	return &repo.Service{Store: p.World.Repos, Keys: p.Keys, Now: p.clock, Log: p.Log}
}

// wantKey fails the test unless account, directory, document and the repository's
// commit agree on a signing key, and nothing is under way.
func (p *place) wantKey(what string, a *account.Account, was string, changed bool) {
	p.t.Helper()
	now, err := p.Accounts.ByDID(p.t.Context(), a.DID)
	if err != nil {
		p.t.Fatal(err)
	}
	last, err := p.Directory.Last(p.t.Context(), a.DID)
	if err != nil {
		p.t.Fatal(err)
	}
	d, _ := plc.DataOf(last)
	doc, err := identity.ParseDocument(a.DID, now.Document)
	if err != nil {
		p.t.Fatal(err)
	}
	if (now.SigningKey != was) != changed || d.SigningKey != now.SigningKey || doc.SigningKey() != now.SigningKey {
		p.t.Errorf("%s: the account has %s, the directory %s, the document %s; it was %s", what, now.SigningKey, d.SigningKey, doc.SigningKey(), was)
	}
	key, err := p.Keys.SigningKey(p.t.Context(), a.ID)
	if err != nil {
		p.t.Fatal(err)
	}
	if public, err := key.PublicKey(); err != nil || public.DIDKey() != now.SigningKey {
		p.t.Errorf("%s: the key that signs is %v, %v", what, public, err)
	}
	public, err := atcrypto.ParsePublicDIDKey(now.SigningKey)
	if err != nil {
		p.t.Fatal(err)
	}
	err = p.World.Repos.View(p.t.Context(), a.ID, func(v repo.View) error {
		c, err := repo.DecodeCommit(v.Head().Commit)
		if err == nil {
			err = c.Verify(public)
		}
		return err
	})
	if err != nil {
		p.t.Errorf("%s: the repository's commit: %v", what, err)
	}
}

// wantNoKeyChange fails the test if a change of a key is under way.
func (p *place) wantNoKeyChange(what string) {
	p.t.Helper()
	if left, err := p.SigningKeys.KeyChanges(p.t.Context()); err != nil || len(left) != 0 {
		p.t.Errorf("%s: under way: %+v, %v", what, left, err)
	}
}

// syncs counts the events of the state of an account's repository.
func (p *place) syncs(a *account.Account) (n int) {
	p.t.Helper()
	events, err := p.World.Log.Read(p.t.Context(), 0, 1000, 1<<20)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, e := range events {
		if e.Kind == event.KindSync && e.DID == a.DID {
			n++
		}
	}
	return n
}

func (p *place) resumeKeys() {
	p.t.Helper()
	p.advance(time.Minute)
	if err := p.ResumeKeys(p.t.Context()); err != nil {
		p.t.Errorf("ResumeKeys: %v", err)
	}
}

func TestChangeKey(t *testing.T) {
	p := newPlace(t)
	a := p.mustCreate("alice")
	p.withRepo()
	p.Repos = p.repos()
	was, identities, syncs := a.SigningKey, p.identities(a.DID), p.syncs(a)
	p.wantKey("as made", a, was, false)
	if err := p.ChangeKey(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	p.wantKey("changed", a, was, true)
	if d, err := p.Resolver.DID(t.Context(), a.DID); err != nil || d.SigningKey() == was {
		t.Errorf("what is known of the document: %+v, %v", d, err)
	}
	if p.identities(a.DID) != identities+1 || p.syncs(a) != syncs+1 {
		t.Errorf("%d events of the identity, %d of the repository", p.identities(a.DID)-identities, p.syncs(a)-syncs)
	}
	trail, err := p.Accounts.Trail(t.Context(), a.ID, 10)
	if err != nil || trail[0].Kind != account.EntryKeyChanged || trail[0].By != account.ActorAdmin {
		t.Errorf("the trail: %+v, %v", trail, err)
	}
	p.restart()
	p.Keys = hosting.NewKeys(p.Store, p.Box)
	p.wantKey("after a restart", a, was, true)

	again, err := p.Accounts.ByDID(t.Context(), a.DID)
	if err != nil {
		t.Fatal(err)
	}
	p.plc.set(refuse)
	p.Repos = p.repos()
	if err := p.ChangeKey(t.Context(), again); !errors.Is(err, identity.ErrRefused) {
		t.Errorf("refused: %v", err)
	}
	p.wantKey("refused", a, again.SigningKey, false)
	p.plc.set(obey)
	last, err := p.Directory.Last(t.Context(), a.DID)
	if err != nil {
		t.Fatal(err)
	}
	away, err := plc.Amend(last, plc.Data{PDS: "https://pds.example.com"}, p.RotationKey)
	if err == nil {
		err = p.Directory.Submit(t.Context(), a.DID, away)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := p.ChangeKey(t.Context(), again); !errors.Is(err, hosting.ErrMovedOut) {
		t.Errorf("moved out: %v", err)
	}
}

// crashKeys is a KeyStore; its process dies at a step.
type crashKeys struct {
	hosting.KeyStore
	crash
}

func (c crashKeys) BeginKey(ctx context.Context, k hosting.KeyChange) error {
	return c.step("begin", func() error { return c.KeyStore.BeginKey(ctx, k) })
}

func (c crashKeys) FinishKey(ctx context.Context, k hosting.KeyChange, doc []byte, resigned *repo.Change, e account.Entry) error {
	return c.step("finish", func() error { return c.KeyStore.FinishKey(ctx, k, doc, resigned, e) })
}

func (c crashKeys) DropKey(ctx context.Context, k hosting.KeyChange) error {
	return c.step("drop", func() error { return c.KeyStore.DropKey(ctx, k) })
}

// TestKeyChangeCrash: the process dies at each step, or the directory fails in every
// way. In the end directory, database and repository have the same key.
func TestKeyChangeCrash(t *testing.T) {
	for _, c := range []struct {
		at      string // "" where the process lives
		saved   bool
		mode    mode
		changed bool
	}{
		{"begin", false, obey, false},
		{"begin", true, obey, false},
		{"finish", false, obey, true},
		{"finish", true, obey, true},
		{"drop", false, refuse, false},
		{"drop", true, refuse, false},
		{"", false, fail, false},
		{"", false, takeFail, true},
		{"", false, takeBreak, true},
	} {
		t.Run(fmt.Sprintf("%s, saved %t, directory %d", c.at, c.saved, c.mode), func(t *testing.T) {
			p := newPlace(t)
			a := p.mustCreate("alice")
			p.withRepo()
			p.Repos = p.repos()
			was := a.SigningKey
			p.plc.set(c.mode)
			p.SigningKeys = crashKeys{p.SigningKeys, crash{at: c.at, saved: c.saved}}
			if err := p.ChangeKey(t.Context(), a); err == nil || c.at != "" && !errors.Is(err, errCrash) {
				t.Fatalf("ChangeKey: %v", err)
			}
			p.restart()
			p.Keys = hosting.NewKeys(p.Store, p.Box)
			p.Repos = p.repos()
			p.plc.set(obey)
			p.resumeKeys()
			p.wantKey("after the restart", a, was, c.changed)
			if begun, err := p.SigningKeys.KeyChanges(t.Context()); err != nil || len(begun) != 0 && c.changed {
				t.Errorf("under way: %+v, %v", begun, err)
			}
			now, err := p.Accounts.ByDID(t.Context(), a.DID)
			if err == nil {
				err = p.ChangeKey(t.Context(), now)
			}
			if err != nil {
				t.Errorf("again: %v", err)
			}
			p.wantKey("in the end", a, now.SigningKey, true)
			p.wantNoKeyChange("in the end")
		})
	}
}

// TestKeyChangeLate: if the directory accepts the change long after we gave up, the key
// is still there; after an hour we wait no longer.
func TestKeyChangeLate(t *testing.T) {
	for wait, changed := range map[time.Duration]bool{50 * time.Minute: true, 2 * time.Hour: false} {
		p := newPlace(t)
		a := p.mustCreate("alice")
		p.withRepo()
		p.Repos = p.repos()
		was := a.SigningKey
		p.plc.set(fail)
		if err := p.ChangeKey(t.Context(), a); err == nil {
			t.Fatal("the directory failed, and the key was changed")
		}
		begun, err := p.SigningKeys.KeyChanges(t.Context())
		if err != nil || len(begun) != 1 {
			t.Fatal(begun, err)
		}
		p.advance(wait)
		if err := p.ResumeKeys(t.Context()); err != nil {
			t.Error(err)
		}
		p.plc.set(obey)
		last, err := p.Directory.Last(t.Context(), a.DID)
		if err != nil {
			t.Fatal(err)
		}
		op, err := plc.Amend(last, plc.Data{SigningKey: begun[0].Public}, p.RotationKey)
		if err == nil && changed {
			err = p.Directory.Submit(t.Context(), a.DID, op)
		}
		if err != nil {
			t.Fatal(err)
		}
		p.resumeKeys()
		p.wantKey(wait.String(), a, was, changed)
		p.wantNoKeyChange(wait.String())
	}
}

// TestKeyChangeAgain: a key that may have been submitted is not given up because a second
// try cannot reach the directory, or is refused by it.
func TestKeyChangeAgain(t *testing.T) {
	for _, second := range []mode{refuse, fail, obey} {
		p := newPlace(t)
		a := p.mustCreate("alice")
		p.withRepo()
		p.Repos = p.repos()
		p.plc.set(takeFail)
		if err := p.ChangeKey(t.Context(), a); err == nil {
			t.Fatal("the directory did not answer, and the key was changed")
		}
		begun, err := p.SigningKeys.KeyChanges(t.Context())
		if err != nil || len(begun) != 1 {
			t.Fatal(begun, err)
		}
		p.advance(time.Minute)
		last, err := p.Directory.Last(t.Context(), a.DID)
		if err != nil {
			t.Fatal(err)
		}
		// As if it had not arrived yet: another operation, which names the old key.
		op, err := plc.Amend(last, plc.Data{SigningKey: a.SigningKey}, p.RotationKey)
		if err == nil {
			p.plc.set(obey)
			err = p.Directory.Submit(t.Context(), a.DID, op)
		}
		if err != nil {
			t.Fatal(err)
		}
		p.plc.set(second)
		if err := p.ChangeKey(t.Context(), a); (err == nil) != (second == obey) {
			t.Errorf("directory %d: %v", second, err)
		}
		now, err := p.SigningKeys.KeyChanges(t.Context())
		if second == obey {
			p.wantKey("again", a, a.SigningKey, true)
			p.wantNoKeyChange("again")
		} else if err != nil || len(now) != 1 || now[0].Public != begun[0].Public || now[0].BegunAt.Equal(begun[0].BegunAt) {
			t.Errorf("directory %d: under way %+v, %v", second, now, err)
		}
		// Dropping the change as it was seen before that has no effect.
		if err := p.SigningKeys.DropKey(t.Context(), begun[0]); err != nil {
			t.Error(err)
		}
		if left, err := p.SigningKeys.KeyChanges(t.Context()); err != nil || len(left) != len(now) {
			t.Errorf("directory %d: dropped: %+v, %v", second, left, err)
		}
	}
}

// TestKeyChangeRestart: a change that another process has begun is settled at once.
func TestKeyChangeRestart(t *testing.T) {
	p := newPlace(t)
	a := p.mustCreate("alice")
	p.withRepo()
	p.Repos = p.repos()
	p.SigningKeys = crashKeys{p.SigningKeys, crash{at: "finish"}}
	if err := p.ChangeKey(account.ActingAs(t.Context(), "did:web:somebody.example"), a); !errors.Is(err, errCrash) {
		t.Fatal(err)
	}
	p.restart()
	p.Keys = hosting.NewKeys(p.Store, p.Box)
	p.Repos = p.repos()
	if err := p.ResumeKeys(t.Context()); err != nil {
		t.Error(err)
	}
	p.wantKey("in a new process", a, a.SigningKey, true)
	p.wantNoKeyChange("in a new process")
	actions, err := p.Admin.Audit(t.Context(), admin.AuditFilter{Before: math.MaxInt64, Limit: 10})
	if err != nil || len(actions) != 1 || actions[0].What != string(account.EntryKeyChanged) || actions[0].Who != "did:web:somebody.example" {
		t.Errorf("the audit log: %+v, %v", actions, err)
	}
}

// TestRotateGone: a change whose DID the directory does not know, or knows as ended, is
// given up in the end, which the account's trail says once; not before its owner could
// have undone that.
func TestRotateGone(t *testing.T) {
	for _, status := range []int32{http.StatusNotFound, http.StatusGone, http.StatusBadGateway} {
		p := newPlace(t)
		a := p.mustCreate("alice")
		p.withRepo()
		p.Repos = p.repos()
		p.plc.set(fail)
		if err := p.ChangeKey(t.Context(), a); err == nil {
			t.Fatal("the directory failed, and the key was changed")
		}
		p.plc.says.Store(status)
		gone := status != http.StatusBadGateway
		for _, step := range []struct {
			wait  time.Duration
			begun bool
		}{{0, true}, {71 * time.Hour, true}, {2 * time.Hour, !gone}, {time.Minute, !gone}} {
			p.advance(step.wait)
			failed := p.ResumeKeys(t.Context())
			begun, err := p.SigningKeys.KeyChanges(t.Context())
			if err != nil || (len(begun) == 1) != step.begun || (failed != nil) != step.begun {
				t.Errorf("status %d, after %v: %d changes are under way, %v, %v", status, step.wait, len(begun), failed, err)
			}
		}
		trail, err := p.Accounts.Trail(t.Context(), a.ID, 10)
		entries := 0
		for _, e := range trail {
			if e.Kind == account.EntryKeyGivenUp && e.By == account.ActorServer && strings.Contains(e.Reason, "not registered") {
				entries++
			}
		}
		if err != nil || (entries == 1) != gone || entries > 1 {
			t.Errorf("status %d: the trail %+v, %v", status, trail, err)
		}
		p.plc.says.Store(0)
		p.wantKey("given up", a, a.SigningKey, false)
	}
}
