package admin

import (
	"context"

	"nestbox/account"
	"nestbox/signin"
)

// FactorsArgs are the arguments of account.factors.
type FactorsArgs struct {
	Account string `json:"account"`
	// Off removes them, except codes by e-mail.
	Off bool `json:"off"`
}

// FactorsLine shows an account's second factors.
type FactorsLine struct {
	AccountLine

	EmailFactor bool `json:"emailAuthFactor"`
	// Authenticator is since when there is an authenticator app; empty for none.
	Authenticator string        `json:"authenticator,omitzero"`
	Passkeys      []PasskeyLine `json:"passkeys"`
	// RecoveryCodes are those that are left.
	RecoveryCodes  int  `json:"recoveryCodes"`
	PasskeySecond  bool `json:"passkeyAfterPassword"`
	AppsByPassword bool `json:"appsByPassword"`
}

// PasskeyLine shows a passkey.
type PasskeyLine struct {
	Name     string `json:"name"`
	MadeAt   string `json:"madeAt"`
	LastUsed string `json:"lastUsedAt,omitzero"`
}

// factors shows the second factors of an account, or removes those of an owner who has lost
// them: the operator makes sure beforehand that it is the owner who asks.
func (s *Service) factors(ctx context.Context, a FactorsArgs) (FactorsLine, error) {
	var f signin.Overview
	var acc *account.Account
	_, err := s.change(ctx, a.Account, func(found *account.Account) (_ *account.Account, err error) {
		acc = found
		if a.Off {
			if err := s.SignIns.Off(ctx, acc); err != nil {
				return nil, err
			}
		}
		f, err = s.SignIns.Overview(ctx, acc)
		return acc, err
	})
	if err != nil {
		return FactorsLine{}, err
	}
	line := FactorsLine{
		AccountLine: accountLine(acc), EmailFactor: acc.EmailFactor, Passkeys: []PasskeyLine{}, RecoveryCodes: f.RecoveryLeft(),
		PasskeySecond: f.PasskeySecond, AppsByPassword: !f.AppsOff,
	}
	if f.TOTP != nil {
		line.Authenticator = datetime(f.TOTP.ConfirmedAt)
	}
	for _, p := range f.Passkeys {
		line.Passkeys = append(line.Passkeys, PasskeyLine{p.Name, datetime(p.MadeAt), datetime(p.UsedAt)})
	}
	return line, nil
}
