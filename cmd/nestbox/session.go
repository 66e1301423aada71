package main

import (
	"fmt"
	"io"

	"nestbox/admin"
)

type sessionCmd struct {
	List   sessionListCmd   `cmd:"" help:"List an account's sessions, latest used first."`
	Revoke sessionRevokeCmd `cmd:"" help:"End one session of an account."`
}

type sessionListCmd struct{ target }

func (c *sessionListCmd) Run() error {
	var list []admin.SessionLine
	if err := call(c.where, admin.CmdSessionList, admin.AccountArgs{Account: c.Account}, &list); err != nil {
		return err
	}
	return c.print(list, func(w io.Writer) { printSessions(w, list) })
}

func printSessions(w io.Writer, list []admin.SessionLine) {
	fmt.Fprintln(w, "SESSION\tCREATED\tLAST USED\tCLIENT\tNETWORK\tAPP PASSWORD\tREFRESHES")
	for _, s := range list {
		if s.ClientID != "" {
			s.Client = s.ClientID // what its user agent says is of no account
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%d\n", s.ID, s.CreatedAt, s.LastUsedAt, s.Client, s.Network, s.AppPassword, s.Refreshes)
	}
}

type sessionRevokeCmd struct {
	target

	ID int64 `arg:"" help:"Number of the session, as nestbox session list shows it."`
}

func (c *sessionRevokeCmd) Run() error {
	var done admin.Done
	if err := call(c.where, admin.CmdSessionRevoke, admin.SessionArgs{Account: c.Account, ID: c.ID}, &done); err != nil {
		return err
	}
	return c.print(done, func(w io.Writer) { fmt.Fprintf(w, "session %d ended\n", c.ID) })
}
