package hosting_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/hosting"
	"nestbox/store/storetest"
)

const meetingInvite = "localhost-abcde-fghij"

// invitedBy makes an account whose code admits one.
func (p *place) invitedBy(handle string) *account.Account {
	p.t.Helper()
	p.InviteRequired, p.Repos = true, p.repos()
	owner := p.Account(hosting.Pending{Handle: syntax.Handle(handle + ".test")})
	c := account.InviteCode{Code: meetingInvite, Available: 1, ForAccount: owner.DID.String(), CreatedBy: account.InvitesByAdmin, CreatedAt: p.clock()}
	if err := p.Accounts.AddInviteCodes(p.t.Context(), []account.InviteCode{c}); err != nil {
		p.t.Fatal(err)
	}
	return owner
}

// TestInviteUsesMeet: of two sign-ups with one code for one the code admits one.
func TestInviteUsesMeet(t *testing.T) {
	t.Parallel()
	storetest.Interleave(t, func(t *testing.T, before func()) storetest.Changes {
		p := newPlaceBefore(t, before)
		p.invitedBy("owner")
		use := func(handle string) func() string {
			return func() string {
				_, err := p.create(handle, meetingInvite)
				return answer(err)
			}
		}
		return storetest.Changes{One: use("alice"), Other: use("bob"), State: func() string {
			return fmt.Sprintf("alice %t, bob %t, %d uses", p.exists("alice"), p.exists("bob"), len(p.invited(meetingInvite)))
		}}
	})
}

// TestInviteEndsMeanwhile: a code that is disabled, or whose owner is taken down, after a
// sign-up with it has begun, does not admit it.
func TestInviteEndsMeanwhile(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		other func(p *place, owner *account.Account) error
		want  error
	}{
		"the code is disabled": {func(p *place, _ *account.Account) error {
			_, err := p.Accounts.DisableInviteCodes(p.t.Context(), []string{meetingInvite}, nil)
			return err
		}, account.ErrInviteUsed},
		"its owner's codes are disabled": {func(p *place, owner *account.Account) error {
			_, err := p.Accounts.DisableInviteCodes(p.t.Context(), nil, []string{owner.DID.String()})
			return err
		}, account.ErrInviteUsed},
		"its owner is taken down": {func(p *place, owner *account.Account) error {
			_, err := p.Accounts.SetStatus(p.t.Context(), owner.ID, account.StatusChange{Takedown: &account.Applied{Applied: true}}, account.Entry{At: p.clock(), Kind: account.EntryTakedown})
			return err
		}, account.ErrInviteUsed},
		"its owner is taken down and deleted": {func(p *place, owner *account.Account) error {
			_, err := p.Accounts.SetStatus(p.t.Context(), owner.ID, account.StatusChange{Takedown: &account.Applied{Applied: true}}, account.Entry{At: p.clock(), Kind: account.EntryTakedown})
			return errors.Join(err, p.Accounts.Delete(p.t.Context(), owner.ID, p.clock()))
		}, account.ErrInviteUsed},
		"its owner is deleted": {func(p *place, owner *account.Account) error {
			return p.Accounts.Delete(p.t.Context(), owner.ID, p.clock())
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var meanwhile func()
			p := newPlaceBefore(t, func() {
				if do := meanwhile; do != nil {
					meanwhile = nil
					do()
				}
			})
			owner := p.invitedBy("owner")
			meanwhile = func() {
				if err := c.other(p, owner); err != nil {
					t.Error(err)
				}
			}
			if _, err := p.create("alice", meetingInvite); !errors.Is(err, c.want) || p.exists("alice") != (c.want == nil) {
				t.Errorf("%v, made %t", err, p.exists("alice"))
			}
			if meanwhile != nil {
				t.Error("nothing came in between")
			}
			want := 0
			if c.want == nil {
				want = 1
			}
			if used := len(p.invited(meetingInvite)); used != want {
				t.Errorf("%d uses, want %d", used, want)
			}
		})
	}
}

// TestInvitesEarnedMeet: an account that asks twice at once does not earn its codes twice.
func TestInvitesEarnedMeet(t *testing.T) {
	t.Parallel()
	storetest.Interleave(t, func(t *testing.T, before func()) storetest.Changes {
		p := newPlaceBefore(t, before)
		a := p.Account(hosting.Pending{Handle: "owner.test"})
		p.advance(3 * time.Hour)
		s := &account.Invites{Store: p.Accounts, Required: true, Interval: time.Hour, Hostname: "localhost", Now: p.clock}
		earn := func() string {
			out, err := s.Own(t.Context(), auth.FullCaller{Access: auth.Access{DID: a.DID}}, account.GetAccountInviteCodesParams{})
			return fmt.Sprint(len(out.Codes), answer(err))
		}
		return storetest.Changes{One: earn, Other: earn, State: func() string {
			codes, err := p.Accounts.InviteCodesFor(t.Context(), a.DID)
			return fmt.Sprintf("%d codes, %v", len(codes), err)
		}}
	})
}

// TestDueMeets: the deletion that an owner wished for and a change that calls it off, or
// holds the account, end as one after the other.
func TestDueMeets(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]account.StatusChange{
		"activated":  {Deactivated: new(false)},
		"later":      {Deactivated: new(true), DeleteAfter: new(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))},
		"taken down": {Takedown: &account.Applied{Applied: true}},
		"suspended":  {Suspended: new(true)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Interleave(t, func(t *testing.T, before func()) storetest.Changes {
				p := newPlaceBefore(t, before)
				a := p.Account(hosting.Pending{Handle: "alice.test"})
				if got := p.status(a, account.StatusChange{Deactivated: new(true), DeleteAfter: new(p.clock())})(); got != "" {
					t.Fatal(got)
				}
				return storetest.Changes{
					One:   func() string { return answer(p.DeleteDue(t.Context())) },
					Other: p.status(a, c),
					State: func() string {
						now, err := p.Accounts.ByDID(t.Context(), a.DID)
						if errors.Is(err, account.ErrNotFound) {
							return "deleted"
						}
						return strings.TrimSpace(fmt.Sprintf("status %q, %v", now.Status(), err))
					},
				}
			})
		})
	}
}
