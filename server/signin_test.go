package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"nestbox/account"
	"nestbox/config"
	"nestbox/internal/pdstest"
	"nestbox/internal/seal"
	"nestbox/server"
	"nestbox/store/storetest"
)

// TestResealFactors: with another key encryption key, authenticator apps and recovery codes
// work as before.
func TestResealFactors(t *testing.T) {
	dir, clock := t.TempDir(), storetest.NewClock(time.Now())
	s := pdstest.Start(t, pdstest.Options{Dir: dir, Now: clock.Now})
	alice := s.SignUp(t, "alice")
	a, err := account.Find(t.Context(), s.SignIns().Accounts, alice.DID)
	if err != nil {
		t.Fatal(err)
	}
	setup, err := s.SignIns().BeginTOTP(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	code := func() string {
		clock.Advance(time.Minute)
		six, err := totp.GenerateCode(strings.ReplaceAll(setup.Secret, " ", ""), clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		return six
	}
	recovery, err := s.SignIns().FinishTOTP(t.Context(), a, setup.Sealed, code(), "x")
	if err != nil {
		t.Fatal(err)
	}
	s.Stop()
	c, _, err := config.Load(config.Flags{Data: dir, Dev: true, Command: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if faults := verified(t, &c, nil); len(faults) != 0 {
		t.Errorf("before: %q", faults)
	}
	if done, err := server.Reseal(t.Context(), &c, ""); err != nil || done.Keys != 3 {
		t.Fatalf("%+v, %v", done, err)
	}
	if faults := verified(t, &c, nil); len(faults) != 0 {
		t.Errorf("resealed: %q", faults)
	}
	wrong, err := seal.NewBox(make([]byte, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	faults := strings.Join(verified(t, &c, wrong), "\n")
	for _, secret := range []string{"signing key of ", "totp secret of ", "recovery code key of "} {
		if !strings.Contains(faults, secret+alice.DID) {
			t.Errorf("with a wrong key, verify does not name the %s: %s", secret, faults)
		}
	}
	s = pdstest.Start(t, pdstest.Options{Dir: dir, Now: clock.Now})
	for _, token := range []string{code(), recovery[0]} {
		in := map[string]any{"identifier": "alice.test", "password": pdstest.Password, "authFactorToken": token}
		if got := s.Do(t, pdstest.Request{NSID: "com.atproto.server.createSession", Body: in}); got.Status != http.StatusOK {
			t.Errorf("%d %s", got.Status, got.Body)
		}
	}
}

// verified returns the faults of a data directory, opened with another key if box is not nil.
func verified(t *testing.T, c *config.Config, box *seal.Box) (faults []string) {
	t.Helper()
	v, err := server.Verification(c)
	if err != nil {
		t.Fatal(err)
	}
	if box != nil {
		v.Keys = func(func(string)) *seal.Box { return box }
	}
	v.Now, v.Fault, v.Remark, v.Progress = time.Now, func(line string) { faults = append(faults, line) }, func(string) {}, func(string) {}
	if _, err := v.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return faults
}
