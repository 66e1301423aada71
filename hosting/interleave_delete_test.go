package hosting_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/hosting"
	"nestbox/mail"
	"nestbox/ratelimit"
	"nestbox/store/storetest"
	"nestbox/xrpc"
)

const (
	meetingPassword = "correct-horse-battery"
	meetingCode     = "ABCDE-23456"
)

// code makes meetingCode the account's code for a purpose.
func (p *place) code(a *account.Account, purpose account.Purpose) {
	p.t.Helper()
	h := hmac.New(sha256.New, p.Codes.Key)
	h.Write([]byte(string(purpose) + "\x00" + meetingCode))
	c := account.Code{Purpose: purpose, Hash: h.Sum(nil), MadeAt: p.clock(), Expires: p.clock().Add(time.Hour)}
	if err := p.Codes.Store.SetCode(p.t.Context(), a.ID, c, mail.Message{To: a.Email, Subject: "code"}); err != nil {
		p.t.Fatal(err)
	}
}

// withCodes gives the services of a place codes and their mails.
func (p *place) withCodes() *place {
	p.Codes = &account.Codes{Store: p.World.Codes, Templates: &mail.Templates{Hostname: "localhost"}, Key: make([]byte, 32), Now: p.clock}
	p.SignIns.Codes, p.SignIns.Noted = p.Codes, ratelimit.New(1000, p.clock)
	return p
}

// status is a change of an account's status, by the operator.
func (p *place) status(a *account.Account, c account.StatusChange) func() string {
	return func() string {
		_, err := p.Accounts.SetStatus(p.t.Context(), a.ID, c, account.Entry{At: p.clock(), Kind: account.EntryTakedown, By: account.ActorAdmin})
		return answer(err)
	}
}

// TestDeletionMeets: an account is deleted only by a password, a code and a status that
// hold when it is deleted, whatever changes while they are checked.
func TestDeletionMeets(t *testing.T) {
	t.Parallel()
	hasher := account.NewHasher(2)
	hash, err := hasher.Hash(t.Context(), meetingPassword)
	if err != nil {
		t.Fatal(err)
	}
	another, err := hasher.Hash(t.Context(), "another-horse-battery")
	if err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string]func(p *place, a *account.Account) func() string{
		"another deletion": func(p *place, a *account.Account) func() string { return p.remove(a) },
		"another password": func(p *place, a *account.Account) func() string {
			return func() string {
				return answer(p.Accounts.SetPassword(p.t.Context(), a.ID, another, 0, account.Entry{At: p.clock(), Kind: account.EntryPasswordChanged}))
			}
		},
		"a new code": func(p *place, a *account.Account) func() string {
			return func() string {
				s := &account.Emails{Store: p.Accounts, Codes: p.Codes, Now: p.clock}
				_, err := s.RequestAccountDelete(p.t.Context(), auth.FullCaller{Access: auth.Access{DID: a.DID}}, xrpc.None{})
				return answer(err)
			}
		},
		"another address": func(p *place, a *account.Account) func() string {
			return func() string {
				return answer(p.Accounts.SetEmail(p.t.Context(), a.ID, account.EmailChange{Email: "b@example.com"}, account.Entry{At: p.clock(), Kind: account.EntryEmailChanged}))
			}
		},
		"a takedown": func(p *place, a *account.Account) func() string {
			return p.status(a, account.StatusChange{Takedown: &account.Applied{Applied: true}})
		},
		"a suspension": func(p *place, a *account.Account) func() string {
			return p.status(a, account.StatusChange{Suspended: new(true)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Interleave(t, func(t *testing.T, before func()) storetest.Changes {
				p := newPlaceBefore(t, before).withCodes()
				a := p.Account(hosting.Pending{Handle: "alice.test", Email: "alice@example.com", PasswordHash: hash})
				p.code(a, account.PurposeDeleteAccount)
				return storetest.Changes{One: p.remove(a), Other: other(p, a), State: func() string {
					now, err := p.Accounts.ByDID(t.Context(), a.DID)
					if errors.Is(err, account.ErrNotFound) {
						return "deleted"
					}
					if err != nil {
						return err.Error()
					}
					return fmt.Sprintf("%s, status %q", now.Email, now.Status())
				}}
			})
		})
	}
}

// remove is deleteAccount by the account's first password and code.
func (p *place) remove(a *account.Account) func() string {
	return func() string {
		_, err := p.DeleteAccount(p.t.Context(), auth.Anyone{}, hosting.DeleteAccountInput{DID: a.DID.String(), Password: meetingPassword, Token: meetingCode})
		return answer(err)
	}
}
