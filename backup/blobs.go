package backup

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"

	"filippo.io/age"
)

// blobLine is a blob's file in a list: key, size, the hash of what the store has, and, if
// that is encrypted, a word that tells its name from those of other encryptions of it.
type blobLine struct {
	key  string
	size int64 // of the blob
	sum  string
	word string
	// gone: the server itself lacks the file.
	gone bool
}

func (b *blobLine) String() string {
	return strings.TrimSuffix(fmt.Sprintf("%s %d %s %s", b.key, b.size, b.sum, b.word), " ") + "\n"
}

// name returns the name of the file in the store.
func (b *blobLine) name() string {
	name := blobsFolder + "/" + b.key[:2] + "/" + b.key
	if b.word != "" {
		name += "." + b.word + sealed
	}
	return name
}

// errList: the list of blobs has a line that cannot be one.
var errList = errors.New("the list of blobs is damaged")

func parseBlobLine(text string) (b blobLine, err error) {
	parts := strings.Fields(text)
	if len(parts) != 3 && len(parts) != 4 || len(parts[0]) < 3 || strings.ContainsAny(parts[0], "/.") {
		return b, errList
	}
	b.key, b.sum = parts[0], parts[2]
	if len(parts) == 4 {
		b.word = parts[3]
	}
	b.size, err = strconv.ParseInt(parts[1], 10, 64)
	if raw, hexErr := hex.DecodeString(b.sum); err != nil || hexErr != nil || len(raw) != 32 || b.size < 0 || strings.ContainsAny(b.word,
		"/.") {
		return b, errList
	}
	return b, nil
}

// writeWanted writes the keys and sizes of the blobs of a state, and counts them.
func writeWanted(path string, m *Manifest, now Moment) (err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // the state's own folder
	if err != nil {
		return fmt.Errorf("list the blobs: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	out := bufio.NewWriter(file)
	err = now.Blobs(func(key string, size int64) error {
		m.BlobCount++
		m.BlobBytes += size
		_, err := fmt.Fprintln(out, key, size)
		return err
	})
	if err != nil {
		return fmt.Errorf("list the blobs: %w", err)
	}
	return out.Flush()
}

const (
	// batchCount and batchBytes are how many blobs are sent between two entries in the state.
	batchCount = 256
	batchBytes = 32 << 20
	// batchLines bounds the lines that wait for a batch.
	batchLines = 16 << 10
)

// batch is some blobs, in order, of which todo are sent.
type batch struct {
	lines []*blobLine
	todo  []*blobLine
	bytes int64
}

// blobs sends the blobs that the store lacks.
func (r *run) blobs(ctx context.Context, m *Manifest, wanted string) (err error) {
	file, err := os.Open(wanted) //nolint:gosec // the state's own folder
	if err != nil {
		return fmt.Errorf("list the blobs: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(wanted)) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	there := r.listBlobs(ctx)
	defer there.stop()
	var b batch
	done := int64(0)
	send := func() error {
		if err := r.batch(ctx, &b); err != nil {
			return err
		}
		done += int64(len(b.lines))
		r.progress(Step{"blobs", done, m.BlobCount, r.sent.Load()})
		b = batch{}
		return nil
	}
	for in := bufio.NewScanner(file); ; {
		if !in.Scan() {
			if err := errors.Join(in.Err(), send()); err != nil {
				return err
			}
			break
		}
		key, size, _ := strings.Cut(in.Text(), " ")
		line := &blobLine{key: key}
		if line.size, err = strconv.ParseInt(size, 10, 64); err != nil || len(key) < 3 {
			return errList
		}
		if err := r.place(ctx, &b, line, there); err != nil {
			return err
		}
		if len(b.todo) >= batchCount || b.bytes >= batchBytes || len(b.lines) >= batchLines {
			if err := send(); err != nil {
				return err
			}
		}
	}
	if err := r.out.flush(); err != nil {
		return err
	}
	m.Blobs, err = r.putPacked(ctx, objectsFolder, true, func(w io.Writer) error {
		if _, err := r.out.blobs.Seek(0, io.SeekStart); err != nil {
			return fmt.Errorf("read the backup's state: %w", err)
		}
		_, err := io.Copy(w, r.out.blobs)
		return err
	})
	if m.Gone = r.gone; m.Gone > 0 {
		r.Log.LogAttrs(ctx, slog.LevelError, "files of blobs are missing, so that the backup lacks them: run nestbox verify",
			slog.Int64("files", m.Gone))
	}
	return err
}

// place puts a blob into a batch: as one that the store has, or one to send.
func (r *run) place(ctx context.Context, b *batch, line *blobLine, there *listing) error {
	b.lines = append(b.lines, line)
	for _, m := range []*memory{r.last, r.left, r.with} {
		known, ok := m.lines.find(line.key)
		if !ok || (known.word != "") != (len(r.Recipients) > 0) {
			continue
		}
		o, has, err := there.has(known.name())
		if err != nil {
			return err
		}
		if has && o.Size == sealedSize(r.head, known.size) && (m != r.left || r.lasts(o)) { // else it was damaged in the store
			*line = known
			return nil
		}
	}
	if len(r.Recipients) == 0 && !r.Again {
		// An interrupted run may have sent it.
		if o, has, err := there.has(line.name()); err != nil || has && o.Size == line.size && r.lasts(o) {
			if err == nil {
				line.sum, err = r.hashBlob(ctx, line)
			}
			return err
		}
	} else if len(r.Recipients) > 0 {
		line.word = strings.ToLower(rand.Text()[:12])
	}
	b.todo = append(b.todo, line)
	b.bytes += line.size
	return nil
}

func (r *run) hashBlob(ctx context.Context, line *blobLine) (string, error) {
	in, _, err := r.Source.OpenBlob(ctx, line.key)
	if errors.Is(err, ErrMissing) {
		line.gone = true
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read blob %s: %w", line.key, err)
	}
	count := newCounted()
	_, err = io.Copy(count, in)
	if err := errors.Join(err, in.Close()); err != nil {
		return "", fmt.Errorf("read blob %s: %w", line.key, err)
	}
	return count.sum(), nil
}

// batch sends what a batch has to send, and notes all of it.
func (r *run) batch(ctx context.Context, b *batch) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan *blobLine)
	var senders sync.WaitGroup
	for range min(r.Depot.Writers(), len(b.todo)) {
		senders.Go(func() {
			for line := range next {
				if err := r.blob(ctx, line); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, line := range b.todo {
		select {
		case next <- line:
		case <-ctx.Done():
		}
	}
	close(next)
	senders.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if len(b.todo) > 0 {
		if err := r.Depot.Flush(ctx); err != nil {
			return fmt.Errorf("write to %s: %w", r.Depot, err)
		}
	}
	for _, line := range b.lines {
		if line.gone {
			r.gone++
			continue
		}
		if _, err := r.out.blobsTo.WriteString(line.String()); err != nil {
			return fmt.Errorf("write the backup's state: %w", err)
		}
	}
	if len(b.todo) > 0 {
		return r.out.flush()
	}
	return nil
}

// blob sends one blob and notes the hash of what was sent.
func (r *run) blob(ctx context.Context, line *blobLine) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	in, size, err := r.Source.OpenBlob(ctx, line.key)
	if errors.Is(err, ErrMissing) {
		line.gone = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("read blob %s: %w", line.key, err)
	}
	defer in.Close() //nolint:errcheck // it was only read
	line.size = size // of a file that is damaged, it is another than the database says
	body, size, err := r.encrypted(in, size)
	if err != nil {
		return err
	}
	count := newCounted()
	o := Stored{Name: line.name(), Size: size}
	if err := r.put(ctx, o, io.TeeReader(body, count)); err != nil {
		return err
	}
	if count.n != size {
		return fmt.Errorf("blob %s has %d bytes in the store, and should have %d: run nestbox verify", line.key, count.n, size)
	}
	line.sum = count.sum()
	return nil
}

const (
	// agePart is the size of the parts in which age encrypts, ageTag by how much each grows,
	// in bytes.
	agePart = 64 << 10
	ageTag  = 16
)

// encrypted returns what the store gets of size bytes of plain, and its size.
func (s *Service) encrypted(plain io.Reader, size int64) (io.Reader, int64, error) {
	if len(s.Recipients) == 0 {
		return plain, size, nil
	}
	out, err := age.EncryptReader(plain, s.Recipients...)
	if err != nil {
		return nil, 0, fmt.Errorf("encrypt: %w", err)
	}
	head, err := s.sealHead()
	return out, sealedSize(head, size), err
}

// sealHead returns the size of the head of what is encrypted, 0 if nothing is.
func (s *Service) sealHead() (int64, error) {
	if len(s.Recipients) == 0 {
		return 0, nil
	}
	empty, err := age.EncryptReader(strings.NewReader(""), s.Recipients...)
	if err != nil {
		return 0, fmt.Errorf("encrypt: %w", err)
	}
	n, err := io.Copy(io.Discard, empty)
	if err != nil {
		return 0, fmt.Errorf("encrypt: %w", err)
	}
	return n - ageTag, nil
}

// sealedSize returns the size of size bytes in the store, if head is what sealHead returned.
func sealedSize(head, size int64) int64 {
	if head == 0 {
		return size
	}
	return head + size + max(1, (size+agePart-1)/agePart)*ageTag
}

// listing goes through the files of blobs in the store.
type listing struct {
	next func() (Object, error, bool)
	stop func()
	at   Object
	err  error
	more bool
	// damaged are left out.
	damaged marks
}

// listBlobs lists the blobs of the store while has asks for them.
func (r *run) listBlobs(ctx context.Context) *listing {
	l := &listing{damaged: r.damaged}
	l.next, l.stop = iter.Pull2(func(yield func(Object, error) bool) {
		errEnough := errors.New("enough")
		err := r.Depot.List(ctx, blobsFolder+"/", func(o Object) error {
			if !yield(o, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(Object{}, fmt.Errorf("list what %s has: %w", r.Depot, err))
		}
	})
	l.step()
	return l
}

func (l *listing) step() { l.at, l.err, l.more = l.next() }

// has returns a blob's file in the store, if it has it. The names of the calls are in order, but
// that two of the same key may be asked for.
func (l *listing) has(name string) (o Object, ok bool, err error) {
	for l.more && l.err == nil && l.at.Name < name {
		l.step()
	}
	return l.at, l.more && l.err == nil && l.at.Name == name && !l.damaged.on(l.at), l.err
}
