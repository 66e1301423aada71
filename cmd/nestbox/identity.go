package main

import (
	"fmt"
	"io"

	"nestbox/admin"
	"nestbox/control"
	"nestbox/hosting"
)

type identityCmd struct {
	Show   identityShowCmd   `cmd:"" help:"Show an account's identity as the network sees it, beside what this server has."`
	Repair identityRepairCmd `cmd:"" help:"Make the account's did:plc name its handle, its key and this server."`
	Rotate identityRotateCmd `cmd:"" name:"rotate-key" help:"Give the account a new signing key, and sign its repository with it."`
}

type identityShowCmd struct{ target }

func (c *identityShowCmd) Run() error {
	return identity(c.target, admin.CmdIdentityShow, admin.AccountArgs{Account: c.Account})
}

type identityRepairCmd struct {
	target

	Force bool `help:"Also if the account has moved to another server."`
}

func (c *identityRepairCmd) Run() error {
	return identity(c.target, admin.CmdIdentityRepair, admin.RepairArgs{Account: c.Account, Force: c.Force})
}

type identityRotateCmd struct{ target }

func (c *identityRotateCmd) Run() error {
	return identity(c.target, admin.CmdIdentityRotate, admin.AccountArgs{Account: c.Account})
}

// identity runs a command that answers with the account's identity, and prints that.
func identity[A any](t target, command control.Command[A, hosting.IdentityReport], args A) error {
	var r hosting.IdentityReport
	if err := call(t.where, command, args, &r); err != nil {
		return err
	}
	return t.print(r, func(w io.Writer) { printIdentity(w, r) })
}

func printIdentity(w io.Writer, r hosting.IdentityReport) {
	fmt.Fprintln(w, "\tHERE\tNETWORK\t")
	for _, f := range r.Facts {
		mark := "as here"
		if f.Differs() {
			mark = "differs"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.What, f.Here, f.Network, mark)
	}
	if r.Proven {
		fmt.Fprintln(w, "The handle leads to the account.")
	} else {
		fmt.Fprintln(w, "The handle does not lead to the account: it is shown as handle.invalid.")
	}
	for i, key := range r.RotationKeys {
		whose := ""
		if key == r.Ours {
			whose = "this server's"
		}
		fmt.Fprintf(w, "rotation key %d\t%s\t\t%s\n", i+1, key, whose)
	}
	if len(r.RotationKeys) > 0 && !r.Control {
		fmt.Fprintln(w, "This server's rotation key is not among them: it cannot change the identity.")
	}
}
