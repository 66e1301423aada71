package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/superfly/ltx"

	"nestbox/internal/durable"
)

// run is one snapshot that is being made.
type run struct {
	*Service

	began time.Time
	sent  atomic.Int64
	gone  int64
	head  int64 // what sealHead returned
	// there are the packs of the store, by name; damaged is what a verification has found.
	there   map[string]int64
	damaged marks
	table   []Stored // of packs: those of the state, and those of this run
	last    *memory
	left    *memory // by an interrupted run
	with    *memory // by segments of the log
	out     *writer
	pack    packing
	// known are the keys of the blobs that segments had sent before.
	known []string
	keys  map[string]string // as keysFile
}

// packing is the pack that is being filled.
type packing struct {
	index   uint32
	content []byte
	encoder *zstd.Encoder
}

// Snapshot makes a snapshot. When it returns an error, the store lists the snapshots that it
// listed before: what was sent already is not sent again by the next one. Errors besides
// those of the store: ErrLog, ErrOther.
func (s *Service) Snapshot(ctx context.Context) (_ *Manifest, err error) {
	r := &run{Service: s, began: s.Now()}
	if err := r.checkKeysApart(); err != nil {
		return nil, err
	}
	r.readMarks(ctx)
	newest, err := r.newest(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.recall(ctx, newest); err != nil {
		return nil, err
	}
	if err := r.open(ctx, newest); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	defer s.Source.HoldBlobs()()
	m, wanted, err := r.database(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.blobs(ctx, m, wanted); err != nil {
		return nil, err
	}
	if err := r.files(ctx, m); err != nil {
		return nil, err
	}
	return m, r.finish(ctx, m, newest)
}

// newest returns the store's newest snapshot, nil if there is none. If the state knows it, it is
// not read from the store; if the store refuses to be read, it is the newest that the state knows.
func (r *run) newest(ctx context.Context) (*Manifest, error) {
	names, err := Names(ctx, r.Depot)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	name := names[latest(names, r.began)]
	own, ownErr := r.remembered()
	other := ""
	if ownErr == nil {
		if other, err = r.other(own, names, r.began); err != nil {
			return nil, err
		}
	}
	if other != "" {
		r.Log.LogAttrs(ctx, slog.LevelWarn, "the store has a snapshot that this server has not made: "+
			"if another server writes there, give each a folder or a prefix of its own", slog.String("snapshot", name))
	}
	m := own
	if ownErr != nil || own.Name != name {
		m, err = Load(ctx, r.Depot, name)
	}
	if errors.Is(err, ErrRefused) {
		if ownErr == nil && slices.Contains(names, own.Name) {
			return own, nil
		}
		r.Log.LogAttrs(ctx, slog.LevelWarn, "the store refuses to be read, and this server does not know what it has: everything is sent again",
			slog.String("cause", err.Error()))
		return nil, nil //nolint:nilnil // as if there were none
	}
	if errors.Is(err, ErrDamaged) {
		return nil, fmt.Errorf("%w; run nestbox backup verify, and remove what it names", err)
	}
	if err == nil && m.DID != r.Source.DID {
		return nil, fmt.Errorf("%s: %w: %s", r.Depot, ErrOther, m.DID)
	}
	return m, err
}

// open prepares what the run reads and writes.
func (r *run) open(ctx context.Context, newest *Manifest) (err error) {
	r.there = map[string]int64{}
	named := map[string]bool{}
	if newest != nil {
		for _, o := range newest.Packs {
			named[o.Name] = true
		}
	}
	err = r.Depot.List(ctx, packsFolder+"/", func(o Object) error {
		if !r.damaged.on(o) && (named[o.Name] || r.lasts(o)) {
			r.there[o.Name] = o.Size
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("list what %s has: %w", r.Depot, err)
	}
	if r.head, err = r.sealHead(); err != nil {
		return err
	}
	if r.out, err = newWriter(filepath.Join(r.State, nextFolder)); err != nil {
		return err
	}
	to := r.recipients()
	if err := durable.WriteFile(filepath.Join(r.out.dir, toFile), []byte(strings.Join(to, "\n")), 0o600); err != nil {
		return err
	}
	// What was encrypted to others is of no use: those who can open this snapshot must be able
	// to open all of it.
	last, left := filepath.Join(r.State, lastFolder), filepath.Join(r.State, partialFolder)
	if r.Again || newest == nil || !slices.Equal(newest.Recipients, to) {
		last = ""
	}
	if !isTo(left, to) || r.Again {
		left = ""
	}
	r.last = openMemory(last, 0)
	r.left = openMemory(left, uint32(len(r.last.packs))) //nolint:gosec // not more than packs
	r.with = &memory{}
	if r.leads() && !r.Again {
		r.with, r.known = r.Segments.memory()
	}
	r.table = append(append(r.table, r.last.packs...), r.left.packs...)
	for i, o := range r.table {
		if r.has(o) {
			if err := r.out.pack(uint32(i), o); err != nil { //nolint:gosec // not more than packs
				return err
			}
		}
	}
	r.pack.encoder, err = newEncoder(nil)
	return err
}

// leads reports whether segments lead on from the snapshot: they go to the same store, and those
// who can open the snapshot can open them.
func (r *run) leads() bool {
	return r.Segments != nil && slices.Equal(r.Segments.service.recipients(), r.recipients())
}

func (r *run) close() error {
	if r.out == nil {
		return nil
	}
	r.last.close()
	r.left.close()
	return errors.Join(r.out.close(), r.pack.encoder.Close())
}

// lasts reports whether an object that the newest snapshot does not name will be there until this
// one does: another program may remove what no manifest names once it is a day old.
func (r *run) lasts(o Object) bool { return r.began.Sub(o.At) < partialLife }

// has reports whether the store has a pack that is what this service would write.
func (r *run) has(o Stored) bool {
	size, ok := r.there[o.Name]
	return ok && size == o.Size && o.Name == packsFolder+"/"+o.hash()+r.extension()
}

// database sends the database. It returns the file with the list of the blobs of its state.
func (r *run) database(ctx context.Context) (_ *Manifest, wanted string, err error) {
	held, err := r.Source.Database.Hold(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("hold the database: %w", err)
	}
	defer held.Release()
	watched, stop := watchLog(ctx, held)
	defer stop()
	m, changed, wanted, err := r.holding(watched, held)
	if cause := context.Cause(watched); errors.Is(cause, ErrLog) {
		err = cause
	}
	if err != nil {
		return nil, "", err
	}
	held.Release()
	stop()
	if changed != "" {
		if m.Log, err = r.putFile(ctx, changed); err != nil {
			return nil, "", err
		}
	}
	var used []Stored
	m.Database, err = r.putPacked(ctx, objectsFolder, false, func(w io.Writer) (err error) {
		used, err = r.out.writeMap(w, r.table)
		return err
	})
	if err != nil {
		return nil, "", err
	}
	err = r.out.renumber(func(w io.Writer) error { _, err := r.out.writeMap(w, r.table); return err }, used)
	m.Packs, m.HeldSize = used, held.Size()
	return m, wanted, err
}

// watchInterval is how often we look at the size of the log.
const watchInterval = 100 * time.Millisecond

// watchLog returns a context that ends with ErrLog when the log has grown too much: a store may
// stall while it is sent something.
func watchLog(ctx context.Context, held Held) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		for tick := time.NewTicker(watchInterval); ; {
			select {
			case <-tick.C:
				if held.LogSize() > MaxLog {
					cancel(ErrLog)
				}
			case <-ctx.Done():
				tick.Stop()
				return
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

// holding does what is done while the database's file is held.
func (r *run) holding(ctx context.Context, held Held) (_ *Manifest, changed, wanted string, err error) {
	if err := r.chunks(ctx, held); err != nil {
		return nil, "", "", err
	}
	return r.moment(ctx, held)
}

// chunks sends what is new of the database's file.
func (r *run) chunks(ctx context.Context, held Held) error {
	chunk := make([]byte, chunkSize)
	var list int64
	for at := int64(0); at < held.Size(); at += chunkSize {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(chunkSize, held.Size()-at)
		clear(chunk[n:])
		if _, err := io.ReadFull(io.NewSectionReader(held, at, n), chunk[:n]); err != nil {
			return fmt.Errorf("read the database: %w", err)
		}
		e, p, err := r.chunk(ctx, chunk)
		if err != nil {
			return err
		}
		if err := r.out.entry(&e, &p); err != nil {
			return err
		}
		list++
		r.progress(Step{"database", at + n, held.Size(), r.sent.Load()})
	}
	return r.endPack(ctx)
}

// chunk returns the entry of a chunk, which is sent if it is new, and the prints of its base.
func (r *run) chunk(ctx context.Context, chunk []byte) (e entry, p prints, err error) {
	hash := sha256.Sum256(chunk)
	known, base, ok := r.last.next(r.has)
	left, leftBase, leftOK := r.left.next(r.has)
	switch {
	case ok && known.hash == hash:
		return known, base, nil
	case leftOK && left.hash == hash:
		return left, leftBase, nil
	}
	now := printsOf(chunk)
	if ok {
		if delta, small := deltaOf(chunk, &base, &now); small {
			e = entry{hash: hash, base: known.base, baseAt: known.baseAt}
			e.at, err = r.add(ctx, delta)
			return e, base, err
		}
	}
	e = entry{hash: hash, base: hash}
	e.at, err = r.add(ctx, chunk)
	e.baseAt = e.at
	return e, now, err
}

// add puts content into the pack that is being filled.
func (r *run) add(ctx context.Context, content []byte) (place, error) {
	if len(r.pack.content) >= packSize {
		if err := r.endPack(ctx); err != nil {
			return place{}, err
		}
	}
	if len(r.pack.content) == 0 {
		r.pack.index = uint32(len(r.table)) //nolint:gosec // not more than packs
		r.table = append(r.table, Stored{})
	}
	from := len(r.pack.content)
	r.pack.content = r.pack.encoder.EncodeAll(content, r.pack.content)
	return place{r.pack.index, uint32(from), uint32(len(r.pack.content) - from)}, nil //nolint:gosec // not more than maxPack
}

// endPack sends the pack that is being filled.
func (r *run) endPack(ctx context.Context) error {
	if len(r.pack.content) == 0 {
		return nil
	}
	o, err := r.putBytes(ctx, packsFolder, r.pack.content)
	if err != nil {
		return err
	}
	if err := r.Depot.Flush(ctx); err != nil {
		return fmt.Errorf("write to %s: %w", r.Depot, err)
	}
	r.pack.content = r.pack.content[:0]
	r.table[r.pack.index] = o
	return r.out.pack(r.pack.index, o)
}

// moment chooses the state of the snapshot. It writes the pages that are not in the held
// file to the file changed, which is empty if there are none, and the blobs to wanted.
func (r *run) moment(ctx context.Context, held Held) (_ *Manifest, changed, wanted string, err error) {
	now, err := held.Moment(ctx)
	if err != nil {
		return nil, "", "", fmt.Errorf("choose the state: %w", err)
	}
	defer func() { err = errors.Join(err, now.Close()) }()
	src := &r.Source
	m := &Manifest{
		Form: manifestForm, At: r.Now().UTC().Truncate(time.Millisecond), Host: src.Host, DID: src.DID, Version: src.Version, State: now.Facts(),
		Recipients: r.recipients(),
	}
	if !r.leads() {
		m.Chain, m.Segment = "", 0
	}
	changed, wanted = filepath.Join(r.out.dir, "changed"), filepath.Join(r.out.dir, "wanted")
	pages, err := writePages(changed, now, r.began)
	if err != nil {
		return nil, "", "", err
	}
	if pages == 0 {
		changed = ""
	}
	r.progress(Step{"log", pages, pages, r.sent.Load()})
	return m, changed, wanted, writeWanted(wanted, m, now)
}

// firstTXID is the number of the pages of a snapshot in their file: 1 is for files that have
// all pages of a database.
const firstTXID = 2

// writePages writes the pages that differ from the held file as an LTX file.
func writePages(path string, now Moment, at time.Time) (pages int64, err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // the state's own folder
	if err != nil {
		return 0, fmt.Errorf("write the log: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return encodePages(file, firstTXID, now.Facts(), at, now.Pages)
}

// encodePages writes pages as an LTX file; what it wrote is none if there are none.
func encodePages(
	w io.Writer, id ltx.TXID, facts State, at time.Time, each func(func(uint32, []byte) error) error,
) (pages int64, err error) {
	enc, err := ltx.NewEncoder(w)
	if err != nil {
		return 0, fmt.Errorf("write the log: %w", err)
	}
	err = enc.EncodeHeader(ltx.Header{
		Version: ltx.Version, Flags: ltx.HeaderFlagNoChecksum,
		PageSize: uint32(facts.PageSize), Commit: uint32(facts.PageCount), //nolint:gosec // SQLite's numbers
		MinTXID: id, MaxTXID: id, Timestamp: at.UnixMilli(),
	})
	if err != nil {
		return 0, fmt.Errorf("write the log: %w", err)
	}
	err = each(func(page uint32, content []byte) error {
		pages++
		return enc.EncodePage(ltx.PageHeader{Pgno: page}, content)
	})
	if err != nil {
		return 0, fmt.Errorf("write the log: %w", errors.Join(err, enc.Cleanup()))
	}
	if pages == 0 {
		return 0, nil
	}
	if err := enc.Close(); err != nil {
		return 0, fmt.Errorf("write the log: %w", err)
	}
	return pages, nil
}

// putFile sends a file of the state.
func (r *run) putFile(ctx context.Context, path string) (*Stored, error) {
	o, err := r.putStream(ctx, objectsFolder, false, func(w io.Writer) (err error) {
		file, err := os.Open(path) //nolint:gosec // the state's own folder
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		defer func() { err = errors.Join(err, file.Close(), os.Remove(path)) }()
		_, err = io.Copy(w, file)
		return err
	})
	return &o, err
}

// files sends the small files.
func (r *run) files(ctx context.Context, m *Manifest) error {
	var apart []keyFile
	m.Files, m.KeysApart, r.keys = []Kept{}, r.KeysApart != "", map[string]string{}
	for i, f := range r.Source.Files {
		r.progress(Step{"keys", int64(i + 1), int64(len(r.Source.Files)), r.sent.Load()})
		content, err := os.ReadFile(f.Path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", f.Path, err)
		}
		if f.Key {
			r.keys[f.Name] = sumOf(content)
		}
		if f.Key && m.KeysApart {
			apart = append(apart, keyFile{f.Name, content})
			continue
		}
		o, err := r.putBytes(ctx, objectsFolder, content)
		if err != nil {
			return err
		}
		m.Files = append(m.Files, Kept{f.Name, o})
	}
	if !m.KeysApart {
		return nil
	}
	var err error
	m.KeysID, err = r.keepApart(apart)
	return err
}

// finish makes the snapshot one that is listed.
func (r *run) finish(ctx context.Context, m, base *Manifest) error {
	if err := r.Depot.Flush(ctx); err != nil {
		return fmt.Errorf("write to %s: %w", r.Depot, err)
	}
	names, err := Names(ctx, r.Depot)
	if err != nil {
		return err
	}
	// Another machine's retention may have removed it, and what it names.
	if base != nil && !slices.Contains(names, base.Name) {
		return fmt.Errorf("the snapshot %s, which this one builds on, was removed meanwhile: make the backup again", base.Name)
	}
	if len(names) > 0 {
		if at, _, _ := nameOf(names[len(names)-1]); at.After(m.At) {
			m.Ahead = names[len(names)-1]
			r.Log.LogAttrs(ctx, slog.LevelWarn, "the store has a snapshot of a later time: a clock was wrong; remove it when later ones are there",
				slog.String("snapshot", m.Ahead))
		}
	}
	m.Sent, m.Took = r.sent.Load(), r.Now().Sub(r.began).Milliseconds()
	raw, err := m.encode()
	if err != nil {
		return err
	}
	if err := r.noteMade(names, m.Name); err != nil { // first: it is never there as another's
		return err
	}
	if err := r.put(ctx, Stored{Name: m.Name, Size: int64(len(raw))}, bytesReader(raw)); err != nil {
		return err
	}
	if err := r.Depot.Flush(ctx); err != nil {
		return fmt.Errorf("write to %s: %w", r.Depot, err)
	}
	if base == nil {
		if err := r.alone(ctx, m, names); err != nil {
			return err
		}
	}
	r.dropMarks(ctx)
	r.progress(Step{"manifest", 1, 1, r.sent.Load()})
	if err := r.settle(m); err != nil || !r.leads() {
		return err
	}
	return r.Segments.based(m.Chain, r.known)
}

// alone removes the first snapshot of a store again if another server has made one there
// meanwhile.
func (r *run) alone(ctx context.Context, m *Manifest, before []string) error {
	names, err := Names(ctx, r.Depot)
	if err != nil {
		return err
	}
	for _, name := range append(before, names...) {
		if name == m.Name {
			continue
		}
		other, err := Load(ctx, r.Depot, name)
		if errors.Is(err, ErrMissing) || errors.Is(err, ErrRefused) {
			continue
		}
		if err != nil {
			return err
		}
		if other.DID != m.DID {
			return errors.Join(fmt.Errorf("%s: %w: %s", r.Depot, ErrOther, other.DID), r.Depot.Remove(ctx, m.Name))
		}
	}
	return nil
}
