package hosting_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/identity"
	"nestbox/plc"
	"nestbox/ratelimit"
	"nestbox/request"
)

// head returns the CID of the newest operation of an account's identity.
func (p *place) head(a *account.Account) string {
	p.t.Helper()
	last, err := p.Directory.Last(p.t.Context(), a.DID)
	if err != nil {
		p.t.Fatal(err)
	}
	return plc.Head(last)
}

func newRotationKey(t *testing.T) (atcrypto.PrivateKey, string) {
	t.Helper()
	key, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return key, public.DIDKey()
}

// rotate sends a change of the rotation keys, from the present head.
func (p *place) rotate(a *account.Account, c hosting.RotationChange) error {
	p.t.Helper()
	return p.ChangeRotation(p.t.Context(), a, p.head(a), c)
}

// holders describes who controls an account's identity.
func (p *place) holders(a *account.Account) string {
	p.t.Helper()
	c, err := p.ShowControl(p.t.Context(), a)
	if err != nil || c.LogErr != nil {
		p.t.Fatal(err, c.LogErr)
	}
	var all []string
	for _, k := range c.Keys {
		all = append(all, string(k.Holder))
		if k.Since.IsZero() || (k.Holder == hosting.HeldByOwner) == k.Added.IsZero() {
			p.t.Errorf("%+v", k)
		}
	}
	return strings.Join(all, " ")
}

// noted returns the changes of rotation keys on an account's trail.
func (p *place) noted(a *account.Account) (reasons []string) {
	p.t.Helper()
	trail, err := p.Accounts.Trail(p.t.Context(), a.ID, account.TrailLimit)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, e := range trail {
		if e.Kind == account.EntryRotationKeys {
			reasons = append(reasons, e.Reason)
		}
	}
	return reasons
}

// TestRotation: an owner adds keys above and below the server's, and removes them; nothing else
// of the identity changes; the strongest key can undo it at the directory.
func TestRotation(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	_, p.RecoveryKey = newRotationKey(t)
	a := p.mustCreate("alice")
	before, err := p.Directory.Last(t.Context(), a.DID)
	if err != nil {
		t.Fatal(err)
	}
	_, below := newRotationKey(t)
	mine, above := newRotationKey(t)
	for _, c := range []struct {
		change hosting.RotationChange
		want   string
	}{
		{hosting.RotationChange{Add: below}, "operator server owner"},
		{hosting.RotationChange{Add: above, Above: true}, "owner operator server owner"},
		{hosting.RotationChange{Remove: below}, "owner operator server"},
		{hosting.RotationChange{Remove: p.RecoveryKey}, "owner server"},
		{hosting.RotationChange{Remove: below}, "owner server"}, // which is so already
	} {
		if plan, err := p.PlanRotation(t.Context(), a, c.change); err != nil || len(plan.After) != len(strings.Fields(c.want)) || string(plan.After[0].Holder) != strings.Fields(c.want)[0] {
			t.Errorf("plan of %+v: %+v, %v", c.change, plan.After, err)
		}
		if err := p.rotate(a, c.change); err != nil {
			t.Fatalf("%+v: %v", c.change, err)
		}
		if got := p.holders(a); got != c.want {
			t.Errorf("%+v: %s, want %s", c.change, got, c.want)
		}
	}
	want := []string{"-" + p.RecoveryKey, "-" + below, "+" + above, "+" + below}
	if got := p.noted(a); !slices.Equal(got, want) {
		t.Errorf("on the trail: %v", got)
	}
	after, err := p.Directory.Last(t.Context(), a.DID)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range plc.Compare(before, after) {
		if d.Part != plc.PartKey {
			t.Errorf("it changed %+v", d)
		}
	}
	c, err := p.ShowControl(t.Context(), a)
	if err != nil || c.Total != 5 || !slices.Equal(c.Steps[0].UndoBy, []string{above, p.RecoveryKey}) {
		t.Fatalf("%+v, %v", c.Steps, err)
	}
	undo, err := plc.Update(c.Steps[1].Operation, plc.Change{RotationKeys: []string{above}}, mine)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Directory.Submit(t.Context(), a.DID, undo); err != nil {
		t.Errorf("the strongest key: %v", err)
	}
	if c, err = p.ShowControl(t.Context(), a); err != nil || c.Ours || !c.Steps[1].Nullified || !c.Fits {
		t.Errorf("%+v, %v", c, err)
	}
	if err := p.rotate(a, hosting.RotationChange{Add: below}); !errors.Is(err, hosting.ErrNoControl) {
		t.Errorf("without the server's key: %v", err)
	}
}

// TestRotationRefused: what no change of an owner may do, and what is no change.
func TestRotationRefused(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	a := p.mustCreate("alice")
	key, err := p.RotationKey.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	server := key.DIDKey()
	var mine []string
	for i := range 5 {
		_, k := newRotationKey(t)
		mine = append(mine, k)
		err := p.rotate(a, hosting.RotationChange{Add: k, Above: i%2 == 0})
		if want := map[bool]error{true: hosting.ErrKeyRoom}[i == 4]; !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Fatalf("key %d: %v", i, err)
		}
	}
	for name, c := range map[string]struct {
		change hosting.RotationChange
		want   error
	}{
		"there, above":    {hosting.RotationChange{Add: mine[0], Above: true}, hosting.ErrKeyThere},
		"there, below":    {hosting.RotationChange{Add: mine[0]}, hosting.ErrKeyThere},
		"the server's":    {hosting.RotationChange{Add: server}, hosting.ErrKeyThere},
		"signing":         {hosting.RotationChange{Add: a.SigningKey}, hosting.ErrKeySigning},
		"without ours":    {hosting.RotationChange{Remove: server}, hosting.ErrKeyServer},
		"one that is not": {hosting.RotationChange{Remove: mine[4]}, nil},
	} {
		if _, err := p.PlanRotation(t.Context(), a, c.change); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	head := p.head(a)
	if err := p.rotate(a, hosting.RotationChange{Remove: mine[3]}); err != nil {
		t.Fatal(err)
	}
	// From a page that is old: what is so is a success, anything else is not done.
	if err := p.ChangeRotation(t.Context(), a, head, hosting.RotationChange{Remove: mine[3]}); err != nil {
		t.Errorf("once more: %v", err)
	}
	if err := p.ChangeRotation(t.Context(), a, head, hosting.RotationChange{Add: mine[0], Above: true}); err != nil {
		t.Errorf("a key that is where it should be: %v", err)
	}
	for _, c := range []hosting.RotationChange{{Remove: mine[0]}, {Add: mine[4]}, {Add: mine[0]}, {Remove: server}} {
		if err := p.ChangeRotation(t.Context(), a, head, c); !errors.Is(err, hosting.ErrHeadMoved) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if n := len(p.noted(a)); n != 5 {
		t.Errorf("%d changes on the trail", n)
	}
	last, err := p.Directory.Last(t.Context(), a.DID)
	if err != nil {
		t.Fatal(err)
	}
	op, err := plc.Amend(last, plc.Data{PDS: "https://elsewhere.example.com"}, p.RotationKey)
	if err == nil {
		err = p.Directory.Submit(t.Context(), a.DID, op)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := p.rotate(a, hosting.RotationChange{Remove: mine[0]}); !errors.Is(err, hosting.ErrUnfit) {
		t.Errorf("it lives elsewhere: %v", err)
	}
	if _, err := p.ShowControl(t.Context(), &account.Account{DID: "did:web:alice.example.com"}); !errors.Is(err, hosting.ErrNotPLC) {
		t.Errorf("did:web: %v", err)
	}
}

// TestRotationDirectory: a directory that refuses or does not answer. What may have arrived is
// on the trail, and sent again it is a success that is noted once.
func TestRotationDirectory(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mode      mode
		unreached bool
		refused   bool
		noted     int
		taken     bool
	}{
		{refuse, false, true, 0, false},
		{throttle, true, false, 0, false},
		{fail, false, false, 1, false},
		{takeFail, false, false, 1, true},
		{takeBreak, false, false, 1, true},
	} {
		t.Run(fmt.Sprint(c.mode), func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			a := p.mustCreate("alice")
			_, key := newRotationKey(t)
			head := p.head(a)
			p.plc.set(c.mode)
			err := p.ChangeRotation(t.Context(), a, head, hosting.RotationChange{Add: key})
			if err == nil || errors.Is(err, identity.ErrUnreached) != c.unreached || errors.Is(err, identity.ErrRefused) != c.refused {
				t.Errorf("%v", err)
			}
			if got := len(p.noted(a)); got != c.noted {
				t.Errorf("%d entries, want %d", got, c.noted)
			}
			p.plc.set(obey)
			if err := p.ChangeRotation(t.Context(), a, head, hosting.RotationChange{Add: key}); err != nil {
				t.Errorf("once more: %v", err)
			}
			want := c.noted
			if !c.taken {
				want++
			}
			if got := len(p.noted(a)); got != want {
				t.Errorf("%d entries in the end, want %d", got, want)
			}
			if got := p.holders(a); got != "server owner" {
				t.Errorf("%s", got)
			}
			p.plc.down.Store(true)
			if err := p.ChangeRotation(t.Context(), a, head, hosting.RotationChange{Remove: key}); !errors.Is(err, identity.ErrUnreached) {
				t.Errorf("a directory that is down: %v", err)
			}
		})
	}
}

// TestRotationByClient: a change of the rotation keys that a client submits is on the trail too,
// and a key that came so is the owner's.
func TestRotationByClient(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	a := p.mustCreate("alice")
	p.submitting(a)()
	if got := p.holders(a); got != "owner server" {
		t.Errorf("%s", got)
	}
	if got := p.noted(a); len(got) != 1 || got[0] != "+did:key:zQ3shcoHrjqYtXszc2LP7cS5Y2ZCxnvLbXmHhKPEvTpcfLNrC" {
		t.Errorf("%v", got)
	}
	p.advance(time.Hour)
	p.restart()
	if got := p.holders(a); got != "owner server" {
		t.Errorf("after a restart: %s", got)
	}
}

// TestIdentityLooks: one account's owner asks the directory so often, and no more, whatever page
// asks; nobody else waits for it.
func TestIdentityLooks(t *testing.T) {
	p := newPlace(t)
	p.Limits = ratelimit.New(1000, p.clock)
	alice, bob := p.mustCreate("alice"), p.mustCreate("bob")
	for i := range 30 {
		_, err := p.Pointing(t.Context(), alice)
		if err == nil {
			_, err = p.ShowControl(t.Context(), alice)
		}
		if err != nil {
			t.Fatal(i, err)
		}
	}
	if _, err := p.Pointing(t.Context(), alice); !isTooMany(err) {
		t.Errorf("pointing: %v", err)
	}
	if _, err := p.ShowControl(t.Context(), alice); !isTooMany(err) {
		t.Errorf("control: %v", err)
	}
	if d, err := p.Pointing(t.Context(), bob); err != nil || !d.Valid() {
		t.Errorf("bob: %+v, %v", d, err)
	}
	p.advance(5 * time.Minute)
	if d, err := p.Pointing(t.Context(), alice); err != nil || !d.Valid() {
		t.Errorf("later: %+v, %v", d, err)
	}
}

func isTooMany(err error) bool {
	_, ok := errors.AsType[request.ErrTooMany](err)
	return ok
}
