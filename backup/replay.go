package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/superfly/ltx"

	"nestbox/internal/durable"
)

// Replay is what leads on from a snapshot.
type Replay struct {
	// At is the time of the state that it leads to, LastEvent its last event.
	At        time.Time
	LastEvent int64
	// Gap is why nothing leads on to the time that was asked for, empty if something does.
	Gap string
	// Later are how many segments are younger.
	Later int
	// LeftOut are the younger snapshots that are damaged or missing, and why. If the log leads past them,
	// there is no Gap.
	LeftOut []string
	// Without are the files that were left out because they are damaged or missing, and why.
	Without []string

	// retired: nothing is left of the log up to the snapshot and right behind it.
	retired         bool
	manifest        *Manifest
	segments, later []Segment
	behind          string // why nothing follows later, as Gap
	lists           []blobList
	unlisted        bool // the snapshot's own list of blobs is damaged or missing
}

// end sets of when the state is that the segments lead to.
func (r *Replay) end() {
	r.At, r.LastEvent = r.manifest.At, r.manifest.LastEvent
	if n := len(r.segments); n > 0 {
		r.At, r.LastEvent = later(r.At, r.segments[n-1].At), r.segments[n-1].LastEvent
	}
}

// Snapshot returns the snapshot with which the state begins.
func (r *Replay) Snapshot() *Manifest { return r.manifest }

// Segments returns how many segments are applied.
func (r *Replay) Segments() int { return len(r.segments) }

// upTo leaves out the segments behind the one up to which a later snapshot of the chain has all.
// What is missing between the two is a gap, unless retention has removed it with all before it.
func (r *Replay) upTo(index int64) {
	for n := len(r.segments); n > 0 && r.segments[n-1].Index > index; n-- {
		r.segments = r.segments[:n-1]
	}
	last := r.manifest.Segment
	if n := len(r.segments); n > 0 {
		last = r.segments[n-1].Index
	}
	if last >= index || last == r.manifest.Segment && r.retired {
		r.Gap = ""
	}
}

// replay finds what leads on from a snapshot to a time; zero is the newest state.
func (r *Reader) replay(ctx context.Context, m *Manifest, at time.Time) (*Replay, error) {
	c, err := readChain(ctx, r.Depot, m.Chain)
	if err != nil {
		return nil, err
	}
	run, gap := c.after(m.Segment)
	out := &Replay{retired: c.retired(m.Segment), manifest: m, behind: gap, lists: c.lists}
	out.segments, out.later = until(run, at)
	out.Later = len(out.later)
	out.end()
	if len(out.later) == 0 {
		out.Gap = gap
	}
	return out, nil
}

// harmed reports whether an error says that an object is damaged or missing.
func harmed(err error) bool { return errors.Is(err, ErrDamaged) || errors.Is(err, ErrMissing) }

// cut leaves out the segments from one on that is damaged or missing, as err says. It returns false if err
// is another error.
func (r *Replay) cut(from int, err error) bool {
	harm := "damaged"
	switch {
	case errors.Is(err, ErrMissing):
		harm = "missing"
	case !harmed(err):
		return false
	}
	r.Gap = fmt.Sprintf("segment %d of the log %s is %s", r.segments[from].Index, r.manifest.Chain, harm)
	r.segments, r.later = r.segments[:from], nil
	r.end()
	return true
}

// pieceEnding ends the name of the file of a segment that is about to be applied.
const pieceEnding = ".segment"

// applyAll applies segments to the file of a database, and returns how many it has applied: of one
// that is damaged, nothing is.
func (r *Reader) applyAll(ctx context.Context, segments []Segment, path string) (done int, err error) {
	if len(segments) == 0 {
		return 0, nil
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0o600) //nolint:gosec // the operator's own folder
	if err != nil {
		return 0, fmt.Errorf("write the database: %w", err)
	}
	defer func() { err = errors.Join(err, file.Sync(), file.Close()) }()
	piece, err := os.OpenFile(path+pieceEnding, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600) //nolint:gosec // as above
	if err != nil {
		return 0, fmt.Errorf("write a segment: %w", err)
	}
	defer func() { err = errors.Join(err, piece.Close(), os.Remove(piece.Name())) }()
	for i, s := range segments {
		if err := r.apply(ctx, s, piece, file); err != nil {
			return i, err
		}
		r.progress(Step{"log", int64(i + 1), int64(len(segments)), 0})
	}
	return len(segments), nil
}

// apply applies a segment to the file of a database, once all of it is in the file piece.
func (r *Reader) apply(ctx context.Context, s Segment, piece, file *os.File) error {
	if err := piece.Truncate(0); err != nil {
		return fmt.Errorf("write a segment: %w", err)
	}
	err := r.useHashed(ctx, s.Name, s.Size, s.sum, func(in io.Reader) error {
		_, err := io.Copy(io.NewOffsetWriter(piece, 0), in)
		return err
	})
	if err != nil {
		return err
	}
	if _, err := piece.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read a segment: %w", err)
	}
	head, err := applyPages(file, piece)
	if err != nil {
		return err
	}
	if head.MinTXID != ltx.TXID(s.Index+1) { //nolint:gosec // it counts up
		return fmt.Errorf("%s: %w: it is another segment", s.Name, ErrDamaged)
	}
	if err := file.Truncate(int64(head.Commit) * int64(head.PageSize)); err != nil {
		return fmt.Errorf("write the database: %w", err)
	}
	return nil
}

// readLists reads the lists of the blobs that are new in the segments. One that is damaged or missing
// is empty, unless harm, which is called with why, returns an error.
func (r *Reader) readLists(ctx context.Context, replay *Replay, harm func(error) error) (err error) {
	for i := range replay.lists {
		l := &replay.lists[i]
		if l.lines != nil || !replay.has(l.index) {
			continue
		}
		if l.lines, err = r.readList(ctx, l); harmed(err) {
			l.lines, err = []blobLine{}, harm(err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lookAtLists reads the lists of the blobs of a state. Those that are damaged or missing are left out.
func (r *Reader) lookAtLists(ctx context.Context, replay *Replay) error {
	if err := r.readLists(ctx, replay, func(error) error { return nil }); err != nil {
		return err
	}
	list := replay.manifest.Blobs
	err := r.check(ctx, list.Name, list.Size, list.hash(), func(io.Reader) error { return nil }) // check reads it
	if replay.unlisted = harmed(err); replay.unlisted {
		return nil
	}
	return err
}

// has reports whether one of the segments has an index.
func (r *Replay) has(index int64) bool {
	return len(r.segments) > 0 && index >= r.segments[0].Index && index <= r.segments[len(r.segments)-1].Index
}

func (r *Reader) readList(ctx context.Context, l *blobList) (lines []blobLine, err error) {
	err = r.check(ctx, l.name, l.size, l.sum, func(raw io.Reader) error {
		plain, err := newDecoder(raw)
		if err != nil {
			return fmt.Errorf("decompress: %w", err)
		}
		defer plain.Close()
		text, err := io.ReadAll(plain)
		if err != nil {
			return fmt.Errorf("%s: %w: %w", l.name, ErrDamaged, err)
		}
		for line := range strings.Lines(string(text)) {
			b, err := parseBlobLine(line)
			if err != nil {
				return fmt.Errorf("%s: %w", l.name, err)
			}
			lines = append(lines, b)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return lines, nil
}

// newBlobs returns the blobs that are new in the segments, by key, as far as their lists were read.
func (r *Replay) newBlobs() (out []blobLine) {
	lines := map[string]blobLine{}
	for _, l := range r.lists {
		if !r.has(l.index) {
			continue
		}
		for _, b := range l.lines {
			lines[b.key] = b
		}
	}
	for _, key := range slices.Sorted(maps.Keys(lines)) {
		out = append(out, lines[key])
	}
	return out
}

// eachOf calls yield for each line of the blobs of a snapshot and of what leads on from it, by
// key.
func (r *Reader) eachOf(ctx context.Context, m *Manifest, replay *Replay, yield func(*blobLine) error) error {
	if err := r.readLists(ctx, replay, func(err error) error { return err }); err != nil {
		return err
	}
	more := replay.newBlobs()
	before := func(key string) error {
		for len(more) > 0 && more[0].key < key {
			next := more[0]
			more = more[1:]
			if err := yield(&next); err != nil {
				return err
			}
		}
		return nil
	}
	if replay.unlisted {
		return before("\xff")
	}
	err := r.eachBlob(ctx, m, func(line *blobLine) error {
		if err := before(line.key); err != nil {
			return err
		}
		if len(more) > 0 && more[0].key == line.key {
			more = more[1:]
		}
		return yield(line)
	})
	if err != nil {
		return err
	}
	return before("\xff")
}

// Ahead writes the database of the store's newest state to a file, if that is younger than a
// state that was restored, of which the database is in another file, as Restore wrote it. It
// returns what the file has, up to what is damaged, and nil if no state is younger.
func (r *Reader) Ahead(ctx context.Context, done *Replay, database, path string) (rest *Replay, err error) {
	names, err := Names(ctx, r.Depot)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names[:latest(names, time.Now())+1], func(name string) bool { return name < done.manifest.Name })
	var harm error
	var lost string // the newest snapshot that is damaged
	for _, name := range slices.Backward(names) {
		if rest, err = r.aheadFrom(ctx, name, done, database, path); !harmed(err) {
			break
		}
		if harm == nil {
			harm, lost = err, name
		}
	}
	switch at, _, _ := nameOf(lost); {
	case err != nil || harm == nil:
		return rest, err
	case rest == nil && !done.At.Before(at): // what was restored has what it had
		return nil, nil //nolint:nilnil // as in aheadFrom
	case rest == nil:
		return nil, harm
	case rest.Gap == "" && rest.At.Before(at):
		rest.Gap = fmt.Sprintf("the snapshot %s cannot be used: %v", lost, harm)
	}
	return rest, nil
}

// aheadFrom is Ahead by one snapshot, which is not older than the one that was restored, and its log.
func (r *Reader) aheadFrom(ctx context.Context, name string, done *Replay, database, path string) (rest *Replay, err error) {
	from := 0 // what is before is in the file
	if name == done.manifest.Name {
		if len(done.later) == 0 {
			return nil, nil //nolint:nilnil // that there is none is not an error
		}
		from = len(done.segments)
		rest = &Replay{Gap: done.behind, manifest: done.manifest, segments: slices.Concat(done.segments, done.later)}
		rest.end()
		if err = durable.CopyFile(database, path); err != nil {
			err = fmt.Errorf("copy the database: %w", err)
		}
	} else {
		m, loadErr := Load(ctx, r.Depot, name)
		if loadErr != nil {
			return nil, loadErr
		}
		if rest, err = r.replay(ctx, m, time.Time{}); err != nil || !rest.At.After(done.At) {
			return nil, err
		}
		err = r.rebuild(ctx, m, path)
	}
	if err != nil {
		return nil, err
	}
	if n, err := r.applyAll(ctx, rest.segments[from:], path); err != nil && !rest.cut(from+n, err) {
		return nil, err
	}
	return rest, nil
}
