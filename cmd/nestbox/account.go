package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"nestbox/admin"
	"nestbox/control"
	"nestbox/internal/system"
)

type accountCmd struct {
	Create     accountCreateCmd     `cmd:"" help:"Create an account."`
	List       accountListCmd       `cmd:"" help:"List accounts."`
	Info       accountInfoCmd       `cmd:"" help:"Show an account, its sessions and what happened to them."`
	Search     accountSearchCmd     `cmd:"" help:"Find accounts by a part of their e-mail address or handle."`
	Email      accountEmailCmd      `cmd:"" help:"Give an account another e-mail address, to be confirmed."`
	Handle     accountHandleCmd     `cmd:"" aliases:"change-handle" help:"Give an account another handle."`
	Reset      accountResetCmd      `cmd:"" help:"Send the owner the code for a new password."`
	Invites    accountInvitesCmd    `cmd:"" help:"Let an account earn invite codes, or stop it."`
	Mail       accountMailCmd       `cmd:"" help:"Send the owner a message, read from standard input."`
	Password   accountPasswordCmd   `cmd:"" help:"Set an account's password; ends its sessions."`
	Signout    accountSignoutCmd    `cmd:"" help:"End all sessions of an account."`
	Takedown   accountTakedownCmd   `cmd:"" help:"Take an account down; ends its sessions."`
	Untakedown accountUntakedownCmd `cmd:"" help:"Lift a takedown."`
	Suspend    accountSuspendCmd    `cmd:"" help:"Suspend an account; its sessions continue and show the suspension."`
	Unsuspend  accountUnsuspendCmd  `cmd:"" help:"Lift a suspension."`
	Notices    accountNoticesCmd    `cmd:"" help:"Turn mails to the owner about sign-ins and changes on or off."`
	Codes      accountCodesCmd      `cmd:"" help:"Turn off sign-in codes, for an owner who cannot read their mail."`
	Factors    accountFactorsCmd    `cmd:"" help:"Show second factors, or remove those of an owner who has lost them."`
	Code       accountCodeCmd       `cmd:"" help:"Print a code that a tool asks for, for an owner who gets no mail."`
	Export     accountExportCmd     `cmd:"" help:"Write all that an account has here to standard output, as a ZIP."`
	Adopt      accountAdoptCmd      `cmd:"" help:"Bring back an account that a restore has lost: its DID still names this server."`
	Delete     accountDeleteCmd     `cmd:"" help:"Delete an account for good."`
}

// target are the flags and the argument of commands about one account.
type target struct {
	where
	output

	Account string `arg:"" help:"DID, handle or e-mail address."`
}

// change runs a command that answers with the account.
func change[A any](t target, command control.Command[A, admin.AccountLine], args A, said string) error {
	var a admin.AccountLine
	if err := call(t.where, command, args, &a); err != nil {
		return err
	}
	return t.print(a, func(w io.Writer) {
		fmt.Fprintf(w, "%s (%s): %s\n", a.Handle, a.DID, said)
		if a.AnnouncementWaits {
			fmt.Fprintln(w, announcementWaits)
		}
	})
}

// announcementWaits is what people read of admin.AccountLine.AnnouncementWaits.
const announcementWaits = "the network hears of it after nestbox firehose jump: until then relays ignore what this server announces"

type accountCreateCmd struct {
	where
	output

	Handle        string `arg:"" help:"Handle below one of the server's domains."`
	Email         string `arg:"" help:"E-mail address."`
	Password      string `help:"Password. Others on this machine can see it; prefer --password-stdin." placeholder:"PASSWORD"`
	PasswordStdin bool   `help:"Read the password from standard input."`
	RecoveryKey   string `help:"The owner's did:key, which overrides the server's own key." placeholder:"KEY"`
}

func (c *accountCreateCmd) Run() error {
	password, err := choosePassword(c.Password, c.PasswordStdin)
	if err != nil {
		return err
	}
	var a admin.AccountLine
	args := admin.CreateArgs{Handle: c.Handle, Email: c.Email, Password: password, RecoveryKey: c.RecoveryKey}
	if err := call(c.where, admin.CmdAccountCreate, args, &a); err != nil {
		return err
	}
	return c.print(a, func(w io.Writer) {
		fmt.Fprintf(w, "handle\t%s\nDID\t%s\ne-mail\t%s\n", a.Handle, a.DID, a.Email)
		if a.Password != "" {
			fmt.Fprintf(w, "password\t%s\n", a.Password)
		}
	})
}

func choosePassword(flag string, stdin bool) (string, error) {
	if !stdin {
		return flag, nil
	}
	p, err := system.ReadSecret(os.Stdin, os.Stderr, "Password: ")
	if err == nil && p == "" {
		err = errors.New("the password is empty")
	}
	return p, err
}

type accountListCmd struct {
	where
	output
}

func (c *accountListCmd) Run() error {
	return printAccounts(c.output, func(after int64, page *admin.AccountPage) error {
		return call(c.where, admin.CmdAccountList, admin.ListArgs{After: after}, page)
	})
}

// printAccounts prints all pages of a list of accounts.
func printAccounts(o output, next func(after int64, page *admin.AccountPage) error) error {
	all := []admin.AccountLine{}
	for after := int64(0); ; {
		var page admin.AccountPage
		if err := next(after, &page); err != nil {
			return err
		}
		all = append(all, page.Accounts...)
		if after = page.Next; after == 0 {
			break
		}
	}
	return o.print(all, func(w io.Writer) {
		fmt.Fprintln(w, "HANDLE\tDID\tE-MAIL\tSTATUS\tCREATED")
		for _, a := range all {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", a.Handle, a.DID, a.Email, a.Status, a.CreatedAt)
		}
	})
}

type accountInfoCmd struct{ target }

func (c *accountInfoCmd) Run() error {
	var a admin.AccountInfo
	if err := call(c.where, admin.CmdAccountInfo, admin.AccountArgs{Account: c.Account}, &a); err != nil {
		return err
	}
	return c.print(a, func(w io.Writer) {
		fmt.Fprintf(w, "handle\t%s\nDID\t%s\ne-mail\t%s\nstatus\t%s\ncreated\t%s\n", a.Handle, a.DID, a.Email, a.Status, a.CreatedAt)
		fmt.Fprintf(w, "e-mail confirmed\t%s\nsign-in codes\t%s\nnotices\t%s\n", yesNo(a.EmailConfirmed), onOff(a.EmailFactor), onOff(a.Notices))
		for _, name := range a.AppPasswords {
			fmt.Fprintf(w, "app password\t%s\n", name)
		}
		fmt.Fprintln(w)
		printSessions(w, a.Sessions)
		fmt.Fprintln(w, "\nBROWSER\tSINCE\tLAST USED\tTRUSTED UNTIL\tFROM\tCLIENT")
		for _, b := range a.Browsers {
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", b.ID, b.CreatedAt, b.LastUsedAt, b.TrustedUntil, b.Network, b.Client)
		}
		fmt.Fprintln(w, "\nWHEN\tWHAT\tBY\tSESSION\tWHY\tFROM\tCLIENT")
		for _, e := range a.Trail {
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", e.At, e.Kind, e.By, e.Session, e.Reason, e.Network, e.UserAgent)
			if e.OtherNetwork != "" || e.OtherUserAgent != "" {
				fmt.Fprintf(w, "\t\t\t\tthe session's own client:\t%s\t%s\n", e.OtherNetwork, e.OtherUserAgent)
			}
		}
	})
}

type accountPasswordCmd struct {
	target

	Password      string `help:"New password. Default: a generated one. Others on this machine can see it; prefer --password-stdin." placeholder:"PASSWORD"`
	PasswordStdin bool   `help:"Read the password from standard input."`
}

func (c *accountPasswordCmd) Run() error {
	password, err := choosePassword(c.Password, c.PasswordStdin)
	if err != nil {
		return err
	}
	var a admin.AccountLine
	if err := call(c.where, admin.CmdAccountPassword, admin.PasswordArgs{Account: c.Account, Password: password}, &a); err != nil {
		return err
	}
	return c.print(a, func(w io.Writer) {
		fmt.Fprintf(w, "%s: password changed, all sessions ended\n", a.Handle)
		if a.Password != "" {
			fmt.Fprintf(w, "password\t%s\n", a.Password)
		}
	})
}

type accountSignoutCmd struct {
	target

	AppPasswords bool `help:"Revoke the app passwords as well."`
}

func (c *accountSignoutCmd) Run() error {
	var ended admin.Ended
	if err := call(c.where, admin.CmdAccountSignout, admin.SignOutArgs{Account: c.Account, AppPasswords: c.AppPasswords}, &ended); err != nil {
		return err
	}
	return c.print(ended, func(w io.Writer) { fmt.Fprintf(w, "%d sessions ended\n", ended.Sessions) })
}

type accountTakedownCmd struct {
	target

	Ref string `help:"Reference of the moderation case." placeholder:"TEXT"`
}

func (c *accountTakedownCmd) Run() error {
	return change(c.target, admin.CmdAccountTakedown, admin.TakedownArgs{Account: c.Account, Ref: c.Ref}, "taken down, all sessions ended")
}

type accountUntakedownCmd struct{ target }

func (c *accountUntakedownCmd) Run() error {
	return change(c.target, admin.CmdAccountUntakedown, admin.AccountArgs{Account: c.Account}, "takedown lifted")
}

type accountSuspendCmd struct{ target }

func (c *accountSuspendCmd) Run() error {
	return change(c.target, admin.CmdAccountSuspend, admin.AccountArgs{Account: c.Account}, "suspended")
}

type accountUnsuspendCmd struct{ target }

func (c *accountUnsuspendCmd) Run() error {
	return change(c.target, admin.CmdAccountUnsuspend, admin.AccountArgs{Account: c.Account}, "suspension lifted")
}

type accountDeleteCmd struct{ target }

func (c *accountDeleteCmd) Run() error {
	var done admin.Done
	if err := call(c.where, admin.CmdAccountDelete, admin.AccountArgs{Account: c.Account}, &done); err != nil {
		return err
	}
	return c.print(done, func(w io.Writer) { fmt.Fprintf(w, "%s: deleted\n", c.Account) })
}
