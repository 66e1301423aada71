package session

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"nestbox/account"
)

// Ended is a session that is over, as far as its account's trail remembers it.
type Ended struct {
	// Opened is the entry of the sign-in; the zero entry for a browser's.
	Opened account.Entry
	// Cause is what ended it.
	Cause account.Entry
}

// EndedSessions returns the sessions that ended since a time, the latest first, by what an
// account's trail, newest first, says of them. lives reports whether a session is still
// there. It is pure.
func EndedSessions(trail []account.Entry, lives func(id int64) bool, since time.Time) (ended []Ended) {
	var found []Ended
	causes := trail[:0:0] // those that are newer than the entry looked at, newest first
	for _, e := range trail {
		if e.Session == 0 && endsBrowser(e) {
			found = append(found, Ended{Cause: e})
		}
		if opens(e) && e.Session != 0 && !lives(e.Session) {
			for _, cause := range slices.Backward(causes) {
				if ends(cause, e) {
					found = append(found, Ended{e, cause})
					break
				}
			}
		}
		causes = append(causes, e)
	}
	for _, f := range found {
		if !f.Cause.At.Before(since) {
			ended = append(ended, f)
		}
	}
	sortEnded(ended)
	return ended
}

func opens(e account.Entry) bool {
	return e.Kind == account.EntrySignIn || e.Kind == account.EntryAppAuthorized
}

// endsBrowser reports whether an entry is of a sign-in on a browser that ended.
func endsBrowser(e account.Entry) bool {
	return (e.Kind == account.EntrySignOut || e.Kind == account.EntrySessionRevoked) && strings.HasPrefix(e.Reason, "browser: ")
}

// ends reports whether what an entry records ended the session that another one opened.
func ends(cause, opened account.Entry) bool {
	switch cause.Kind { //nolint:exhaustive // the others end nothing
	case account.EntrySignOut, account.EntrySessionRevoked, account.EntryCodeReplayed, account.EntryClientKeyRemoved:
		return cause.Session == opened.Session
	case account.EntryAllSignedOut, account.EntryPasswordChanged, account.EntryTakedown:
		return true
	case account.EntryAppPasswordRevoked:
		name, err := strconv.QuotedPrefix(cause.Reason)
		return err == nil && opened.Reason == "app password "+name
	default:
		return false
	}
}

func sortEnded(all []Ended) {
	slices.SortStableFunc(all, func(a, b Ended) int { return b.Cause.At.Compare(a.Cause.At) })
}
