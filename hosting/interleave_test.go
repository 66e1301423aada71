package hosting_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/hosting"
	"nestbox/identity"
	"nestbox/store/storetest"
	"nestbox/xrpc"
)

// answer is the name of an error as a client sees it, "" for success.
func answer(err error) string {
	if e, ok := errors.AsType[*xrpc.Error](err); ok {
		return e.Name
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

// again makes a change as a client does that tries again while another one is under way.
func again(t *testing.T, change func() error) func() string {
	t.Helper()
	return func() string {
		for {
			err := change()
			if !errors.Is(err, account.ErrStatusConflict) && (err == nil || !strings.Contains(err.Error(), "being changed already")) {
				return answer(err)
			}
			select {
			case <-t.Context().Done():
				return "never free"
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

// identityState describes an account, its handle and its document.
func (p *place) identityState(a *account.Account) string {
	now, err := p.Accounts.ByDID(p.t.Context(), a.DID)
	if err != nil {
		return err.Error()
	}
	d, err := identity.ParseDocument(a.DID, now.Document)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s, invalid %t, the document names %s, status %q", now.Handle, now.HandleInvalid, d.Handle(), now.Status())
}

// TestIdentityChangesMeet: a change of the handle and another change that stores what the
// network says of the account end as one after the other.
func TestIdentityChangesMeet(t *testing.T) {
	t.Parallel()
	for name, build := range map[string]func(t *testing.T, p *place, a *account.Account) func() string{
		"activateAccount": func(t *testing.T, p *place, a *account.Account) func() string {
			t.Helper()
			off := account.Entry{At: p.clock(), Kind: account.EntryDeactivated}
			if _, err := p.Accounts.SetStatus(t.Context(), a.ID, account.StatusChange{Deactivated: new(true)}, off); err != nil {
				t.Fatal(err)
			}
			return func() string {
				_, err := p.ActivateAccount(t.Context(), auth.FullCaller{Access: auth.Access{DID: a.DID}}, xrpc.None{})
				return answer(err)
			}
		},
		"deactivateAccount": func(t *testing.T, p *place, a *account.Account) func() string {
			t.Helper()
			return func() string {
				_, err := p.DeactivateAccount(t.Context(), auth.FullOrTakenDownCaller{Access: auth.Access{DID: a.DID}}, hosting.DeactivateAccountInput{})
				return answer(err)
			}
		},
		"identity repair": func(t *testing.T, p *place, a *account.Account) func() string {
			t.Helper()
			if testing.Short() {
				t.Skip("waits for the lock of an identity")
			}
			return again(t, func() error {
				_, err := p.RepairIdentity(t.Context(), a, false)
				return err
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Interleave(t, func(t *testing.T, before func()) storetest.Changes {
				p := newPlaceBefore(t, before)
				a := p.mustCreate("alice")
				return storetest.Changes{
					One: again(t, func() error {
						_, err := p.UpdateHandle(t.Context(), auth.StandardCaller{Access: auth.Access{DID: a.DID}}, hosting.UpdateHandleInput{Handle: "other.test"})
						return err
					}),
					Other: build(t, p, a),
					State: func() string { return p.identityState(a) },
				}
			})
		})
	}
}
