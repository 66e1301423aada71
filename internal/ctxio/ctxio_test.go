package ctxio_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"nestbox/internal/ctxio"
)

func TestReader(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := ctxio.Reader(ctx, strings.NewReader("ab"))
	one := make([]byte, 1)
	if n, err := r.Read(one); n != 1 || err != nil || one[0] != 'a' {
		t.Errorf("%d bytes, %q, %v", n, one, err)
	}
	cancel()
	if rest, err := io.ReadAll(r); len(rest) != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("%q, %v after the end", rest, err)
	}
}
