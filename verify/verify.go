// Package verify checks a data directory: its database, every repository, blob and
// event in it, and the keys.
//
// It changes nothing unless a repair is asked for, and holds a few bytes of each node
// of one repository, and of each repository, in memory.
package verify

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/blob"
	"nestbox/firehose"
	"nestbox/hosting"
	"nestbox/internal/durable"
	"nestbox/internal/seal"
	"nestbox/lexicon"
	"nestbox/repo"
	"nestbox/store"
)

// Verification is what is checked, and where the findings go. Everything but Lost and
// Repaired is required.
type Verification struct {
	// Lock keeps servers away until release is called: durable.ErrLocked when one
	// runs.
	Lock     func() (release func() error, err error)
	Database store.Inspector
	// Keys checks the key files and returns the box that the private keys are sealed
	// with, nil when its key is lost.
	Keys  func(fault func(line string)) *seal.Box
	Blobs blob.Inspector
	Now   func() time.Time
	// Fault is called for each fault, Remark for what is worth knowing without being a
	// fault, Progress with what is being checked.
	Fault, Remark, Progress func(line string)
	// Lost, if it is set, is called with each blob whose file is missing or damaged, ahead of Fault.
	Lost func(did syntax.DID, b blob.Blob)
	// Repaired, if it is set, asks for a repair before the check: what follows from the
	// records is derived from them again, and Repaired is called with each change.
	Repaired func(line string)
}

// Verified counts what was checked.
type Verified struct {
	Accounts, Repositories, Records, Blobs, Events, Faults int64
	// Odd is how many records could not be written here: they came with an import
	// and are kept as they are.
	Odd int64
}

// verifier is one run of a Verification.
type verifier struct {
	Verification

	box *seal.Box // nil where its key is lost
	// db sees the database as it is now, view as it was at the beginning.
	db, view store.Inspection
	crew     *crew

	mu  sync.Mutex // guards what follows, and the three functions that lines go to
	out Verified

	// log is used by the work on events until events is closed, then under mu.
	log    firehose.Checker
	events chan struct{}
}

// MaxLog is the size of a running server's write-ahead log, in bytes, at which a
// verification gives up: the log cannot start over while it reads.
const MaxLog = 2 << 30

// ErrBusy: a running server has written so much that its log would not end.
var ErrBusy = errors.New("the server writes so much that its write-ahead log has become too long: verify a backup, or stop the server")

// Run checks everything. An error means that it could not look. When a server runs on
// the directory, everything is checked as it was at one moment; a repair is
// durable.ErrLocked then.
func (v Verification) Run(ctx context.Context) (_ Verified, err error) {
	release, err := v.Lock()
	switch online := errors.Is(err, durable.ErrLocked); {
	case online && v.Repaired == nil:
	case err != nil:
		return Verified{}, err
	default:
		defer func() { err = errors.Join(err, release()) }()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &verifier{Verification: v, events: make(chan struct{})}
	r.box = r.Keys(r.fault)
	if r.db, err = v.Database.Open(ctx); err != nil {
		return r.out, err
	}
	defer func() { err = errors.Join(err, r.db.Close()) }()
	if err := r.repairs(ctx); err != nil {
		return r.out, err
	}
	views, err := v.Database.Snapshot(ctx, 1+runtime.GOMAXPROCS(0))
	if err != nil {
		return r.out, err
	}
	defer func() {
		for _, view := range views {
			err = errors.Join(err, view.Close())
		}
	}()
	var watch sync.WaitGroup
	watch.Go(func() { r.watchLog(ctx, cancel) })
	defer watch.Wait()
	r.view, r.crew = views[0], newCrew(cancel, views[1:])
	err = r.run(ctx)
	r.crew.work.Wait()
	if cause := context.Cause(ctx); cause != nil {
		err = cause // what failed first
	}
	cancel(nil)
	return r.out, err
}

// watchLog gives up when the log of a running server becomes too long.
func (v *verifier) watchLog(ctx context.Context, cancel context.CancelCauseFunc) {
	for tick := time.NewTicker(time.Second); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
			if v.db.LogSize() > MaxLog {
				cancel(ErrBusy)
			}
		}
	}
}

// repairs does what Repaired asks for.
func (v *verifier) repairs(ctx context.Context) error {
	if v.Repaired == nil {
		return nil
	}
	intact, err := v.db.Intact()
	if err != nil {
		return err
	}
	if !intact {
		// Queries may not see all that is there.
		v.Repaired("nothing is repaired: the database file itself is damaged")
		return nil
	}
	return v.eachAccount(v.db, func(a store.Inspected) error { return v.repair(ctx, a) })
}

func (v *verifier) run(ctx context.Context) error {
	v.progress("the database")
	for check := range v.view.Checks() {
		err := v.crew.do(ctx, func(db store.Inspection, r *report) error { return db.Check(check, v.faultOf(r)) })
		if err != nil {
			return err
		}
	}
	err := v.crew.do(ctx, func(db store.Inspection, r *report) error {
		defer close(v.events)
		return v.eventLog(ctx, db, v.faultOf(r))
	})
	if err != nil {
		return err
	}
	if err := v.crew.do(ctx, func(db store.Inspection, r *report) error { return v.secrets(db, v.faultOf(r)) }); err != nil {
		return err
	}
	err = v.eachAccount(v.view, func(a store.Inspected) error {
		return v.crew.do(ctx, func(db store.Inspection, r *report) error { return v.account(ctx, db, a, r) })
	})
	if err != nil {
		return err
	}
	return v.blobs(ctx)
}

// fault counts a fault and reports it.
func (v *verifier) fault(line string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.out.Faults++
	v.Fault(line)
}

// odd counts a record that could not be written here, and remarks on the first ones.
func (v *verifier) odd(line string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.out.Odd++; v.out.Odd <= oddRemarks {
		v.Remark(line)
	}
}

// faultOf returns fault for a piece of work.
func (v *verifier) faultOf(r *report) func(string) {
	return func(line string) { r.say(func() { v.fault(line) }) }
}

func (v *verifier) progress(line string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.Progress(line)
}

// count changes the numbers of what was checked.
func (v *verifier) count(change func(*Verified)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change(&v.out)
}

// oddRemarks is how many records that could not be written here are named.
const oddRemarks = 20

// accountsAtOnce is how many accounts are in memory at a time.
const accountsAtOnce = 500

func (v *verifier) eachAccount(db store.Inspection, yield func(store.Inspected) error) error {
	for after := int64(0); ; {
		page, err := db.Accounts(after, accountsAtOnce)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, a := range page {
			if err := yield(a); err != nil {
				return err
			}
			after = a.ID
		}
	}
}

// secrets opens the sealed secrets besides the accounts' signing keys.
func (v *verifier) secrets(db store.Inspection, fault func(string)) error {
	if v.box == nil {
		return nil // told once, not for each secret
	}
	return db.Sealed(func(kind hosting.SealedKind, did syntax.DID, sealed []byte) error {
		if err := kind.Opens(v.box, did, sealed); err != nil {
			fault(err.Error())
		}
		return nil
	})
}

// account checks an account's key and repository.
func (v *verifier) account(ctx context.Context, db store.Inspection, a store.Inspected, r *report) error {
	fault := v.faultOf(r)
	v.count(func(n *Verified) { n.Accounts++ })
	key, err := v.key(a)
	if err != nil {
		fault(fmt.Sprintf("%s: %v", a.DID, err))
	}
	if a.Pending {
		return nil
	}
	check := v.checker(a, fault)
	check.Key = key
	check.Odd = func(record string, why error) {
		r.say(func() {
			v.odd(fmt.Sprintf("%s: record %s came with an import and could not be written here: %v", a.DID, record, why))
		})
	}
	err = db.Repo(a.ID, func(rows repo.Rows) error {
		done, err := check.Check(ctx, rows)
		v.count(func(n *Verified) { n.Repositories++; n.Records += done.Records })
		if a.Active {
			v.head(ctx, rows.Head(), fault)
		}
		return err
	})
	if err != nil && ctx.Err() == nil {
		fault(fmt.Sprintf("%s: repository: %v", a.DID, err))
		err = nil
	}
	return err
}

// head compares a repository with the event log, once that was read.
func (v *verifier) head(ctx context.Context, h repo.Head, fault func(string)) {
	select {
	case <-v.events:
	case <-ctx.Done():
		return
	}
	var found []string
	v.mu.Lock()
	v.log.Report = func(line string) { found = append(found, line) }
	v.log.Head(h.DID, h.Rev, h.CID)
	v.mu.Unlock()
	for _, line := range found {
		fault(line)
	}
}

func (v *verifier) checker(a store.Inspected, fault func(string)) *repo.Checker {
	v.count(func(n *Verified) { v.Progress(fmt.Sprintf("%s, %d records before it", a.DID, n.Records)) })
	return &repo.Checker{
		Lexicons: lexicon.Known(),
		Report:   func(what string) { fault(a.DID.String() + ": " + what) },
		Progress: func(n int64) { v.progress(fmt.Sprintf("%s, record %d", a.DID, n)) },
	}
}

// key returns the key that an account's commits are signed with, if it is valid. The
// error is what is wrong with it, or with the private key that is kept of it.
func (v *verifier) key(a store.Inspected) (atcrypto.PublicKey, error) {
	public, err := atcrypto.ParsePublicDIDKey(a.SigningKey)
	if err != nil {
		return nil, fmt.Errorf("signing key %q: %w", a.SigningKey, err)
	}
	if v.box == nil {
		return public, nil // told once, not for each account
	}
	private, err := hosting.OpenKey(v.box, a.DID, a.SealedKey)
	if err != nil {
		return public, err
	}
	kept, err := private.PublicKey()
	if err != nil {
		return public, fmt.Errorf("signing key: %w", err)
	}
	if kept.DIDKey() != public.DIDKey() {
		return public, fmt.Errorf("signing key: the account's is %s, the sealed one %s", public.DIDKey(), kept.DIDKey())
	}
	return public, nil
}

func (v *verifier) eventLog(ctx context.Context, db store.Inspection, fault func(string)) error {
	v.log.Report = fault
	foreign, err := db.Foreign()
	if err != nil {
		return err
	}
	v.log.Foreign = foreign
	err = db.Events(func(e firehose.Logged, total int64) error {
		v.log.Event(e, total)
		if v.log.Events%10_000 == 0 {
			v.progress(fmt.Sprintf("event %d", e.Seq))
		}
		return ctx.Err()
	})
	if err != nil {
		return fmt.Errorf("read event log: %w", err)
	}
	v.count(func(n *Verified) { n.Events = v.log.Events })
	last, err := db.LastEvent()
	if err != nil {
		return fmt.Errorf("read event log: %w", err)
	}
	v.log.End(last)
	return nil
}

func (v *verifier) blobs(ctx context.Context) error {
	bytes := int64(0)
	err := v.view.Blobs(func(did syntax.DID, b blob.Blob) error {
		bytes += b.Size
		v.count(func(n *Verified) { n.Blobs++; v.Progress(fmt.Sprintf("blob %d, %d MB", n.Blobs, bytes>>20)) })
		return v.crew.do(ctx, func(_ store.Inspection, r *report) error { return v.blob(ctx, did, b, r) })
	})
	if err != nil {
		return fmt.Errorf("check blobs: %w", err)
	}
	err = v.crew.do(ctx, func(db store.Inspection, r *report) error { return v.missing(ctx, db, r) })
	if err != nil {
		return err
	}
	v.crew.work.Wait()
	return v.Blobs.Each(ctx, func(path, key string) error {
		known, err := key != "", error(nil)
		if known {
			known, err = v.db.KnowsFile(key) // as it is now: a running server adds files
		}
		if err == nil && !known {
			v.remark("file " + path + " in the folder of blobs belongs to no blob")
		}
		return err
	})
}

// blob checks a blob's file. A file that a running server has removed since is not a fault.
func (v *verifier) blob(ctx context.Context, did syntax.DID, b blob.Blob, r *report) error {
	var found []string
	check := blob.Checker{Files: v.Blobs, Report: func(line string) { found = append(found, line) }}
	if err := check.Blob(ctx, did, b); err != nil {
		return err
	}
	if len(found) == 0 {
		return nil
	}
	v.mu.Lock()
	there, err := v.db.HasFile(b.Key)
	v.mu.Unlock()
	if err != nil || !there {
		return err
	}
	if v.Lost != nil {
		r.say(func() { v.lost(did, b) })
	}
	for _, line := range found {
		v.faultOf(r)(line)
	}
	return nil
}

func (v *verifier) lost(did syntax.DID, b blob.Blob) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.Lost(did, b)
}

// missing remarks on what records refer to and nobody has uploaded.
func (v *verifier) missing(ctx context.Context, db store.Inspection, r *report) error {
	err := db.MissingBlobs(func(did syntax.DID, id, record string) error {
		r.say(func() {
			v.remark(fmt.Sprintf("%s: record %s refers to blob %s, which was not uploaded", did, record, id))
		})
		return ctx.Err()
	})
	if err != nil {
		return fmt.Errorf("look for missing blobs: %w", err)
	}
	return nil
}

func (v *verifier) remark(line string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.Remark(line)
}

// repair derives again what follows from the records of one account.
func (v *verifier) repair(ctx context.Context, a store.Inspected) error {
	if a.Pending {
		return nil
	}
	check := v.checker(a, func(string) {})
	var found repo.Checked
	err := v.db.Repo(a.ID, func(rows repo.Rows) (err error) {
		found, err = check.Check(ctx, rows)
		return err
	})
	if errors.Is(err, repo.ErrNoRepo) || ctx.Err() != nil {
		return ctx.Err()
	}
	if found.Tree && found.Differ {
		// What a lost record refers to must not be given up: it may come back.
		v.Repaired(a.DID.String() + ": not repaired: its tree and its records do not name the same")
		return nil
	}
	done, err := v.db.Rebuild(a.ID, !found.Tree, check.Derive, v.Now())
	if errors.Is(err, store.ErrRecord) || errors.Is(err, store.ErrTree) {
		v.Repaired(fmt.Sprintf("%s: not repaired: %v", a.DID, err))
		return nil
	}
	if err != nil {
		return fmt.Errorf("repair %s: %w", a.DID, err)
	}
	if said := describe(done); said != "" {
		v.Repaired(a.DID.String() + ": " + said)
	}
	return nil
}

// describe returns what a repair changed; empty means nothing.
func describe(r store.Rebuilt) string {
	var said []string
	if r.References > 0 {
		said = append(said, fmt.Sprintf("%d references to blobs corrected", r.References))
	}
	if r.Marks > 0 {
		said = append(said, fmt.Sprintf("the use of %d blobs corrected", r.Marks))
	}
	if r.Subjects > 0 {
		said = append(said, fmt.Sprintf("the subjects of %d records corrected", r.Subjects))
	}
	if r.Counted {
		said = append(said, "counts corrected")
	}
	if r.Nodes > 0 {
		said = append(said, fmt.Sprintf("tree rebuilt, %d nodes", r.Nodes))
	}
	return strings.Join(said, ", ")
}
