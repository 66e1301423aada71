package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/dagcbor"
	"nestbox/internal/ctxio"
)

// Checker checks that blobs match their rows.
type Checker struct {
	Files Inspector
	// Report is called for each fault.
	Report func(fault string)
	// Blobs is how many there were, Bytes their sizes.
	Blobs, Bytes int64
}

// Blob checks one blob of an account: its file is there, with its size and the hash
// that its CID says. If its row has a damaged CID, no content matches. An error
// means that it could not check.
func (c *Checker) Blob(ctx context.Context, did syntax.DID, b Blob) error {
	c.Blobs++
	c.Bytes += b.Size
	name := fmt.Sprintf("%s: blob %s, file %s: ", did, b.CID, b.Key)
	f, err := c.Files.Open(ctx, b.Key)
	if errors.Is(err, ErrNotFound) {
		c.Report(name + "it is missing")
		return nil
	}
	if err != nil {
		c.Report(name + err.Error())
		return ctx.Err()
	}
	hash := sha256.New()
	size, err := io.Copy(hash, ctxio.Reader(ctx, f))
	err = errors.Join(err, f.Close())
	got := dagcbor.RawCID([sha256.Size]byte(hash.Sum(nil)))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil: // a bad sector, say
		c.Report(name + err.Error())
	case size != b.Size:
		c.Report(fmt.Sprintf("%sit has %d bytes, its row says %d", name, size, b.Size))
	case !got.Equals(b.CID):
		c.Report(name + "its content is " + got.String())
	}
	return nil
}
