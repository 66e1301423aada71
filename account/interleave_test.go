package account_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/admin"
	"nestbox/auth"
	"nestbox/hosting"
	"nestbox/mail"
	"nestbox/store/storetest"
	"nestbox/xrpc"
)

const (
	meetingDID  = syntax.DID("did:plc:meeting")
	meetingCode = "ABCDE-23456"
)

// meeting is an account whose address two changes want to change at the same time.
type meeting struct {
	*account.Emails

	t  *testing.T
	db *storetest.Database
	id int64
}

func (m *meeting) clock() time.Time { return time.UnixMilli(2000) }

func newMeeting(t *testing.T, before func()) *meeting {
	t.Helper()
	m := &meeting{t: t, db: storetest.Open(t, storetest.Options{Before: before})}
	m.Emails = &account.Emails{
		Store: m.db.Accounts, Codes: &account.Codes{Store: m.db.Codes, Key: make([]byte, 32), Now: m.clock}, Now: m.clock,
	}
	a, err := storetest.AddAccount(t.Context(), m.db.Stores, hosting.Pending{DID: meetingDID, Handle: "alice.test", Email: "a@example.com", CreatedAt: m.clock()})
	if err != nil {
		t.Fatal(err)
	}
	m.id = a.ID
	return m
}

// code makes meetingCode the account's code for a purpose.
func (m *meeting) code(p account.Purpose) account.Proof {
	m.t.Helper()
	h := hmac.New(sha256.New, m.Codes.Key)
	h.Write([]byte(p))
	h.Write([]byte{0})
	h.Write([]byte(meetingCode))
	c := account.Code{Purpose: p, Hash: h.Sum(nil), MadeAt: m.clock(), Expires: m.clock().Add(time.Hour)}
	if err := m.db.Codes.SetCode(m.t.Context(), m.id, c, mail.Message{To: "a@example.com", Subject: "code"}); err != nil {
		m.t.Fatal(err)
	}
	return account.Proof{AccountID: m.id, Purpose: p, Hash: c.Hash}
}

// confirmed confirms the address, and turns codes at sign-in on or off.
func (m *meeting) confirmed(factor bool) *meeting {
	m.t.Helper()
	err := m.db.Accounts.ConfirmEmail(m.t.Context(), m.code(account.PurposeConfirmEmail), account.Entry{At: m.clock(), Kind: account.EntryEmailConfirmed})
	if err == nil && factor {
		err = m.db.Accounts.SetEmail(m.t.Context(), m.id, account.EmailChange{Factor: new(true)}, account.Entry{At: m.clock(), Kind: account.EntryFactorOn})
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return m
}

func (m *meeting) update(in account.UpdateEmailInput) func() string {
	return func() string {
		_, err := m.Update(m.t.Context(), auth.FullCaller{Access: auth.Access{DID: meetingDID}}, in)
		return answerName(err)
	}
}

// codesOff is `nestbox account codes`.
func (m *meeting) codesOff() string {
	s := &admin.Service{Store: m.db.Admin, Accounts: m.db.Accounts, Now: m.clock}
	_, err := s.Commands()[string(admin.CmdAccountCodes)](m.t.Context(), fmt.Appendf(nil, `{"account":%q,"on":false}`, meetingDID))
	return answerName(err)
}

func (m *meeting) state() string {
	a, err := m.db.Accounts.ByDID(m.t.Context(), meetingDID)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s, confirmed %t, codes %t", a.Email, !a.EmailConfirmedAt.IsZero(), a.EmailFactor)
}

// answerName is the name of an error as a client sees it, "" for success.
func answerName(err error) string {
	if e, ok := errors.AsType[*xrpc.Error](err); ok {
		return e.Name
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// TestEmailChangesMeet: two changes of one account's address or sign-in codes at the same
// time end as one after the other.
func TestEmailChangesMeet(t *testing.T) {
	t.Parallel()
	for name, build := range map[string]func(m *meeting) (one, other func() string){
		"two addresses, one code": func(m *meeting) (one, other func() string) {
			m.confirmed(false).code(account.PurposeUpdateEmail)
			return m.update(account.UpdateEmailInput{Email: "b@example.com", Token: meetingCode}), m.update(account.UpdateEmailInput{Email: "c@example.com", Token: meetingCode})
		},
		"another address, and codes on for the old one": func(m *meeting) (one, other func() string) {
			m.confirmed(false).code(account.PurposeUpdateEmail)
			return m.update(account.UpdateEmailInput{Email: "b@example.com", Token: meetingCode}), m.update(account.UpdateEmailInput{Email: "a@example.com", EmailAuthFactor: new(true)})
		},
		"another address, and codes off by the operator": func(m *meeting) (one, other func() string) {
			m.confirmed(true).code(account.PurposeUpdateEmail)
			return m.update(account.UpdateEmailInput{Email: "b@example.com", Token: meetingCode}), m.codesOff
		},
		"codes on, and off by the operator": func(m *meeting) (one, other func() string) {
			m.confirmed(false)
			return m.update(account.UpdateEmailInput{Email: "a@example.com", EmailAuthFactor: new(true)}), m.codesOff
		},
		"two addresses, unconfirmed": func(m *meeting) (one, other func() string) {
			return m.update(account.UpdateEmailInput{Email: "b@example.com"}), m.update(account.UpdateEmailInput{Email: "c@example.com"})
		},
		"another address, and the confirmation of the old one": func(m *meeting) (one, other func() string) {
			m.code(account.PurposeConfirmEmail)
			confirm := func() string {
				_, err := m.Confirm(m.t.Context(), auth.StandardCaller{Access: auth.Access{DID: meetingDID}}, account.ConfirmEmailInput{Email: "a@example.com", Token: meetingCode})
				if err != nil {
					return "refused" // as InvalidEmail, or because the code ended with the address
				}
				return ""
			}
			return m.update(account.UpdateEmailInput{Email: "b@example.com"}), confirm
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Interleave(t, func(t *testing.T, before func()) storetest.Changes {
				m := newMeeting(t, before)
				one, other := build(m)
				return storetest.Changes{One: one, Other: other, State: m.state}
			})
		})
	}
}

// TestAppPasswordsMeet: of two app passwords with one name one is made, and one that is
// revoked while another change of it is under way is gone.
func TestAppPasswordsMeet(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ one, other string }{
		"the same name twice":    {"create", "create"},
		"made and revoked":       {"create", "revoke"},
		"revoked twice":          {"revoke", "revoke"},
		"revoked and taken down": {"revoke", "takedown"},
		"made while it leaves":   {"create", "leave"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Interleave(t, func(t *testing.T, before func()) storetest.Changes {
				m := newMeeting(t, before)
				s := &account.AppPasswords{Store: m.db.Accounts, Now: m.clock}
				owner := auth.Access{DID: meetingDID, Scope: auth.ScopeAccess}
				create := func() string {
					_, err := s.Create(t.Context(), auth.FullCaller{Access: owner}, account.CreateAppPasswordInput{Name: "phone"})
					return answerName(err)
				}
				if c.one == "revoke" {
					if got := create(); got != "" {
						t.Fatal(got)
					}
				}
				changes := map[string]func() string{
					"create": create,
					"revoke": func() string {
						_, err := s.Revoke(t.Context(), auth.StandardCaller{Access: owner}, account.RevokeAppPasswordInput{Name: "phone"})
						return answerName(err)
					},
					"takedown": func() string {
						down := account.StatusChange{Takedown: &account.Applied{Applied: true}}
						_, err := m.db.Accounts.SetStatus(t.Context(), m.id, down, account.Entry{At: m.clock(), Kind: account.EntryTakedown})
						return answerName(err)
					},
					"leave": func() string { return answerName(storetest.Leave(t.Context(), m.db.Stores, m.id, m.clock())) },
				}
				return storetest.Changes{One: changes[c.one], Other: changes[c.other], State: func() string {
					held, err := m.db.Accounts.Credentials(t.Context(), m.id)
					var names []string
					for _, p := range held.AppPasswords {
						names = append(names, p.Name)
					}
					return fmt.Sprintf("%q, taken down %t, %v", names, held.TakenDown, err)
				}}
			})
		})
	}
}

// TestStatusesMeet: a moderator's measure and what the owner does with the account at the
// same time end as one after the other.
func TestStatusesMeet(t *testing.T) {
	t.Parallel()
	for name, other := range map[string]account.StatusChange{
		"deactivated": {Deactivated: new(true)},
		"activated":   {Deactivated: new(false)},
		"suspended":   {Suspended: new(true)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Interleave(t, func(t *testing.T, before func()) storetest.Changes {
				m := newMeeting(t, before)
				set := func(c account.StatusChange, kind account.EntryKind) func() string {
					return func() string {
						_, err := m.db.Accounts.SetStatus(t.Context(), m.id, c, account.Entry{At: m.clock(), Kind: kind})
						return answerName(err)
					}
				}
				down := account.StatusChange{Takedown: &account.Applied{Applied: true, Ref: "ref"}}
				return storetest.Changes{One: set(down, account.EntryTakedown), Other: set(other, account.EntryDeactivated), State: func() string {
					a, err := m.db.Accounts.ByDID(t.Context(), meetingDID)
					if err != nil {
						return err.Error()
					}
					return fmt.Sprintf("%q, deactivated %t, suspended %t, ref %q", a.Status(), !a.DeactivatedAt.IsZero(), !a.SuspendedAt.IsZero(), a.TakedownRef)
				}}
			})
		})
	}
}
