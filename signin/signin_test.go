package signin_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/argon2"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/internal/seal"
	"nestbox/mail"
	"nestbox/ratelimit"
	"nestbox/request"
	"nestbox/signin"
	"nestbox/store/storetest"
)

const (
	password = "correct-horse-battery"
	wrong    = "AAAAA-BBBBB"
)

// door is a signin.Service with alice, whose password's hash is of an older form.
type door struct {
	*signin.Service
	*storetest.World

	t     *testing.T
	alice *account.Account
}

func newDoor(t *testing.T) *door {
	t.Helper()
	w := storetest.NewWorld(t, storetest.Options{Dir: t.TempDir()})
	box, err := seal.NewBox(make([]byte, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	passkeys, err := signin.NewWebAuthn("pds.test", "pds.test", "https://pds.test", w.Clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	d := &door{t: t, World: w, Service: &signin.Service{
		Accounts: w.Accounts, Hasher: account.NewHasher(2),
		Codes:   &account.Codes{Store: w.Codes, Templates: &mail.Templates{Hostname: "pds.test"}, Key: make([]byte, 32), Now: w.Clock.Now},
		Factors: w.Factors, Box: box, WebAuthn: passkeys, Issuer: "pds.test", Notices: &account.Notices{Templates: &mail.Templates{Hostname: "pds.test"}},
		Guesses: ratelimit.New(1000, w.Clock.Now),
		Limits:  ratelimit.New(1000, w.Clock.Now), Noted: ratelimit.New(1000, w.Clock.Now), Now: w.Clock.Now, Log: slog.New(slog.DiscardHandler),
	}}
	salt, b64 := []byte("sixteen bytes it"), base64.RawStdEncoding
	hash := fmt.Sprintf("$argon2id$v=19$m=8,t=1,p=1$%s$%s", b64.EncodeToString(salt), b64.EncodeToString(argon2.IDKey([]byte(password), salt, 1, 8, 1, 32)))
	d.alice = w.Account(hosting.Pending{Handle: "alice.test", PasswordHash: hash})
	return d
}

// code sends alice a code for a purpose, and reads it in the mail that waits.
func (d *door) code(p account.Purpose) string {
	d.t.Helper()
	if err := d.Service.Codes.Send(d.t.Context(), d.alice, p); err != nil {
		d.t.Fatal(err)
	}
	return d.lastCode()
}

// lastCode returns the code in the newest mail that waits.
func (d *door) lastCode() string {
	d.t.Helper()
	mails, err := d.Outbox.Due(d.t.Context(), d.Clock.Now(), 100)
	if err != nil || len(mails) == 0 {
		d.t.Fatal(len(mails), err)
	}
	for line := range strings.SplitSeq(mails[len(mails)-1].Text, "\n") {
		if line = strings.TrimSpace(line); len(line) == len(wrong) && line[5] == '-' && strings.ToUpper(line) == line {
			return line
		}
	}
	d.t.Fatalf("no code in %q", mails[len(mails)-1].Text)
	return ""
}

func (d *door) try(purpose signin.Purpose, password, code string) (signin.Proven, error) {
	ctx := request.WithClient(d.t.Context(), request.Client{Addr: netip.MustParseAddr("192.0.2.1")})
	return d.Prove(ctx, signin.Attempt{Identifier: d.alice.DID.String(), Password: password, Code: code, For: purpose})
}

func (d *door) hash(ctx context.Context) string {
	d.t.Helper()
	c, err := d.Service.Accounts.Credentials(ctx, d.alice.ID)
	if err != nil {
		d.t.Fatal(err)
	}
	return c.PasswordHash
}

// TestDeletion: only the account's own password with the code for this proves an owner
// who deletes the account, a hash of an older form is replaced, and the trail says that
// somebody knows the password but not the code.
func TestDeletion(t *testing.T) {
	d := newDoor(t)
	app := account.NewAppPassword()
	err := d.Service.Accounts.AddAppPassword(t.Context(), d.alice.ID,
		account.AppPassword{Name: "phone", Hash: account.HashAppPassword(d.alice.DID, app), CreatedAt: d.Clock.Now()},
		account.Entry{At: d.Clock.Now(), Kind: account.EntryAppPasswordCreated})
	if err != nil {
		t.Fatal(err)
	}
	if p, err := d.try(signin.Session, app, ""); err != nil || p.AppPassword == nil || p.AppPassword.Name != "phone" {
		t.Fatalf("an app password for a session: %+v, %v", p, err)
	}
	code, signIn := d.code(account.PurposeDeleteAccount), d.code(account.PurposeSignIn)
	old := d.hash(t.Context())
	for _, c := range []struct {
		name, password, code string
		want                 error
	}{
		{"an app password", app, code, signin.ErrWrong},
		{"a wrong password", "wrong", code, signin.ErrWrong},
		{"no code", password, "", account.ErrCodeInvalid},
		{"a wrong code", password, wrong, account.ErrCodeInvalid},
		{"a code to sign in", password, signIn, account.ErrCodeInvalid},
		{"both", password, code, nil},
	} {
		p, err := d.try(signin.Deletion, c.password, c.code)
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if err == nil && (p.AppPassword != nil || p.Code == nil || p.Code.Purpose != account.PurposeDeleteAccount) {
			t.Errorf("%s: %+v", c.name, p)
		}
	}
	if d.hash(t.Context()) == old {
		t.Error("the hash of an older form was kept")
	}
	trail, err := d.Service.Accounts.Trail(t.Context(), d.alice.ID, 100)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, e := range trail {
		if e.Kind == account.EntryCodeRefused {
			refused++
			if e.Network != "192.0.2.1" || !strings.Contains(e.Reason, "delete") {
				t.Errorf("%+v", e)
			}
		}
	}
	if refused != 1 {
		t.Errorf("%d entries for three wrong codes within an hour, want 1", refused)
	}
	if _, err := d.Prove(t.Context(), signin.Attempt{Identifier: "did:plc:nobody", Password: password, For: signin.Deletion}); !errors.Is(err, account.ErrNotFound) {
		t.Errorf("nobody's DID: %v", err)
	}
}

// TestDeletionHeld: while a moderator's measure stands, the right password gets no guess
// at a code.
func TestDeletionHeld(t *testing.T) {
	d := newDoor(t)
	code := d.code(account.PurposeDeleteAccount)
	for _, on := range []bool{true, false} {
		e := account.Entry{At: d.Clock.Now(), Kind: account.EntrySuspended, By: account.ActorAdmin}
		if _, err := d.Service.Accounts.SetStatus(t.Context(), d.alice.ID, account.StatusChange{Suspended: &on}, e); err != nil {
			t.Fatal(err)
		}
		for range account.MaxCodeTries {
			if !on {
				break
			}
			if _, err := d.try(signin.Deletion, password, wrong); !errors.Is(err, account.ErrHeld) {
				t.Fatalf("suspended: %v", err)
			}
		}
	}
	if _, err := d.try(signin.Deletion, password, code); err != nil {
		t.Errorf("lifted: %v", err)
	}
	d.Clock.Advance(time.Hour)
	if _, err := d.try(signin.Deletion, password, code); !errors.Is(err, account.ErrCodeExpired) {
		t.Errorf("an hour later: %v", err)
	}
}

// TestCodeOfTheFuture: a code that was made while the clock was far ahead is worth
// nothing once it is right, and keeps no new one from being sent.
func TestCodeOfTheFuture(t *testing.T) {
	d := newDoor(t)
	now := d.Clock.Now()
	d.Clock.Advance(1000 * time.Hour)
	code := d.code(account.PurposeDeleteAccount)
	d.Clock.Set(now)
	if sent, err := d.Service.Codes.SentWithin(t.Context(), d.alice, account.PurposeDeleteAccount, time.Minute); sent || err != nil {
		t.Errorf("one was sent just now: %v, %v", sent, err)
	}
	if _, err := d.try(signin.Deletion, password, code); !errors.Is(err, account.ErrCodeExpired) {
		t.Errorf("the code: %v", err)
	}
	mails, err := d.Outbox.Due(t.Context(), now, 1)
	if err != nil || len(mails) != 1 || d.Outbox.Done(t.Context(), mails[0].ID) != nil {
		t.Fatalf("its mail: %d, %v", len(mails), err)
	}
	code = d.code(account.PurposeDeleteAccount)
	d.Clock.Set(now.Add(-account.CodeLife / 2)) // a step back, as a time server makes
	if _, err := d.try(signin.Deletion, password, code); err != nil {
		t.Errorf("a new code: %v", err)
	}
}
