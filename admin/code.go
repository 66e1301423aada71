package admin

import (
	"context"
	"errors"
	"fmt"

	"nestbox/account"
)

// CodeArgs are the arguments of account.code.
type CodeArgs struct {
	Account string `json:"account"`
	// Purpose is what the code is for: one of account.OperatorPurposes.
	Purpose string `json:"purpose"`
	// Sure must be set for one that lets the account leave this server.
	Sure bool `json:"sure"`
}

// CodeLine is a code that was made for an owner.
type CodeLine struct {
	AccountLine

	Purpose string `json:"purpose"`
	Code    string `json:"code"`
	// Minutes is how long the code is valid.
	Minutes int `json:"minutes"`
}

// errSure: what the code lets somebody do cannot be undone here.
var errSure = errors.New("this code lets its holder move the account's identity away from this server: " +
	"make sure that the owner asks for it, then repeat the command with --yes")

// giveCode makes a code for an owner who gets no mail: the operator makes sure beforehand that it
// is the owner who asks.
func (s *Service) giveCode(ctx context.Context, a CodeArgs) (CodeLine, error) {
	if account.Purpose(a.Purpose) == account.PurposePLCOperation && !a.Sure {
		return CodeLine{}, errSure
	}
	out := CodeLine{Purpose: a.Purpose, Minutes: int(account.CodeLife.Minutes())}
	line, err := s.change(ctx, a.Account, func(found *account.Account) (_ *account.Account, err error) {
		out.Code, err = s.Emails.GiveCode(ctx, found, account.Purpose(a.Purpose), account.ActorAdmin)
		if err != nil {
			err = fmt.Errorf("make a code for %q: %w", a.Purpose, err)
		}
		return found, err
	})
	out.AccountLine = line
	return out, err
}
