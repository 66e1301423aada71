package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"

	"nestbox/admin"
)

type statsCmd struct {
	where
	output

	Collections bool `help:"Also count records by collection: that reads every record."`
}

func (c *statsCmd) Run() error {
	var st admin.Stats
	if err := call(c.where, admin.CmdStats, admin.StatsArgs{Collections: c.Collections}, &st); err != nil {
		return err
	}
	return c.print(st, func(w io.Writer) {
		for _, status := range slices.Sorted(maps.Keys(st.Accounts)) {
			fmt.Fprintf(w, "accounts, %s\t%d\n", status, st.Accounts[status])
		}
		fmt.Fprintf(w, "records\t%d\nblobs\t%d\nbytes of blobs\t%d\nlast event\t%d\n", st.Records, st.Blobs, st.BlobBytes, st.LastEvent)
		if len(st.Collections) > 0 {
			fmt.Fprintln(w, "\nCOLLECTION\tRECORDS\tACCOUNTS")
		}
		for _, l := range st.Collections {
			fmt.Fprintf(w, "%s\t%d\t%d\n", cmp.Or(l.Name, "(without a name)"), l.Records, l.Accounts)
		}
		if left := st.CollectionsInAll - int64(len(st.Collections)); left > 0 {
			fmt.Fprintf(w, "and %d more collections\n", left)
		}
	})
}
