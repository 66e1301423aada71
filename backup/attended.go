package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
)

// attended is a store for a verification, which ends when the store cannot be read, as while the network
// is away: that says nothing about what the store has.
type attended struct {
	Depot

	end context.CancelCauseFunc
}

// Get implements Depot.
func (a *attended) Get(ctx context.Context, name string) (io.ReadCloser, error) {
	body, err := a.Depot.Get(ctx, name)
	if err != nil {
		return nil, a.failed(name, err)
	}
	return &attendedBody{body, a, name}, nil
}

// unclean is EUCLEAN of Linux: what the file system has of a file is damaged. Other systems do not know
// the number.
const unclean = syscall.Errno(117)

// unreadable makes an error of a disk that cannot read a file any more, and of what is no file, one that
// is ErrDamaged, too.
func unreadable(err error) error {
	for _, one := range []error{syscall.EIO, syscall.EBADMSG, unclean, syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP} {
		if errors.Is(err, one) {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
	}
	return err
}

// failed ends the verification unless the error tells what has become of the object, or that nobody
// waits for it.
func (a *attended) failed(name string, err error) error {
	if harmed(unreadable(err)) || errors.Is(err, context.Canceled) {
		return err
	}
	a.end(fmt.Errorf("read %s from %s: %w", name, a.Depot, err))
	return err
}

type attendedBody struct {
	io.ReadCloser

	from *attended
	name string
}

// Read implements io.Reader.
func (b *attendedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.from.failed(b.name, err)
	}
	return n, err
}
