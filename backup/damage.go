package backup

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// damagedFolder has an empty object for each object of the store that a verification found
// damaged, by its name.
const damagedFolder = "damaged"

// MarkDamaged notes in a store which of its objects are damaged, so that the next snapshot sends
// them again.
func MarkDamaged(ctx context.Context, d Depot, names []string) error {
	for _, name := range names {
		if err := d.Put(ctx, damagedFolder+"/"+name, 0, strings.NewReader("")); err != nil {
			return fmt.Errorf("note in %s what is damaged: %w", d, err)
		}
	}
	return d.Flush(ctx)
}

// marks are the times at which objects were found damaged, by their name.
type marks map[string]time.Time

// on reports whether an object was found damaged, and not put since.
func (m marks) on(o Object) bool {
	at, ok := m[o.Name]
	return ok && !o.At.After(at)
}

// readMarks lists what MarkDamaged noted. A manifest that the state has is put again at once. A
// store that refuses either has no marks, as far as this backup is concerned: it is made all the same.
func (r *run) readMarks(ctx context.Context) {
	r.damaged = marks{}
	err := r.Depot.List(ctx, damagedFolder+"/", func(o Object) error {
		r.damaged[strings.TrimPrefix(o.Name, damagedFolder+"/")] = o.At
		return nil
	})
	if err != nil {
		r.Log.LogAttrs(ctx, slog.LevelWarn, "what was found damaged in the store cannot be listed: the backup does not mend it",
			slog.String("cause", err.Error()))
		return
	}
	own, err := r.remembered()
	if err != nil {
		return
	}
	if _, ok := r.damaged[own.Name]; !ok {
		return
	}
	if err := r.put(ctx, Stored{Name: own.Name, Size: int64(len(own.raw))}, bytesReader(own.raw)); err != nil {
		delete(r.damaged, own.Name) // its mark stays
		r.Log.LogAttrs(ctx, slog.LevelWarn, "a snapshot's manifest is damaged in the store, and cannot be put again",
			slog.String("snapshot", own.Name), slog.String("cause", err.Error()))
	}
}

// dropMarks removes the marks once a snapshot is there that needs nothing of what they name. Those
// who may not remove them leave them: they do not count for what was put since.
func (r *run) dropMarks(ctx context.Context) {
	for name := range r.damaged {
		if err := r.Depot.Remove(ctx, damagedFolder+"/"+name); err != nil {
			r.Log.LogAttrs(ctx, slog.LevelDebug, "a note of what was damaged stays in the store", slog.String("cause", err.Error()))
			return
		}
	}
}
