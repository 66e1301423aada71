package main

import (
	"fmt"
	"io"

	"nestbox/admin"
)

type relayCmd struct {
	Status relayStatusCmd `cmd:"" help:"Ask each relay of PDS_CRAWLERS what it knows of this server."`
	Crawl  relayCrawlCmd  `cmd:"" help:"Ask a relay now to crawl this server."`
}

type relayStatusCmd struct {
	where
	output
}

func (c *relayStatusCmd) Run() error {
	var st admin.RelayStatus
	if err := call(c.where, admin.CmdRelayStatus, admin.Done{}, &st); err != nil {
		return err
	}
	return c.print(st, func(w io.Writer) {
		fmt.Fprintln(w, "RELAY\tSTATUS\tLAST EVENT\tACCOUNTS\tLAST REQUEST")
		fmt.Fprintf(w, "this server\t\t%d\t%d\t\n", st.Seq, st.Accounts)
		for _, r := range st.Relays {
			status := r.Status
			switch {
			case r.Unseen:
				status = "does not know this server"
			case r.Error != "":
				status = r.Error
			}
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s %s\n", r.Relay, status, r.Seq, r.Accounts, r.AskedAt, r.AskedError)
		}
	})
}

type relayCrawlCmd struct {
	where
	output

	Relay string `arg:"" help:"The relay's URL, as in PDS_CRAWLERS."`
}

func (c *relayCrawlCmd) Run() error {
	var done admin.Done
	if err := call(c.where, admin.CmdRelayCrawl, admin.RelayArgs{Relay: c.Relay}, &done); err != nil {
		return err
	}
	return c.print(done, func(w io.Writer) { fmt.Fprintln(w, "the relay accepted the request") })
}
