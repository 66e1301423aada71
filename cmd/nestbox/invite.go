package main

import (
	"fmt"
	"io"

	"nestbox/account"
	"nestbox/admin"
)

type inviteCmd struct {
	Create  inviteCreateCmd  `cmd:"" help:"Create invite codes."`
	List    inviteListCmd    `cmd:"" help:"List all invite codes."`
	Disable inviteDisableCmd `cmd:"" help:"Disable invite codes."`
}

type inviteCreateCmd struct {
	where
	output

	Codes   int    `help:"How many codes." default:"1"`
	Uses    int    `help:"How many sign-ups each code allows." default:"1"`
	Account string `help:"The account that may give them away: DID, handle or e-mail address. Default: the operator."`
}

func (c *inviteCreateCmd) Run() error {
	var made admin.AccountCodes
	if err := call(c.where, admin.CmdInviteCreate, admin.InviteArgs{Codes: c.Codes, Uses: c.Uses, Account: c.Account}, &made); err != nil {
		return err
	}
	return c.print(made, func(w io.Writer) {
		for _, code := range made.Codes {
			fmt.Fprintln(w, code)
		}
	})
}

type inviteListCmd struct {
	where
	output

	ByUsage bool `help:"List the most used first. Default: the newest first."`
}

func (c *inviteListCmd) Run() error {
	codes := []account.InviteView{}
	for args := (admin.InviteListArgs{ByUsage: c.ByUsage}); ; {
		var page admin.GetInviteCodesOutput
		if err := call(c.where, admin.CmdInviteList, args, &page); err != nil {
			return err
		}
		codes = append(codes, page.Codes...)
		if args.Cursor = page.Cursor; args.Cursor == "" {
			break
		}
	}
	return c.print(codes, func(w io.Writer) {
		fmt.Fprintln(w, "CODE\tUSED\tOF\tDISABLED\tFOR\tCREATED")
		for _, code := range codes {
			fmt.Fprintf(w, "%s\t%d\t%d\t%t\t%s\t%s\n", code.Code, len(code.Uses), code.Available, code.Disabled, code.ForAccount, code.CreatedAt)
		}
	})
}

type inviteDisableCmd struct {
	where
	output

	Codes   []string `arg:"" optional:"" name:"code" help:"The codes."`
	Account string   `help:"All codes that this account may give away."`
}

func (c *inviteDisableCmd) Run() error {
	var done admin.Disabled
	if err := call(c.where, admin.CmdInviteDisable, admin.InviteDisableArgs{Codes: c.Codes, Account: c.Account}, &done); err != nil {
		return err
	}
	return c.print(done, func(w io.Writer) { fmt.Fprintf(w, "%d codes are disabled now that were not\n", done.Codes) })
}
