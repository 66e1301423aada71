package takeover

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"nestbox/blob/disk"
	"nestbox/internal/system"
)

// DiskFiles implements Files in a folder of blobs.
type DiskFiles struct{ Disk *disk.Files }

var _ Files = DiskFiles{}

// Bring implements Files.
func (f DiskFiles) Bring(
	ctx context.Context, key string, o Original, m Manner,
) (size int64, how Manner, err error) {
	if err := ctx.Err(); err != nil {
		return 0, "", err
	}
	if _, err := sizeOfFile(o.Path); err != nil {
		return 0, "", err
	}
	size, there, err := f.Disk.Size(key)
	if err != nil || there {
		return size, Present, err
	}
	err = f.Disk.Adopt(key, func(to string) (err error) {
		how, err = bringFile(to, o.Path, m)
		if err != nil {
			return err
		}
		size, err = proveFile(to, o.Sum)
		return err
	})
	return size, how, err
}

// sizeOfFile returns the size of a regular file: ErrNoFile.
func sizeOfFile(path string) (int64, error) {
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return 0, ErrNoFile
	case err != nil:
		return 0, fmt.Errorf("look at file: %w", err)
	case !fi.Mode().IsRegular():
		return 0, ErrNoFile
	}
	return fi.Size(), nil
}

// bringFile makes the file to in the first manner that works.
func bringFile(to, from string, m Manner) (Manner, error) {
	if m == Any || m == Reflink {
		err := makeFile(to, from, system.Clone)
		if err == nil || m == Reflink || !errors.Is(err, errors.ErrUnsupported) {
			return Reflink, wrapManner(err, Reflink)
		}
	}
	if m == Any || m == Link {
		err := os.Link(from, to)
		if err == nil || m == Link || !cannotLink(err) {
			return Link, wrapManner(err, Link)
		}
	}
	err := makeFile(to, from, func(to, from *os.File) error {
		_, err := io.Copy(to, from)
		return err
	})
	return Copy, wrapManner(err, Copy)
}

func wrapManner(err error, m Manner) error {
	if err == nil || m == Copy {
		return err
	}
	if errors.Is(err, errors.ErrUnsupported) || cannotLink(err) {
		return fmt.Errorf("%s: %w; leave --blobs out, or use --blobs copy", m, err)
	}
	return fmt.Errorf("%s: %w", m, err)
}

// cannotLink reports whether err means that no file may be linked there, and not that this
// one failed: another file system, or a kernel that protects the files of others.
func cannotLink(err error) bool {
	for _, cannot := range []error{syscall.EXDEV, syscall.EPERM, syscall.EMLINK, errors.ErrUnsupported} {
		if errors.Is(err, cannot) {
			return true
		}
	}
	return false
}

// makeFile makes the file to with the content of from, as fill does it, durably. What fails
// leaves no file.
func makeFile(to, from string, fill func(to, from *os.File) error) (err error) {
	in, err := os.Open(from) //nolint:gosec // a blob of the source
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // in a folder of our own
	if err != nil {
		return err
	}
	if err = fill(out, in); err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		err = errors.Join(err, os.Remove(to))
	}
	return err
}

// proveFile reads a file, which must have the SHA-256 sum, and returns its size:
// ErrContent.
func proveFile(path string, sum [sha256.Size]byte) (size int64, err error) {
	f, err := os.Open(path) //nolint:gosec // in a folder of our own
	if err != nil {
		return 0, fmt.Errorf("read file: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return proveContent(f, sum)
}

// proveContent reads all of r, which must have the SHA-256 sum, and returns its size:
// ErrContent.
func proveContent(r io.Reader, sum [sha256.Size]byte) (size int64, err error) {
	h := sha256.New()
	if size, err = io.Copy(h, r); err != nil {
		return 0, fmt.Errorf("read file: %w", err)
	}
	if [sha256.Size]byte(h.Sum(nil)) != sum {
		return 0, ErrContent
	}
	return size, nil
}

// Each implements Files.
func (f DiskFiles) Each(ctx context.Context, yield func(path, key string) error) error {
	return f.Disk.Each(ctx, yield)
}

// Remove implements Files.
func (f DiskFiles) Remove(ctx context.Context, key string) error { return f.Disk.Remove(ctx, key) }

// Settle implements Files.
func (f DiskFiles) Settle(context.Context) error { return f.Disk.Settle() }

// FolderOriginals implements Originals for files of this machine.
type FolderOriginals struct{}

var _ Originals = FolderOriginals{}

// Size implements Originals.
func (FolderOriginals) Size(_ context.Context, path string) (int64, error) { return sizeOfFile(path) }

// Open implements Originals.
func (FolderOriginals) Open(_ context.Context, path string) (io.ReadCloser, error) {
	if _, err := sizeOfFile(path); err != nil {
		return nil, err
	}
	return os.Open(path) //nolint:gosec // a blob of the source
}

// FetchedFiles implements Files in a folder of blobs whose originals are elsewhere, as in a
// bucket: each is copied.
type FetchedFiles struct {
	DiskFiles

	From Originals
}

var _ Files = FetchedFiles{}

// Bring implements Files. It does not ask for an original whose file is there.
func (f FetchedFiles) Bring(ctx context.Context, key string, o Original, _ Manner) (size int64, how Manner, err error) {
	size, there, err := f.Disk.Size(key)
	if err != nil || there {
		return size, Present, err
	}
	body, err := f.From.Open(ctx, o.Path)
	if err != nil {
		return 0, "", err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	err = f.Disk.Adopt(key, func(to string) (err error) {
		size, err = fetchFile(to, body, o.Sum)
		return err
	})
	return size, Copy, err
}

// fetchFile makes the file to of a content, which must have the SHA-256 sum, durably, and
// returns its size: ErrContent. The caller removes what fails.
func fetchFile(to string, content io.Reader, sum [sha256.Size]byte) (size int64, err error) {
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // in a folder of our own
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if size, err = proveContent(io.TeeReader(content, out), sum); err != nil {
		return 0, err
	}
	return size, out.Sync()
}

// Looked implements Files for a dry run: it only looks whether there is a file of the right
// size. It reads the content of the others, and of all if Hash is set.
type Looked struct {
	From Originals
	Hash bool
}

var _ Files = Looked{}

// Bring implements Files. It makes nothing.
func (l Looked) Bring(ctx context.Context, _ string, o Original, m Manner) (size int64, _ Manner, err error) {
	if size, err = l.From.Size(ctx, o.Path); err != nil || !l.Hash && size == o.Size {
		return size, m, err
	}
	body, err := l.From.Open(ctx, o.Path)
	if err != nil {
		return 0, m, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	size, err = proveContent(body, o.Sum)
	return size, m, err
}

// Each implements Files: there is none.
func (Looked) Each(context.Context, func(path, key string) error) error { return nil }

// Remove implements Files.
func (Looked) Remove(context.Context, string) error { return nil }

// Settle implements Files.
func (Looked) Settle(context.Context) error { return nil }

// MannerOf returns the manner in which files of a folder can be brought to another, tried on
// one file, from, at the free path to. Nothing of it is left.
func MannerOf(to, from string) (Manner, error) {
	how, err := bringFile(to, from, Any)
	if err != nil {
		return how, err
	}
	return how, os.Remove(to)
}
