package admin

import (
	"context"
	"fmt"

	"nestbox/account"
)

// CodeArgs are the arguments of account.code.
type CodeArgs struct {
	Account string `json:"account"`
	// Purpose is what the code is for: one of account.ToolPurposes.
	Purpose string `json:"purpose"`
}

// CodeLine is a code that was made for an owner.
type CodeLine struct {
	AccountLine

	Purpose string `json:"purpose"`
	Code    string `json:"code"`
	// Minutes is how long the code is valid.
	Minutes int `json:"minutes"`
}

// giveCode makes a code that a tool of an owner asks for, who gets no mail: the operator
// makes sure beforehand that it is the owner who asks.
func (s *Service) giveCode(ctx context.Context, a CodeArgs) (CodeLine, error) {
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
