package storetest

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/mail"
	"nestbox/store"
)

// World is what a test of a domain begins with: a database, and a clock that the test
// sets.
type World struct {
	*Database

	Clock *Clock
}

// NewWorld makes a World on the database that Open opens.
func NewWorld(t Tester, opts ...Options) *World {
	t.Helper()
	return &World{Database: Open(t, opts...), Clock: NewClock(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))}
}

// Account is AddAccount at the world's time; an error ends the test.
func (w *World) Account(p hosting.Pending) *account.Account {
	w.t.Helper()
	p.CreatedAt = w.Clock.Now()
	a, err := AddAccount(w.t.Context(), w.Stores, p)
	if err != nil {
		w.t.Fatalf("make account %s: %v", p.Handle, err)
	}
	return a
}

// AddAccount makes an active account as a sign-up at p.CreatedAt does. What else p lacks,
// except its handle, is filled in.
func AddAccount(ctx context.Context, s store.Stores, p hosting.Pending) (*account.Account, error) {
	name, _, _ := strings.Cut(p.Handle.String(), ".")
	if p.DID == "" {
		p.DID = syntax.DID("did:plc:" + name)
	}
	if p.Email == "" {
		p.Email = name + "@example.com"
	}
	if p.PasswordHash == "" {
		p.PasswordHash = "none"
	}
	if p.SigningKey == "" {
		p.SigningKey = "did:key:z"
	}
	if p.SigningKeySealed == nil {
		p.SigningKeySealed = []byte("sealed")
	}
	id, err := s.Hosting.Reserve(ctx, p)
	if err != nil {
		return nil, err
	}
	document := []byte(`{"id":"` + p.DID.String() + `"}`)
	return s.Hosting.Activate(ctx, id, document, nil, account.NewEntry(ctx, p.CreatedAt, account.EntrySignUp, account.ActorOwner))
}

// Leave deletes an account as its owner does, with a password and a code that hold.
func Leave(ctx context.Context, s store.Stores, id int64, at time.Time) error {
	cred, err := s.Accounts.Credentials(ctx, id)
	if err != nil {
		return err
	}
	code := account.Code{Purpose: account.PurposeDeleteAccount, Hash: []byte("code"), MadeAt: at, Expires: at.Add(account.CodeLife)}
	if err := s.Codes.SetCode(ctx, id, code, mail.Message{To: "owner@example.com", Subject: "code"}); err != nil {
		return err
	}
	l := account.Leaving{Epoch: cred.Epoch, Code: account.Proof{AccountID: id, Purpose: code.Purpose, Hash: code.Hash}}
	return s.Accounts.Leave(ctx, id, l, at)
}

// noMails tells nobody that an account is deleted.
func noMails(*account.Account) []mail.Message { return nil }

// Clock is a clock that a test sets. Each reading moves it by Tick.
type Clock struct {
	Tick time.Duration

	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that stands.
func NewClock(now time.Time) *Clock { return &Clock{now: now} }

// Now returns the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(c.Tick)
	return c.now
}

// Set sets the time.
func (c *Clock) Set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

// Advance lets time pass.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
