package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"nestbox/admin"
	"nestbox/auth"
	"nestbox/config"
	"nestbox/server"
)

type keysCmd struct {
	List   keysListCmd   `cmd:"" help:"List the keys."`
	Rotate keysRotateCmd `cmd:"" help:"Sign with a fresh key from now on; nobody is signed out."`
	Retire keysRetireCmd `cmd:"" help:"Remove a key; tokens that only it signed stop working."`
	Reseal keysResealCmd `cmd:"" help:"Encrypt the accounts' private keys with another key. Stop the server first."`
}

type keysListCmd struct {
	where
	output
}

func (c *keysListCmd) Run() error {
	var keys []admin.Key
	if err := call(c.where, admin.CmdKeysList, admin.Done{}, &keys); err != nil {
		return err
	}
	return c.print(keys, func(w io.Writer) {
		fmt.Fprintln(w, "KEY\tPURPOSE\tCREATED\tSIGNS\tLEGACY\tCONFIGURED")
		for _, k := range keys {
			created := ""
			if !k.Created.IsZero() {
				created = k.Created.Format("2006-01-02T15:04:05Z")
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%t\t%t\t%t\n", k.ID, k.Purpose, created, k.Signing, k.Legacy, k.Configured)
		}
	})
}

type keysRotateCmd struct {
	where
	output
}

func (c *keysRotateCmd) Run() error {
	var key auth.KeyInfo
	if err := call(c.where, admin.CmdKeysRotate, admin.Done{}, &key); err != nil {
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
	if err := call(c.where, admin.CmdKeysRetire, admin.KeyArgs{ID: c.KID}, &done); err != nil {
		return err
	}
	return c.print(done, func(w io.Writer) { fmt.Fprintf(w, "%s is retired\n", c.KID) })
}

type keysResealCmd struct {
	where
	output

	To string `help:"File for the new key, created if it is missing. Default: replace the key in the data directory." type:"path" placeholder:"FILE"`
}

func (c *keysResealCmd) Run() error {
	conf, _, err := config.Load(c.flags(), os.Environ())
	if err != nil {
		return err
	}
	done, err := server.Reseal(context.Background(), &conf, c.To)
	if err != nil {
		return err
	}
	return c.print(done, func(w io.Writer) {
		fmt.Fprintf(w, "%d signing keys and the PLC rotation key are encrypted with the key in %s now\n", done.Keys, done.File)
		if c.To != "" {
			fmt.Fprintln(w, "Before you start the server, set PDS_KEY_ENCRYPTION_KEY_FILE to that file; "+
				"unset it if that is key_encryption_key of the data directory.")
		}
		fmt.Fprintln(w, "Earlier backups still need the old key.")
	})
}
