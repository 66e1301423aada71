package main

import (
	"errors"
	"os"
	"strings"

	"nestbox/server"
)

type accountExportCmd struct {
	where

	Account string `arg:"" help:"DID, handle or e-mail address."`
	Part    int    `help:"A part of the files of an account that has more than 2 GB; 0 for the rest, which lists the parts." placeholder:"N"`
}

func (c *accountExportCmd) Run() error {
	if info, err := os.Stdout.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		return errors.New("refusing to write a ZIP to a terminal; redirect it to a file")
	}
	args := server.ExportArgs{Account: c.Account, Part: c.Part}
	return c.stream(server.ExportCommand, args, strings.NewReader(""), os.Stdout)
}
