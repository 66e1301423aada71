package main

import (
	"errors"
	"fmt"
	"io"

	"nestbox/admin"
)

type accountCodeCmd struct {
	target

	What    string `arg:"" optional:"" name:"what" help:"The same as --purpose."`
	Purpose string `help:"confirm_email, update_email or reset_password, as a mail would have it; delete_account; plc_operation lets a tool change the identity, as when moving to another server. Make sure first that the owner asks." placeholder:"WHAT"`
	Yes     bool   `help:"For plc_operation: the owner asks for it."`
}

func (c *accountCodeCmd) Run() error {
	switch {
	case c.What != "" && c.Purpose != "":
		return errors.New("name one purpose")
	case c.Purpose == "":
		c.Purpose = c.What
	}
	if c.Purpose == "" {
		return errors.New("name the purpose of the code, as in --purpose confirm_email")
	}
	var code admin.CodeLine
	if err := call(c.where, admin.CmdAccountCode, admin.CodeArgs{Account: c.Account, Purpose: c.Purpose, Sure: c.Yes}, &code); err != nil {
		return err
	}
	return c.print(code, func(w io.Writer) {
		fmt.Fprintf(w, "handle\t%s\nDID\t%s\ncode\t%s\n", code.Handle, code.DID, code.Code)
		fmt.Fprintf(w, "valid\tonce, for %d minutes\n", code.Minutes)
	})
}
