package signin

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"

	"nestbox/account"
	"nestbox/mail"
)

// newRecoveryCodes makes the codes of one account: of 50 random bits each.
func newRecoveryCodes() []string {
	codes := make([]string, RecoveryCodes)
	for i := range codes {
		codes[i] = account.NewCode()
	}
	return codes
}

// recoveryKeySize is the size of the key of an account's hashes in bytes.
const recoveryKeySize = 32

func hashRecovery(key []byte, code string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(code))
	return h.Sum(nil)
}

// setRecovery returns the factors with new recovery codes, which void the old ones. Their
// key is new as well.
func (s *Service) setRecovery(a *account.Account, f Factors, codes []string) Factors {
	key := make([]byte, recoveryKeySize)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the process instead
	f.RecoveryMadeAt = s.now()
	f.Recovery, f.RecoveryKey = nil, s.Box.Seal(key, SealLabel(SealRecovery, a.DID))
	for _, code := range codes {
		f.Recovery = append(f.Recovery, RecoveryCode{Hash: hashRecovery(key, code)})
	}
	return f
}

// withRecovery returns the factors with the codes if the account has none yet, and the
// codes that the owner must be shown.
func (s *Service) withRecovery(a *account.Account, f Factors, codes []string) (Factors, []string) {
	if len(f.Recovery) > 0 {
		return f, nil
	}
	return s.setRecovery(a, f, codes), codes
}

// recoveryCode returns the place of a code in Factors.Recovery, -1 if it is none.
func (s *Service) recoveryCode(a *account.Account, f Factors, code string) (int, error) {
	if len(f.Recovery) == 0 {
		return -1, nil
	}
	key, err := s.Box.Open(f.RecoveryKey, SealLabel(SealRecovery, a.DID))
	if err != nil {
		return -1, fmt.Errorf("recovery codes of %s: %w", a.DID, err)
	}
	hash := hashRecovery(key, code)
	return slices.IndexFunc(f.Recovery, func(c RecoveryCode) bool { return hmac.Equal(c.Hash, hash) }), nil
}

// shownAgain returns the codes if they are the account's.
func (s *Service) shownAgain(a *account.Account, f Factors, codes []string) ([]string, error) {
	if len(codes) == 0 {
		return nil, nil
	}
	i, err := s.recoveryCode(a, f, codes[0])
	if err != nil || i < 0 {
		return nil, err
	}
	return codes, nil
}

// usable reports whether a code can be used in a flow: for the first time, or again by the
// page that used it, if its answer was lost.
func (s *Service) usable(c RecoveryCode, flow string) bool {
	return c.UsedAt.IsZero() || flow != "" && c.UsedFlow == flow && s.now().Sub(c.UsedAt).Abs() < account.RepeatFor
}

// fitsRecovery reports whether a code is a recovery code that can be used.
func (s *Service) fitsRecovery(a *account.Account, f Factors, code, flow string) (bool, error) {
	i, err := s.recoveryCode(a, f, code)
	return err == nil && i >= 0 && s.usable(f.Recovery[i], flow), err
}

// useRecovery uses up a recovery code, and tells the owner.
func (s *Service) useRecovery(ctx context.Context, a *account.Account, code, flow string) error {
	return s.guess(ctx, a, Recovery, func() error {
		return s.change(ctx, a, func(_ account.Account, f Factors, e account.Entry) (Factors, []note, error) {
			i, err := s.recoveryCode(a, f, code)
			switch {
			case err != nil:
				return f, nil, err
			case i < 0 || !s.usable(f.Recovery[i], flow):
				return f, nil, account.ErrCodeInvalid
			case !f.Recovery[i].UsedAt.IsZero():
				return f, nil, nil
			}
			f.Recovery[i].UsedAt, f.Recovery[i].UsedFlow = e.At, flow
			left := strconv.Itoa(f.RecoveryLeft())
			return f, []note{{kind: account.EntryRecoveryUsed, notice: mail.NoticeRecoveryUsed, detail: left + " left", mailed: left}}, nil
		})
	})
}

// NewRecoveryCodes makes new recovery codes, which void the old ones. ErrNoFactor: the
// account has no factor to recover.
func (s *Service) NewRecoveryCodes(ctx context.Context, a *account.Account) (codes []string, err error) {
	codes = newRecoveryCodes()
	err = s.change(ctx, a, func(_ account.Account, f Factors, _ account.Entry) (Factors, []note, error) {
		if !f.Strong() {
			return f, nil, ErrNoFactor
		}
		return s.setRecovery(a, f, codes), []note{{kind: account.EntryRecoveryMade, notice: mail.NoticeRecoveryMade}}, nil
	})
	if err != nil {
		return nil, err
	}
	return codes, nil
}
