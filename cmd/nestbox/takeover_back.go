package main

import (
	"fmt"
	"io"

	"nestbox/takeover"
)

// printBack prints what went back, and what is left to do.
func printBack(w io.Writer, r *takeover.BackReport) {
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	line("went back\t%d accounts, %d sessions by %d tokens, %d grants of OAuth clients", r.Accounts, r.Sessions, r.Tokens, r.Grants)
	list(line, "deleted here", r.Gone)
	list(line, "made here, lost", r.New)
	for _, did := range r.PasswordChanged {
		line("old password\t%s has the password from before the take-over again", did)
	}
	list(line, "app password made here, lost", r.AppPasswords)
	for _, file := range r.Moved {
		line("to be imported\t%s, with the token of its account, by com.atproto.repo.importRepo", file)
	}
	list(line, "setting", r.Settings)
	for _, setting := range r.Remove {
		line("next\tremove %s from the old server's file: it fails with it", setting)
	}
	line("next\tkeep this server stopped, set what is above in the old server's file, and start it")
	line("remark\tclients that refreshed here after `nestbox keys rotate` ask for a new sign-in: the old server knows PDS_JWT_SECRET alone")
	line("remark\tOAuth apps that refreshed here ask for a new sign-in; what was uploaded here is to be uploaded again (listMissingBlobs)")
}
