package session

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"nestbox/account"
)

// Ended is a session, or a sign-in on a browser, that is over, as far as its account's
// trail remembers it.
type Ended struct {
	// Opened is the entry of the sign-in; the zero entry if the trail has forgotten a
	// browser's.
	Opened account.Entry
	// Cause is what ended it.
	Cause account.Entry
}

// Alive is what has not ended: the numbers of an account's sessions, and of the browsers
// on which it is signed in.
type Alive struct{ Sessions, Browsers map[int64]bool }

// EndedSessions returns the sessions that ended since a time, the latest first, by what an
// account's trail, newest first, says of them. It is pure.
func EndedSessions(trail []account.Entry, alive Alive, since time.Time) (ended []Ended) {
	explained := map[int]bool{}
	for i, e := range trail {
		if !opens(e) {
			continue
		}
		if c := endOf(trail, i, alive); c >= 0 {
			explained[c] = true
			ended = append(ended, Ended{e, trail[c]})
		}
	}
	for i, e := range trail {
		if e.Session == 0 && endsBrowser(e) && !explained[i] {
			ended = append(ended, Ended{Cause: e})
		}
	}
	ended = slices.DeleteFunc(ended, func(e Ended) bool { return e.Cause.At.Before(since) })
	slices.SortStableFunc(ended, func(a, b Ended) int { return b.Cause.At.Compare(a.Cause.At) })
	return ended
}

// CauseOf returns the index of the entry, in a trail with the newest first, that ended what
// entry i opened, or that is why entry i, a refusal, was one; -1 if the trail names none. It
// is pure.
func CauseOf(trail []account.Entry, i int, alive Alive) int {
	switch e := trail[i]; {
	case opens(e):
		return endOf(trail, i, alive)
	case e.Kind == account.EntryRefreshRefused && e.Session != 0:
		return refusedFor(trail, i)
	default:
		return -1
	}
}

// endOf returns the index of what ended the session, or the sign-in on a browser, that
// entry i opened.
func endOf(trail []account.Entry, i int, alive Alive) int {
	opened := trail[i]
	if opened.Session != 0 && alive.Sessions[opened.Session] || opened.Session == 0 && opened.Browser == 0 {
		return -1
	}
	first := -1
	for j := i - 1; j >= 0; j-- {
		if opened.Session == 0 && opens(trail[j]) && trail[j].Session == 0 && trail[j].Browser == opened.Browser {
			return first // signed in there again: if nothing came between, the first sign-in goes on in the second
		}
		if first < 0 && ends(trail[j], opened) {
			first = j
		}
	}
	if opened.Session == 0 && alive.Browsers[opened.Browser] {
		return -1 // what ended all others left this one
	}
	return first
}

// refusedFor returns the index of what ended the session whose refresh was refused.
func refusedFor(trail []account.Entry, i int) int {
	refused := trail[i]
	opened := account.Entry{Session: refused.Session}
	for _, e := range trail[i+1:] {
		if opens(e) && e.Session == refused.Session {
			opened = e
		}
	}
	for j := i + 1; j < len(trail); j++ {
		if e := trail[j]; ends(e, opened) || e.Kind == account.EntrySuspectedReuse && e.Session == refused.Session {
			return j
		}
		if opens(trail[j]) && trail[j].Session == refused.Session {
			break
		}
	}
	return -1
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
	case account.EntrySignOut, account.EntrySessionRevoked:
		if opened.Session == 0 {
			return cause.Session == 0 && cause.Browser == opened.Browser
		}
		return cause.Session == opened.Session
	case account.EntryCodeReplayed, account.EntryClientKeyRemoved, account.EntrySessionsCapped:
		return cause.Session != 0 && cause.Session == opened.Session
	case account.EntryAllSignedOut, account.EntryPasswordChanged, account.EntryTakedown:
		return true
	case account.EntryAppPasswordRevoked:
		name, err := strconv.QuotedPrefix(cause.Reason)
		return err == nil && opened.Reason == "app password "+name
	default:
		return false
	}
}
