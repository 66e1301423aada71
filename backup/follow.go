package backup

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/superfly/ltx"

	"nestbox/internal/durable"
	"nestbox/internal/system"
)

// MaxWaiting bounds what waits to be sent of the log, in bytes. A store that is away so long
// leaves a gap: the next snapshot is where the log goes on.
const MaxWaiting = 256 << 20

// ErrBehind: see MaxWaiting.
var ErrBehind = fmt.Errorf("more than %d MB of the log wait to be sent: the store is away, or slower than the writes", MaxWaiting>>20)

// The folder of Service.State for segments, and what it has.
const (
	followFolder  = "log"
	markFile      = "mark"
	sentFile      = "blobs" // lines, of blobs that no snapshot has had
	waitingFolder = "waiting"
)

// Segments sends the log of a database to a store, piece by piece: so a restore comes back to
// a time between two snapshots, and loses seconds. See decision 0011.
//
// A piece is written, and encrypted, to a file of the state first, where it waits to be sent.
// So the log never waits for the store, and whatever is sent twice is the same.
type Segments struct {
	service *Service
	dir     string
	most    int64

	mu    sync.Mutex
	kept  kept
	ended bool // the chain: nothing follows
	gap   error
	queue []Segment // what waits, in order
	bytes int64     // of queue
	// wanted are the blobs that are new in what waits, by the name of the segment.
	wanted map[string][]NewBlob
	sent   map[string]blobLine

	db      Followed
	sending sync.Mutex
	release func() // of HoldBlobs, while the store is away
	unsure  bool   // the chain was not compared with the store yet
}

var _ Follower = (*Segments)(nil)

// kept is what markFile has.
type kept struct {
	Mark

	// Prev begins the hash of the last segment.
	Prev string `json:"prev"`
	// Based: a snapshot has begun the chain.
	Based bool `json:"based"`
	// Recipients are those of the chain, as Manifest.Recipients.
	Recipients []string `json:"recipients,omitempty"`
	// Boot is system.BootID when it was written.
	Boot string `json:"boot,omitempty"`
}

// lasts reports whether what was written with a mark is there. A mark is not synced when it is
// written, and neither are segments: after a power cut the log may have started over behind a mark
// that was lost. A database that was closed tells itself whether it is as the mark says.
func (k *kept) lasts() bool { return k.Closed != nil || k.Boot == system.BootID() }

// OpenSegments prepares to send the log, and finds what waits since the last time.
func (s *Service) OpenSegments() (*Segments, error) {
	out := &Segments{
		service: s, dir: filepath.Join(s.State, followFolder), most: MaxWaiting, ended: true,
		wanted: map[string][]NewBlob{}, sent: map[string]blobLine{},
	}
	if err := durable.MakeDir(filepath.Join(out.dir, waitingFolder)); err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(filepath.Join(out.dir, markFile))
	if err == nil && json.Unmarshal(raw, &out.kept) != nil || err != nil && !errors.Is(err, os.ErrNotExist) {
		out.kept = kept{}
	}
	if !out.kept.lasts() {
		out.kept = kept{}
	}
	if !slices.Equal(out.kept.Recipients, s.recipients()) {
		// Those who can open a snapshot must be able to open all that follows it.
		out.kept = kept{}
		if err := durable.Remove(filepath.Join(out.dir, sentFile)); err != nil {
			return nil, err
		}
	}
	if err := out.readSent(); err != nil {
		return nil, err
	}
	return out, out.findWaiting()
}

// readSent reads which blobs were sent with segments.
func (s *Segments) readSent() error {
	file, err := os.Open(filepath.Join(s.dir, sentFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the backup's state: %w", err)
	}
	defer file.Close() //nolint:errcheck // it was only read
	for in := bufio.NewScanner(file); in.Scan(); {
		if line, err := parseBlobLine(in.Text()); err == nil { // else it broke off there
			s.sent[line.key] = line
		}
	}
	return nil
}

// findWaiting finds what waits. What is not what its name says, after a power cut, ends the
// chain, and what the mark does not know is taken again.
func (s *Segments) findWaiting() error {
	entries, err := os.ReadDir(filepath.Join(s.dir, waitingFolder))
	if err != nil {
		return fmt.Errorf("look for segments that wait: %w", err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), listEnding) {
			continue
		}
		path := s.path(e.Name())
		content, err := os.ReadFile(path) //nolint:gosec // the state's own folder
		if err != nil {
			return fmt.Errorf("read a segment that waits: %w", err)
		}
		count := newCounted()
		_, _ = count.Write(content)
		seg, ok := parseSegment(objectName(e.Name()), int64(len(content)))
		switch {
		case !ok || seg.Chain == s.kept.Chain && seg.Index > s.kept.Segment:
		case count.sum() != seg.sum:
			s.kept = kept{}
		default:
			s.queue = append(s.queue, seg)
			s.bytes += seg.Size
			s.wanted[seg.Name] = readWanted(path + listEnding)
			continue
		}
		if err := removeWaiting(path); err != nil {
			return fmt.Errorf("remove a segment that is not whole: %w", err)
		}
	}
	slices.SortFunc(s.queue, func(a, b Segment) int {
		if a.Chain == b.Chain {
			return int(a.Index - b.Index)
		}
		return a.At.Compare(b.At)
	})
	return nil
}

func (s *Segments) path(name string) string      { return filepath.Join(s.dir, waitingFolder, name) }
func (s *Segments) waitsAt(object string) string { return s.path(fileName(object)) }
func (s *Segments) log() *slog.Logger            { return s.service.Log }
func (s *Segments) markPath() string             { return filepath.Join(s.dir, markFile) }

// removeWaiting removes the file of a segment that waits, and its list of blobs.
func removeWaiting(path string) error {
	return errors.Join(durable.Remove(path), durable.Remove(path+listEnding))
}

// readWanted reads the keys and sizes of blobs.
func readWanted(path string) (blobs []NewBlob) {
	raw, err := os.ReadFile(path) //nolint:gosec // the state's own folder
	if err != nil {
		return nil // most have none
	}
	for line := range strings.Lines(string(raw)) {
		var b NewBlob
		if _, err := fmt.Sscan(line, &b.Key, &b.Size); err == nil && len(b.Key) >= 3 {
			blobs = append(blobs, b)
		}
	}
	return blobs
}

// Start follows a database, from where it was followed last if nothing was lost since.
func (s *Segments) Start(ctx context.Context, db Followed) error {
	s.db = db
	s.compareFirst(ctx)
	s.mu.Lock()
	var from *Mark
	if s.kept.Chain != "" {
		mark := s.kept.Mark
		from = &mark
	}
	s.mu.Unlock()
	goesOn, err := db.Follow(ctx, s, from)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended = !goesOn; s.ended {
		if from != nil {
			s.log().LogAttrs(ctx, slog.LevelWarn, "the log cannot be followed where it was left: a snapshot is made, from which it goes on",
				slog.Time("left", from.At))
		}
		s.kept = kept{}
	}
	return nil
}

// Now implements Follower.
func (s *Segments) Now() time.Time { return s.service.Now() }

// Begin implements Follower.
func (s *Segments) Begin(at Mark) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at.Chain, at.Segment = strings.ToLower(rand.Text()[:16]), 0
	s.kept = kept{Mark: at, Prev: noPrev, Recipients: s.service.recipients()}
	if err := s.writeMark(); err != nil {
		return "", err
	}
	s.ended = false
	return at.Chain, nil
}

// writeMark writes the mark. It is synced before anything of it is sent.
func (s *Segments) writeMark() error {
	s.kept.Boot = system.BootID()
	raw, err := json.Marshal(s.kept)
	if err != nil {
		return fmt.Errorf("encode the backup's state: %w", err)
	}
	path := s.markPath()
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
		return fmt.Errorf("write the backup's state: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write the backup's state: %w", err)
	}
	return nil
}

// Keep implements Follower.
func (s *Segments) Keep(p Piece) error {
	s.mu.Lock()
	prev := s.kept.Prev
	s.mu.Unlock()
	seg, err := s.write(&p, prev)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept.Mark, s.kept.Prev = p.Mark, seg.sum[:prevLength]
	if err := s.writeMark(); err != nil {
		return err
	}
	s.queue, s.bytes = append(s.queue, seg), s.bytes+seg.Size
	s.wanted[seg.Name] = p.Blobs
	if s.bytes > s.most {
		return ErrBehind
	}
	return nil
}

// write writes a piece to its file.
func (s *Segments) write(p *Piece, prev string) (seg Segment, err error) {
	file, err := os.CreateTemp(filepath.Join(s.dir, waitingFolder), "unfinished-")
	if err != nil {
		return seg, fmt.Errorf("write a segment of the log: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, durable.Remove(file.Name()))
		}
	}()
	count := newCounted()
	buffered := bufio.NewWriterSize(file, 64<<10)
	w, err := s.service.seal(io.MultiWriter(buffered, count))
	if err == nil {
		_, err = encodePages(w, ltx.TXID(p.Segment+1), p.State, p.At, p.Pages) //nolint:gosec // it counts up
		err = errors.Join(err, w.Close())
	}
	if err := errors.Join(err, buffered.Flush(), file.Close()); err != nil {
		return seg, fmt.Errorf("write a segment of the log: %w", err)
	}
	seg = Segment{
		Size: count.n, Chain: p.Chain, Index: p.Segment, At: p.At.UTC().Truncate(time.Millisecond), LastEvent: p.LastEvent,
		prev: prev, sum: count.sum(),
	}
	if seg.At.Before(p.At) {
		seg.At = seg.At.Add(time.Millisecond)
	}
	seg.name(s.service.extension())
	if len(p.Blobs) > 0 {
		var lines bytes.Buffer
		for _, b := range p.Blobs {
			fmt.Fprintln(&lines, b.Key, b.Size)
		}
		if err := os.WriteFile(s.waitsAt(seg.Name)+listEnding, lines.Bytes(), 0o600); err != nil {
			return seg, fmt.Errorf("list the blobs of a segment: %w", err)
		}
	}
	if err := os.Rename(file.Name(), s.waitsAt(seg.Name)); err != nil {
		return seg, fmt.Errorf("name a segment of the log: %w", err)
	}
	return seg, nil
}

// End implements Follower.
func (s *Segments) End(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log().Error("the log is not followed any more: a snapshot is made, from which it goes on", "cause", cause.Error(), "since", s.kept.At)
	s.gap, s.ended, s.kept = cause, true, kept{}
	if errors.Is(cause, ErrBehind) {
		s.drop("")
	}
	// On a full disk it could not be written, and a later start would go on where it is. To remove
	// it needs no room.
	if err := errors.Join(durable.Remove(s.markPath()), durable.SyncDir(s.dir)); err != nil {
		s.log().Error("the backup's state was not removed: remove it before the next start", "file", s.markPath(), "cause", err.Error())
	}
}

// drop gives up what waits of a chain, or of all if it is empty: the next snapshot has it. The
// caller has locked mu.
func (s *Segments) drop(chain string) {
	var rest []Segment
	for _, seg := range s.queue {
		if chain != "" && seg.Chain != chain {
			rest = append(rest, seg)
			continue
		}
		s.bytes -= seg.Size
		delete(s.wanted, seg.Name)
		if err := removeWaiting(s.waitsAt(seg.Name)); err != nil {
			s.log().Error("a segment of the log was not removed", "cause", err.Error())
		}
	}
	s.queue = rest
}

// Closed implements Follower.
func (s *Segments) Closed(left FileState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept.Closed = &left
	if err := s.writeMark(); err != nil {
		s.log().Error("the backup's state was not written", "cause", err.Error())
	}
}

// Unsent implements Follower.
func (s *Segments) Unsent(each func(yield func(NewBlob) error) error) (out []NewBlob, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir := filepath.Join(s.service.State, lastFolder)
	if !isTo(dir, s.service.recipients()) { // a snapshot for others
		dir = ""
	}
	last := openMemory(dir, 0)
	defer last.close()
	waits := map[string]bool{}
	for _, blobs := range s.wanted {
		for _, b := range blobs {
			waits[b.Key] = true
		}
	}
	err = each(func(b NewBlob) error {
		_, had := last.lines.find(b.Key)
		if _, sent := s.sent[b.Key]; !had && !sent && !waits[b.Key] {
			out = append(out, b)
		}
		return nil
	})
	return out, err
}

// NeedsBase reports whether a snapshot must be made before segments lead anywhere.
func (s *Segments) NeedsBase() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended || !s.kept.Based
}

// based notes that a snapshot in a chain is there, which has the blobs of some keys.
func (s *Segments) based(chain string, keys []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(keys) > 0 {
		for _, key := range keys {
			delete(s.sent, key)
		}
		lines, _ := s.sentLines()
		if err := durable.WriteFile(filepath.Join(s.dir, sentFile), []byte(lines), 0o600); err != nil {
			return err
		}
	}
	if s.ended || chain != s.kept.Chain {
		return nil
	}
	s.kept.Based, s.gap = true, nil
	return s.writeMark()
}

// memory returns which blobs were sent with segments, and their keys.
func (s *Segments) memory() (*memory, []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines, keys := s.sentLines()
	return &memory{lines: newLineReader(bufio.NewReader(strings.NewReader(lines)))}, keys
}

// sentLines returns the lines of sent, by key, and the keys. The caller has locked mu.
func (s *Segments) sentLines() (lines string, keys []string) {
	keys = slices.Sorted(maps.Keys(s.sent))
	var out strings.Builder
	for _, key := range keys {
		line := s.sent[key]
		out.WriteString(line.String())
	}
	return out.String(), keys
}
