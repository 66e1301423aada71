package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"nestbox/config"
	"nestbox/server"
)

type downgradeCmd struct {
	where
	output

	ToCopy bool   `required:"" help:"Put back the copy that the last upgrade kept, before-N.sqlite. What was written since is not in it; the newer database is kept."`
	Copy   string `help:"This copy instead." placeholder:"FILE"`
}

// Run puts a copy in the place of the database.
func (c *downgradeCmd) Run() error {
	conf, _, err := config.Load(c.flags(), os.Environ())
	if err != nil {
		return err
	}
	if c.Copy != "" {
		if c.Copy, err = filepath.Abs(c.Copy); err != nil {
			return err
		}
	}
	done, err := server.Downgrade(&conf, c.Copy)
	if err != nil {
		return err
	}
	return c.print(done, func(w io.Writer) {
		fmt.Fprintf(w, "The database is the one of %s again (schema %d).\n", done.Copy.At.UTC().Format(time.RFC3339), done.Copy.Schema)
		fmt.Fprintf(w, "The newer one is kept as %s: delete it when you do not need it any more.\n", done.Kept)
		fmt.Fprintf(w, "Start the version of nestbox that wrote schema %d.\n", done.Copy.Schema)
		if done.Events > 0 {
			fmt.Fprintf(w, "The network got %d events since. Before you start that version, run with it: nestbox firehose jump --to %d\n",
				done.Events, done.Last)
		}
	})
}
