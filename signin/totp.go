package signin

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"image/png"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"

	"nestbox/account"
	"nestbox/mail"
)

// A code of an authenticator app is good for step, and accepted a step early and late,
// since clocks differ (RFC 6238 section 5.2). That of up to lateSteps ago is named as such.
const (
	step      = 30 * time.Second
	lateSteps = 10
)

func stepOf(t time.Time) int64 { return t.Unix() / int64(step/time.Second) }

// codeAt returns the code of a step for a secret in base32.
func codeAt(secret string, at int64) (string, error) {
	return hotp.GenerateCodeCustom(secret, uint64(at), hotp.ValidateOpts{ //nolint:gosec // steps since 1970
		Digits:    otp.DigitsSix,
		Algorithm: otp.AlgorithmSHA1,
	})
}

// accept returns the authenticator after a code from a flow. Only steps after the last
// accepted one are, except that the same flow may send its code again for
// account.RepeatFor. WrongFactor, account.ErrCodeInvalid.
func (t Authenticator) accept(secret, code, flow string, now time.Time) (Authenticator, error) {
	is := func(at int64) (bool, error) {
		want, err := codeAt(secret, at)
		return err == nil && subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1, err
	}
	if since := now.Sub(t.UsedAt); flow != "" && flow == t.LastFlow && since.Abs() < account.RepeatFor {
		if again, err := is(t.LastStep); again || err != nil {
			return t, err
		}
	}
	current := stepOf(now)
	if t.LastStep > current+1 {
		t.LastStep = 0 // a clock that was ahead accepted it
	}
	for _, at := range []int64{current, current - 1, current + 1} {
		ok, err := is(at)
		switch {
		case err != nil:
			return t, err
		case ok && at <= t.LastStep:
			return t, account.ErrCodeInvalid // used
		case ok:
			t.LastStep, t.LastFlow, t.UsedAt = at, flow, now
			return t, nil
		}
	}
	// Only of the past: a word about a code that is yet to come would give it away.
	for at := current - 2; at >= current-lateSteps; at-- {
		if late, err := is(at); late || err != nil {
			return t, errors.Join(err, &WrongFactor{Method: TOTP, Late: true, Cause: account.ErrCodeInvalid})
		}
	}
	return t, account.ErrCodeInvalid
}

// useTOTP uses up a code of the account's authenticator app.
func (s *Service) useTOTP(ctx context.Context, a *account.Account, code, flow string) (Proofs, error) {
	by := ByTOTP
	err := s.guess(ctx, a, TOTP, func() error {
		return s.Factors.ChangeFactors(ctx, a.ID, func(_ account.Account, f Factors) (Changed, error) {
			if f.TOTP == nil {
				return Changed{}, account.ErrCodeInvalid
			}
			secret, err := s.Box.Open(f.TOTP.SecretSealed, SealLabel(SealTOTP, a.DID))
			if err != nil {
				return Changed{}, fmt.Errorf("authenticator of %s: %w", a.DID, err)
			}
			now := s.now()
			next, err := f.TOTP.accept(string(secret), code, flow, now)
			if err != nil {
				return Changed{}, err
			}
			if old(next.ConfirmedAt, now) {
				by |= ByAged
			}
			f = f.clone()
			f.TOTP = &next
			return Changed{Factors: f}, nil
		})
	})
	if err != nil {
		return 0, err
	}
	return by, nil
}

// TOTPSetup is an authenticator app that is about to be set up. Nothing is kept of it
// until FinishTOTP.
type TOTPSetup struct {
	// Sealed travels in the form.
	Sealed string
	// URL is the otpauth: link, PNG the same as a picture, Secret the secret in groups of
	// four for those who type it.
	URL, Secret string
	PNG         []byte
}

// setup is what TOTPSetup.Sealed holds. The recovery codes are those that the account gets
// if it has none, so that a lost answer can be had again.
type setup struct {
	Secret string    `json:"secret"`
	Codes  []string  `json:"codes"`
	Ends   time.Time `json:"ends"`
}

// SetupLife is how long a form for a new factor may stay open.
const SetupLife = 30 * time.Minute

func setupLabel(a *account.Account) string { return "new authenticator of " + a.DID.String() }

// BeginTOTP offers an authenticator app a new secret.
func (s *Service) BeginTOTP(_ context.Context, a *account.Account) (TOTPSetup, error) {
	return s.offer(a, setup{Codes: newRecoveryCodes(), Ends: s.now().Add(SetupLife)})
}

// ResumeTOTP returns the offer of a form that was sent with a wrong code. ErrClaim: the form
// is too old.
func (s *Service) ResumeTOTP(_ context.Context, a *account.Account, sealed string) (TOTPSetup, error) {
	var form setup
	if err := s.openForm(sealed, setupLabel(a), &form); err != nil || !s.now().Before(form.Ends) {
		return TOTPSetup{}, ErrClaim
	}
	return s.offer(a, form)
}

// offer returns the page's part of a setup, which gets a secret if it has none.
func (s *Service) offer(a *account.Account, form setup) (TOTPSetup, error) {
	secret, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(form.Secret)
	if err != nil {
		return TOTPSetup{}, fmt.Errorf("read TOTP secret: %w", err)
	}
	key, err := totp.Generate(totp.GenerateOpts{Issuer: s.Issuer, AccountName: a.Handle.String(), Secret: secret})
	if err != nil {
		return TOTPSetup{}, fmt.Errorf("make TOTP secret: %w", err)
	}
	form.Secret = key.Secret()
	picture, err := key.Image(qrSize, qrSize)
	if err != nil {
		return TOTPSetup{}, fmt.Errorf("draw QR code: %w", err)
	}
	var buf bytes.Buffer
	if err := png.Encode(&buf, picture); err != nil {
		return TOTPSetup{}, fmt.Errorf("draw QR code: %w", err)
	}
	sealed, err := s.sealForm(form, setupLabel(a))
	return TOTPSetup{Sealed: sealed, URL: key.URL(), Secret: groups(key.Secret()), PNG: buf.Bytes()}, err
}

// qrSize is the width of the QR code, in pixels.
const qrSize = 240

// groups returns a text in groups of four.
func groups(text string) string {
	var out []string
	for len(text) > 4 {
		out, text = append(out, text[:4]), text[4:]
	}
	return strings.Join(append(out, text), " ")
}

// FinishTOTP turns the authenticator app on, in the place of an older one, if the code is
// right, and returns the recovery codes if the account gets its first. ErrClaim: the form
// is too old.
func (s *Service) FinishTOTP(ctx context.Context, a *account.Account, sealed, code, flow string) (recovery []string, err error) {
	var form setup
	if err := s.openForm(sealed, setupLabel(a), &form); err != nil || !s.now().Before(form.Ends) {
		return nil, ErrClaim
	}
	six := sixDigits(code)
	if six == "" {
		return nil, &WrongFactor{Method: TOTP, Left: maxGuesses, Cause: account.ErrCodeInvalid}
	}
	err = s.guess(ctx, a, TOTP, func() error {
		return s.change(ctx, a, func(now account.Account, f Factors, e account.Entry) (Factors, []note, error) {
			if f.TOTP != nil {
				if have, err := s.Box.Open(f.TOTP.SecretSealed, SealLabel(SealTOTP, a.DID)); err == nil && string(have) == form.Secret {
					recovery, err = s.shownAgain(a, f, form.Codes)
					return f, nil, err // the answer was lost
				}
			}
			next, err := Authenticator{ConfirmedAt: e.At}.accept(form.Secret, six, flow, e.At)
			if err != nil {
				return f, nil, err
			}
			next.SecretSealed = s.Box.Seal([]byte(form.Secret), SealLabel(SealTOTP, a.DID))
			f.TOTP, f.DangerousFactor = &next, true
			notes := []note{{kind: account.EntryTOTPOn, notice: mail.NoticeTOTPOn}}
			f, recovery = s.withRecovery(&now, f, form.Codes)
			return f, notes, nil
		})
	})
	return recovery, err
}

// RemoveTOTP turns the authenticator app off.
func (s *Service) RemoveTOTP(ctx context.Context, a *account.Account) error {
	return s.change(ctx, a, func(_ account.Account, f Factors, _ account.Entry) (Factors, []note, error) {
		if f.TOTP == nil {
			return f, nil, nil // it is off already
		}
		f.TOTP = nil
		return f, []note{{kind: account.EntryTOTPOff, notice: mail.NoticeTOTPOff}}, nil
	})
}

// sealForm returns v sealed, for a hidden field of a form.
func (s *Service) sealForm(v any, label string) (string, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("encode form: %w", err)
	}
	return s.Box.SealText(raw, label), nil
}

// openForm opens what sealForm sealed.
func (s *Service) openForm(sealed, label string, v any) error {
	raw, err := s.Box.OpenText(sealed, label)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, v)
}
