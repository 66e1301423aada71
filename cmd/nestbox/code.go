package main

import (
	"fmt"
	"io"

	"nestbox/admin"
)

type accountCodeCmd struct {
	target

	Purpose string `arg:"" enum:"plc_operation,delete_account" help:"plc_operation lets a tool change the identity, as when moving to another server; delete_account lets it delete the account. Make sure first that the owner asks."`
}

func (c *accountCodeCmd) Run() error {
	var code admin.CodeLine
	if err := call(c.where, admin.CmdAccountCode, admin.CodeArgs{Account: c.Account, Purpose: c.Purpose}, &code); err != nil {
		return err
	}
	return c.print(code, func(w io.Writer) {
		fmt.Fprintf(w, "handle\t%s\nDID\t%s\ncode\t%s\n", code.Handle, code.DID, code.Code)
		fmt.Fprintf(w, "valid\tonce, for %d minutes\n", code.Minutes)
	})
}
