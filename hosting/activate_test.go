package hosting_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/firehose/event"
	"nestbox/hosting"
	"nestbox/identity"
	"nestbox/mail"
	"nestbox/plc"
	"nestbox/xrpc"
)

// crashAccounts and crashDocuments are the stores that activation writes to; their
// process dies at a step: before the step is done, or after it.
type (
	crashAccounts struct {
		account.Store
		crash
	}
	crashDocuments struct {
		identity.Store
		crash
	}
)

func (c crashAccounts) SetStatus(ctx context.Context, id int64, s account.StatusChange, e account.Entry, mails ...mail.Message) (a *account.Account, err error) {
	err = c.step("status", func() error { a, err = c.Store.SetStatus(ctx, id, s, e, mails...); return err })
	return a, err
}

func (c crashDocuments) SaveSeen(ctx context.Context, of identity.Subject, document []byte, invalid bool, at time.Time) error {
	return c.step("document", func() error { return c.Store.SaveSeen(ctx, of, document, invalid, at) })
}

// TestActivateCrash: the process dies at each step of an activation. Afterwards the
// account is active and was announced once, or it is inactive and was not
// announced; then it can be activated.
func TestActivateCrash(t *testing.T) {
	for _, c := range []struct {
		at     string
		saved  bool
		active bool
	}{
		{"document", false, false},
		{"document", true, false},
		{"status", false, false},
		{"status", true, true},
	} {
		t.Run(fmt.Sprintf("%s, saved %t", c.at, c.saved), func(t *testing.T) {
			p := newPlace(t)
			a := p.mustCreate("alice")
			caller := auth.FullCaller{Access: auth.Access{DID: a.DID}}
			activate := func() error {
				_, err := p.ActivateAccount(t.Context(), caller, xrpc.None{})
				return err
			}
			if _, err := p.Accounts.SetStatus(t.Context(), a.ID, account.StatusChange{Deactivated: new(true)}, account.NewEntry(t.Context(), p.clock(), account.EntryDeactivated, account.ActorOwner)); err != nil {
				t.Fatal(err)
			}
			before := p.told(event.KindAccount, a.DID)
			died := crash{at: c.at, saved: c.saved}
			p.Accounts, p.Documents = crashAccounts{p.Accounts, died}, crashDocuments{p.Documents, died}
			if err := activate(); err == nil {
				t.Fatal("it did not die")
			}
			p.restart()
			look := func(what string, active bool, told int) {
				t.Helper()
				now, err := p.Accounts.ByDID(t.Context(), a.DID)
				if err != nil || (now.Status() == account.Active) != active {
					t.Errorf("%s: %+v, %v", what, now, err)
				}
				if n := p.told(event.KindAccount, a.DID) - before; n != told {
					t.Errorf("%s: %d events of the status, want %d", what, n, told)
				}
			}
			told := 0
			if c.active {
				told = 1
			}
			look("after the restart", c.active, told)
			if err := activate(); err != nil {
				t.Errorf("again: %v", err)
			}
			look("in the end", true, 1)
		})
	}
}

// overtaken lets another change be committed between what was read and what is written.
type overtaken struct {
	identity.Store

	change func()
}

func (o *overtaken) SaveSeen(ctx context.Context, of identity.Subject, document []byte, invalid bool, at time.Time) error {
	o.change()
	return o.Store.SaveSeen(ctx, of, document, invalid, at)
}

func (o *overtaken) Announce(ctx context.Context, of identity.Subject, document []byte, invalid bool, at time.Time) error {
	o.change()
	return o.Store.Announce(ctx, of, document, invalid, at)
}

// TestOvertakenByHandle: a change of the handle that commits while an account is
// activated, or its identity repaired, stays: the handle is not thought invalid for what
// was found of the one before it.
func TestOvertakenByHandle(t *testing.T) {
	for what, act := range map[string]func(p *place, a *account.Account) error{
		"activate": func(p *place, a *account.Account) error {
			_, err := p.ActivateAccount(t.Context(), auth.FullCaller{Access: auth.Access{DID: a.DID}}, xrpc.None{})
			return err
		},
		"repair": func(p *place, a *account.Account) error {
			_, err := p.RepairIdentity(t.Context(), a, false)
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			p := newPlace(t)
			a := p.mustCreate("alice")
			store := p.Documents
			p.Documents = &overtaken{store, func() {
				begun := hosting.HandleChange{AccountID: a.ID, DID: a.DID, Handle: "other.test", By: account.ActorOwner, BegunAt: p.clock()}
				document, err := plc.DocumentOf(a.DID, plc.Data{SigningKey: a.SigningKey, Handle: "other.test", PDS: p.URL})
				err = errors.Join(err, p.Handles.BeginHandle(t.Context(), begun))
				err = errors.Join(err, p.Handles.FinishHandle(t.Context(), a.ID, "other.test", document, account.Entry{At: p.clock(), Kind: account.EntryHandleChanged}))
				if err != nil {
					t.Error(err)
				}
			}}
			if err := act(p, a); err != nil {
				t.Errorf("%v", err)
			}
			now, err := p.Accounts.ByDID(t.Context(), a.DID)
			if err != nil || now.Handle != "other.test" || now.HandleInvalid {
				t.Errorf("%+v, %v", now, err)
			}
			if d, err := identity.ParseDocument(a.DID, now.Document); err != nil || d.Handle() != "other.test" {
				t.Errorf("the stored document: %s, %v", now.Document, err)
			}
			if due, err := store.Due(t.Context(), p.clock(), 10); err != nil || len(due) != 1 {
				t.Errorf("due for a check: %v, %v", due, err)
			}
		})
	}
}
