package main

import (
	"fmt"
	"io"

	"nestbox/admin"
	"nestbox/auth"
)

type keysCmd struct {
	List   keysListCmd   `cmd:"" help:"List the keys."`
	Rotate keysRotateCmd `cmd:"" help:"Sign with a fresh key from now on; nobody is signed out."`
	Retire keysRetireCmd `cmd:"" help:"Remove a key: what only it signed is dead."`
}

type keysListCmd struct {
	where
	output
}

func (c *keysListCmd) Run() error {
	var keys []auth.KeyInfo
	if err := c.run("keys.list", admin.Done{}, &keys); err != nil {
		return err
	}
	return c.print(keys, func(w io.Writer) {
		fmt.Fprintln(w, "KEY\tCREATED\tSIGNS\tLEGACY\tCONFIGURED")
		for _, k := range keys {
			fmt.Fprintf(w, "%s\t%s\t%t\t%t\t%t\n", k.ID, k.Created.Format("2006-01-02T15:04:05Z"), k.Signing, k.Legacy, k.Configured)
		}
	})
}

type keysRotateCmd struct {
	where
	output
}

func (c *keysRotateCmd) Run() error {
	var key auth.KeyInfo
	if err := c.run("keys.rotate", admin.Done{}, &key); err != nil {
		return err
	}
	return c.print(key, func(w io.Writer) { fmt.Fprintf(w, "%s signs from now on\n", key.ID) })
}

type keysRetireCmd struct {
	where
	output

	KID string `arg:"" name:"key" help:"The key, as nestbox keys list shows it."`
}

func (c *keysRetireCmd) Run() error {
	var done admin.Done
	if err := c.run("keys.retire", admin.KeyArgs{ID: c.KID}, &done); err != nil {
		return err
	}
	return c.print(done, func(w io.Writer) { fmt.Fprintf(w, "%s is retired\n", c.KID) })
}
