package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"nestbox/server"
	"nestbox/takeover"
)

func seconds(ms int64) string {
	return (time.Duration(ms) * time.Millisecond).Round(100 * time.Millisecond).String()
}

// printReport prints the report of a pass that ended with err: what was found, what to do, what
// comes next.
func printReport(w io.Writer, r *takeover.Report, pass server.Pass, err error) {
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	line("from\t%s", r.Source)
	line("to\t%s", r.Target)
	if s := r.Sizes; s.Free > 0 {
		line("sizes\tdatabases %s, repositories %s, blobs %s in %d files",
			bytesText(s.Databases), bytesText(s.Actors), bytesText(s.Blobs), s.BlobFiles)
		line("disk\tabout %s needed, %s free", bytesText(s.Needed), bytesText(s.Free))
		if s.Manner != takeover.Any {
			line("blobs by\t%s", s.Manner)
		}
	}
	if r.Accounts.Found > 0 {
		line("accounts\t%d, of which %d were read", r.Accounts.Found, r.Accounts.Read)
		line("read\t%d records (%s), %d blobs (%s)", r.Records, bytesText(r.RecordBytes), r.Blobs.Count, bytesText(r.Blobs.Bytes))
		for _, how := range slices.Sorted(maps.Keys(r.Blobs.By)) {
			if how != takeover.Any {
				line("\t%d blobs by %s", r.Blobs.By[how], how)
			}
		}
	}
	printStored(line, r)
	printOdd(line, r)
	if r.Took > 0 {
		line("took\t%s", seconds(r.Took))
	}
	if pass == server.DryRun && r.FirstPass > 0 {
		line("will take\tabout %s for --prepare beside the running server, and %s for the last pass after its stop", seconds(r.FirstPass),
			seconds(r.FinalPass))
	}
	printNext(line, r, pass, err)
}

type printer func(format string, args ...any)

// list prints a line for each of all.
func list[T any](line printer, what string, all []T) {
	for _, one := range all {
		line("%s\t%v", what, one)
	}
}

// few is how many accounts or blobs of one kind are printed.
const few = 20

// some is list for what there can be many of.
func some[T any](line printer, what string, all []T) {
	list(line, what, all[:min(few, len(all))])
	if more := len(all) - few; more > 0 {
		line("%s\tand %d more (--json has all)", what, more)
	}
}

// printStored prints what the target has.
func printStored(line printer, r *takeover.Report) {
	n := r.Stored
	if n == nil {
		if r.Events.Last > 0 {
			line("events\tthe last is %d", r.Events.Last)
		}
		return
	}
	line("taken over\t%d accounts: %d active, %d deactivated, %d taken down", n.Accounts, n.Active, n.Deactivated, n.TakenDown)
	line("\t%d repositories, %d records, %d blobs (%s)", n.Repositories, n.Records, n.Blobs, bytesText(n.BlobBytes))
	line("\t%d app passwords, %d invite codes, %d uses, %d reserved keys", n.AppPasswords, n.Invites, n.InviteUses, n.ReservedKeys)
	line("\t%d lists of preferences, %d takedowns of records and blobs, %d e-mail codes", n.Preferences, n.Takedowns, n.EmailCodes)
	line("\t%d sessions", n.Sessions)
	line("\t%d events up to %d; %d numbers without an event", r.Events.Kept, r.Events.Last, r.Events.Removed)
	if r.Events.Syncs+r.Events.Statuses > 0 {
		line("\t%d repositories and %d statuses of which the old event log did not say: announced", r.Events.Syncs, r.Events.Statuses)
	}
	if r.Sessions != nil {
		line("sessions\t%s", r.Sessions)
	}
}

// printOdd prints what an operator should know.
func printOdd(line printer, r *takeover.Report) {
	if n := r.Dropped; n.AppPasswords+n.EmailCodes > 0 {
		line("dropped\t%d app passwords without an account, %d e-mail codes that are too old", n.AppPasswords, n.EmailCodes)
	}
	some(line, "not to be deleted", r.DeleteAfter.Dropped)
	some(line, "to be deleted", r.DeleteAfter.Kept)
	some(line, "skipped", r.Skipped)
	if n := len(r.DeleteAfter.Kept); n > 0 && r.Stored != nil {
		line("mailed\t%d of the owners of %d accounts that are to be deleted", r.DeleteAfter.Mailed, n)
	}
	some(line, "records from the tree", r.Lagging)
	some(line, "repository from the relay", r.FromRelay)
	if r.OddRecords > 0 {
		line("remark\t%d records could not be written here; they are kept as they are", r.OddRecords)
	}
	if n := len(r.Blobs.Bad); n > 0 {
		line("blobs left out\t%d", n)
	}
	some(line, "blob left out", r.Blobs.Bad)
	list(line, "remark", r.Remarks)
	list(line, "not read", r.Unread)
	list(line, "setting", r.Settings)
	list(line, "fault", r.Faults)
	for _, f := range r.Refusals {
		line("refused\t%s: %s", f.Problem, f.Do)
	}
}

// printNext prints what to do now.
func printNext(line printer, r *takeover.Report, pass server.Pass, err error) {
	switch {
	case len(r.Refusals) > 0:
		line("next\tdo what stands behind each refusal, and repeat the command")
	case len(r.Faults) > 0:
		line("next\tdo what stands behind each fault, and repeat the command")
	case err != nil: // the error has what to do
	case r.Done && !server.InPlace(r):
		line("next\tstart nestbox serve with the same env file, but with PDS_DATA_DIRECTORY=%s; "+
			"nestbox takeover --check --to %[1]s compares the two", r.Target)
	case r.Done:
		line("next\tstart nestbox serve with the same env file; nestbox takeover --check compares the two")
	case pass == server.DryRun:
		line("next\tnestbox takeover --prepare beside the running server; or stop it, and nestbox takeover")
	case pass == server.Prepare:
		line("next\tstop the old server for good, and nestbox takeover; or --prepare again, so that less is left")
	}
}

func printChecked(w io.Writer, c server.CheckedTakeover) {
	_, _ = fmt.Fprintf(w, "compared\t%d accounts, %d of them as they were, %d written since\n", c.Accounts, c.Same, c.Newer)
	b, s := c.Blobs, c.Sessions
	_, _ = fmt.Fprintf(w, "blobs\t%d of %d are here, %d have no file in the old server either, %d are gone since\n",
		b.Here, b.Old, b.Missing, b.Gone)
	_, _ = fmt.Fprintf(w, "sessions\t%d of %d go on, %d have ended since; %d were refreshed here, %d opened here\n",
		s.Here, s.Old, s.Ended, s.Refreshed, s.Opened)
	_, _ = fmt.Fprintf(w, "grants\t%d of %d of OAuth apps go on, %d have ended since\n", c.Grants.Here, c.Grants.Old, c.Grants.Ended)
	for _, d := range c.Differences {
		_, _ = fmt.Fprintf(w, "differs\t%s\n", d)
	}
	for _, text := range c.Warnings {
		_, _ = fmt.Fprintf(w, "warning\t%s\n", text)
	}
}

func printOver(w io.Writer, o server.OldFiles) {
	_, _ = fmt.Fprintf(w, "taken over\t%s\n", o.At.Format(time.RFC3339))
	if o.Moved != "" {
		_, _ = fmt.Fprintf(w, "moved\tthe data directory is %s: set PDS_DATA_DIRECTORY to it, and start nestbox serve\n", o.Moved)
	}
	for _, path := range o.Removable {
		_, _ = fmt.Fprintf(w, "may be removed\t%s\n", path)
	}
	if len(o.Keep) > 0 {
		_, _ = fmt.Fprintf(w, "keep\t%s\n", strings.Join(o.Keep, ", "))
	}
	_, _ = fmt.Fprintln(w, "note\tfiles of blobs that are linked take no room twice; what is removed is the way back")
}
