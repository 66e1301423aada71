package main

import (
	"fmt"
	"io"

	"nestbox/admin"
)

type firehoseCmd struct {
	Status     firehoseStatusCmd     `cmd:"" help:"Show what the event log holds and its subscribers."`
	Disconnect firehoseDisconnectCmd `cmd:"" help:"End the connection of a subscriber; it may come again."`
	Jump       firehoseJumpCmd       `cmd:"" help:"After a restore from a backup: continue above the numbers that the network has seen. Drops the event log and announces every account again."`
}

type firehoseStatusCmd struct {
	where
	output
}

func (c *firehoseStatusCmd) Run() error {
	var st admin.FirehoseStatus
	if err := call(c.where, admin.CmdFirehoseStatus, admin.Done{}, &st); err != nil {
		return err
	}
	return c.print(st, func(w io.Writer) {
		fmt.Fprintf(w, "last event:\t%d\n", st.Last)
		if st.OldestAt != "" {
			fmt.Fprintf(w, "oldest kept:\t%d, of %s\n", st.Oldest, st.OldestAt)
		}
		fmt.Fprintf(w, "size:\t%d bytes\n", st.Bytes)
		fmt.Fprintf(w, "write-ahead log:\t%d bytes\n", st.LogBytes)
		if st.Announcing {
			fmt.Fprintln(w, "announcing:\tnot every account has been announced since the last jump; a running server goes on with it")
		}
		fmt.Fprintf(w, "subscribers:\t%d\n", len(st.Subscribers))
		if len(st.Subscribers) > 0 {
			fmt.Fprintln(w, "\nCLIENT\tSINCE\tSENT\tUSER AGENT")
		}
		for _, s := range st.Subscribers {
			fmt.Fprintf(w, "%s\t%s\t%d\t%q\n", s.Client, s.Since, s.Sent, s.UserAgent)
		}
	})
}

type firehoseJumpCmd struct {
	where
	output

	To        int64  `help:"The next event gets the number above this one." placeholder:"N" xor:"target" required:""`
	FromRelay string `help:"Continue well above the number that this relay has seen from the server." placeholder:"URL" xor:"target" required:""`
}

func (c *firehoseJumpCmd) Run() error {
	var jumped admin.Jumped
	if err := call(c.where, admin.CmdFirehoseJump, admin.JumpArgs{To: c.To, Relay: c.FromRelay}, &jumped); err != nil {
		return err
	}
	return c.print(jumped, func(w io.Writer) {
		fmt.Fprintf(w, "the next event is number %d; the running server, or the next one, announces every account\n", jumped.Last+1)
	})
}

type firehoseDisconnectCmd struct {
	where
	output

	ID int64 `arg:"" name:"id" help:"The subscriber's number: nestbox firehose status --json."`
}

func (c *firehoseDisconnectCmd) Run() error {
	var done admin.Done
	if err := call(c.where, admin.CmdFirehoseDisconnect, admin.DisconnectArgs{ID: c.ID}, &done); err != nil {
		return err
	}
	return c.print(done, func(w io.Writer) { fmt.Fprintln(w, "disconnected") })
}
