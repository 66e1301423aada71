package backup

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"nestbox/internal/durable"
)

// Waiting is what waits to be sent, and why the log is not followed, if it is not.
type Waiting struct {
	Segments int
	Bytes    int64
	// Since is when the oldest was committed; Gap is why there is one that no snapshot has
	// closed yet.
	Since time.Time
	Gap   error
}

// Waits returns what waits.
func (s *Segments) Waits() (w Waiting) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w = Waiting{Segments: len(s.queue), Bytes: s.bytes, Gap: s.gap}
	if len(s.queue) > 0 {
		w.Since = s.queue[0].At
	}
	return w
}

// Send sends what waits, in order. While it fails no file of a blob is removed.
func (s *Segments) Send(ctx context.Context) (err error) {
	s.sending.Lock()
	defer s.sending.Unlock()
	defer func() {
		switch {
		case err != nil && s.release == nil:
			s.release = s.service.Source.HoldBlobs()
		case err == nil && s.release != nil:
			s.release()
			s.release = nil
		}
	}()
	if err := s.compareLate(ctx); err != nil {
		return err
	}
	for {
		s.mu.Lock()
		waits, wanted := slices.Clone(s.queue[:min(len(s.queue), sendAtOnce)]), map[string][]NewBlob{}
		for _, seg := range waits {
			wanted[seg.Name] = s.wanted[seg.Name]
		}
		s.mu.Unlock()
		if len(waits) == 0 {
			return nil
		}
		if err := s.send(ctx, waits, wanted); err != nil {
			return err
		}
	}
}

// sendAtOnce is how many segments are sent between two calls of Depot.Flush.
const sendAtOnce = 64

// send sends some segments, and forgets them.
func (s *Segments) send(ctx context.Context, some []Segment, wanted map[string][]NewBlob) error {
	// What was sent must not be taken again in another form after a power cut.
	for _, seg := range some {
		if err := durable.SyncDir(s.waitsAt(seg.Name)); err != nil {
			return err
		}
	}
	for _, path := range []string{s.markPath(), filepath.Join(s.dir, waitingFolder), s.dir} {
		if err := durable.SyncDir(path); err != nil && !errors.Is(err, os.ErrNotExist) { // without a mark the chain has ended
			return err
		}
	}
	r := &run{Service: s.service}
	sentBlobs := false
	for _, seg := range some {
		sent, err := s.sendBlobs(ctx, r, seg, wanted[seg.Name])
		if err != nil {
			return err
		}
		sentBlobs = sentBlobs || sent
	}
	if sentBlobs { // ahead of the segments that name them
		if err := r.Depot.Flush(ctx); err != nil {
			return fmt.Errorf("write to %s: %w", r.Depot, err)
		}
	}
	for _, seg := range some {
		if err := s.sendOne(ctx, r, seg); err != nil {
			return err
		}
	}
	if err := r.Depot.Flush(ctx); err != nil {
		return fmt.Errorf("write to %s: %w", r.Depot, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seg := range some {
		if err := removeWaiting(s.waitsAt(seg.Name)); err != nil {
			return err
		}
		if len(s.queue) > 0 && s.queue[0].Name == seg.Name { // else they were given up meanwhile
			s.queue, s.bytes = s.queue[1:], s.bytes-seg.Size
		}
		delete(s.wanted, seg.Name)
	}
	return nil
}

// sendOne sends the file of a segment. One that was given up meanwhile is left out.
func (s *Segments) sendOne(ctx context.Context, r *run, seg Segment) error {
	file, err := os.Open(s.waitsAt(seg.Name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read a segment of the log: %w", err)
	}
	return errors.Join(r.put(ctx, Stored{Name: seg.Name, Size: seg.Size}, file), file.Close())
}

// sendBlobs sends the blobs that are new in a segment, and a list of them.
func (s *Segments) sendBlobs(ctx context.Context, r *run, seg Segment, blobs []NewBlob) (sent bool, err error) {
	var list strings.Builder
	for _, b := range blobs {
		line, err := s.sendBlob(ctx, r, b)
		if err != nil {
			return sent, err
		}
		if line.gone {
			s.log().LogAttrs(ctx, slog.LevelError, "the file of a blob is missing, so that the backup lacks it: run nestbox verify",
				slog.String("file", b.Key))
			continue
		}
		list.WriteString(line.String())
		sent = true
	}
	if list.Len() == 0 {
		return sent, nil
	}
	var packed bytes.Buffer
	w, err := newEncoder(&packed)
	if err != nil {
		return sent, fmt.Errorf("compress: %w", err)
	}
	_, err = io.WriteString(w, list.String())
	if err := errors.Join(err, w.Close()); err != nil {
		return sent, fmt.Errorf("compress: %w", err)
	}
	count := newCounted()
	_, _ = count.Write(packed.Bytes())
	name := fmt.Sprintf("%s/%s/%012d-%s%s", logFolder, seg.Chain, seg.Index, count.sum(), listEnding)
	return sent, r.put(ctx, Stored{Name: name, Size: count.n}, &packed)
}

// sendBlob sends a blob, unless it was sent.
func (s *Segments) sendBlob(ctx context.Context, r *run, b NewBlob) (blobLine, error) {
	s.mu.Lock()
	line, ok := s.sent[b.Key]
	s.mu.Unlock()
	if ok {
		return line, nil
	}
	line = blobLine{key: b.Key, size: b.Size}
	if len(s.service.Recipients) > 0 {
		line.word = strings.ToLower(rand.Text()[:12])
	}
	if err := r.blob(ctx, &line); err != nil || line.gone {
		return line, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent[b.Key] = line
	file, err := os.OpenFile(filepath.Join(s.dir, sentFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return line, fmt.Errorf("write the backup's state: %w", err)
	}
	_, err = file.WriteString(line.String())
	return line, errors.Join(err, file.Close())
}

// Close ends what Send keeps.
func (s *Segments) Close() {
	s.sending.Lock()
	defer s.sending.Unlock()
	if s.release != nil {
		s.release()
		s.release = nil
	}
}
