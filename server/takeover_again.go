package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"nestbox/datadir"
	"nestbox/store/reference"
	"nestbox/takeover"
)

// errOldServer: the server that was taken over runs, or has written since.
var errOldServer = errors.New("the old server is not out of use")

// changed returns what of the source was written since a take-over ended; empty if nothing
// was, or if nothing is left of it.
func (t *Taken) changed() (what string, err error) {
	now, err := t.Places.Written()
	if errors.Is(err, reference.ErrMissing) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	switch was := t.Written; {
	case now.Accounts != was.Accounts:
		return t.Places.Accounts, nil
	case now.Events != was.Events:
		return t.Places.Events, nil
	case now.Actors != was.Actors:
		return t.Places.Actors, nil
	}
	return "", nil
}

// untouched reports whether the database of a take-over is as that left it.
func (t *Taken) untouched(dir datadir.Dir) (bool, error) {
	now, err := reference.StateOf(dir.Database())
	return now == t.Database, err
}

// since decides about a take-over that has ended: again if the old server has written since
// and this one has not. It refuses if both may have, and while the old server runs.
func (t *takeoverRun) since(taken *Taken) (again bool, err error) {
	refuse := func(problem, do string) (bool, error) {
		t.report.Refusals = takeover.Refusals{{Problem: problem, Do: do}}
		return false, t.report.Refusals
	}
	ended := "it was taken over at " + taken.At.Format(time.RFC3339)
	what, err := taken.changed()
	if err != nil {
		return false, err
	}
	untouched, err := taken.untouched(t.dir)
	if err != nil {
		return false, err
	}
	served, err := taken.Places.Served()
	switch {
	case err != nil && !errors.Is(err, fs.ErrPermission):
		return false, err
	case len(served) > 0 && t.Pass == Finish:
		return refuse("the old server runs: it has "+strings.Join(served, ", ")+" open; "+ended, stopOld)
	case what == "" && len(served) == 0:
		t.report.Done = true
		t.report.Remark(ended + ": nothing is left to do")
		return false, nil
	case !untouched:
		return refuse(ended+", "+t.written(what, served)+", and so has nestbox",
			fmt.Sprintf("keep one of the two: leave the old server stopped and start nestbox serve, which loses what the old one got since; "+
				"or move %s away and repeat the command, which loses what nestbox got", t.dir))
	}
	t.report.Remark(ended + "; " + t.written(what, served) + ", and nestbox has not: it is taken over again")
	return true, nil
}

// sinceEnd is since for a take-over that was interrupted before its last file: what it saw of
// the source is not known.
func (t *takeoverRun) sinceEnd(ended time.Time) (err error) {
	if t.seen, err = t.places.Written(); err != nil {
		return err
	}
	served, err := t.places.Served()
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	changed := max(t.seen.Accounts.Changed, t.seen.Events.Changed, t.seen.Actors.Changed)
	if len(served) == 0 && changed <= ended.UnixNano() {
		return nil
	}
	t.report.Done = false
	t.refuse("it was taken over at "+ended.Format(time.RFC3339)+", and the old server has run since",
		fmt.Sprintf("stop it, move %s away, and repeat the command", t.dir))
	return t.report.Refusals
}

func (t *takeoverRun) written(what string, served []string) string {
	if what == "" {
		return "the old server runs again (" + strings.Join(served, ", ") + ")"
	}
	return "the old server has written since (" + what + ")"
}

// still refuses to end a pass whose source was written meanwhile, or is open to be.
func (t *takeoverRun) still(context.Context) error {
	served, err := t.places.Served()
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	now, err := t.places.Written()
	if err != nil {
		return err
	}
	if len(served) > 0 || now != t.seen {
		t.refuse("the old server was started while its data was read", stopOld+"; then repeat the command")
		return t.report.Refusals
	}
	return nil
}

// checkOldServer refuses to serve what was taken over while the old server runs, or if it has
// written since: two servers would write histories of the same accounts. Nothing is known of
// a source that is gone, or that this user may not see.
func checkOldServer(ctx context.Context, dir datadir.Dir, taken *Taken) error {
	if taken == nil {
		return nil
	}
	served, err := taken.Places.Served()
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if len(served) > 0 {
		return fmt.Errorf("%w: it has %s open; %s", errOldServer, strings.Join(served, ", "), stopOld)
	}
	untouched, err := taken.untouched(dir)
	if err != nil {
		return err
	}
	var what string
	if untouched {
		what, err = taken.changed()
	} else {
		what, err = taken.newerEvents(ctx, dir)
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil || what == "" {
		return err
	}
	return fmt.Errorf("%w: it has written %s since the take-over at %s; to take that over again, stop it and run nestbox takeover; "+
		"to serve what is here, and lose what it got, move that file away", errOldServer, what, taken.At.Format(time.RFC3339))
}

// newerEvents returns the source's event log if it has events from after the take-over.
func (t *Taken) newerEvents(ctx context.Context, dir datadir.Dir) (path string, err error) {
	state, err := reference.StateOf(t.Places.Events)
	switch {
	case errors.Is(err, reference.ErrMissing):
		return "", nil
	case err != nil || state == t.Written.Events:
		return "", err
	}
	source, err := reference.OpenEvents(ctx, t.Places, string(dir))
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	last, _, err := source.LastEvent()
	if err != nil || last <= t.LastEvent {
		return "", err
	}
	return t.Places.Events, nil
}
