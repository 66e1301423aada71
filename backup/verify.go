package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"nestbox/internal/durable"
)

// Verification proves that snapshots can be restored: it restores them.
type Verification struct {
	*Reader

	// Full: every snapshot is verified, else the newest.
	Full bool
	// Scratch is a folder for databases that are restored; the system's own if empty.
	Scratch string
	// Keys is the file of keys that are not in the store.
	Keys string
	// Check verifies a restored data directory, whose blobs are still in the store, and
	// calls fault for each fault. keys reports whether the keys are there.
	Check func(ctx context.Context, dir string, keys bool, blobs *Blobs, fault func(string)) error
	// Fault is called once for each fault.
	Fault func(line string)
	Now   func() time.Time
}

// Verified is what a Verification found.
type Verified struct {
	Snapshots int `json:"snapshots"`
	// Segments of the log were applied to snapshots, or their hashes compared.
	Segments int   `json:"segments"`
	Objects  int   `json:"objects"`
	Blobs    int64 `json:"blobs"`
	Faults   int   `json:"faults"`
	// Newest names the newest snapshot.
	Newest string `json:"newest"`
	// Gone is how many of the faults are files of blobs that the server itself lacked.
	Gone int64 `json:"gone,omitempty"`
	// Objects that are damaged, for MarkDamaged.
	DamagedObjects []string `json:"damagedObjects,omitempty"`
	// Parted is the chain of the newest snapshot, if the log behind it has a gap, else empty.
	Parted string `json:"parted,omitempty"`
	// KeysUnchecked: the keys of a snapshot are apart, and were not named: none of them was looked at.
	KeysUnchecked bool `json:"keysUnchecked,omitempty"`
	// HashesOnly: there was no identity to open the snapshots with, so that only the hashes
	// of what the store has were compared.
	HashesOnly bool `json:"hashesOnly"`
}

// Damaged reports whether the store has faults of its own.
func (v *Verified) Damaged() bool { return int64(v.Faults) > v.Gone }

// Run verifies. An error means that it could not look, as while a network is away: what was found until
// then may not be all.
func (v Verification) Run(ctx context.Context) (out Verified, err error) {
	ctx, end := context.WithCancelCause(ctx)
	defer func() {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		end(nil)
	}()
	say, said := v.Fault, map[string]bool{}
	v.Fault = func(line string) { // snapshots share objects, and one may be read more than once
		if said[line] {
			return
		}
		said[line] = true
		out.Faults++
		say(line)
	}
	names, err := Names(ctx, v.Depot)
	if err != nil {
		return out, err
	}
	if len(names) == 0 {
		return out, fmt.Errorf("%s: %w", v.Depot, ErrNoSnapshot)
	}
	damaged := v.collect(end)
	defer func() { out.DamagedObjects = damaged() }()
	newest := latest(names, v.Now())
	out.Newest = names[newest]
	seen, ends := map[string]bool{}, map[string]int64{}
	for i, name := range slices.Backward(names) {
		m, err := Load(ctx, v.Depot, name)
		if err != nil {
			if errors.Is(err, ErrDamaged) {
				v.damaged(name)
			}
			if err := v.told(ctx, err); err != nil {
				return out, err
			}
			continue
		}
		if i != newest && !v.Full {
			continue // its own hash was compared
		}
		out.Snapshots++
		out.KeysUnchecked = out.KeysUnchecked || m.KeysApart && v.Keys == ""
		replay, err := v.replay(ctx, m, time.Time{})
		if err != nil {
			return out, err
		}
		if end, ok := ends[m.Chain]; ok {
			replay.upTo(end) // the later snapshot is verified with what follows
		}
		ends[m.Chain] = m.Segment
		if replay.Gap != "" {
			v.Fault(m.Name + ": " + replay.Gap)
			if i == newest {
				out.Parted = m.Chain
			}
		}
		if m.Encrypted() && len(v.Identities) == 0 {
			out.HashesOnly = true
			err = v.hashes(ctx, m, replay, seen, &out)
		} else {
			err = v.snapshot(ctx, m, replay, seen, &out)
		}
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// collect returns a function that returns which objects were found damaged since. A store that cannot be
// read calls end.
func (v *Verification) collect(end context.CancelCauseFunc) func() []string {
	var mu sync.Mutex
	found := map[string]bool{}
	reader := *v.Reader
	reader.Depot = &attended{reader.Depot, end}
	reader.damaged = func(name string) {
		mu.Lock()
		defer mu.Unlock()
		found[name] = true
	}
	v.Reader = &reader
	return func() []string { return slices.Sorted(maps.Keys(found)) }
}

// told reports an error about an object as a fault. Others end the verification.
func (v *Verification) told(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for _, other := range []error{ErrIdentity, ErrRefused, os.ErrPermission, errScratch, ErrOtherKeys} {
		if errors.Is(err, other) {
			return err
		}
	}
	if err != nil {
		v.Fault(err.Error())
	}
	return nil
}

// errScratch: see inScratch.
var errScratch = errors.New("the folder in which it is restored cannot be used: name another one, with --scratch")

// inScratch makes an error of a file in a folder one that says nothing about the store.
func inScratch(err error, dir string) error {
	if file := (*os.PathError)(nil); errors.As(err, &file) && strings.HasPrefix(file.Path, dir) {
		return fmt.Errorf("%w: %w", errScratch, err)
	}
	return err
}

// hashes compares the hashes of everything that a snapshot needs and that is not in seen.
func (v *Verification) hashes(ctx context.Context, m *Manifest, replay *Replay, seen map[string]bool, out *Verified) error {
	look := func(name string, size int64, sum string) error {
		if seen[name] {
			return nil
		}
		seen[name] = true
		out.Objects++
		return v.told(ctx, v.check(ctx, name, size, sum, func(in io.Reader) error {
			_, err := io.Copy(io.Discard, in)
			return err
		}))
	}
	objects := m.objects()
	for i, o := range objects {
		if err := look(o.Name, o.Size, o.hash()); err != nil {
			return err
		}
		v.progress(Step{"verify", int64(i + 1), int64(len(objects)), 0})
	}
	for _, s := range replay.segments {
		out.Segments++
		if err := look(s.Name, s.Size, s.sum); err != nil {
			return err
		}
	}
	told := func(err error) error { return v.told(ctx, err) }
	if err := told(v.readLists(ctx, replay, told)); err != nil {
		return err
	}
	more := replay.newBlobs()
	for i := range more {
		if err := look(more[i].name(), -1, more[i].sum); err != nil {
			return err
		}
	}
	done := int64(0)
	err := v.eachBlob(ctx, m, func(line *blobLine) error {
		done++
		v.progress(Step{"blobs", done, m.BlobCount, 0})
		return look(line.name(), -1, line.sum)
	})
	out.Blobs += done
	if err := v.told(ctx, err); err != nil {
		return err
	}
	if done != m.BlobCount-m.Gone {
		v.Fault(fmt.Sprintf("%s: its list of blobs has %d, and should have %d", m.Name, done, m.BlobCount-m.Gone))
	}
	return nil
}

// snapshot restores a snapshot and verifies what it is.
func (v *Verification) snapshot(ctx context.Context, m *Manifest, replay *Replay, seen map[string]bool, out *Verified) (err error) {
	// The objects that a restore of the database does not read, and the blobs of earlier
	// snapshots, which the check of this one reads itself.
	dir, err := os.MkdirTemp(v.Scratch, "nestbox-verify-")
	if err != nil {
		return fmt.Errorf("folder for the restored database: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	err = v.restore(ctx, m, dir)
	damaged := err != nil
	if err := v.told(ctx, inScratch(err, dir)); err != nil {
		return err
	}
	for _, o := range m.objects() {
		if !seen[o.Name] {
			seen[o.Name] = true
			out.Objects++
		}
	}
	if !damaged && len(replay.segments) > 0 {
		if v.Full { // what is deleted on the way must be there, too
			if err := v.before(ctx, m, dir, out); err != nil {
				return err
			}
		}
		out.Segments += len(replay.segments)
		_, err := v.applyAll(ctx, replay.segments, filepath.Join(dir, DatabaseName))
		damaged = err != nil
		if err := v.told(ctx, inScratch(err, dir)); err != nil {
			return err
		}
	}
	if damaged {
		// It names one object. The others may be damaged as well.
		return v.hashes(ctx, m, replay, map[string]bool{}, out)
	}
	out.Gone += m.Gone
	return v.whole(ctx, m, replay, dir, out)
}

// before checks a snapshot ahead of the segments, and leaves its database as it was restored.
func (v *Verification) before(ctx context.Context, m *Manifest, dir string, out *Verified) error {
	path := filepath.Join(dir, DatabaseName)
	if err := durable.CopyFile(path, path+restoredEnding); err != nil {
		return inScratch(fmt.Errorf("copy the database: %w", err), dir)
	}
	if err := v.whole(ctx, m, &Replay{}, dir, out); err != nil {
		return err
	}
	if err := os.Rename(path+restoredEnding, path); err != nil {
		return inScratch(err, dir)
	}
	return nil
}

// whole checks a database that was restored, and its blobs.
func (v *Verification) whole(ctx context.Context, m *Manifest, replay *Replay, dir string, out *Verified) error {
	named := false // a list that is damaged
	err := v.readLists(ctx, replay, func(err error) error { named = true; return v.told(ctx, err) })
	if err != nil {
		return v.told(ctx, err)
	}
	blobs, err := v.openBlobs(ctx, m, replay, filepath.Join(dir, "list"))
	if err != nil {
		return v.told(ctx, inScratch(err, dir))
	}
	out.Blobs += blobs.count
	err = v.Check(ctx, dir, !m.KeysApart || v.Keys != "", blobs, func(line string) {
		if ctx.Err() == nil { // else it says that the store could not be read
			v.Fault(m.Name + ": " + line)
		}
	})
	if blobs.unlisted.Load() && !named && ctx.Err() == nil {
		v.Fault(fmt.Sprintf("%s: a list of the blobs of the log %s is missing: what it named is found without it", m.Name, m.Chain))
	}
	return errors.Join(err, blobs.close())
}

// restore restores everything but the blobs.
func (v *Verification) restore(ctx context.Context, m *Manifest, dir string) error {
	if _, err := v.files(ctx, m, &Target{Dir: dir}); err != nil {
		return err
	}
	if m.KeysApart && v.Keys != "" {
		keys, err := pickKeys(v.Keys, m.KeysID)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if err := writeSmall(dir, k.Name, k.Content); err != nil {
				return err
			}
		}
	}
	return v.rebuild(ctx, m, filepath.Join(dir, DatabaseName))
}

// Blobs are the blobs of a snapshot, in the store.
type Blobs struct {
	reader *Reader
	file   *os.File
	size   int64
	count  int64
	// log: segments are a part of the state, of which a list may be missing. unlisted: a blob was found
	// that no list has.
	log      bool
	unlisted atomic.Bool
}

// openBlobs writes the list of a snapshot's blobs to a file, in which it looks for them.
func (v *Verification) openBlobs(ctx context.Context, m *Manifest, replay *Replay, path string) (_ *Blobs, err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600) //nolint:gosec // a folder of our own
	if err != nil {
		return nil, fmt.Errorf("list the blobs: %w", err)
	}
	b := &Blobs{reader: v.Reader, file: file, log: len(replay.segments) > 0}
	last := ""
	err = v.eachOf(ctx, m, replay, func(line *blobLine) error {
		if line.key <= last {
			return errList
		}
		last = line.key
		b.count++
		n, err := file.WriteString(line.String())
		b.size += int64(n)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return b, nil
}

func (b *Blobs) close() error { return b.file.Close() }

// Open opens a blob: ErrMissing. A reader that reads to the end gets ErrDamaged there if the
// file is not what was written.
func (b *Blobs) Open(ctx context.Context, key string) (io.ReadCloser, error) {
	line, err := b.find(key)
	if errors.Is(err, ErrMissing) && b.log && len(key) > 2 {
		return b.openUnlisted(ctx, key)
	}
	if err != nil {
		return nil, err
	}
	return b.openLine(ctx, line)
}

// openUnlisted opens a blob that no list has, as a restore finds it.
func (b *Blobs) openUnlisted(ctx context.Context, key string) (io.ReadCloser, error) {
	found, err := b.reader.byKey(ctx, blobsFolder+"/"+key[:2]+"/")
	if err != nil {
		return nil, err
	}
	for _, line := range found[key] {
		in, err := b.openLine(ctx, line)
		if err == nil {
			b.unlisted.Store(true)
			return in, nil
		}
		if !harmed(err) && !errors.Is(err, ErrIdentity) {
			return nil, err
		}
	}
	return nil, ErrMissing
}

func (b *Blobs) openLine(ctx context.Context, line blobLine) (_ io.ReadCloser, err error) {
	body, err := b.reader.Depot.Get(ctx, line.name())
	if err != nil {
		return nil, err
	}
	c := &checkedBlob{body: body, source: &source{Reader: body}, count: newCounted(), line: line, from: b.reader}
	c.raw = io.TeeReader(c.source, c.count)
	if c.Reader, err = b.reader.open(line.name(), c.raw); err != nil {
		return nil, errors.Join(c.ended(err), body.Close())
	}
	return c, nil
}

// checkedBlob compares the hash at the end.
type checkedBlob struct {
	io.Reader

	body   io.Closer
	source *source
	raw    io.Reader
	count  *counted
	line   blobLine
	from   *Reader
}

func (c *checkedBlob) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err != nil {
		err = c.ended(err)
	}
	return n, err
}

// ended returns err, with which the content ended, unless the store has something else than was written:
// that may be why it cannot be decrypted.
func (c *checkedBlob) ended(err error) error {
	_, _ = io.Copy(io.Discard, c.raw) // source has the error
	switch {
	case c.source.err != nil:
		return fmt.Errorf("read %s: %w", c.line.name(), c.source.err)
	case c.line.sum == "" && (errors.Is(err, io.EOF) || errors.Is(err, ErrIdentity)):
		return err
	case c.count.sum() != c.line.sum:
		return c.from.found(c.line.name())
	}
	return err
}

func (c *checkedBlob) Close() error { return c.body.Close() }

// maxLine bounds a line of a list of blobs, in bytes.
const maxLine = 512

// find looks for a key: ErrMissing.
func (b *Blobs) find(key string) (blobLine, error) {
	from, to := int64(0), b.size // the line begins in [from, to)
	for from < to {
		middle := from + (to-from)/2
		begin, line, next, err := b.lineAt(middle)
		if err != nil {
			return line, err
		}
		switch strings.Compare(line.key, key) {
		case 0:
			return line, nil
		case -1:
			from = next
		default:
			to = begin
		}
	}
	return blobLine{}, ErrMissing
}

// lineAt returns the line that has the byte at an offset, where it begins and where the next
// one does.
func (b *Blobs) lineAt(at int64) (begin int64, line blobLine, next int64, err error) {
	begin = max(0, at-maxLine)
	raw := make([]byte, 2*maxLine)
	n, err := b.file.ReadAt(raw, begin)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, line, 0, fmt.Errorf("read the list of blobs: %w", err)
	}
	text := string(raw[:n])
	if i := strings.LastIndexByte(text[:at-begin], '\n'); i >= 0 {
		text, begin = text[i+1:], begin+int64(i+1)
	} else if begin > 0 {
		return 0, line, 0, errList
	}
	end := strings.IndexByte(text, '\n')
	if end < 0 {
		return 0, line, 0, errList
	}
	line, err = parseBlobLine(text[:end])
	return begin, line, begin + int64(end) + 1, err
}

// Each calls yield with the name in the store and the key of each blob, by key.
func (b *Blobs) Each(ctx context.Context, yield func(name, key string) error) error {
	for at := int64(0); at < b.size; {
		_, line, next, err := b.lineAt(at)
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := yield(line.name(), line.key); err != nil {
			return err
		}
		at = next
	}
	return nil
}
