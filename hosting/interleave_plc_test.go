package hosting_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/hosting"
	"nestbox/plc"
	"nestbox/store/storetest"
	"nestbox/xrpc"
)

// submitting is submitPlcOperation of an operation that the account's owner had signed,
// which adds a rotation key and leaves everything else as it was.
func (p *place) submitting(a *account.Account) func() string {
	p.t.Helper()
	last, err := p.Directory.Last(p.t.Context(), a.DID)
	if err != nil {
		p.t.Fatal(err)
	}
	keys := append([]string{"did:key:zQ3shcoHrjqYtXszc2LP7cS5Y2ZCxnvLbXmHhKPEvTpcfLNrC"}, last.Regular.RotationKeys...)
	op, err := plc.Update(last, plc.Change{RotationKeys: keys}, p.RotationKey)
	if err != nil {
		p.t.Fatal(err)
	}
	raw, err := json.Marshal(op)
	if err != nil {
		p.t.Fatal(err)
	}
	return again(p.t, func() error {
		_, err := p.SubmitPLCOperation(p.t.Context(), auth.StandardCaller{Access: auth.Access{DID: a.DID}}, hosting.SubmitPLCOperationInput{Operation: raw})
		return err
	})
}

// rotated describes the directory's last operation and the account's key.
func (p *place) rotated(a *account.Account, first string) string {
	now, err := p.Accounts.ByDID(p.t.Context(), a.DID)
	if err != nil {
		return err.Error()
	}
	last, err := p.Directory.Last(p.t.Context(), a.DID)
	if err != nil {
		return err.Error()
	}
	d, _ := plc.DataOf(last)
	return fmt.Sprintf("%d rotation keys, the directory names %s; the account's key is another %t, is named %t", len(d.RotationKeys), d.Handle, now.SigningKey != first, now.SigningKey == d.SigningKey)
}

// TestOperationsMeet: an operation that an owner submits and another change of the identity
// or the status end as one after the other: what was checked of the operation holds when it
// is sent.
func TestOperationsMeet(t *testing.T) {
	t.Parallel()
	others := map[string]func(p *place, a *account.Account) func() string{
		"updateHandle": func(p *place, a *account.Account) func() string {
			return again(p.t, func() error {
				_, err := p.UpdateHandle(p.t.Context(), auth.StandardCaller{Access: auth.Access{DID: a.DID}}, hosting.UpdateHandleInput{Handle: "other.test"})
				return err
			})
		},
		"another key": func(p *place, a *account.Account) func() string {
			return again(p.t, func() error { return p.ChangeKey(p.t.Context(), a) })
		},
		"a rotation key by the page": func(p *place, a *account.Account) func() string {
			head := p.head(a)
			return again(p.t, func() error {
				return p.ChangeRotation(p.t.Context(), a, head, hosting.RotationChange{Add: "did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169"})
			})
		},
		"the same again": func(p *place, a *account.Account) func() string { return p.submitting(a) },
		"deactivateAccount": func(p *place, a *account.Account) func() string {
			return func() string {
				_, err := p.DeactivateAccount(p.t.Context(), auth.FullOrTakenDownCaller{Access: auth.Access{DID: a.DID}}, hosting.DeactivateAccountInput{})
				return answer(err)
			}
		},
		"a takedown": func(p *place, a *account.Account) func() string {
			return p.status(a, account.StatusChange{Takedown: &account.Applied{Applied: true}})
		},
		"the deletion": func(p *place, a *account.Account) func() string {
			return func() string { return answer(p.Accounts.Delete(p.t.Context(), a.ID, p.clock())) }
		},
	}
	for _, name := range slices.Sorted(maps.Keys(others)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() {
				t.Skip("waits for the lock of an identity")
			}
			storetest.Interleave(t, func(t *testing.T, before func()) storetest.Changes {
				p := newPlaceBefore(t, before)
				p.Repos = p.repos()
				a := p.mustCreate("alice")
				return storetest.Changes{One: p.submitting(a), Other: others[name](p, a), State: func() string {
					return p.identityState(a) + "; " + p.rotated(a, a.SigningKey)
				}}
			})
		})
	}
}

// TestSigningCodesMeet: a code signs one operation, and one that a newer code replaced signs
// none.
func TestSigningCodesMeet(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"the same code", "a new code", "another address"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Interleave(t, func(t *testing.T, before func()) storetest.Changes {
				p := newPlaceBefore(t, before).withCodes()
				a := p.mustCreate("alice")
				p.code(a, account.PurposePLCOperation)
				caller := auth.FullOrTakenDownCaller{Access: auth.Access{DID: a.DID}}
				sign := func() string {
					out, err := p.SignPLCOperation(t.Context(), caller, hosting.SignPLCOperationInput{Token: meetingCode, AlsoKnownAs: []string{"at://other.test"}})
					return fmt.Sprint(answer(err), len(out.Operation) > 0)
				}
				others := map[string]func() string{
					"the same code": sign,
					"a new code": func() string {
						_, err := p.RequestPLCOperationSignature(t.Context(), caller, xrpc.None{})
						return answer(err)
					},
					"another address": func() string {
						return answer(p.Accounts.SetEmail(t.Context(), a.ID, account.EmailChange{Email: "b@example.com"}, account.Entry{At: p.clock(), Kind: account.EntryEmailChanged}))
					},
				}
				return storetest.Changes{One: sign, Other: others[name], State: func() string {
					c, err := p.Codes.Store.Code(t.Context(), a.ID, account.PurposePLCOperation)
					return fmt.Sprintf("a code waits %t, %v", len(c.Hash) > 0, err)
				}}
			})
		})
	}
}
