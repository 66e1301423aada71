package takeover

import (
	"fmt"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// Behind is by how much a database of the source may be older than another. The old server
// writes an actor, then the event log, then its database of accounts: a crash in between
// leaves the later ones behind by seconds, a -wal that was not copied by all that was in it.
const Behind = time.Minute

// copyActorLog and copyLogs are what to do when a log was left behind.
const (
	copyActorLog = "copy its store.sqlite again, together with its store.sqlite-wal; if it was brought back from a backup, use --force"
	copyLogs     = "copy the whole data directory again, with the files that end in -wal; if that is all there is, use --force"
)

// copies is what the source's databases say of repositories beside the actors themselves.
type copies struct {
	roots map[syntax.DID]syntax.TID
	// root and event are the newest times in the database of accounts and in the event log.
	root, event time.Time
	// still: the old server does not run, so that no database is read later than another.
	still, force bool
}

func (t *TakeOver) copies() (*copies, error) {
	c := &copies{roots: map[syntax.DID]syntax.TID{}, still: t.Settings.Stopped, force: t.Settings.Force}
	list, _, err := t.Source.Accounts()
	if err != nil {
		return nil, err
	}
	for _, a := range list {
		c.roots[a.DID] = a.Root.Rev
		if at := timeOf(a.Root.Rev); at.After(c.root) {
			c.root = at
		}
	}
	_, c.event, err = t.Source.LastEvent()
	return c, err
}

// timeOf returns when a revision was made, zero for what is none.
func timeOf(rev syntax.TID) time.Time {
	if !isTID(rev.String()) {
		return time.Time{}
	}
	return rev.Time()
}

// said is what they say of one account's repository.
type said struct {
	*copies

	root, event syntax.TID // empty for nothing
}

// saidOf reads what they say of an account.
func (t *TakeOver) saidOf(c *copies, did syntax.DID) (said, error) {
	out := said{copies: c, root: c.roots[did]}
	if c.force {
		return out, nil
	}
	last, err := t.Source.LatestOf(did)
	if last.Seq != 0 {
		out.event = syntax.TID(last.Revision())
	}
	return out, err
}

// check compares them with the actor's own revision. What is older than the others by more
// than a crash explains is a fault.
func (s said) check(rev syntax.TID) error {
	at := timeOf(rev)
	switch {
	case s.force:
		return nil
	case isTID(s.root.String()) && s.root > rev:
		return Faulty(fmt.Sprintf("its database is at revision %s, and account.sqlite names the newer %s", rev, s.root), copyActorLog)
	case isTID(s.event.String()) && s.event > rev:
		return Faulty(fmt.Sprintf("its database is at revision %s, and the event log names the newer %s", rev, s.event), copyActorLog)
	case !s.still:
		return nil
	case at.Sub(s.copies.event) > Behind:
		return Faulty("its repository is newer than the last event of the event log", copyLogs)
	case at.Sub(s.copies.root) > Behind:
		return Faulty("its repository is newer than all that account.sqlite knows of repositories", copyLogs)
	}
	return nil
}
