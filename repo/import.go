package repo

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
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
	// importPace is how fast a client's import must be verified and stored, in
	// bytes of its file a second, behind DefaultImportGrace: 2 GiB may take 19
	// minutes. A slower import would hold a slot that others wait for.
	importPace = 2 << 20
	// DefaultImportGrace is how long a client's import may take beside importPace.
	DefaultImportGrace = 2 * time.Minute
	// The records of an import may take expansion times the size of its file, and
	// freeExpansion bytes more. One block can be the record of any number of keys,
	// so a small file could ask for any amount of work.
	expansion     = 8
	freeExpansion = 64 << 20
	// futureFudge is how far in the future a revision may be
	// (https://atproto.com/specs/sync): clocks differ.
	futureFudge = 5 * time.Minute

	// An import is stored in parts, each a transaction that others wait for: up
	// to fillRecords records, or fillBytes bytes.
	fillRecords = 1000
	fillBytes   = 1 << 20
	// keptTwice: a reference to a blob is found by the blob and by the record.
	keptTwice = 2
	// oddLogged is how many malformed records of an import the log names.
	oddLogged = 20
	// importNews is the number of records after which an import logs its progress.
	importNews = 100_000
)

// Errors of Import.
var (
	// ErrImport: the file is not a repository that can be imported into the account;
	// the text gives the reason, and the record at fault.
	ErrImport = errors.New("repository cannot be imported")
	// ErrTooLarge: the file, or what it would take here, is larger than
	// MaxImport, or has too many blocks.
	ErrTooLarge = errors.New("repository is too large to be imported")
	// ErrImporting: an import into the account's repository is under way.
	ErrImporting = errors.New("an import of this repository is under way already")

	errNoDisk     = fmt.Errorf("%w: the disk is too full for this import", ErrBusy)
	errLongImport = fmt.Errorf("%w: verifying and storing this import took longer than an import may", ErrBusy)
)

// Imported is the result of an import.
type Imported struct {
	CID     cid.Cid
	Rev     syntax.TID
	Records int64
	// Kept means that the repository now has the file's own commit; otherwise it has a
	// new one of the same records.
	Kept bool
	// Odd is how many of the records could not be written here: their blocks are
	// kept as they are.
	Odd int64
}

// Import replaces an account's repository with the one that r holds as a CAR
// file. All of it is read and verified first: keys, their order, that no block is
// missing; blocks that do not belong to it are ignored, and a tree that is not in
// canonical form is rebuilt from its records. A record is kept as it is, even if it
// could not be written here: its owner must be able to bring it. Then the repository
// is stored where nobody sees it, and at last replaces the old one in one step: a
// failure before that changes nothing, and the import can be repeated. The file's
// commit is kept if the account's key has signed it and it is newer than the
// repository; a file that has the repository's own tree and is not newer changes
// nothing. A repository that is written to during the import stays: ErrConflict.
// Other errors: ErrImport, ErrTooLarge, ErrImporting, those of r.
//
// It is for the operator, who may send a file slowly and fill the disk with it.
func (s *Service) Import(ctx context.Context, a Account, r io.Reader) (Imported, error) {
	return s.imported(ctx, a, &upload{r: r, limit: s.maxImport()})
}

// importUpload is Import for a client: its file must come at uploadPace, shares a
// part of the disk with all such files, and counts against importsADay; what is
// stored leaves as much of the disk free as it takes. More errors: ErrBusy,
// request.ErrTooMany.
func (s *Service) importUpload(ctx context.Context, a Account, r io.Reader) (Imported, error) {
	u := &upload{r: r, limit: s.maxImport(), all: uploadsAtOnce * s.maxImport(), now: s.Now, shared: &s.imports, free: s.Free}
	defer u.release()
	return s.imported(ctx, a, u)
}

func (s *Service) imported(ctx context.Context, a Account, r *upload) (Imported, error) {
	end, err := s.imports.begin(a.ID)
	if err != nil {
		return Imported{}, err
	}
	defer end()
	// It replaces the repository as it was when the import began: what is written from
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
	if r.shared == nil {
		return s.settle(ctx, in, "", false)
	}
	if err := s.chargeImport(ctx, a.DID, file.size); err != nil {
		return Imported{}, err
	}
	in.free = r.free
	return s.settle(ctx, in, queueNetwork(request.ClientOf(ctx)), true)
}

// settle verifies a file and stores it, once it is its network's turn. timed: it may take
// importTime.
func (s *Service) settle(ctx context.Context, in *importer, network string, timed bool) (Imported, error) {
	give, err := s.imports.turn(ctx, network)
	if err != nil {
		return Imported{}, err
	}
	defer give()
	if timed {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, s.importTime(in.size), errLongImport)
		defer cancel()
	}
	done, err := in.run(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errLongImport) {
		err = context.Cause(ctx)
	}
	did := in.account.DID.String()
	if !in.dry {
		s.Counts.imported(err)
	}
	if err != nil {
		s.Log.LogAttrs(ctx, slog.LevelWarn, "repository not imported", slog.String("did", did), slog.String("cause", err.Error()))
		return Imported{}, err
	}
	if !in.dry {
		s.Log.LogAttrs(ctx, slog.LevelInfo, "repository imported", slog.String("did", did),
			slog.Int64("records", done.Records), slog.Int64("malformed", done.Odd),
			slog.String("rev", done.Rev.String()), slog.Bool("kept", done.Kept))
	}
	return done, nil
}

// importsADay is what a client may have verified and stored for an account: a point
// for each begun megabyte of a file. One file of any size is possible each day.
var importsADay = ratelimit.Limit{Name: "imports", Points: 8 << 10, Window: 24 * time.Hour}

func (s *Service) chargeImport(ctx context.Context, did syntax.DID, size int64) error {
	points := min(size>>20+1, int64(importsADay.Points))
	return request.Admit(ctx, s.Limits, did.String(), int(points), importsADay)
}

// head returns the head of an account's repository.
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

// importTime returns how long verifying and storing a client's file of that size may
// take.
func (s *Service) importTime(size int64) time.Duration {
	return cmp.Or(s.ImportGrace, DefaultImportGrace) + time.Duration(size/importPace)*time.Second
}

// importer is one import, once its file is there.
type importer struct {
	*incoming

	service *Service
	account Account
	was     Head

	theirs     *Commit
	theirBlock []byte
	next       Head // as far as it is known
	records    int64
	odd        int64 // records that could not be written here
	stored     int64 // bytes that the records take
	// free, if set, returns the free bytes of the disk.
	free func() (int64, error)
	// over, if set, is the CID of the commit that may be replaced, empty for none.
	over *string
	// dry: the file is verified, and nothing is stored. used, if set, is called for each blob
	// that a record refers to.
	dry  bool
	used func(cid.Cid)
}

func (in *importer) run(ctx context.Context) (Imported, error) {
	if err := in.read(ctx); err != nil {
		return Imported{}, refused(err)
	}
	if err := in.commit(); err != nil {
		return Imported{}, refused(err)
	}
	// Others may have seen a newer revision of the same tree.
	if !in.dry && in.theirs.Data.Equals(in.was.Root.CID) && in.theirs.Rev <= in.was.Rev {
		return in.unchanged(), nil
	}
	tree, err := in.verify(ctx)
	if err != nil {
		return Imported{}, refused(err)
	}
	// What was rebuilt the last time is rebuilt to the same tree.
	if !tree.Equals(in.theirs.Data) && tree.Equals(in.was.Root.CID) && in.theirs.Rev <= in.was.Rev {
		return in.unchanged(), nil
	}
	if in.dry {
		return Imported{CID: in.root, Rev: in.theirs.Rev, Records: in.records, Odd: in.odd}, nil
	}
	is := ""
	if in.was.CID.Defined() {
		is = in.was.CID.String()
	}
	if in.over != nil && *in.over != is {
		return Imported{}, fmt.Errorf("%w: it is at %q", ErrConflict, is)
	}
	if err := in.seal(ctx, tree); err != nil {
		return Imported{}, err
	}
	if err := in.store(ctx); err != nil {
		return Imported{}, err
	}
	return Imported{CID: in.next.CID, Rev: in.next.Rev, Records: in.records, Kept: in.next.CID.Equals(in.root), Odd: in.odd}, nil
}

// unchanged returns the result of an import that leaves the repository as it is.
func (in *importer) unchanged() Imported {
	return Imported{CID: in.was.CID, Rev: in.was.Rev, Records: in.was.Records, Kept: in.was.CID.Equals(in.root)}
}

// commit checks the file's commit.
func (in *importer) commit() error {
	block, err := in.block(in.root)
	if err != nil {
		return fmt.Errorf("the commit: %w", err)
	}
	if in.theirs, err = DecodeCommit(block); err != nil {
		return fmt.Errorf("the commit: %w", err)
	}
	in.theirBlock = bytes.Clone(block)
	switch {
	case in.theirs.DID != in.account.DID:
		return fmt.Errorf("%w: it is the repository of %s, not of %s", ErrImport, in.theirs.DID, in.account.DID)
	case in.theirs.Rev.Time().After(in.service.Now().Add(futureFudge)):
		return fmt.Errorf("%w: its revision %s lies in the future", ErrImport, in.theirs.Rev)
	}
	return nil
}

// seal decides on the commit that the repository will have: the file's, or a new
// one of tree.
func (in *importer) seal(ctx context.Context, tree cid.Cid) error {
	s := in.service
	key, err := s.Keys.SigningKey(ctx, in.account.ID)
	if err != nil {
		return err
	}
	public, err := key.PublicKey()
	if err != nil {
		return fmt.Errorf("signing key of %s: %w", in.account.DID, err)
	}
	in.next = Head{DID: in.account.DID, CID: in.root, Rev: in.theirs.Rev, Commit: in.theirBlock}
	if tree.Equals(in.theirs.Data) && in.theirs.Rev > in.was.Rev && in.theirs.Verify(public) == nil {
		return nil
	}
	// The revision must be newer than both histories, or their consumers would
	// ignore it.
	rev, err := s.nextRev(s.Now(), max(in.theirs.Rev, in.was.Rev))
	if err != nil {
		return err
	}
	c := &Commit{DID: in.account.DID, Data: tree, Rev: rev}
	if err := c.Sign(key); err != nil {
		return err
	}
	in.next.Rev, in.next.Commit = c.Rev, c.Encode()
	in.next.CID = dagcbor.CID(in.next.Commit)
	return nil
}

// verify goes through the tree once and changes nothing. It checks that keys are
// valid and ascend, and that every record is in the file. It returns the root of the
// tree in canonical form, which may differ from the file's.
func (in *importer) verify(ctx context.Context) (cid.Cid, error) {
	b := mst.Builder{Emit: func(n mst.Changed) error {
		if len(n.Block) > car.MaxBlock { // of a tree in another shape: no export could hold it
			return fmt.Errorf("%w: it would have %d bytes; the limit is %d", mst.ErrNode, len(n.Block), car.MaxBlock)
		}
		return nil
	}}
	limit := min(in.service.maxImport(), freeExpansion+expansion*in.size)
	var check recordChecker
	err := in.walk(in.theirs.Data, func(key string, id cid.Cid) error {
		if err := in.count(ctx, "verified"); err != nil {
			return err
		}
		w, odd, err := in.write(&check, key, id)
		if err != nil {
			return fmt.Errorf("record %q: %w", key, err)
		}
		if odd != nil {
			in.noteOdd(ctx, key, odd)
		}
		for _, id := range w.Blobs {
			if in.used != nil {
				in.used(id)
			}
		}
		if in.stored += size(w); in.stored > limit {
			return fmt.Errorf("%w: its records take more than %d bytes", ErrTooLarge, limit)
		}
		return b.Add(key, id)
	})
	if err != nil {
		return cid.Undef, err
	}
	root, err := b.Finish()
	return root.CID, err
}

// noteOdd counts a record that could not be written here, and logs the first ones.
func (in *importer) noteOdd(ctx context.Context, key string, odd error) {
	if in.odd++; in.odd <= oddLogged {
		in.service.Log.LogAttrs(ctx, slog.LevelWarn, "malformed record imported as it is",
			slog.String("did", in.account.DID.String()), slog.String("record", key), slog.String("cause", odd.Error()))
	}
}

// write returns what to store of a record. Its block is valid until the next call. A
// record that could not be written here is kept as it is; odd is the reason.
func (in *importer) write(check *recordChecker, key string, id cid.Cid) (w Write, odd, err error) {
	if err := check.key(key); err != nil {
		return Write{}, nil, err
	}
	block, err := in.block(id)
	if err != nil {
		return Write{}, nil, err
	}
	record, odd := decodeRecord(block)
	w = Write{Key: key, CID: id, Block: block}
	// Most records have nothing to be found by. Every reference to a blob names its
	// type, even in the old form.
	if record != nil && (subjectKindOf(check.collection) != noSubject || bytes.Contains(block, []byte("mimeType"))) {
		var many error
		w.Blobs, w.Subject, many = derive(in.service.Lexicons, check.collection, record)
		if odd == nil {
			odd = many
		}
	}
	return w, odd, nil
}

// size returns about how many bytes a record takes in the store. One block may be the
// record of many keys, and what is small in a file may be a long key, or a reference,
// in the store.
func size(w Write) int64 {
	n := len(w.Key) + len(w.Block)
	for _, id := range w.Blobs {
		n += keptTwice * (len(w.Key) + len(id.String()))
	}
	return int64(n)
}

// refused makes an ErrImport of a fault of the file.
func refused(err error) error {
	for _, fault := range []error{errMissing, errRecord, ErrCommit, mst.ErrNode, car.ErrForm, dagcbor.ErrForm} {
		if errors.Is(err, fault) {
			return fmt.Errorf("%w: %w", ErrImport, err)
		}
	}
	return err
}

// count counts a record and now and then logs the progress. Its error ends the
// import.
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
	// After the switch there is nothing to drop any more.
	defer func() {
		if err := s.Store.Drop(context.WithoutCancel(ctx), number); err != nil {
			s.Log.LogAttrs(ctx, slog.LevelWarn, "staged import not dropped", slog.String("cause", err.Error()))
		}
	}()
	in.next.Number, in.next.First = number, in.next.Rev
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
	s.revs.raise(in.account.ID, in.next.Rev)
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
	w, _, err := f.write(&f.forms, key, id)
	if err != nil {
		return err
	}
	w.Block = bytes.Clone(w.Block)
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
		// Keep as much disk free as the whole import will use.
		if free, err := f.free(); err != nil {
			return err
		} else if free < 2*f.stored-f.filled {
			return errNoDisk
		}
	}
	f.filled += int64(f.size)
	err := f.service.Store.Fill(f.ctx, f.next.Number, f.next.Rev, f.nodes, f.records)
	clear(f.nodes)
	clear(f.records)
	f.nodes, f.records, f.size = f.nodes[:0], f.records[:0], 0
	return err
}
