package main

import (
	"fmt"
	"io"

	"nestbox/admin"
)

type clientCmd struct {
	List  clientListCmd  `cmd:"" help:"List the OAuth clients that have sessions here."`
	Fetch clientFetchCmd `cmd:"" help:"Fetch the document of an OAuth client again."`
	End   clientEndCmd   `cmd:"" help:"End every session of an OAuth client."`
}

type clientListCmd struct {
	where
	output
}

func (c *clientListCmd) Run() error {
	var lines []admin.ClientLine
	if err := call(c.where, admin.CmdClientList, admin.Done{}, &lines); err != nil {
		return err
	}
	return c.print(lines, func(w io.Writer) {
		fmt.Fprintln(w, "CLIENT\tSESSIONS\tACCOUNTS\tUSED\tFETCHED\tERROR")
		for _, l := range lines {
			fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\n", l.ClientID, l.Sessions, l.Accounts, l.UsedAt, l.FetchedAt, l.Error)
		}
	})
}

type clientEndCmd struct {
	where
	output

	ClientID string `arg:"" name:"client" help:"The client_id."`
}

func (c *clientEndCmd) Run() error {
	var ended admin.Ended
	if err := call(c.where, admin.CmdClientEnd, admin.ClientArgs{ClientID: c.ClientID}, &ended); err != nil {
		return err
	}
	return c.print(ended, func(w io.Writer) { fmt.Fprintf(w, "%d sessions ended\n", ended.Sessions) })
}

type clientFetchCmd struct {
	where
	output

	ClientID string `arg:"" name:"client" help:"The client_id."`
}

func (c *clientFetchCmd) Run() error {
	var done admin.Done
	if err := call(c.where, admin.CmdClientFetch, admin.ClientArgs{ClientID: c.ClientID}, &done); err != nil {
		return err
	}
	return c.print(done, func(w io.Writer) { fmt.Fprintf(w, "%s was fetched\n", c.ClientID) })
}
