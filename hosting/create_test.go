package hosting_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/identity"
	"nestbox/internal/pdstest"
)

const createAccount = "com.atproto.server.createAccount"

// signUp calls createAccount with a good input, changed.
func signUp(t *testing.T, c pdstest.Client, name string, change map[string]any) pdstest.Answer {
	t.Helper()
	in := map[string]any{"handle": name + ".test", "email": name + "@example.com", "password": pdstest.Password}
	for k, v := range change {
		if v == nil {
			delete(in, k)
		} else {
			in[k] = v
		}
	}
	return c.Do(t, pdstest.Request{NSID: createAccount, Body: in})
}

func newDIDKey(t *testing.T) string {
	t.Helper()
	k, err := atcrypto.GeneratePrivateKeyP256()
	if err != nil {
		t.Fatal(err)
	}
	pub, err := k.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return pub.DIDKey()
}

func TestCreateAccount(t *testing.T) {
	operator, owner := newDIDKey(t), newDIDKey(t)
	s := pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_RECOVERY_DID_KEY=" + operator}})
	a := signUp(t, s.Client, "Alice", map[string]any{"recoveryKey": owner, "verificationCode": "1", "verificationPhone": "2", "more": "ignored"})
	if a.Status != http.StatusOK {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	var members map[string]json.RawMessage
	a.Decode(t, &members)
	var names []string
	for name := range members {
		names = append(names, name)
	}
	slices.Sort(names)
	if want := []string{"accessJwt", "did", "didDoc", "handle", "refreshJwt"}; !slices.Equal(names, want) {
		t.Errorf("answer has %q, want %q", names, want)
	}
	var made pdstest.Session
	a.Decode(t, &made)
	if made.Handle != "alice.test" || identity.PDSEndpoint(made.DIDDoc) != s.URL {
		t.Errorf("made %+v", made)
	}
	if a := s.GetSession(t, made.AccessJwt); a.Status != http.StatusOK {
		t.Errorf("its access token: %d %s", a.Status, a.Body)
	}
	s.MustRefresh(t, made.RefreshJwt)
	for _, who := range []string{"alice.test", "Alice@Example.com", made.DID} {
		if in := s.SignIn(t, who, pdstest.Password); in.DID != made.DID || in.Email != "alice@example.com" {
			t.Errorf("signed in as %+v", in)
		}
	}

	dir := &identity.Directory{URL: s.PLC, Client: http.DefaultClient}
	doc, err := dir.Document(t.Context(), syntax.DID(made.DID))
	if err != nil || string(doc) != string(made.DIDDoc) {
		t.Errorf("the directory says %s, %v; the answer %s", doc, err, made.DIDDoc)
	}
	last, err := dir.Last(t.Context(), syntax.DID(made.DID))
	if err != nil {
		t.Fatal(err)
	}
	keys := last.Regular.RotationKeys
	if len(keys) != 3 || keys[0] != owner || keys[1] != operator || last.Regular.VerificationMethods["atproto"] == keys[2] {
		t.Errorf("rotation keys %q: want the owner's, the operator's, the server's, and a signing key of its own", keys)
	}

	// Each account has its own signing key, and all have the server's rotation key; a
	// key that is named twice counts once.
	bob := signUp(t, s.Client, "bob", map[string]any{"recoveryKey": operator})
	var second pdstest.Session
	bob.Decode(t, &second)
	other, err := dir.Last(t.Context(), syntax.DID(second.DID))
	if err != nil {
		t.Fatal(err)
	}
	if got := other.Regular.RotationKeys; !slices.Equal(got, keys[1:]) {
		t.Errorf("rotation keys %q, want %q", got, keys[1:])
	}
	if other.Regular.VerificationMethods["atproto"] == last.Regular.VerificationMethods["atproto"] {
		t.Error("two accounts share a signing key")
	}
}

func TestCreateAccountRefuses(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	signUp(t, s.Client, "alice", nil)
	long := strings.Repeat("a", 257)
	const (
		badEmail    = "This email address is not supported, please use a different email."
		badRecovery = "Invalid recoveryKey: expected a did:key"
		badForm     = "Input/handle must be a valid handle"
	)
	for _, c := range []struct {
		change        map[string]any
		name, message string
	}{
		{map[string]any{"password": nil}, "InvalidPassword", "Password is required"},
		{map[string]any{"password": ""}, "InvalidPassword", "Password is required"},
		{map[string]any{"password": "1234567"}, "InvalidPassword", "Password too short. Minimum length is 8 characters."},
		{map[string]any{"password": "äöüßéàè"}, "InvalidPassword", "Password too short. Minimum length is 8 characters."},
		{map[string]any{"password": long}, "InvalidPassword", "Password too long. Maximum length is 256 characters."},
		{map[string]any{"password": "password\x00"}, "InvalidPassword", "Password holds a character that cannot be used"},
		{map[string]any{"email": nil}, "InvalidRequest", "Email is required"},
		{map[string]any{"email": ""}, "InvalidRequest", "Email is required"},
		{map[string]any{"email": "bob"}, "InvalidRequest", badEmail},
		{map[string]any{"email": "Bob <bob@example.com>"}, "InvalidRequest", badEmail},
		{map[string]any{"email": "Alice@Example.com"}, "InvalidRequest", "Email already taken: Alice@Example.com"},
		{map[string]any{"handle": "Alice.test"}, "HandleNotAvailable", "Handle already taken: alice.test"},
		{map[string]any{"handle": "admin.test"}, "HandleNotAvailable", "Reserved handle"},
		{map[string]any{"handle": "bob"}, "InvalidHandle", badForm},
		{map[string]any{"handle": "b ob.test"}, "InvalidHandle", badForm},
		{map[string]any{"handle": "bob_1.test"}, "InvalidHandle", badForm},
		{map[string]any{"handle": ""}, "InvalidHandle", badForm},
		{map[string]any{"handle": "bob.local"}, "InvalidHandle", "Handle TLD is invalid or disallowed"},
		{map[string]any{"handle": "bo.test"}, "InvalidHandle", "Handle too short"},
		{map[string]any{"handle": strings.Repeat("b", 19) + ".test"}, "InvalidHandle", "Handle too long"},
		{map[string]any{"handle": "bob.bob.test"}, "InvalidHandle", "Invalid characters in handle"},
		{map[string]any{"handle": "bob.example.com"}, "UnsupportedDomain", "Not a supported handle domain"},
		{map[string]any{"handle": nil}, "InvalidRequest", `Missing required key "handle" at $`},
		{map[string]any{"handle": 5}, "InvalidRequest", "Expected string value type (got integer) at $.handle"},
		{map[string]any{"password": []string{}}, "InvalidRequest", "Expected string value type (got array) at $.password"},
		{map[string]any{"recoveryKey": "did:key:z"}, "InvalidRequest", badRecovery},
		{map[string]any{"recoveryKey": "did:plc:ewvi7nxzyoun6zhxrhs64oiz"}, "InvalidRequest", badRecovery},
		{map[string]any{"recoveryKey": "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK"}, "InvalidRequest", badRecovery},
		{map[string]any{"inviteCode": "no-such-code"}, "InvalidInviteCode", "Provided invite code not available"},
		{map[string]any{"did": "bob"}, "InvalidRequest", "Invalid DID at $.did"},
		{map[string]any{"plcOp": map[string]any{}}, "InvalidRequest", `Unsupported input: "plcOp"`},
	} {
		t.Run(fmt.Sprint(c.change), func(t *testing.T) {
			signUp(t, s.Client, "bob", c.change).WantError(t, http.StatusBadRequest, c.name, c.message)
		})
	}
	for _, auth := range []string{pdstest.Bearer("a.b.c"), "bearer x"} {
		a := s.Do(t, pdstest.Request{NSID: createAccount, Auth: auth, Body: map[string]string{
			"handle": "bob.test", "email": "bob@example.com", "password": pdstest.Password,
		}})
		a.WantError(t, http.StatusUnauthorized, "BadJwt", "poorly formatted jwt")
	}
	signUp(t, s.Client, "bob", map[string]any{"did": "did:plc:ewvi7nxzyoun6zhxrhs64oiz"}).
		WantError(t, http.StatusUnauthorized, "AuthenticationRequired", "Missing auth to create account with did: did:plc:ewvi7nxzyoun6zhxrhs64oiz")
	// Nothing of all that was left behind.
	if a := signUp(t, s.Client, "bob", nil); a.Status != http.StatusOK {
		t.Errorf("bob after all: %d %s", a.Status, a.Body)
	}
}

// TestDirectoryDown: what a client is answered when the directory fails, and that
// it may try again.
func TestDirectoryDown(t *testing.T) {
	const (
		undone    = "The PLC directory could not register the account; no account was made, please try again later"
		unsettled = "The PLC directory did not confirm whether it registered the account; please try again, or to sign in, in some minutes"
	)
	plc := newFaulty(t)
	s := pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_DID_PLC_URL=" + plc.URL}})
	for i, c := range []struct {
		mode    mode
		message string
	}{{refuse, undone}, {fail, unsettled}, {takeBreak, unsettled}, {throttle, undone}} {
		plc.set(c.mode)
		a := signUp(t, s.Client, fmt.Sprint("alice", i), nil)
		a.WantError(t, http.StatusServiceUnavailable, "ServiceUnavailable", c.message)
		if a.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	plc.set(obey)
	if a := signUp(t, s.Client, "alice0", nil); a.Status != http.StatusOK {
		t.Errorf("again after a refusal: %d %s", a.Status, a.Body)
	}
	signUp(t, s.Client, "alice1", nil).WantError(t, http.StatusBadRequest, "HandleNotAvailable", "Handle already taken: alice1.test")
	plc.Close()
	signUp(t, s.Client, "bob", nil).WantError(t, http.StatusServiceUnavailable, "ServiceUnavailable", undone)
}

// TestRaces: of 20 sign-ups at once for one handle, or one e-mail address, one
// succeeds and each of the others gets one clear error.
func TestRaces(t *testing.T) {
	s := pdstest.Start(t, pdstest.Options{})
	for name, c := range map[string]struct {
		handle, email func(i int) string
		want          string
	}{
		"one handle": {
			func(int) string { return "alice.test" }, func(i int) string { return fmt.Sprintf("a%d@example.com", i) },
			`400 {"error":"HandleNotAvailable","message":"Handle already taken: alice.test"}`,
		},
		"one e-mail address": {
			func(i int) string { return fmt.Sprintf("bob%d.test", i) }, func(int) string { return "bob@example.com" },
			`400 {"error":"InvalidRequest","message":"Email already taken: bob@example.com"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			const n = 20
			answers := make([]pdstest.Answer, n)
			var all sync.WaitGroup
			for i := range n {
				all.Go(func() {
					answers[i], _ = s.Try(t, pdstest.Request{NSID: createAccount, Body: map[string]string{
						"handle": c.handle(i), "email": c.email(i), "password": pdstest.Password,
					}})
				})
			}
			all.Wait()
			made := 0
			for _, a := range answers {
				if got := fmt.Sprintf("%d %s", a.Status, strings.TrimSpace(string(a.Body))); a.Status == http.StatusOK {
					made++
				} else if got != c.want {
					t.Errorf("got %s, want %s", got, c.want)
				}
			}
			if made != 1 {
				t.Errorf("%d accounts were made", made)
			}
		})
	}
}
