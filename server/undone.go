package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"nestbox/backup"
	"nestbox/datadir"
	"nestbox/internal/durable"
	"nestbox/store"
	"nestbox/store/sqlite"
)

// Undone is what a restore has undone: what is back, and what is lost.
type Undone struct {
	// Until is of when the newest state of the store is, with which the restored one was compared. Gap
	// is why what happened after it cannot be listed, if the store has anything of it.
	Until time.Time `json:"until,omitzero"`
	Gap   string    `json:"gap,omitempty"`
	// Count is how many there are of each kind, List has the first of each.
	Count map[store.UndoneKind]int `json:"count,omitempty"`
	List  []store.Undone           `json:"list,omitempty"`
	// Error is why the states could not be compared. The restore itself is none the worse.
	Error string `json:"error,omitempty"`
}

// undoneMost bounds how many of a kind Undone.List has.
const undoneMost = 10_000

// laterState is the store's newest state, of which the database is in a folder. state is nil if it is
// not younger than what was restored.
type laterState struct {
	folder string
	state  *backup.Replay
	err    error
}

func (l *laterState) path() string { return filepath.Join(l.folder, backup.DatabaseName) }

// laterDatabase brings the database of the newest state into a folder of the data directory. The
// restored database must be as it was restored.
func laterDatabase(ctx context.Context, a RestoreArgs, replay *backup.Replay, dir datadir.Dir) *laterState {
	l := &laterState{folder: filepath.Join(string(dir), laterName)}
	if l.err = durable.MakeDir(l.folder); l.err == nil {
		l.state, l.err = a.Reader.Ahead(ctx, replay, dir.Database(), l.path())
	}
	return l
}

// compare returns what was undone, nil if nothing is younger, and removes the folder.
func (l *laterState) compare(ctx context.Context, dir datadir.Dir, each func(store.Undone)) *Undone {
	out := &Undone{Count: map[store.UndoneKind]int{}}
	err := l.err
	if l.state != nil {
		out.Until, out.Gap = l.state.At, l.state.Gap
		err = migrateOlder(ctx, l.path())
	}
	if err == nil && l.state != nil {
		err = sqlite.Undone(ctx, dir.Database(), l.path(), time.Now(), func(u store.Undone) error {
			out.Count[u.Kind]++
			if out.Count[u.Kind] <= undoneMost {
				out.List = append(out.List, u)
			}
			if each != nil {
				each(u)
			}
			return nil
		})
	}
	if err := errors.Join(err, os.RemoveAll(l.folder)); err != nil {
		out.Error = fmt.Sprintf("what was undone could not be listed: %v", err)
		return out
	}
	if l.state == nil {
		return nil
	}
	return out
}
