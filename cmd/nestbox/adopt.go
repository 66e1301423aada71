package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/admin"
	"nestbox/server"
)

type accountAdoptCmd struct {
	where
	output

	DID    string `arg:"" name:"did" help:"The account's DID, which names this server."`
	Email  string `help:"The owner's e-mail address." required:"" placeholder:"ADDRESS"`
	Handle string `help:"The handle. Default: the one that the DID names." placeholder:"HANDLE"`
	From   string `help:"Fetch the repository from this host, which has a copy of it (com.atproto.sync.getRepo)." placeholder:"URL" xor:"copy" required:""`
	CAR    string `name:"car" help:"Read the repository from this CAR file; - is standard input." placeholder:"FILE" xor:"copy" required:""`
}

func (c *accountAdoptCmd) Run() (err error) {
	in, err := c.open()
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // it was only read
	var answer bytes.Buffer
	if err := c.stream("account.adopt", admin.AdoptArgs{DID: c.DID, Email: c.Email, Handle: c.Handle}, in, &answer); err != nil {
		return err
	}
	var a admin.AdoptLine
	if err := json.Unmarshal(answer.Bytes(), &a); err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	return c.print(a, func(w io.Writer) {
		fmt.Fprintf(w, "%s (%s): adopted with %d records, deactivated; its DID names a new key\n", a.Handle, a.DID, a.Records)
		fmt.Fprintf(w, "password:\t%s\n", a.Password)
		if a.Missing > 0 {
			fmt.Fprintf(w, "%d blobs are missing: apps of the owner can upload them again\n", a.Missing)
		}
		fmt.Fprintln(w, "the owner signs in, or resets the password by mail, and activates the account")
	})
}

// open opens the copy of the repository.
func (c *accountAdoptCmd) open() (io.ReadCloser, error) {
	switch {
	case c.CAR == "-":
		return io.NopCloser(os.Stdin), nil
	case c.CAR != "":
		return os.Open(c.CAR)
	}
	did, err := syntax.ParseDID(c.DID)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", c.DID, err)
	}
	return server.FetchRepo(context.Background(), c.From, did)
}
