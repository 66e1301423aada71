// Package ctxio ends copies of files with a context.
package ctxio

import (
	"context"
	"io"
)

// Reader returns r until ctx ends: then its reads fail with the error of ctx.
func Reader(ctx context.Context, r io.Reader) io.Reader { return reader{ctx, r} }

type reader struct {
	ctx context.Context //nolint:containedctx // for the time of one copy
	r   io.Reader
}

func (r reader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(b)
}
