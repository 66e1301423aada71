package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
	"nestbox/firehose/event"
	"nestbox/ratelimit"
	"nestbox/repo/car"
	"nestbox/repo/mst"
	"nestbox/request"
)

const (
	// DefaultMaxImport is what an import may take, and store, in bytes.
	DefaultMaxImport = 2 << 30
	// maxImports is how many imports are verified and stored at once: each may
	// hold 16 bytes for each block of its file in memory, 128 MiB.
	maxImports = 2
	// importPatience is how long an import whose file has come waits for others
	// to end.
	importPatience = 5 * time.Minute
	// futureFudge is how far in the future a revision may lie
	// (https://atproto.com/specs/sync): clocks differ.
	futureFudge = 5 * time.Minute

	// An import is stored in parts, each a transaction that others wait for: up
	// to fillRecords records, or fillBytes bytes.
	fillRecords = 1000
	fillBytes   = 1 << 20
	// keptTwice: a reference to a blob is found by the blob and by the record.
	keptTwice = 2
	// importNews is after how many records an import says where it is.
	importNews = 100_000
)

// Errors of Import.
var (
	// ErrImport: the file is no repository that can be imported into the account;
	// the text says why, and which record is to blame.
	ErrImport = errors.New("repository cannot be imported")
	// ErrTooLarge: the file, or what it would take here, is larger than
	// MaxImport, or has too many blocks.
	ErrTooLarge = errors.New("repository is too large to be imported")
	// ErrImporting: an import into the account's repository is under way.
	ErrImporting = errors.New("an import of this repository is under way already")

	errNoDisk = errors.New("the disk is too full for this import")
)

// imports are those under way, from the first byte of a file on.
type imports struct {
	slots slots

	mu  sync.Mutex
	now map[int64]bool // accounts
	// spooled is what the files that clients have sent take on disk, in bytes.
	spooled int64
}

// begin admits one import of an account at a time.
func (i *imports) begin(accountID int64) (end func(), err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.now[accountID] {
		return nil, ErrImporting
	}
	if i.now == nil {
		i.now = map[int64]bool{}
	}
	i.now[accountID] = true
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		delete(i.now, accountID)
	}, nil
}

// turn waits until few enough others are verified and stored.
func (i *imports) turn(ctx context.Context) (give func(), err error) {
	waiting, cancel := context.WithTimeout(ctx, importPatience)
	defer cancel()
	if give, err = i.slots.take(waiting, maxImports); err != nil {
		return nil, fmt.Errorf("wait for other imports: %w", err)
	}
	return give, nil
}

// reserve takes n bytes more of the disk, up to limit in all, and to half of what
// is taken and free together. The error is one for the client.
func (i *imports) reserve(n, limit, free int64) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.spooled+n > limit || n > (free-i.spooled)/2 {
		return busy(errSpoolFull)
	}
	i.spooled += n
	return nil
}

func (i *imports) release(n int64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.spooled -= n
}

// Imported is what an import came to.
type Imported struct {
	CID     cid.Cid
	Rev     syntax.TID
	Records int64
	// Kept says that the file's own commit is the repository's now; else there
	// is a new one of the same tree.
	Kept bool
}

// Import replaces an account's repository with the one that r holds as a CAR
// file. All of it is read and verified first: the structure, every record, that
// no block is missing; blocks that do not belong to it are ignored. Then it is
// stored where nobody sees it, and at last put in the place of the old one, at
// once: whatever happens before that changes nothing, and the import can be
// repeated. The file's commit is kept where the account's key has signed it and
// it is newer than the repository; a file whose tree is the repository's own, and
// which is not newer, changes nothing. A repository that is written to during the import stays:
// ErrConflict. Other errors: ErrImport, ErrTooLarge, ErrImporting, those of r.
//
// It is for the operator, who may send a file as slowly as he likes, and fill his
// disk with it.
func (s *Service) Import(ctx context.Context, a Account, r io.Reader) (Imported, error) {
	return s.imported(ctx, a, &upload{r: r, limit: s.maxImport()})
}

// importUpload is Import for a client: its file must come at uploadPace, takes its
// part of the disk that all such files share, counts against importsADay, and what
// is stored leaves as much of the disk free as it takes. Errors for clients are
// *xrpc.Error.
func (s *Service) importUpload(ctx context.Context, a Account, r io.Reader) (Imported, error) {
	u := &upload{r: r, limit: s.maxImport(), now: s.Now, shared: &s.imports, free: s.Free}
	defer u.release()
	return s.imported(ctx, a, u)
}

func (s *Service) imported(ctx context.Context, a Account, r *upload) (Imported, error) {
	end, err := s.imports.begin(a.ID)
	if err != nil {
		return Imported{}, err
	}
	defer end()
	// What it replaces is what was there when it began: what is written from
	// now on must not be lost.
	head, err := s.head(ctx, a.ID)
	if err != nil && !errors.Is(err, ErrNoRepo) {
		return Imported{}, err
	}
	file, err := s.receive(ctx, r)
	if err != nil {
		return Imported{}, err
	}
	defer file.close()
	in := &importer{service: s, account: a, was: head, incoming: file}
	if r.shared != nil {
		if err := s.chargeImport(ctx, a.DID, file.size); err != nil {
			return Imported{}, err
		}
		in.free = r.free
	}
	give, err := s.imports.turn(ctx)
	if err != nil {
		return Imported{}, err
	}
	defer give()
	done, err := in.run(ctx)
	if err != nil {
		s.Log.LogAttrs(ctx, slog.LevelWarn, "repository not imported", slog.String("did", a.DID.String()), slog.String("cause", err.Error()))
		return Imported{}, err
	}
	s.Log.LogAttrs(ctx, slog.LevelInfo, "repository imported", slog.String("did", a.DID.String()),
		slog.Int64("records", done.Records), slog.String("rev", done.Rev.String()), slog.Bool("kept", done.Kept))
	return done, nil
}

// importsADay is what a client may have verified and stored for an account: a point
// for each begun megabyte of a file. One file of any size can be had a day.
var importsADay = ratelimit.Limit{Name: "imports", Points: 8 << 10, Window: 24 * time.Hour}

func (s *Service) chargeImport(ctx context.Context, did syntax.DID, size int64) error {
	points := min(size>>20+1, int64(importsADay.Points))
	return request.Admit(ctx, s.Limits, did.String(), int(points), importsADay)
}

// head returns where an account's repository is.
func (s *Service) head(ctx context.Context, accountID int64) (h Head, err error) {
	err = s.Store.View(ctx, accountID, func(v View) error {
		h = v.Head()
		return nil
	})
	return h, err
}

func (s *Service) maxImport() int64 {
	if s.MaxImport == 0 {
		return DefaultMaxImport
	}
	return s.MaxImport
}

// importer is one import, once its file is there.
type importer struct {
	*incoming

	service *Service
	account Account
	was     Head

	theirs  *Commit
	next    Head // as far as it is known
	records int64
	stored  int64 // bytes that the records take
	// free, where it is set, says what is free of the disk.
	free func() (int64, error)
}

func (in *importer) run(ctx context.Context) (Imported, error) {
	if err := in.read(ctx); err != nil {
		return Imported{}, refused(err)
	}
	if err := in.commit(ctx); err != nil {
		return Imported{}, refused(err)
	}
	// A newer revision of the same tree is one that others may have seen.
	if in.theirs.Data.Equals(in.was.Root.CID) && in.theirs.Rev <= in.was.Rev {
		return Imported{CID: in.was.CID, Rev: in.was.Rev, Records: in.was.Records, Kept: in.was.CID.Equals(in.root)}, nil
	}
	if err := in.verify(ctx); err != nil {
		return Imported{}, refused(err)
	}
	if err := in.store(ctx); err != nil {
		return Imported{}, err
	}
	return Imported{CID: in.next.CID, Rev: in.next.Rev, Records: in.records, Kept: in.next.CID.Equals(in.root)}, nil
}

// commit checks the file's commit and decides on the one that the repository
// will have.
func (in *importer) commit(ctx context.Context) error {
	s := in.service
	block, err := in.block(in.root)
	if err != nil {
		return fmt.Errorf("the commit: %w", err)
	}
	if in.theirs, err = DecodeCommit(block); err != nil {
		return fmt.Errorf("the commit: %w", err)
	}
	now := s.Now()
	switch {
	case in.theirs.DID != in.account.DID:
		return fmt.Errorf("%w: it is the repository of %s, not of %s", ErrImport, in.theirs.DID, in.account.DID)
	case in.theirs.Rev.Time().After(now.Add(futureFudge)):
		return fmt.Errorf("%w: its revision %s lies in the future", ErrImport, in.theirs.Rev)
	}
	key, err := s.Keys.SigningKey(ctx, in.account.ID)
	if err != nil {
		return err
	}
	public, err := key.PublicKey()
	if err != nil {
		return fmt.Errorf("signing key of %s: %w", in.account.DID, err)
	}
	in.next = Head{DID: in.account.DID, CID: in.root, Rev: in.theirs.Rev, Commit: bytes.Clone(block)}
	if in.theirs.Rev > in.was.Rev && in.theirs.Verify(public) == nil {
		return nil
	}
	// Who saw either history must see this commit as the newest.
	rev, err := s.nextRev(now, max(in.theirs.Rev, in.was.Rev))
	if err != nil {
		return err
	}
	c := &Commit{DID: in.account.DID, Data: in.theirs.Data, Rev: rev}
	if err := c.Sign(key); err != nil {
		return err
	}
	in.next.Rev, in.next.Commit = c.Rev, c.Encode()
	in.next.CID = dagcbor.CID(in.next.Commit)
	return nil
}

// verify goes through the tree once and changes nothing: the tree is canonical,
// every record is there and is one.
func (in *importer) verify(ctx context.Context) error {
	b := mst.Builder{Emit: func(mst.Changed) error { return nil }}
	limit := in.service.maxImport()
	var check recordChecker
	err := in.walk(in.theirs.Data, func(key string, id cid.Cid) error {
		if err := in.count(ctx, "verified"); err != nil {
			return err
		}
		block, err := in.block(id)
		var w Write
		if err == nil {
			w, err = in.write(&check, key, id, block)
		}
		if err != nil {
			return fmt.Errorf("record %q: %w", key, err)
		}
		if in.stored += size(w); in.stored > limit {
			return fmt.Errorf("%w: its records take more than %d bytes", ErrTooLarge, limit)
		}
		return b.Add(key, id)
	})
	if err != nil {
		return err
	}
	root, err := b.Finish()
	if err != nil {
		return err
	}
	if !root.CID.Equals(in.theirs.Data) {
		return fmt.Errorf("%w: its tree is not in canonical form: %s should be %s", ErrImport, in.theirs.Data, root.CID)
	}
	return nil
}

// write is what is to be stored of a record, if it is one.
func (in *importer) write(check *recordChecker, key string, id cid.Cid, block []byte) (Write, error) {
	record, err := check.decode(key, block)
	if err != nil {
		return Write{}, err
	}
	w := Write{Key: key, CID: id, Block: block}
	// Most records have nothing to be found by. Every reference to a blob names
	// its type, also one of the old form.
	if subjectKindOf(check.collection) != noSubject || bytes.Contains(block, []byte("mimeType")) {
		w.Blobs, w.Subject, err = derive(in.service.Lexicons, check.collection, record)
	}
	return w, err
}

// size is about how many bytes a record takes in the store. One block may be the
// record of many keys, and little in a file is a long key, or a reference, in the
// store.
func size(w Write) int64 {
	n := len(w.Key) + len(w.Block)
	for _, id := range w.Blobs {
		n += keptTwice * (len(w.Key) + len(id.String()))
	}
	return int64(n)
}

// refused makes an ErrImport of what is wrong with the file.
func refused(err error) error {
	for _, fault := range []error{errMissing, errRecord, ErrCommit, mst.ErrNode, car.ErrForm, dagcbor.ErrForm} {
		if errors.Is(err, fault) {
			return fmt.Errorf("%w: %w", ErrImport, err)
		}
	}
	return err
}

// count counts a record, says now and then where the import is, and whether it
// should go on.
func (in *importer) count(ctx context.Context, doing string) error {
	if in.records++; in.records%importNews == 0 {
		in.service.Log.LogAttrs(ctx, slog.LevelInfo, "repository import goes on",
			slog.String("did", in.account.DID.String()), slog.String("done", doing), slog.Int64("records", in.records))
	}
	return ctx.Err()
}

// store fills a staged repository and switches to it.
func (in *importer) store(ctx context.Context) error {
	s := in.service
	number, err := s.Store.Stage(ctx, in.account.ID)
	if err != nil {
		return err
	}
	// Once it was switched to, there is nothing to drop any more.
	defer func() {
		if err := s.Store.Drop(context.WithoutCancel(ctx), number); err != nil {
			s.Log.LogAttrs(ctx, slog.LevelWarn, "staged import not dropped", slog.String("cause", err.Error()))
		}
	}()
	in.next.Number = number
	if err := in.fill(ctx); err != nil {
		return err
	}
	unlock, err := s.lock(ctx, in.account.ID)
	if err != nil {
		return err
	}
	defer unlock()
	now := s.Now()
	ev := event.Sync{
		DID: in.account.DID, Rev: in.next.Rev, Commit: car.Block{CID: in.next.CID, Data: in.next.Commit}, Time: now,
	}.Event()
	if err := s.Store.Switch(ctx, in.account.ID, in.was.CID, in.next, ev, now); err != nil {
		return fmt.Errorf("switch to the imported repository: %w", err)
	}
	return nil
}

// fill goes through the verified tree and stores it.
func (in *importer) fill(ctx context.Context) error {
	f := &filler{importer: in, ctx: ctx}
	b := mst.Builder{NextID: 1, Emit: f.node}
	in.records = 0
	err := in.walk(in.theirs.Data, func(key string, id cid.Cid) error {
		if err := in.count(ctx, "stored"); err != nil {
			return err
		}
		if err := f.record(key, id); err != nil {
			return fmt.Errorf("record %q: %w", key, err)
		}
		return b.Add(key, id)
	})
	if err != nil {
		return err
	}
	if in.next.Root, err = b.Finish(); err != nil {
		return err
	}
	in.next.NextNode, in.next.Records = b.NextID, in.records
	return f.flush()
}

// filler collects parts of an import and stores them.
type filler struct {
	*importer

	ctx     context.Context //nolint:containedctx // lives as long as one call of fill
	nodes   []mst.Changed
	records []Write
	size    int
	filled  int64 // bytes stored
	forms   recordChecker
}

func (f *filler) node(n mst.Changed) error {
	f.nodes = append(f.nodes, n)
	return f.add(len(n.Block))
}

func (f *filler) record(key string, id cid.Cid) error {
	block, err := f.block(id)
	if err != nil {
		return err
	}
	w, err := f.write(&f.forms, key, id, bytes.Clone(block))
	if err != nil {
		return err
	}
	f.records = append(f.records, w)
	return f.add(int(size(w)))
}

func (f *filler) add(size int) error {
	if f.size += size; f.size < fillBytes && len(f.records) < fillRecords {
		return nil
	}
	return f.flush()
}

func (f *filler) flush() error {
	if f.free != nil {
		// As much stays free as all of it takes.
		if free, err := f.free(); err != nil {
			return err
		} else if free < 2*f.stored-f.filled {
			return busy(errNoDisk)
		}
	}
	f.filled += int64(f.size)
	err := f.service.Store.Fill(f.ctx, f.next.Number, f.next.Rev, f.nodes, f.records)
	clear(f.nodes)
	clear(f.records)
	f.nodes, f.records, f.size = f.nodes[:0], f.records[:0], 0
	return err
}
