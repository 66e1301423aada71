package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"
	"strings"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// sealed ends the names of objects that are encrypted: age -d opens them.
const sealed = ".age"

// Stored is an object as a manifest names it.
type Stored struct {
	Name string `json:"name"`
	// Size is that of the object, in bytes.
	Size int64 `json:"size"`
}

// hash returns the hash of the object's bytes, which is in its name.
func (o Stored) hash() string {
	base := o.Name[strings.LastIndexByte(o.Name, '/')+1:]
	return strings.TrimSuffix(base, sealed)
}

// window bounds the memory that compression takes, here and at a restore.
const window = 1 << 20

func newEncoder(w io.Writer) (*zstd.Encoder, error) {
	return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window))
}

func newDecoder(r io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxPack))
}

// extension ends the names of what the service puts.
func (s *Service) extension() string {
	if len(s.Recipients) > 0 {
		return sealed
	}
	return ""
}

// recipients returns the names of Recipients, in order, each once.
func (s *Service) recipients() (names []string) {
	for _, r := range s.Recipients {
		names = append(names, fmt.Sprint(r))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// seal encrypts what is written to the writer that it returns, if there is a recipient.
func (s *Service) seal(w io.Writer) (io.WriteCloser, error) {
	if len(s.Recipients) == 0 {
		return nopCloser{w}, nil
	}
	out, err := age.Encrypt(w, s.Recipients...)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return out, nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// counted counts and hashes what is written or read.
type counted struct {
	hash hash.Hash
	n    int64
}

func newCounted() *counted { return &counted{hash: sha256.New()} }

func (c *counted) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return c.hash.Write(p)
}

func (c *counted) sum() string { return hex.EncodeToString(c.hash.Sum(nil)) }

func sumOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// putBytes keeps content in the store under its hash.
func (r *run) putBytes(ctx context.Context, kind string, content []byte) (Stored, error) {
	var out bytes.Buffer
	w, err := r.seal(&out)
	if err != nil {
		return Stored{}, err
	}
	if _, err := w.Write(content); err != nil {
		return Stored{}, fmt.Errorf("encrypt: %w", err)
	}
	if err := w.Close(); err != nil {
		return Stored{}, fmt.Errorf("encrypt: %w", err)
	}
	o := Stored{Name: kind + "/" + sumOf(out.Bytes()) + r.extension(), Size: int64(out.Len())}
	return o, r.put(ctx, o, bytes.NewReader(out.Bytes()))
}

// putStream keeps what write writes in the store under its hash; it goes through a file of
// the state. plain leaves it as it is, for all to read.
func (r *run) putStream(ctx context.Context, kind string, plain bool, write func(io.Writer) error) (_ Stored, err error) {
	file, err := os.CreateTemp(r.State, "object-")
	if err != nil {
		return Stored{}, fmt.Errorf("write an object: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	count := newCounted()
	both := io.MultiWriter(file, count)
	w, extension := io.WriteCloser(nopCloser{both}), ""
	if !plain {
		if w, err = r.seal(both); err != nil {
			return Stored{}, err
		}
		extension = r.extension()
	}
	if err := write(w); err != nil {
		return Stored{}, err
	}
	if err := w.Close(); err != nil {
		return Stored{}, fmt.Errorf("write an object: %w", err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return Stored{}, fmt.Errorf("read an object: %w", err)
	}
	o := Stored{Name: kind + "/" + count.sum() + extension, Size: count.n}
	return o, r.put(ctx, o, file)
}

// putPacked is putStream of compressed content.
func (r *run) putPacked(ctx context.Context, kind string, plain bool, write func(io.Writer) error) (Stored, error) {
	return r.putStream(ctx, kind, plain, func(w io.Writer) error {
		packed, err := newEncoder(w)
		if err != nil {
			return fmt.Errorf("compress: %w", err)
		}
		if err := write(packed); err != nil {
			return errors.Join(err, packed.Close())
		}
		return packed.Close()
	})
}

func (r *run) put(ctx context.Context, o Stored, body io.Reader) error {
	if err := r.Depot.Put(ctx, o.Name, o.Size, body); err != nil {
		return fmt.Errorf("write %s to %s: %w", o.Name, r.Depot, err)
	}
	r.sent.Add(o.Size)
	return nil
}

// ErrDamaged: an object is not what its name or its manifest says.
var ErrDamaged = errors.New("it is damaged")

// ErrIdentity: the snapshot is encrypted to somebody else.
var ErrIdentity = errors.New("it is encrypted to another recipient: name the file of its identity with --identity")

// Reader reads snapshots.
type Reader struct {
	Depot Depot
	// Identities open what is encrypted.
	Identities []age.Identity
	// Progress, if it is set, is called often.
	Progress func(Step)

	damaged func(name string) // is called for each object that is, if it is set
}

// found reports an object that is damaged.
func (r *Reader) found(name string) error {
	if r.damaged != nil {
		r.damaged(name)
	}
	return fmt.Errorf("%s: %w: its bytes are not those that were written", name, ErrDamaged)
}

// open decrypts an object's content, if its name says that it is encrypted.
func (r *Reader) open(name string, content io.Reader) (io.Reader, error) {
	if !strings.HasSuffix(name, sealed) {
		return content, nil
	}
	if len(r.Identities) == 0 {
		return nil, fmt.Errorf("%s: %w", name, ErrIdentity)
	}
	out, err := age.Decrypt(content, r.Identities...)
	if none := (*age.NoIdentityMatchError)(nil); errors.As(err, &none) {
		return nil, fmt.Errorf("%s: %w", name, ErrIdentity)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: decrypt: %w", name, ErrDamaged, err)
	}
	return out, nil
}

// use calls fn with an object's content. It is an error if the object is not what its name
// says, even if fn did not notice: what fn has done with it counts only if use returns nil.
func (r *Reader) use(ctx context.Context, o Stored, fn func(io.Reader) error) error {
	return r.useHashed(ctx, o.Name, o.Size, o.hash(), fn)
}

// useBlob is use of a blob's file.
func (r *Reader) useBlob(ctx context.Context, line *blobLine, fn func(io.Reader) error) error {
	return r.useHashed(ctx, line.name(), -1, line.sum, fn)
}

// useHashed is use of an object whose size is not known if it is below 0, and whose hash is not if it
// is empty.
func (r *Reader) useHashed(ctx context.Context, name string, size int64, sum string, fn func(io.Reader) error) error {
	return r.check(ctx, name, size, sum, func(raw io.Reader) error {
		plain, err := r.open(name, raw)
		if err != nil {
			return err
		}
		return fn(plain)
	})
}

// source reads an object of a store, and keeps why it could not be read to its end.
type source struct {
	io.Reader

	err error
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// check calls fn with an object's bytes, and compares them with what was written.
func (r *Reader) check(ctx context.Context, name string, size int64, sum string, fn func(io.Reader) error) error {
	body, err := r.Depot.Get(ctx, name)
	if err != nil {
		return fmt.Errorf("read %s from %s: %w", name, r.Depot, unreadable(err))
	}
	source, count := &source{Reader: body}, newCounted()
	raw := io.TeeReader(source, count)
	err = fn(raw)
	_, _ = io.Copy(io.Discard, raw) // source has the error
	closeErr := body.Close()
	_, local := errors.AsType[*os.PathError](err)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case source.err != nil:
		return fmt.Errorf("read %s: %w", name, unreadable(source.err))
	case size >= 0 && count.n != size || sum != "" && count.sum() != sum,
		sum == "" && err != nil && !local: // then it cannot be decrypted
		return r.found(name)
	case err != nil:
		return err
	default:
		return closeErr
	}
}

// usePacked is use of compressed content.
func (r *Reader) usePacked(ctx context.Context, o Stored, fn func(io.Reader) error) error {
	return r.use(ctx, o, func(content io.Reader) error {
		plain, err := newDecoder(content)
		if err != nil {
			return fmt.Errorf("decompress: %w", err)
		}
		defer plain.Close()
		return fn(plain)
	})
}
