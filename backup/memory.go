package backup

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"nestbox/internal/durable"
)

// The folders of Service.State, and their files. What a run writes is in next, which
// becomes last when its snapshot is there; what an interrupted run left becomes partial.
// madeFile lies beside them.
const (
	lastFolder    = "last"
	nextFolder    = "next"
	partialFolder = "partial"

	entriesFile = "entries" // of the map, by position
	printsFile  = "prints"  // of each entry's base
	packsFile   = "packs"   // JSON lines, by index
	listFile    = "blobs"   // lines, by key
	nameFile    = "name"    // of the manifest
	indexFile   = "index"   // the manifest
	toFile      = "to"      // the recipients, as Manifest.Recipients
	keysFile    = "keys"    // JSON: the hash of each of the server's keys, by name

	madeFile = "made" // the names of the snapshots that the service made, a line each
)

// partialLife is for how long we rely on what an interrupted run sent. After a day it may be removed
// from the store, since no manifest names it.
const partialLife = 12 * time.Hour

// memory is what a run knows of the store: one of the folders.
type memory struct {
	dir   string
	packs []Stored
	// first is the index of packs[0] in the table of the run.
	first uint32

	entries, prints *bufio.Reader // nil behind their ends
	files           []*os.File
	lines           *lineReader
}

// packLine is a line of packsFile: packs are full in another order than they were begun.
type packLine struct {
	Index uint32 `json:"index"`
	Stored
}

// openMemory opens a folder; one that is missing or damaged, or has no name, knows nothing.
func openMemory(dir string, first uint32) *memory {
	m := &memory{dir: dir, first: first}
	if dir == "" {
		return m
	}
	raw, err := os.Open(filepath.Join(dir, packsFile)) //nolint:gosec // the state's own folder
	if err != nil {
		return m
	}
	dec := json.NewDecoder(raw)
	for {
		var line packLine
		if dec.Decode(&line) != nil {
			break // at the end, or where an interrupted run broke off
		}
		for int(line.Index) >= len(m.packs) && line.Index < 1<<24 {
			m.packs = append(m.packs, Stored{})
		}
		m.packs[line.Index] = line.Stored
	}
	_ = raw.Close() // it was only read
	open := func(name string) *bufio.Reader {
		file, err := os.Open(filepath.Join(dir, name)) //nolint:gosec // the state's own folder
		if err != nil {
			return nil
		}
		m.files = append(m.files, file)
		return bufio.NewReaderSize(file, 64<<10)
	}
	m.entries, m.prints = open(entriesFile), open(printsFile)
	if in := open(listFile); in != nil {
		m.lines = newLineReader(in)
	}
	return m
}

func (m *memory) close() {
	for _, f := range m.files {
		_ = f.Close() // it was only read
	}
}

// next returns the entry of the next chunk with the prints of its base. ok is false if there
// is none, or one whose packs are not there.
func (m *memory) next(there func(Stored) bool) (e entry, p prints, ok bool) {
	if m.entries == nil || m.prints == nil {
		return e, p, false
	}
	raw, base := make([]byte, entrySize), make([]byte, printsSize)
	_, err := io.ReadFull(m.entries, raw)
	if _, err2 := io.ReadFull(m.prints, base); err != nil || err2 != nil {
		m.entries = nil
		return e, p, false
	}
	e, p = decodeEntry(raw), decodePrints(base)
	for _, at := range []*place{&e.at, &e.baseAt} {
		if int(at.pack) >= len(m.packs) || !there(m.packs[at.pack]) {
			return e, p, false
		}
		at.pack += m.first
	}
	return e, p, true
}

// writer appends to the folder next.
type writer struct {
	dir                           string
	entries, prints, packs, blobs *os.File
	buffered                      []*bufio.Writer
	entriesTo, printsTo, blobsTo  *bufio.Writer
}

func newWriter(dir string) (w *writer, err error) {
	if err := durable.MakeDir(dir); err != nil {
		return nil, fmt.Errorf("folder of the backup's state: %w", err)
	}
	w = &writer{dir: dir}
	for _, f := range []struct {
		name string
		file **os.File
		to   **bufio.Writer
	}{{entriesFile, &w.entries, &w.entriesTo}, {printsFile, &w.prints, &w.printsTo}, {packsFile, &w.packs, nil}, {
		listFile, &w.blobs,
		&w.blobsTo,
	}} {
		file, err := os.OpenFile(filepath.Join(dir, f.name), os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600) //nolint:gosec // our own
		if err != nil {
			return nil, errors.Join(fmt.Errorf("write the backup's state: %w", err), w.close())
		}
		*f.file = file
		if f.to != nil {
			*f.to = bufio.NewWriterSize(file, 64<<10)
			w.buffered = append(w.buffered, *f.to)
		}
	}
	return w, nil
}

// entry appends an entry.
func (w *writer) entry(e *entry, p *prints) error {
	if _, err := w.entriesTo.Write(e.append(nil)); err != nil {
		return fmt.Errorf("write the backup's state: %w", err)
	}
	if _, err := w.printsTo.Write(p.append(nil)); err != nil {
		return fmt.Errorf("write the backup's state: %w", err)
	}
	return nil
}

// pack notes a pack that is in the store. What was appended before is written, too.
func (w *writer) pack(index uint32, o Stored) error {
	if err := w.flush(); err != nil {
		return err
	}
	line, err := json.Marshal(packLine{index, o})
	if err != nil {
		return fmt.Errorf("encode the backup's state: %w", err)
	}
	if _, err := w.packs.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write the backup's state: %w", err)
	}
	return nil
}

func (w *writer) flush() error {
	for _, b := range w.buffered {
		if err := b.Flush(); err != nil {
			return fmt.Errorf("write the backup's state: %w", err)
		}
	}
	return nil
}

// sync makes what was appended durable.
func (w *writer) sync() error {
	if err := w.flush(); err != nil {
		return err
	}
	for _, f := range []*os.File{w.prints, w.packs, w.blobs} { // renumber made the entries durable
		if err := f.Sync(); err != nil {
			return fmt.Errorf("write the backup's state: %w", err)
		}
	}
	return nil
}

func (w *writer) close() error {
	var errs []error
	for _, f := range []*os.File{w.entries, w.prints, w.packs, w.blobs} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// writeMap writes a map of the entries that were appended, with the packs that they need,
// and returns these.
func (w *writer) writeMap(out io.Writer, table []Stored) (used []Stored, err error) {
	if err := w.flush(); err != nil {
		return nil, err
	}
	index := make([]int, len(table)) // 1 more than in used, 0 for one that is not needed
	each := func(yield func(e *entry) error) error {
		if _, err := w.entries.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("read the backup's state: %w", err)
		}
		in, raw := bufio.NewReaderSize(w.entries, 64<<10), make([]byte, entrySize)
		for {
			if _, err := io.ReadFull(in, raw); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return fmt.Errorf("read the backup's state: %w", err)
			}
			e := decodeEntry(raw)
			if err := yield(&e); err != nil {
				return err
			}
		}
	}
	err = each(func(e *entry) error {
		for _, pack := range []uint32{e.at.pack, e.baseAt.pack} {
			if index[pack] == 0 {
				used = append(used, table[pack])
				index[pack] = len(used)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	head := appendNumber([]byte(mapMagic), len(used))
	for _, o := range used {
		sum, err := hex.DecodeString(o.hash())
		if err != nil {
			return nil, fmt.Errorf("the name of a pack: %w", err)
		}
		head = append(head, sum...)
	}
	if _, err := out.Write(head); err != nil {
		return nil, fmt.Errorf("write the map: %w", err)
	}
	return used, each(func(e *entry) error {
		e.at.pack, e.baseAt.pack = uint32(index[e.at.pack]-1), uint32(index[e.baseAt.pack]-1) //nolint:gosec // not more than packs
		if _, err := out.Write(e.append(nil)); err != nil {
			return fmt.Errorf("write the map: %w", err)
		}
		return nil
	})
}

// renumber makes the folder's entries those of a map, and its packs those of the map.
func (w *writer) renumber(writeMap func(io.Writer) error, used []Stored) (err error) {
	path := filepath.Join(w.dir, entriesFile)
	file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600) //nolint:gosec // the state's own folder
	if err != nil {
		return fmt.Errorf("write the backup's state: %w", err)
	}
	out := bufio.NewWriterSize(file, 64<<10)
	err = errors.Join(writeMap(&skipper{out, len(mapMagic) + 4 + len(used)*sha256.Size}), out.Flush(), file.Sync(), file.Close())
	if err != nil {
		return fmt.Errorf("write the backup's state: %w", err)
	}
	// Without packs the folder knows nothing: at no time have the entries of one table the
	// packs of the other.
	if err := errors.Join(w.packs.Truncate(0), w.packs.Sync()); err != nil {
		return fmt.Errorf("write the backup's state: %w", err)
	}
	if _, err := w.packs.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("write the backup's state: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write the backup's state: %w", err)
	}
	if err := durable.SyncDir(w.dir); err != nil {
		return err
	}
	for i, o := range used {
		if err := w.pack(uint32(i), o); err != nil { //nolint:gosec // not more than packs
			return err
		}
	}
	return nil
}

// skipper leaves out the first bytes.
type skipper struct {
	to   io.Writer
	left int
}

func (s *skipper) Write(p []byte) (int, error) {
	skip := min(s.left, len(p))
	s.left -= skip
	n, err := s.to.Write(p[skip:])
	return skip + n, err
}

func appendNumber(b []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(b, uint32(n)) //nolint:gosec // a count of pages
}

// lineReader reads the lines of a list of blobs.
type lineReader struct {
	in   *bufio.Reader
	line blobLine
	ok   bool
}

func newLineReader(in *bufio.Reader) *lineReader {
	l := &lineReader{in: in}
	l.step()
	return l
}

// step reads the next line; an incomplete one is the end.
func (l *lineReader) step() {
	text, err := l.in.ReadString('\n')
	l.ok = err == nil
	if l.ok {
		l.line, err = parseBlobLine(text)
		l.ok = err == nil
	}
}

// find returns the line of a key, which is not less than that of the call before.
func (l *lineReader) find(key string) (blobLine, bool) {
	if l == nil {
		return blobLine{}, false
	}
	for l.ok && l.line.key < key {
		l.step()
	}
	return l.line, l.ok && l.line.key == key
}

// recall brings the state in order before a run: what an interrupted one left becomes
// partial, and last is that of the store's newest snapshot.
func (s *Service) recall(ctx context.Context, newest *Manifest) error {
	if err := durable.MakeDir(s.State); err != nil {
		return fmt.Errorf("folder of the backup's state: %w", err)
	}
	in := func(name string) string { return filepath.Join(s.State, name) }
	left, err := filepath.Glob(in("object-*"))
	if err != nil {
		return fmt.Errorf("look at the backup's state: %w", err)
	}
	for _, name := range left {
		if err := os.Remove(name); err != nil {
			return fmt.Errorf("clean the backup's state: %w", err)
		}
	}
	if fi, err := os.Stat(in(nextFolder)); err == nil {
		if err := os.RemoveAll(in(partialFolder)); err != nil {
			return fmt.Errorf("clean the backup's state: %w", err)
		}
		if s.Now().Sub(fi.ModTime()) < partialLife {
			err = os.Rename(in(nextFolder), in(partialFolder))
		} else {
			err = os.RemoveAll(in(nextFolder))
		}
		if err != nil {
			return fmt.Errorf("clean the backup's state: %w", err)
		}
	}
	name, _ := os.ReadFile(filepath.Join(in(lastFolder), nameFile)) // without it, it is not that of the newest
	switch {
	case newest == nil:
		return os.RemoveAll(in(lastFolder))
	case string(name) == newest.Name:
		return nil
	default:
		return s.learn(ctx, newest, in(lastFolder))
	}
}

// learn makes the state of a snapshot that another run, perhaps on another machine, made. Of
// one that is encrypted only the list of blobs can be read.
func (s *Service) learn(ctx context.Context, m *Manifest, dir string) (err error) {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("clean the backup's state: %w", err)
	}
	w, err := newWriter(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	r := &Reader{Depot: s.Depot}
	if !m.Encrypted() {
		c, err := r.chart(ctx, m)
		if err != nil {
			return err
		}
		packs := map[string]Stored{}
		for _, p := range m.Packs {
			packs[p.hash()] = p
		}
		for i, sum := range c.packs {
			if err := w.pack(uint32(i), packs[sum]); err != nil { //nolint:gosec // not more than packs
				return err
			}
		}
		for i := range c.entries {
			if err := w.entry(&c.entries[i], &prints{}); err != nil {
				return err
			}
		}
	}
	err = r.usePacked(ctx, m.Blobs, func(in io.Reader) error {
		_, err := io.Copy(w.blobsTo, in)
		return err
	})
	if err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return err
	}
	return nameMemory(dir, m)
}

// nameMemory notes of which snapshot a folder is, and keeps its manifest.
func nameMemory(dir string, m *Manifest) error {
	for name, content := range map[string][]byte{toFile: []byte(strings.Join(m.Recipients, "\n")), indexFile: m.raw} {
		if err := durable.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return err
		}
	}
	return durable.WriteFile(filepath.Join(dir, nameFile), []byte(m.Name), 0o600)
}

// remembered returns the manifest of the snapshot that the state is of: ErrMissing. It is not
// read from the store, which may not let it be read.
func (s *Service) remembered() (*Manifest, error) {
	in := func(name string) string { return filepath.Join(s.State, lastFolder, name) }
	name, err := os.ReadFile(in(nameFile))
	if err != nil {
		return nil, ErrMissing
	}
	raw, err := os.ReadFile(in(indexFile))
	if err != nil {
		return nil, ErrMissing
	}
	return decodeManifest(string(name), raw)
}

// isTo reports whether what a folder knows of was encrypted to some recipients.
func isTo(dir string, recipients []string) bool {
	to, err := os.ReadFile(filepath.Join(dir, toFile)) //nolint:gosec // our own
	return err == nil && string(to) == strings.Join(recipients, "\n")
}

// settle makes what the run wrote the state of its snapshot.
func (r *run) settle(m *Manifest) error {
	in := func(name string) string { return filepath.Join(r.State, name) }
	if err := r.out.sync(); err != nil {
		return err
	}
	raw, err := json.Marshal(r.keys)
	if err != nil {
		return fmt.Errorf("encode the backup's state: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(in(nextFolder), keysFile), raw, 0o600); err != nil {
		return err
	}
	if err := nameMemory(in(nextFolder), m); err != nil {
		return err
	}
	for _, folder := range []string{lastFolder, partialFolder} {
		if err := os.RemoveAll(in(folder)); err != nil {
			return fmt.Errorf("clean the backup's state: %w", err)
		}
	}
	if err := os.Rename(in(nextFolder), in(lastFolder)); err != nil {
		return fmt.Errorf("keep the backup's state: %w", err)
	}
	return nil
}
