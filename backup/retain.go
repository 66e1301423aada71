package backup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Keep is how many snapshots are kept: the newest one of each of so many days, weeks and
// months that have one. The zero value keeps all.
type Keep struct{ Daily, Weekly, Monthly int }

// errKeep: see ParseKeep.
var errKeep = errors.New("write how many to keep like daily=7,weekly=4,monthly=6")

// ParseKeep reads a Keep, like daily=7,weekly=4,monthly=6. Empty keeps all.
func ParseKeep(text string) (k Keep, err error) {
	if text == "" {
		return k, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		name, number, _ := strings.Cut(strings.TrimSpace(part), "=")
		n, err := strconv.Atoi(number)
		field, ok := map[string]*int{"daily": &k.Daily, "weekly": &k.Weekly, "monthly": &k.Monthly}[name]
		if err != nil || !ok || n < 0 {
			return Keep{}, errKeep
		}
		*field = n
	}
	if k == (Keep{}) {
		return k, errKeep
	}
	return k, nil
}

// dropped returns the manifests that are not kept, of names with the oldest first. Those that
// are younger than now are kept, and take the place of none.
func (k Keep) dropped(names []string, now time.Time) (drop []string) {
	if k == (Keep{}) || len(names) == 0 {
		return nil
	}
	names = names[:latest(names, now)+1]
	kept := map[string]bool{}
	for _, rule := range []struct {
		most   int
		period func(time.Time) string
	}{
		{k.Daily, func(t time.Time) string { return t.Format(time.DateOnly) }},
		{k.Weekly, func(t time.Time) string { y, w := t.ISOWeek(); return fmt.Sprint(y, " ", w) }},
		{k.Monthly, func(t time.Time) string { return t.Format("2006-01") }},
	} {
		seen := map[string]bool{}
		for i := len(names) - 1; i >= 0 && len(seen) < rule.most; i-- {
			at, _, _ := nameOf(names[i])
			if period := rule.period(at); !seen[period] {
				seen[period], kept[names[i]] = true, true
			}
		}
	}
	for i, name := range names {
		if i < len(names)-1 && !kept[name] { // the newest one always stays
			drop = append(drop, name)
		}
	}
	return drop
}

// spareAge is how old an object must be that no manifest names before it is removed: a
// snapshot that is being made may need it.
const spareAge = 24 * time.Hour

// Retained is what Retain removed.
type Retained struct {
	Snapshots int   `json:"snapshots"`
	Objects   int   `json:"objects"`
	Bytes     int64 `json:"bytes"`
}

// Retain removes those snapshots of the service that Keep does not keep, and then what no manifest
// names and is older than a day. The first snapshot of each log stays as long as the times behind it can
// be restored. What others made stays, with the log that leads on from it. If a manifest of what stays
// cannot be read, it removes nothing.
func (s *Service) Retain(ctx context.Context) (out Retained, err error) {
	if s.Keep == (Keep{}) {
		return out, nil
	}
	names, err := Names(ctx, s.Depot)
	if err != nil {
		return out, err
	}
	made, err := s.made()
	if err != nil {
		return out, err
	}
	others := func(name string) bool { return !s.Adopt && !slices.Contains(made, name) }
	own := slices.DeleteFunc(slices.Clone(names), others)
	if n := len(names) - len(own); n > 0 {
		s.Log.LogAttrs(ctx, slog.LevelWarn, "the store has snapshots that this data directory has not made, which stay: "+
			"if no other server writes there, as after a restore, run nestbox backup --adopt once", slog.Int("snapshots", n))
	}
	drop, err := s.drop(ctx, names, own)
	if err != nil {
		return out, err
	}
	for name := range drop {
		if err := s.Depot.Remove(ctx, name); err != nil {
			return out, fmt.Errorf("remove %s from %s: %w", name, s.Depot, err)
		}
		out.Snapshots++
	}
	if err := s.Depot.Flush(ctx); err != nil {
		return out, fmt.Errorf("write to %s: %w", s.Depot, err)
	}
	if names, err = Names(ctx, s.Depot); err != nil { // another machine may have made one
		return out, err
	}
	left, err := s.load(ctx, names)
	if err != nil {
		return out, err
	}
	reach := s.reach(slices.DeleteFunc(names, others))
	leads := slices.DeleteFunc(slices.Clone(left), func(m *Manifest) bool { return !others(m.Name) && m.At.Before(reach) })
	return out, s.sweep(ctx, left, leads, &out)
}

// drop returns which of the service's own snapshots are to be removed, once it has read the manifests of
// all that stay.
func (s *Service) drop(ctx context.Context, names, own []string) (map[string]bool, error) {
	drop, begun := map[string]bool{}, map[string]bool{}
	for _, name := range s.Keep.dropped(own, s.Now()) {
		drop[name] = true
	}
	reach := s.reach(own)
	for _, name := range names {
		at, _, _ := nameOf(name)
		if drop[name] && at.Before(reach) {
			continue
		}
		m, err := Load(ctx, s.Depot, name)
		switch {
		case drop[name] && harmed(err): // it leads nowhere
		case err != nil:
			return nil, fmt.Errorf("nothing is removed: %w", err)
		case m.Chain != "" && !begun[m.Chain] && !at.Before(reach) && slices.Contains(own, name):
			begun[m.Chain] = true
			delete(drop, name)
		}
	}
	return drop, nil
}

// reach returns how far back the times between snapshots of some names can be restored: as far as the
// daily snapshots go.
func (s *Service) reach(names []string) time.Time {
	names = names[:latest(names, s.Now())+1]
	daily := Keep{Daily: s.Keep.Daily}
	dropped := map[string]bool{}
	for _, name := range daily.dropped(names, s.Now()) {
		dropped[name] = true
	}
	for i, name := range names {
		if at, _, _ := nameOf(name); !dropped[name] && (daily.Daily > 0 || i == len(names)-1) {
			return at
		}
	}
	return time.Time{}
}

// neededOfLog returns a function that reports whether an object is to be kept of the log: it leads on
// from one of some snapshots.
func neededOfLog(leads []*Manifest) func(Object) bool {
	first := map[string]int64{}
	for _, m := range leads {
		if old, ok := first[m.Chain]; m.Chain != "" && (!ok || m.Segment < old) {
			first[m.Chain] = m.Segment
		}
	}
	return func(o Object) bool {
		folder, _, _ := strings.Cut(strings.TrimPrefix(o.Name, logFolder+"/"), "/")
		from, ok := first[folder]
		index := int64(0)
		if seg, is := parseSegment(o.Name, o.Size); is {
			index = seg.Index
		} else if list, is := parseList(o.Name, o.Size); is {
			index = list.index
		}
		return ok && index >= from
	}
}

// load reads manifests.
func (s *Service) load(ctx context.Context, names []string) (out []*Manifest, err error) {
	for _, name := range names {
		m, err := Load(ctx, s.Depot, name)
		if err != nil {
			return nil, fmt.Errorf("nothing is removed: %w", err)
		}
		out = append(out, m)
	}
	return out, nil
}

// sweep removes what no manifest of those that are left names, and of the log what leads on from none
// of leads. Both have the oldest first.
func (s *Service) sweep(ctx context.Context, left, leads []*Manifest, out *Retained) error {
	named := map[string]bool{}
	for _, m := range left {
		for _, o := range m.objects() {
			named[o.Name] = true
		}
	}
	for _, folder := range []string{packsFolder, objectsFolder} {
		if err := s.removeFrom(ctx, folder, func(o Object) bool { return named[o.Name] }, out); err != nil {
			return err
		}
	}
	needed, between := neededOfLog(leads), false
	keep := func(o Object) bool {
		does := needed(o)
		between = between || does
		return does
	}
	if err := s.removeFrom(ctx, logFolder, keep, out); err != nil {
		return err
	}
	// The snapshot that was made last needs none of what was found damaged before.
	note := func(o Object) bool { return len(left) == 0 || o.At.After(left[len(left)-1].At) }
	if err := s.removeFrom(ctx, damagedFolder, note, out); err != nil {
		s.Log.LogAttrs(ctx, slog.LevelWarn, "notes of what was damaged stay in the store", slog.String("cause", err.Error()))
	}
	lists, done, err := s.lists(ctx, left)
	defer done()
	if err != nil {
		return err
	}
	return s.removeFrom(ctx, blobsFolder, func(o Object) bool {
		if between && !o.At.Before(leads[0].At) {
			return true // a time between two snapshots may have it
		}
		name := o.Name
		key, _, _ := strings.Cut(name[strings.LastIndexByte(name, '/')+1:], ".")
		for _, l := range lists {
			if line, ok := l.find(key); ok && line.name() == name {
				return true
			}
		}
		return false
	}, out)
}

// lists opens the lists of blobs of manifests, through files of the state.
func (s *Service) lists(ctx context.Context, of []*Manifest) (lists []*lineReader, done func(), err error) {
	var files []*os.File
	done = func() {
		for _, f := range files {
			_, _ = f.Close(), os.Remove(f.Name()) // the next run removes what is left
		}
	}
	r := &Reader{Depot: s.Depot}
	for _, m := range of {
		file, err := os.CreateTemp(s.State, "object-")
		if err != nil {
			return nil, done, fmt.Errorf("list the blobs: %w", err)
		}
		files = append(files, file)
		err = r.usePacked(ctx, m.Blobs, func(in io.Reader) error {
			_, err := io.Copy(file, in)
			return err
		})
		if err != nil {
			return nil, done, fmt.Errorf("nothing is removed: %w", err)
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			return nil, done, fmt.Errorf("list the blobs: %w", err)
		}
		lists = append(lists, newLineReader(bufio.NewReader(file)))
	}
	return lists, done, nil
}

// removeFrom removes the objects of a folder that are not named and old enough.
func (s *Service) removeFrom(ctx context.Context, folder string, named func(Object) bool, out *Retained) error {
	var spare []Object
	remove := func() error {
		for _, o := range spare {
			if err := s.Depot.Remove(ctx, o.Name); err != nil {
				return fmt.Errorf("remove %s from %s: %w", o.Name, s.Depot, err)
			}
			out.Objects++
			out.Bytes += o.Size
		}
		spare = spare[:0]
		return nil
	}
	err := s.Depot.List(ctx, folder+"/", func(o Object) error {
		if named(o) || s.Now().Sub(o.At) < spareAge {
			return nil
		}
		if spare = append(spare, o); len(spare) < 1000 {
			return nil
		}
		return remove()
	})
	if err != nil {
		return err
	}
	s.progress(Step{"retention", int64(out.Objects), int64(out.Objects), 0})
	return remove()
}
