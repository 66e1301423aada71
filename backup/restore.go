package backup

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/superfly/ltx"

	"nestbox/internal/durable"
)

// DatabaseName is the name of the database's file in a data directory, BlobsName that of the
// folder of blobs.
const (
	DatabaseName = "nestbox.sqlite"
	BlobsName    = "blobs"
)

// unfinishedName is the file of a folder in which a restore has not ended.
const unfinishedName = "restore-unfinished"

// Errors of Reader.Restore.
var (
	ErrNotEmpty = errors.New("it is not empty: name an empty folder, or one that does not exist")
	// ErrKeysApart: the snapshot has no keys.
	ErrKeysApart = errors.New("the keys of this snapshot are not in the store: name the file that backup --keys-apart wrote, with --keys")
)

// Target is where a snapshot is restored to.
type Target struct {
	// Dir is made if it is missing. It must be empty, or have a restore that did not end.
	Dir string
	// Keys is the file of keys that are not in the store.
	Keys string
	// At, if it is set, is the time up to which segments of the log are applied, else all are.
	At time.Time
	// Named, if it is set, calls yield with the key of each blob's file that the database at a
	// path knows, by key: others are left out, and those that no list has are looked for in the store.
	Named func(ctx context.Context, path string, yield func(key string) error) error
	// Spare are the names of files that may be damaged or missing in the store: Replay.Without names those
	// that are.
	Spare []string
	// Makes are the names of what Place and Then make in the folder, besides the database's own.
	Makes []string
	// Beside are the names of what may be in the folder before, and stays as it is.
	Beside []string
	// Place, if it is set, is called when the small files are there, and the database is at a path, whatever
	// its schema. It returns where the blobs go, nil for the folder of that name in Dir.
	Place func(ctx context.Context, path string) (BlobPlace, error)
	// Then, if it is set, is called when everything is there, and the folder still locked. If
	// it fails, the restore has not ended. replay is the state that was restored.
	Then func(replay *Replay) error
}

// BlobPlace is a folder of blobs outside of a data directory. What is in it stays as it is.
type BlobPlace interface {
	// Size returns the size of a blob's file in bytes; ok is false if there is none.
	Size(key string) (size int64, ok bool, err error)
	// Adopt makes a blob's file of what fill writes to a path, and makes durable.
	Adopt(key string, fill func(path string) error) error
	// Settle makes the names of the files durable.
	Settle() error
	Close() error
}

// Restore makes a data directory of a snapshot, which it locks, without the blobs that are damaged
// or missing in the store. A call that was interrupted can be repeated: it removes what the first one
// left. ErrNotEmpty, ErrKeysApart, ErrIdentity, ErrDamaged, durable.ErrLocked.
func (r *Reader) Restore(ctx context.Context, m *Manifest, to Target) (err error) {
	var keys []keyFile
	switch {
	case m.KeysApart && to.Keys == "":
		return ErrKeysApart
	case m.KeysApart:
		if keys, err = pickKeys(to.Keys, m.KeysID); err != nil {
			return err
		}
	}
	chart, err := r.chart(ctx, m) // before anything is written: it may be encrypted to somebody else
	if err != nil {
		return err
	}
	replay, err := r.replay(ctx, m, to.At)
	if err != nil {
		return err
	}
	if to.Named != nil {
		if err := r.lookAtLists(ctx, replay); err != nil {
			return err
		}
	}
	names := []string{BlobsName, DatabaseName + restoredEnding, DatabaseName + restoredEnding + pieceEnding}
	for _, f := range m.Files {
		names = append(names, f.Name)
	}
	for _, k := range keys {
		names = append(names, k.Name)
	}
	names = append(names, to.Makes...)
	release, err := begin(to.Dir, names, to.Beside)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	path := filepath.Join(to.Dir, DatabaseName)
	if err := r.database(ctx, m, chart, path+restoredEnding); err != nil {
		return err
	}
	if n, err := r.applyAll(ctx, replay.segments, path+restoredEnding); err != nil && !replay.cut(n, err) {
		return err
	}
	if replay.Without, err = r.files(ctx, m, &to); err != nil {
		return err
	}
	if err := r.blobs(ctx, replay, to, path+restoredEnding); err != nil {
		return err
	}
	for _, k := range keys {
		if err := writeSmall(to.Dir, k.Name, k.Content); err != nil {
			return err
		}
	}
	if err := mark(to.Dir, append(names, DatabaseName, DatabaseName+"-wal", DatabaseName+"-shm")); err != nil {
		return err
	}
	if err := os.Rename(path+restoredEnding, path); err != nil {
		return fmt.Errorf("name the database: %w", err)
	}
	if err := durable.SyncDir(to.Dir); err != nil {
		return err
	}
	if to.Then != nil {
		if err := to.Then(replay); err != nil {
			return err
		}
	}
	if err := os.Remove(filepath.Join(to.Dir, unfinishedName)); err != nil {
		return fmt.Errorf("end the restore: %w", err)
	}
	return durable.SyncDir(to.Dir)
}

// restoredEnding ends the name of a database that is not whole yet.
const restoredEnding = ".restored"

// unfinishedHead begins the file unfinishedName. The names of what the restore writes follow,
// a line each.
const unfinishedHead = "nestbox restore has not ended: run it again\n"

// mark marks a folder as one in which a restore that writes files of some names has not ended.
func mark(dir string, names []string) error {
	text := unfinishedHead + strings.Join(names, "\n") + "\n"
	return durable.WriteFile(filepath.Join(dir, unfinishedName), []byte(text), 0o600)
}

// begin locks and marks a folder that is empty, or has only what a restore left that has not
// ended, which it removes, besides names that stay.
func begin(dir string, names, beside []string) (release func() error, err error) {
	if _, err := leftIn(dir, beside); err != nil { // in a folder of something else, no lock is made
		return nil, err
	}
	if err := durable.MakeDir(dir); err != nil {
		return nil, err
	}
	if release, err = durable.Lock(dir); err != nil {
		return nil, err
	}
	left, err := leftIn(dir, beside)
	for _, name := range left {
		if err == nil {
			err = os.RemoveAll(filepath.Join(dir, name))
		}
	}
	if err == nil {
		err = mark(dir, names)
	}
	if err != nil {
		return nil, errors.Join(err, release())
	}
	return release, nil
}

// leftIn returns what a restore that has not ended left in a folder: ErrNotEmpty if there is
// anything else but what stays beside it.
func leftIn(dir string, beside []string) (left []string, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, unfinishedName)) //nolint:gosec // the operator's own folder
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("look into %s: %w", dir, err)
	}
	ours := map[string]bool{}
	for line := range strings.Lines(strings.TrimPrefix(string(raw), unfinishedHead)) {
		first, _, _ := strings.Cut(filepath.ToSlash(strings.TrimSuffix(line, "\n")), "/")
		ours[first] = true
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("look into %s: %w", dir, err)
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case name == unfinishedName || bare(name) || slices.Contains(beside, name):
		case ours[name]:
			left = append(left, name)
		default:
			return nil, fmt.Errorf("%s, which has %s: %w", dir, name, ErrNotEmpty)
		}
	}
	return left, nil
}

// bare reports whether a folder with a file of that name still counts as empty: a file
// system has it, or it is the lock.
func bare(name string) bool { return name == "lost+found" || name == durable.LockName }

// Unfinished reports whether a restore to the folder has not ended.
func Unfinished(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, unfinishedName))
	return err == nil
}

// chart reads the map of a snapshot's database.
func (r *Reader) chart(ctx context.Context, m *Manifest) (c *chart, err error) {
	err = r.usePacked(ctx, m.Database, func(in io.Reader) (err error) {
		c, err = readChart(in, chunks(m.HeldSize))
		return err
	})
	return c, err
}

// rebuild writes the database of a snapshot to a file.
func (r *Reader) rebuild(ctx context.Context, m *Manifest, path string) error {
	c, err := r.chart(ctx, m)
	if err != nil {
		return err
	}
	return r.database(ctx, m, c, path)
}

// database writes the database of a snapshot, of which c is the map, to a file.
func (r *Reader) database(ctx context.Context, m *Manifest, c *chart, path string) (err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600) //nolint:gosec // the operator's own folder
	if err != nil {
		return fmt.Errorf("write the database: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	decoder, err := newDecoder(nil)
	if err != nil {
		return fmt.Errorf("decompress: %w", err)
	}
	defer decoder.Close()
	w := &rebuilder{Reader: r, m: m, chart: c, file: file, decoder: decoder}
	// The bases first: a delta is applied to what is in the file.
	for _, deltas := range []bool{false, true} {
		if err := w.pass(ctx, deltas); err != nil {
			return err
		}
	}
	if err := w.check(ctx); err != nil {
		return err
	}
	if err := file.Truncate(m.HeldSize); err != nil {
		return fmt.Errorf("write the database: %w", err)
	}
	if m.Log != nil {
		err := r.use(ctx, *m.Log, func(in io.Reader) error { _, err := applyPages(file, in); return err })
		if err != nil {
			return err
		}
	}
	if err := file.Truncate(m.Size()); err != nil {
		return fmt.Errorf("write the database: %w", err)
	}
	return file.Sync()
}

// rebuilder writes the file of a database.
type rebuilder struct {
	*Reader

	m       *Manifest
	chart   *chart
	file    *os.File
	decoder *zstd.Decoder
	written int64
}

// pass writes the bases of all chunks, or applies the deltas.
func (w *rebuilder) pass(ctx context.Context, deltas bool) error {
	wanted := map[uint32][]int{} // the chunks that need a pack
	for i := range w.chart.entries {
		e := &w.chart.entries[i]
		switch {
		case !deltas:
			wanted[e.baseAt.pack] = append(wanted[e.baseAt.pack], i)
		case e.isDelta():
			wanted[e.at.pack] = append(wanted[e.at.pack], i)
		}
	}
	packs := map[string]Stored{}
	for _, o := range w.m.Packs {
		packs[o.hash()] = o
	}
	for _, pack := range slices.Sorted(maps.Keys(wanted)) {
		o, ok := packs[w.chart.packs[pack]]
		if !ok {
			return fmt.Errorf("%s: %w: it lacks a pack of its map", w.m.Name, ErrDamaged)
		}
		err := w.use(ctx, o, func(in io.Reader) error {
			content, err := io.ReadAll(io.LimitReader(in, maxPack))
			if err != nil {
				return fmt.Errorf("read %s: %w", o.Name, err)
			}
			for _, i := range wanted[pack] {
				if err := w.chunk(i, content, deltas); err != nil {
					return fmt.Errorf("%s: %w", o.Name, err)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// chunk writes a chunk from a pack.
func (w *rebuilder) chunk(i int, pack []byte, isDelta bool) error {
	e := &w.chart.entries[i]
	at, want := e.baseAt, e.base
	if isDelta {
		at, want = e.at, e.hash
	}
	if int64(at.offset)+int64(at.size) > int64(len(pack)) {
		return errDelta
	}
	content, err := w.decoder.DecodeAll(pack[at.offset:at.offset+at.size], nil)
	if err != nil {
		return fmt.Errorf("decompress: %w", err)
	}
	chunk := content
	if isDelta {
		chunk = make([]byte, chunkSize)
		if _, err := w.file.ReadAt(chunk, int64(i)*chunkSize); err != nil {
			return fmt.Errorf("read the database: %w", err)
		}
		if err := applyDelta(chunk, content); err != nil {
			return err
		}
	}
	if len(chunk) != chunkSize || sha256.Sum256(chunk) != want {
		return fmt.Errorf("chunk %d: %w", i, ErrDamaged)
	}
	if _, err := w.file.WriteAt(chunk, int64(i)*chunkSize); err != nil {
		return fmt.Errorf("write the database: %w", err)
	}
	if !isDelta {
		w.written++
		w.progress(Step{"restore", min(w.written*chunkSize, w.m.HeldSize), w.m.HeldSize, 0})
	}
	return nil
}

// check reads what was written: a disk may lie.
func (w *rebuilder) check(ctx context.Context) error {
	if _, err := w.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read the database: %w", err)
	}
	chunk := make([]byte, chunkSize)
	in := bufio.NewReaderSize(w.file, chunkSize)
	for i := range w.chart.entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := io.ReadFull(in, chunk); err != nil {
			return fmt.Errorf("read the database: %w", err)
		}
		if sha256.Sum256(chunk) != w.chart.entries[i].hash {
			return fmt.Errorf("the disk of %s returns something else than was written, at byte %d", w.file.Name(), i*chunkSize)
		}
	}
	return nil
}

// applyPages writes the pages of an LTX file into a database's file, and returns its header.
func applyPages(file *os.File, in io.Reader) (head ltx.Header, err error) {
	dec := ltx.NewDecoder(in)
	if err := dec.DecodeHeader(); err != nil {
		return head, fmt.Errorf("read the log: %w", err)
	}
	size := int64(dec.Header().PageSize)
	content := make([]byte, size)
	for {
		var page ltx.PageHeader
		if err := dec.DecodePage(&page, content); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return head, fmt.Errorf("read the log: %w", err)
		}
		if _, err := file.WriteAt(content, int64(page.Pgno-1)*size); err != nil {
			return head, fmt.Errorf("write the database: %w", err)
		}
	}
	if err := dec.Close(); err != nil {
		return head, fmt.Errorf("read the log: %w", err)
	}
	return dec.Header(), nil
}

// files writes the small files of a snapshot but those that stay as they are, and returns which of the spare
// ones it cannot, and why.
func (r *Reader) files(ctx context.Context, m *Manifest, to *Target) (without []string, err error) {
	for _, f := range m.Files {
		if to.keeps(f.Name) {
			continue
		}
		var content []byte
		err := r.use(ctx, f.Stored, func(in io.Reader) (err error) {
			content, err = io.ReadAll(in)
			return err
		})
		if harmed(err) && slices.Contains(to.Spare, f.Name) {
			without = append(without, fmt.Sprintf("%s: %v", f.Name, err))
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := writeSmall(to.Dir, f.Name, content); err != nil {
			return nil, err
		}
	}
	return without, nil
}

// keeps reports whether a file is there that stays as it is.
func (t *Target) keeps(name string) bool {
	if !slices.Contains(t.Beside, name) {
		return false
	}
	_, err := os.Lstat(filepath.Join(t.Dir, name))
	return err == nil
}

func writeSmall(dir, name string, content []byte) error {
	if err := checkName(name); err != nil {
		return err
	}
	path := filepath.Join(dir, name)
	if err := durable.MakeDir(filepath.Dir(path)); err != nil {
		return err
	}
	return durable.WriteFile(path, content, 0o600)
}

// eachBlob calls yield for each line of a snapshot's list of blobs.
func (r *Reader) eachBlob(ctx context.Context, m *Manifest, yield func(*blobLine) error) error {
	return r.usePacked(ctx, m.Blobs, func(in io.Reader) error {
		for lines := bufio.NewScanner(in); ; {
			if !lines.Scan() {
				return lines.Err()
			}
			line, err := parseBlobLine(lines.Text())
			if err != nil {
				return err
			}
			if err := yield(&line); err != nil {
				return err
			}
		}
	})
}

// syncTree makes what a restore wrote durable, a file after the other: it may be anywhere.
func syncTree(dir string) error {
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) && path == dir {
			return nil
		}
		if err != nil {
			return err
		}
		return durable.SyncDir(path) // of a file, it syncs the content
	})
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

func (r *Reader) progress(p Step) {
	if r.Progress != nil {
		r.Progress(p)
	}
}
