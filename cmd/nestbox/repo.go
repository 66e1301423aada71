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
	})
}
