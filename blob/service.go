package blob

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
	"nestbox/ratelimit"
)

// Account is what blobs need to know about their account.
type Account struct {
	ID int64
	// Status is why the account is not active, as the Lexicons name it:
	// event.StatusTakenDown and the like. Empty if it is active.
	Status string
}

// Accounts finds accounts of this server.
type Accounts interface {
	// Find returns ErrNoAccount if there is none.
	Find(ctx context.Context, did syntax.DID) (Account, error)
}

// Service stores uploads, returns them, and removes what nobody needs. Its fields
// are set once, before the first use.
type Service struct {
	Store    Store
	Files    Files
	Accounts Accounts
	// UploadLimit is the size of the largest blob that is accepted, in bytes; Quota
	// bounds the sum of one account's, if not 0.
	UploadLimit, Quota int64
	// MaxInFlight is how much of the disk all uploads that are under way may use
	// together, in bytes, though one of UploadLimit is always allowed; 0 is
	// DefaultInFlight.
	MaxInFlight int64
	// Free, if set, returns how much of the disk is free: uploads that are under way
	// leave as much free as they use.
	Free func() (int64, error)
	// Unused is how long an upload waits for a record that refers to it,
	// Unreferenced how long a blob stays after its last reference went.
	Unused, Unreferenced time.Duration
	// Limits counts uploads; nil counts nothing.
	Limits *ratelimit.Limiter
	// NewKey makes a key that no other file has.
	NewKey func() string
	Now    func() time.Time
	// Doubt returns an error while Now cannot be trusted: then nothing is collected. If
	// it is nil, Now is always trusted.
	Doubt func() error
	Log   *slog.Logger
	// Uploads counts what was uploaded, and not refused, since the start.
	Uploads atomic.Uint64

	flights flights
	// kept is locked for reading while files are held, and for writing while some are removed.
	kept sync.RWMutex
}

// errBody: the upload could not be read to its end.
var errBody = errors.New("read upload")

// Upload keeps body, of length bytes unless that is below 0, as a blob of the
// account and returns it. Its type is what its first bytes show, else declared. May gets
// what a permission must allow, which is the same but for text that is declared as
// something else; an error of it refuses the upload, and is returned as it is. A
// failed or oversized upload leaves nothing behind: ErrTooLarge, ErrQuota,
// ErrNoAccount. Oversize is reported as early as possible. Upload uses a few
// buffers of memory, whatever the size.
func (s *Service) Upload(ctx context.Context, accountID int64, body io.Reader, length int64, declared string,
	may func(mimeType string) error,
) (Blob, error) {
	return s.upload(ctx, accountID, "", body, length, declared, func(_ cid.Cid, kind string) error { return may(kind) })
}

// upload is Upload, by an app if via is not empty. An error of may, which gets the CID too,
// refuses it.
func (s *Service) upload(ctx context.Context, accountID int64, via string, body io.Reader, length int64, declared string,
	may func(id cid.Cid, kind string) error,
) (Blob, error) {
	limit, over := s.UploadLimit, ErrTooLarge
	if s.Quota > 0 && length <= limit {
		room, err := s.Store.Room(ctx, accountID, s.Quota)
		if err != nil {
			return Blob{}, err
		}
		if room < limit {
			limit, over = room, ErrQuota
		}
	}
	if length > limit {
		return Blob{}, over
	}
	flight, err := s.flights.begin(accountID, via, length, s.inFlight())
	if err != nil {
		return Blob{}, err
	}
	defer flight.end()
	file, err := s.Files.Create(ctx)
	if err != nil {
		return Blob{}, err
	}
	defer file.Abort()
	b, kind, err := receive(file, body, declared, func(size int64, n int) error {
		if size > limit {
			return over
		}
		return flight.grow(n)
	})
	if err != nil {
		return Blob{}, err
	}
	if err := may(b.CID, kind); err != nil {
		return Blob{}, err
	}
	b.Key, b.CreatedAt = s.NewKey(), s.Now()
	// From here on Collect finds the file, whatever happens.
	if err := s.Store.Intend(ctx, b.Key, b.CreatedAt); err != nil {
		return Blob{}, err
	}
	if err := file.Commit(ctx, b.Key); err != nil {
		return Blob{}, err
	}
	kept, err := s.Store.Add(ctx, accountID, b, s.Quota)
	if errors.Is(err, ErrAbandoned) {
		// Nothing refers to the file any more. If it cannot be removed either, nestbox
		// verify reports it.
		err = errors.Join(err, s.Files.Remove(context.WithoutCancel(ctx), b.Key))
	}
	if err == nil {
		s.Uploads.Add(1)
	}
	return kept, err
}

// inFlight returns the bounds of uploads that are under way; one of the largest is
// always allowed.
func (s *Service) inFlight() flightBounds {
	all := max(cmp.Or(s.MaxInFlight, DefaultInFlight), s.UploadLimit)
	return flightBounds{all: all, ofAccount: max(all/accountsPart, s.UploadLimit), free: s.Free}
}

// uploadBuffer is how many bytes of an upload are in memory at a time.
const uploadBuffer = 64 << 10

// receive copies an upload into its file and returns what it is, and what kind of file a
// permission must allow. allow is called
// before each part is written, with the size including the part, and the part's
// own.
func receive(file io.Writer, body io.Reader, declared string, allow func(size int64, n int) error) (b Blob, kind string, err error) {
	hash := sha256.New()
	head := make([]byte, 0, sniffed)
	buffer := make([]byte, uploadBuffer)
	var size int64
	for {
		n, err := body.Read(buffer)
		part := buffer[:n]
		size += int64(n)
		if err := allow(size, n); err != nil {
			return Blob{}, "", err
		}
		head = append(head, part[:min(n, sniffed-len(head))]...)
		hash.Write(part) // never fails
		if _, err := file.Write(part); err != nil {
			return Blob{}, "", fmt.Errorf("write upload: %w", err)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Blob{}, "", fmt.Errorf("%w: %w", errBody, err)
		}
	}
	b = Blob{CID: dagcbor.RawCID([sha256.Size]byte(hash.Sum(nil))), Size: size, MimeType: typeOf(head, declared)}
	return b, shown(head, declared), nil
}

// Open returns a blob of the account that a record refers to, and its content:
// ErrNotFound. A new upload of the same content replaces the file, so a file that
// has just gone is looked for again.
func (s *Service) Open(ctx context.Context, accountID int64, id cid.Cid) (Blob, File, error) {
	b, err := s.Store.Get(ctx, accountID, id)
	for err == nil {
		file, ferr := s.Files.Open(ctx, b.Key)
		if !errors.Is(ferr, ErrNotFound) {
			return b, file, ferr
		}
		missing := b.Key
		if b, err = s.Store.Get(ctx, accountID, id); err == nil && b.Key == missing {
			return Blob{}, nil, fmt.Errorf("file %s of a blob is missing", missing)
		}
	}
	return Blob{}, nil, err
}
