package main

import (
	"fmt"
	"io"

	"nestbox/admin"
)

type accountFactorsCmd struct {
	target

	State string `arg:"" optional:"" enum:",off" default:"" help:"off removes the authenticator app, the passkeys and the recovery codes; make sure first that the owner asks."`
}

func (c *accountFactorsCmd) Run() error {
	var f admin.FactorsLine
	if err := call(c.where, admin.CmdAccountFactors, admin.FactorsArgs{Account: c.Account, Off: c.State == "off"}, &f); err != nil {
		return err
	}
	return c.print(f, func(w io.Writer) {
		since := "off"
		if f.Authenticator != "" {
			since = "since " + f.Authenticator
		}
		fmt.Fprintf(w, "handle\t%s\nDID\t%s\nsign-in codes by e-mail\t%s\nauthenticator app\t%s\n", f.Handle, f.DID, onOff(f.EmailFactor), since)
		for _, p := range f.Passkeys {
			fmt.Fprintf(w, "passkey\t%s, made %s, last used %s\n", p.Name, p.MadeAt, p.LastUsed)
		}
		fmt.Fprintf(w, "recovery codes left\t%d\npasskey after the password\t%s\nsign-in by apps with the password\t%s\n",
			f.RecoveryCodes, onOff(f.PasskeySecond), onOff(f.AppsByPassword))
	})
}
