package moving

import (
	"context"
	"errors"
	"time"

	"github.com/ipfs/go-cid"

	"nestbox/account"
	"nestbox/blob"
	"nestbox/internal/pause"
	"nestbox/request"
)

// eachBlob counts the blobs of an archive, and calls do for each that is not here.
func (s *Service) eachBlob(ctx context.Context, h *held, a *archive, f *File, do func(*packedBlob) (Reason, error)) error {
	f.Blobs, f.New, f.There, f.Refused, f.RefusedAll = 0, 0, 0, nil, 0
	for _, name := range a.odd {
		f.refuse(name, NotABlob)
	}
	wanted := h.used // what the records that come refer to
	if !f.Repo || f.Phase == Bringing {
		var err error
		if wanted, err = s.wanted(ctx, h.account.ID, a); err != nil {
			return err
		}
	}
	for _, b := range a.blobs {
		if err := ctx.Err(); err != nil {
			return err
		}
		_, err := s.Blobs.Get(ctx, h.account.ID, b.id)
		if err != nil && !errors.Is(err, blob.ErrNotFound) {
			return err
		}
		if err == nil {
			f.There++
			f.Blobs++
			continue
		}
		down, err := s.takenDown(ctx, h.account.ID, b.id)
		if err != nil {
			return err
		}
		var why Reason
		switch {
		case down:
			why = TakenDown
		case b.size > s.UploadLimit:
			why = TooLarge
		case !wanted[b.id.String()]:
			why = Unused
		default:
			if why, err = do(b); err != nil {
				return err
			}
		}
		if why != "" {
			f.refuse(b.file.Name, why)
			continue
		}
		f.New++
		f.Blobs++
	}
	return nil
}

// takenDown reports whether moderation took down a blob that is here and in use.
func (s *Service) takenDown(ctx context.Context, accountID int64, id cid.Cid) (bool, error) {
	text := id.String()
	next, err := s.Blobs.Kept(ctx, accountID, text[:len(text)-1], 1) // the first one behind all but its last letter
	return len(next) == 1 && next[0].CID.Equals(id) && next[0].TakenDown, err
}

// names returns the CIDs of an archive's blobs.
func (a *archive) names() map[string]bool {
	in := make(map[string]bool, len(a.blobs))
	for _, b := range a.blobs {
		in[b.id.String()] = true
	}
	return in
}

// wanted returns which of an archive's blobs records refer to that are not here.
func (s *Service) wanted(ctx context.Context, accountID int64, a *archive) (map[string]bool, error) {
	in := a.names()
	out := map[string]bool{}
	for cursor := ""; ; {
		page, err := s.Blobs.Missing(ctx, accountID, cursor, pageOfMissing, nil)
		if err != nil {
			return nil, err
		}
		for _, m := range page {
			if cursor = m.CID.String(); in[cursor] {
				out[cursor] = true
			}
		}
		if len(page) < pageOfMissing {
			return out, nil
		}
	}
}

// bringBlob brings in one blob, and waits for room.
func (s *Service) bringBlob(ctx context.Context, owner *account.Account, b *packedBlob) (Reason, error) {
	for waited := time.Duration(0); ; {
		r, err := b.open()
		if err != nil {
			return Damaged, nil //nolint:nilerr // it is named as refused
		}
		err = s.Blobs.Bring(ctx, owner.DID, b.id, r, b.size, b.mimeType)
		_ = r.Close() // it was only read
		many, full := errors.AsType[request.ErrTooMany](err)
		if !full {
			return b.reason(err)
		}
		if waited += many.Wait; waited > bringPatience {
			return NoRoom, nil
		}
		if !pause.For(ctx, many.Wait) {
			return "", ctx.Err()
		}
	}
}

// reason returns why a blob is refused; an error is none of the blob's.
func (b *packedBlob) reason(err error) (Reason, error) {
	switch {
	case err == nil:
		return "", nil
	case errors.Is(err, ErrDamaged), errors.Is(err, blob.ErrContent):
		return Damaged, nil
	case errors.Is(err, blob.ErrTooLarge):
		return TooLarge, nil
	case errors.Is(err, blob.ErrQuota):
		return OverQuota, nil
	case errors.Is(err, blob.ErrTakenDown):
		return TakenDown, nil
	default:
		return "", err
	}
}
