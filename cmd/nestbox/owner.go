package main

import "nestbox/admin"

type accountHandleCmd struct {
	target

	Handle string `arg:"" help:"The new handle. One outside of the server's domains must lead to the account already."`
}

func (c *accountHandleCmd) Run() error {
	return change(c.target, admin.CmdAccountHandle, admin.HandleArgs{Account: c.Account, Handle: c.Handle}, "handle changed")
}

type accountResetCmd struct{ target }

func (c *accountResetCmd) Run() error {
	return change(c.target, admin.CmdAccountReset, admin.AccountArgs{Account: c.Account}, "the mail waits to be sent")
}

type accountInvitesCmd struct {
	target

	State string `arg:"" enum:"on,off" help:"on or off."`
}

func (c *accountInvitesCmd) Run() error {
	on := c.State == "on"
	said := "earns no invite codes any more"
	if on {
		said = "may earn invite codes"
	}
	return change(c.target, admin.CmdAccountInvites, admin.SwitchArgs{Account: c.Account, On: on}, said)
}
