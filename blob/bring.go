package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/firehose/event"
	"nestbox/ratelimit"
	"nestbox/request"
)

// uploads limits the uploads of an account, uploadsInactive those of one that is not
// active: an account that moves in brings the blobs of years.
var (
	uploads         = ratelimit.Limit{Name: "uploads", Points: 1000, Window: 24 * time.Hour}
	uploadsInactive = ratelimit.Limit{Name: "uploads-inactive", Points: 20_000, Window: 24 * time.Hour}
)

// uploadBytes and uploadBytesInactive limit the same in MiB, rounded up: with the
// largest uploads that are accepted, the limits above would let an account fill any
// disk in a day.
var (
	uploadBytes         = ratelimit.Limit{Name: "upload bytes", Points: 20 << 10, Window: 24 * time.Hour}
	uploadBytesInactive = ratelimit.Limit{Name: "upload bytes, inactive", Points: 400 << 10, Window: 24 * time.Hour}
)

// uploadLimits returns the limits of an account of that status.
func uploadLimits(status string) (count, mebibytes ratelimit.Limit) {
	if status == event.StatusDeactivated {
		return uploadsInactive, uploadBytesInactive
	}
	return uploads, uploadBytes
}

// counted returns an upload whose bytes count against a limit of its account.
func (s *Service) counted(ctx context.Context, body io.Reader, did syntax.DID, limit ratelimit.Limit) io.Reader {
	return &counted{Reader: body, pay: func(mebibytes int) error {
		return request.Charge(ctx, s.Limits, did.String(), mebibytes, limit)
	}}
}

// counted is an upload whose bytes are counted against limits as they arrive.
type counted struct {
	io.Reader

	pay  func(mebibytes int) error
	size int64
}

func (c *counted) Read(b []byte) (int, error) {
	const mebibyte = 1 << 20
	n, err := c.Reader.Read(b)
	before := (c.size + mebibyte - 1) / mebibyte
	c.size += int64(n)
	if begun := (c.size+mebibyte-1)/mebibyte - before; begun > 0 {
		if err := c.pay(int(begun)); err != nil {
			return 0, err
		}
	}
	return n, err
}

// Errors of Bring.
var (
	// ErrContent: the content is not that of the CID.
	ErrContent = errors.New("content is not what its CID says")
	// ErrStanding: the account's status allows no uploads.
	ErrStanding = errors.New("account may not upload blobs")
)

// Bring keeps body, of length bytes unless that is below 0, as the blob id of an account
// that moves in, for its owner: what uploadBlob accepts, within its limits, and only if it
// is the content of id. Errors: ErrContent, ErrStanding, request.ErrTooMany, those of Upload.
func (s *Service) Bring(ctx context.Context, did syntax.DID, id cid.Cid, body io.Reader, length int64, declared string) error {
	a, err := s.Accounts.Find(ctx, did)
	if err != nil {
		return err
	}
	if a.Status != "" && a.Status != event.StatusDeactivated {
		return ErrStanding
	}
	limit, bytes := uploadLimits(a.Status)
	if err := request.Charge(ctx, s.Limits, did.String(), 1, limit); err != nil {
		return err
	}
	_, err = s.upload(ctx, a.ID, "", s.counted(ctx, body, did, bytes), length, declared, func(got cid.Cid, _ string) error {
		if !got.Equals(id) {
			return fmt.Errorf("%w: it is %s, not %s", ErrContent, got, id)
		}
		return nil
	})
	if errors.Is(err, errManyUploads) || errors.Is(err, ErrInFlight) {
		return request.ErrTooMany{Wait: busyFor}
	}
	return err
}
