package server

import (
	"context"
	"errors"
	"os"

	"nestbox/datadir"
	"nestbox/store/reference"
	"nestbox/store/sqlite"
)

// noteTakeover makes datadir.TakeoverFile of a data directory that is restored, if the database at a path was made by
// a take-over and the backup lacks the file. What state the source had then is not known.
func noteTakeover(ctx context.Context, dir datadir.Dir, database string) error {
	if _, err := os.Stat(dir.Takeover()); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	stage, source, err := sqlite.TakenOver(ctx, database)
	if err != nil || source == "" || stage.Finished.IsZero() {
		return err
	}
	taken := Taken{Source: source, At: stage.Finished, LastEvent: stage.LastEvent, Places: reference.Places{Data: source}.In()}
	return taken.write(dir)
}
