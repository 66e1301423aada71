package main

import (
	"fmt"
	"io"

	"nestbox/admin"
)

type adminCmd struct {
	Add    adminAddCmd    `cmd:"" help:"Let an account of this server in to the admin page, at /admin/."`
	List   adminListCmd   `cmd:"" help:"List the accounts that may use the admin page."`
	Remove adminRemoveCmd `cmd:"" help:"Take an account's role away; it is signed out of the admin page."`
}

type adminAddCmd struct {
	target

	Role string `enum:"admin,moderator" required:"" help:"admin: everything. moderator: view accounts, take down, write mails, disable invite codes."`
}

func (c *adminAddCmd) Run() error {
	var line admin.RoleLine
	if err := call(c.where, admin.CmdAdminAdd, admin.RoleArgs{Account: c.Account, Role: admin.Role(c.Role)}, &line); err != nil {
		return err
	}
	return c.print(line, func(w io.Writer) {
		fmt.Fprintf(w, "%s (%s) has the role %s on the admin page. It signs in there with a passkey, or with password and authenticator app.\n",
			line.Handle, line.DID, line.Role)
	})
}

type adminListCmd struct {
	where
	output
}

func (c *adminListCmd) Run() error {
	var lines []admin.RoleLine
	if err := call(c.where, admin.CmdAdminList, admin.Done{}, &lines); err != nil {
		return err
	}
	return c.print(lines, func(w io.Writer) {
		fmt.Fprintln(w, "ROLE\tHANDLE\tDID\tSINCE")
		for _, l := range lines {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", l.Role, l.Handle, l.DID, l.At)
		}
	})
}

type adminRemoveCmd struct{ target }

func (c *adminRemoveCmd) Run() error {
	var line admin.RoleLine
	if err := call(c.where, admin.CmdAdminRemove, admin.AccountArgs{Account: c.Account}, &line); err != nil {
		return err
	}
	return c.print(line, func(w io.Writer) { fmt.Fprintf(w, "%s (%s) has no role any more\n", line.Handle, line.DID) })
}
