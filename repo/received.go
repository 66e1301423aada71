package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/repo/car"
	"nestbox/request"
)

// Received is a file of a client that has come in full, and waits: it takes disk space
// until it is closed. What it holds is not known yet; it may be read by anybody, at once.
type Received struct {
	service *Service
	upload  *upload
	file    *incoming
	network string
}

// receivedAtOnce is how many files of the largest import all Received may take on disk
// together. The uploads of importRepo have their own.
const receivedAtOnce = 4

// Receive accepts a client's file of up to limit bytes, as importRepo does: it must come at
// uploadPace, and leave as much of the disk free as it takes. When there is no room, yield,
// if set, may close another Received, and reports whether it did. Errors: ErrTooLarge,
// ErrBusy, ErrSlow, those of r.
func (s *Service) Receive(ctx context.Context, r io.Reader, limit int64, yield func() bool) (*Received, error) {
	u := &upload{r: r, limit: limit, all: receivedAtOnce * s.maxImport(), now: s.Now, shared: &s.received, free: s.Free, yield: yield}
	file, err := s.receive(ctx, u)
	if err != nil {
		u.release()
		return nil, err
	}
	return &Received{service: s, upload: u, file: file, network: queueNetwork(request.ClientOf(ctx))}, nil
}

// Close gives the disk space back.
func (f *Received) Close() {
	f.file.close()
	f.upload.release()
}

// Size returns the size of the file, in bytes.
func (f *Received) Size() int64 { return f.file.size }

// ReadAt implements io.ReaderAt. Behind Size it reads nothing.
func (f *Received) ReadAt(b []byte, at int64) (int, error) {
	return io.NewSectionReader(f.file.file, 0, f.file.size).ReadAt(b, at)
}

// SignedBy returns ErrImport unless the file is a repository of that DID whose commit a key has
// signed, a did:key.
func (f *Received) SignedBy(did syntax.DID, key string) error {
	public, err := atcrypto.ParsePublicDIDKey(key)
	if err != nil {
		return fmt.Errorf("signing key of %s: %w", did, err)
	}
	file, err := car.NewReader(io.NewSectionReader(f.file.file, 0, f.file.size))
	if err != nil {
		return refused(err)
	}
	for {
		b, err := file.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: its commit is missing", ErrImport)
		}
		if err != nil {
			return refused(err)
		}
		if !slices.Contains(file.Roots(), b.CID) {
			continue
		}
		commit, err := DecodeCommit(b.Data)
		if err != nil {
			return refused(err)
		}
		if err := commit.Verify(public); err != nil || commit.DID != did {
			return fmt.Errorf("%w: the key that the DID document of %s names has not signed it", ErrImport, did)
		}
		return nil
	}
}

// Examine reads and verifies the file as Import does, and changes nothing. Records and Odd
// are what Import would bring; used is called for each blob that a record refers to. It
// counts against importsADay. Errors: those of Import.
func (f *Received) Examine(ctx context.Context, a Account, used func(cid.Cid)) (Imported, error) {
	if err := f.service.chargeImport(ctx, a.DID, f.file.size); err != nil {
		return Imported{}, err
	}
	return f.settle(ctx, a, nil, used)
}

// Import is Service.Import for the file, which a client has sent: what is stored leaves as
// much of the disk free as it takes. over is the CID of the commit that it may replace, empty
// for none: if the repository has another one, it stays as it is, ErrConflict. More errors:
// ErrBusy.
func (f *Received) Import(ctx context.Context, a Account, over string) (Imported, error) {
	return f.settle(ctx, a, &over, nil)
}

// settle verifies the file, and if over is set stores it.
func (f *Received) settle(ctx context.Context, a Account, over *string, used func(cid.Cid)) (Imported, error) {
	s := f.service
	end, err := s.imports.begin(a.ID)
	if err != nil {
		return Imported{}, err
	}
	defer end()
	head, err := s.head(ctx, a.ID)
	if err != nil && !errors.Is(err, ErrNoRepo) {
		return Imported{}, err
	}
	in := &importer{
		service: s, account: a, was: head, incoming: &incoming{file: f.file.file, size: f.file.size}, free: s.Free,
		over: over, dry: over == nil, used: used,
	}
	return s.settle(ctx, in, f.network, true)
}

// MaxImportSize returns how many bytes a repository's file may have.
func (s *Service) MaxImportSize() int64 { return s.maxImport() }
