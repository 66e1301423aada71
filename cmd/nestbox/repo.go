package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"nestbox/admin"
)

type repoCmd struct {
	Export repoExportCmd `cmd:"" help:"Write an account's repository to standard output, as a CAR file."`
	Import repoImportCmd `cmd:"" help:"Replace an account's repository with that of a CAR file."`
	Drop   repoDropCmd   `cmd:"" help:"Remove a record that verify reports and that no client can delete."`
}

type repoExportCmd struct {
	where

	Account string `arg:"" help:"DID, handle or e-mail address."`
}

func (c *repoExportCmd) Run() error {
	if info, err := os.Stdout.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		return errors.New("refusing to write a CAR file to a terminal; redirect it to a file")
	}
	return c.stream("repo.export", admin.AccountArgs{Account: c.Account}, strings.NewReader(""), os.Stdout)
}

type repoImportCmd struct {
	target

	File string `arg:"" help:"CAR file; - is standard input."`
}

func (c *repoImportCmd) Run() (err error) {
	in := os.Stdin
	if c.File != "-" {
		if in, err = os.Open(c.File); err != nil {
			return fmt.Errorf("open CAR file: %w", err)
		}
		defer in.Close() //nolint:errcheck // it was only read
	}
	var answer bytes.Buffer
	if err := c.stream("repo.import", admin.AccountArgs{Account: c.Account}, in, &answer); err != nil {
		return err
	}
	var done admin.ImportLine
	if err := json.Unmarshal(answer.Bytes(), &done); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return c.print(done, func(w io.Writer) {
		fmt.Fprintf(w, "%s: %d records, commit %s, revision %s\n", done.DID, done.Records, done.CID, done.Rev)
		if done.Malformed > 0 {
			fmt.Fprintf(w, "%d of the records could not be written here; they were imported as they are\n", done.Malformed)
		}
	})
}

type repoDropCmd struct {
	target

	Key string `arg:"" help:"Key of the record as verify prints it: COLLECTION/RKEY."`
}

func (c *repoDropCmd) Run() error {
	var done admin.DropLine
	if err := call(c.where, admin.CmdRepoDrop, admin.DropArgs{Account: c.Account, Key: c.Key}, &done); err != nil {
		return err
	}
	return c.print(done, func(w io.Writer) {
		fmt.Fprintf(w, "%s: dropped; commit %s, revision %s\n", done.DID, done.CID, done.Rev)
	})
}
