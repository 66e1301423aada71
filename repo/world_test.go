package repo_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"github.com/bluesky-social/indigo/atproto/atcrypto"
	indigo "github.com/bluesky-social/indigo/atproto/repo"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/ipfs/go-cid"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/dagcbor"
	"nestbox/firehose"
	"nestbox/firehose/event"
	"nestbox/hosting"
	"nestbox/lexicon"
	"nestbox/repo"
	"nestbox/repo/mst"
	"nestbox/store/storetest"
	"nestbox/xrpc"
)

// ring holds each account's signing key.
type ring map[int64]atcrypto.PrivateKey

func (r ring) SigningKey(_ context.Context, id int64) (atcrypto.PrivateKey, error) {
	if key, ok := r[id]; ok {
		return key, nil
	}
	return nil, fmt.Errorf("account %d has no key", id)
}

// directory finds accounts in the real store.
type directory struct{ account.Store }

func (d directory) Find(ctx context.Context, name syntax.AtIdentifier) (repo.Account, error) {
	a, err := account.Find(ctx, d.Store, name.Normalize().String())
	if errors.Is(err, account.ErrNotFound) {
		return repo.Account{}, repo.ErrNoRepo
	}
	if err != nil {
		return repo.Account{}, err
	}
	return repo.Account{
		ID: a.ID, DID: a.DID, Handle: a.Handle, HandleOK: !a.HandleInvalid, Document: a.Document, Status: string(a.Status()),
	}, nil
}

// world is a Service over the real store. Each reading of its clock moves it by a
// microsecond.
type world struct {
	*repo.Service
	*storetest.World

	t     testing.TB
	keys  ring
	clock *storetest.Clock // World.Clock
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldBefore(t, nil)
}

// newWorldBefore is newWorld for storetest.Interleave.
func newWorldBefore(t testing.TB, before func()) *world {
	t.Helper()
	w := &world{t: t, World: storetest.NewWorld(t, storetest.Options{Before: before}), keys: ring{}}
	w.clock, w.World.Clock.Tick = w.World.Clock, time.Microsecond
	w.Service = &repo.Service{
		Store: w.Repos, Accounts: directory{w.World.Accounts}, Keys: w.keys, Lexicons: lexicon.Known(),
		Now: w.clock.Now, ClockID: 7, Log: slog.New(slog.DiscardHandler),
	}
	return w
}

// person is an account and what its client knows.
type person struct {
	w      *world
	id     int64
	did    syntax.DID
	caller auth.Scoped[auth.StandardCaller]
	public atcrypto.PublicKey
}

// stranger makes an account without a repository.
func (w *world) stranger(name string) *person {
	w.t.Helper()
	key, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		w.t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		w.t.Fatal(err)
	}
	a := w.Account(hosting.Pending{Handle: syntax.Handle(name + ".test"), SigningKey: public.DIDKey()})
	w.keys[a.ID] = key
	return &person{w, a.ID, a.DID, auth.NewScoped(auth.StandardCaller{Access: auth.Access{DID: a.DID}}), public}
}

// person makes an account with its empty repository.
func (w *world) person(name string) *person {
	w.t.Helper()
	p := w.stranger(name)
	if err := w.Backfill(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// head returns the repository's head.
func (p *person) head() (h repo.Head) {
	p.w.t.Helper()
	if err := p.w.Store.View(p.w.t.Context(), p.id, func(v repo.View) error { h = v.Head(); return nil }); err != nil {
		p.w.t.Fatal(err)
	}
	return h
}

// status changes the account's status.
func (p *person) status(c account.StatusChange) {
	p.w.t.Helper()
	e := account.NewEntry(p.w.t.Context(), p.w.Now(), account.EntryDeactivated, account.ActorOwner)
	if _, err := p.w.World.Accounts.SetStatus(p.w.t.Context(), p.id, c, e); err != nil {
		p.w.t.Fatal(err)
	}
}

func (p *person) create(collection string, rkey *string, record string) (repo.RecordOutput, error) {
	return p.w.CreateRecord(p.w.t.Context(), p.caller, repo.CreateRecordInput{
		Repo: p.did.String(), Collection: collection, RKey: rkey, Record: jsontext.Value(record),
	})
}

func (p *person) mustCreate(collection string, rkey *string, record string) repo.RecordOutput {
	p.w.t.Helper()
	out, err := p.create(collection, rkey, record)
	if err != nil {
		p.w.t.Fatal(err)
	}
	return out
}

func (p *person) put(collection, rkey, record string) (repo.RecordOutput, error) {
	return p.w.PutRecord(p.w.t.Context(), p.caller, repo.PutRecordInput{
		Repo: p.did.String(), Collection: collection, RKey: rkey, Record: jsontext.Value(record),
	})
}

func (p *person) remove(collection, rkey string) (repo.DeleteRecordOutput, error) {
	return p.w.DeleteRecord(p.w.t.Context(), p.caller, repo.DeleteRecordInput{Repo: p.did.String(), Collection: collection, RKey: rkey})
}

// step returns one of applyWrites' writes.
func step(do, collection, rkey, value string) jsontext.Value {
	m := map[string]any{"$type": "com.atproto.repo.applyWrites#" + do, "collection": collection}
	if rkey != "" {
		m["rkey"] = rkey
	}
	if value != "" {
		m["value"] = json.RawMessage(value)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return raw
}

func (p *person) apply(steps ...jsontext.Value) (repo.ApplyWritesOutput, error) {
	return p.w.ApplyWrites(p.w.t.Context(), p.caller, repo.ApplyWritesInput{Repo: p.did.String(), Writes: steps})
}

// wantError fails the test unless a client gets err with that status, name and
// message.
func wantError(t testing.TB, what string, err error, status int, name, message string) {
	t.Helper()
	var e *xrpc.Error
	if !errors.As(err, &e) {
		t.Errorf("%s: %v, want %d %s: %s", what, err, status, name, message)
		return
	}
	if e.Status != status || e.Name != name || e.Message != message {
		t.Errorf("%s:\n got %d %s: %s\nwant %d %s: %s", what, e.Status, e.Name, e.Message, status, name, message)
	}
}

// events returns the events of the log after a number.
func (w *world) events(after int64) []firehose.Logged {
	w.t.Helper()
	all, err := w.World.Log.Read(w.t.Context(), after, 100_000, 1<<30)
	if err != nil {
		w.t.Fatal(err)
	}
	return all
}

// commitMessage returns an event as indigo reads it off the wire.
func commitMessage(t testing.TB, e firehose.Logged) *comatproto.SyncSubscribeRepos_Commit {
	t.Helper()
	header, err := dagcbor.Encode(map[string]any{"op": int64(1), "t": string(event.KindCommit)})
	if err != nil {
		t.Fatal(err)
	}
	body, ok := bytes.CutPrefix(e.Frame(e.Seq), header)
	if !ok {
		t.Fatalf("event %d is a %s", e.Seq, e.Kind)
	}
	msg := &comatproto.SyncSubscribeRepos_Commit{}
	if err := msg.UnmarshalCBOR(bytes.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	return msg
}

// verify verifies a commit event with indigo: the signature, and that undoing the
// operations on the covering proof leads to the old tree.
func (p *person) verify(msg *comatproto.SyncSubscribeRepos_Commit) (commit *indigo.Commit) {
	p.w.t.Helper()
	if _, err := indigo.VerifyCommitMessage(p.w.t.Context(), msg); err != nil {
		p.w.t.Fatalf("event %d: %v", msg.Seq, err)
	}
	commit, root, err := indigo.LoadCommitFromCAR(p.w.t.Context(), bytes.NewReader(msg.Blocks))
	if err != nil {
		p.w.t.Fatal(err)
	}
	if err := errors.Join(commit.VerifyStructure(), commit.VerifySignature(p.public)); err != nil {
		p.w.t.Fatalf("event %d: %v", msg.Seq, err)
	}
	if root.String() != msg.Commit.String() || commit.Rev != msg.Rev || msg.Repo != p.did.String() {
		p.w.t.Fatalf("event %d says %s %s of %s, its commit is %s %s", msg.Seq, msg.Commit, msg.Rev, msg.Repo, root, commit.Rev)
	}
	return commit
}

// verifyChain verifies with indigo every event of the account after a number, and
// that each goes on where the previous one ended, up to the head. It returns how many
// there were.
func (p *person) verifyChain(after int64) int {
	p.w.t.Helper()
	var last *comatproto.SyncSubscribeRepos_Commit
	var data string
	n := 0
	for _, e := range p.w.events(after) {
		if e.DID != p.did || e.Kind != event.KindCommit {
			continue
		}
		n++
		msg := commitMessage(p.w.t, e)
		commit := p.verify(msg)
		if last != nil {
			switch {
			case msg.Since == nil || *msg.Since != last.Rev:
				p.w.t.Fatalf("event %d is since %v, the one before is %s", e.Seq, msg.Since, last.Rev)
			case msg.Rev <= last.Rev:
				p.w.t.Fatalf("event %d: revision %s after %s", e.Seq, msg.Rev, last.Rev)
			case msg.PrevData == nil || msg.PrevData.String() != data:
				p.w.t.Fatalf("event %d: prevData %v, the tree before is %s", e.Seq, msg.PrevData, data)
			}
		}
		last, data = msg, commit.Data.String()
	}
	if h := p.head(); last != nil && (h.CID.String() != last.Commit.String() || h.Root.CID.String() != data || h.Rev.String() != last.Rev) {
		p.w.t.Fatalf("the repository is at %s %s, the last event says %s %s", h.CID, h.Rev, last.Commit, last.Rev)
	}
	return n
}

// records returns all records of the repository, by key. It checks them against the
// tree: a tree built from them has the same root.
func (p *person) records() map[string]cid.Cid {
	p.w.t.Helper()
	got := map[string]cid.Cid{}
	err := p.w.Store.View(p.w.t.Context(), p.id, func(v repo.View) error {
		b := mst.Builder{Emit: func(mst.Changed) error { return nil }}
		err := v.EachRecord("", func(r repo.Record) error {
			if id := dagcbor.CID(r.Block); !id.Equals(r.CID) {
				return fmt.Errorf("%s is %s, its block %s", r.Key, r.CID, id)
			}
			got[r.Key] = r.CID
			return b.Add(r.Key, r.CID)
		})
		if err != nil {
			return err
		}
		root, err := b.Finish()
		if err != nil {
			return err
		}
		if h := v.Head(); !root.CID.Equals(h.Root.CID) || h.Records != int64(len(got)) {
			return fmt.Errorf("the tree is %s with %d records, that of the records %s with %d", h.Root.CID, h.Records, root.CID, len(got))
		}
		return nil
	})
	if err != nil {
		p.w.t.Fatal(err)
	}
	return got
}

// values returns raw writes as a list.
func values(list ...jsontext.Value) []jsontext.Value { return list }

// eventOf returns the last event of an account.
func (w *world) eventOf(did syntax.DID) (last firehose.Logged) {
	w.t.Helper()
	for _, e := range w.events(0) {
		if e.DID == did {
			last = e
		}
	}
	return last
}
