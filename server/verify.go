package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/auth"
	"nestbox/blob"
	"nestbox/blob/disk"
	"nestbox/config"
	"nestbox/firehose"
	"nestbox/hosting"
	"nestbox/internal/durable"
	"nestbox/internal/seal"
	"nestbox/lexicon"
	"nestbox/repo"
	"nestbox/store/sqlite"
)

// databaseName is the database's file in the data directory.
const databaseName = "nestbox.sqlite"

// Verification checks a data directory that no server runs on: its database,
// every repository, blob and event in it, and the keys. It holds a few bytes of
// each node of one repository, and of each repository, in memory.
type Verification struct {
	Config config.Config
	Now    func() time.Time
	// Fault is told of each fault, Remark of what is no fault but worth to be
	// known, Progress of what is being looked at.
	Fault, Remark, Progress func(line string)
	// Repaired, where it is set, asks for a repair before the check: what follows
	// from the records is derived from them anew, and Repaired told what changed.
	Repaired func(line string)
}

// Verified counts what was checked.
type Verified struct {
	Accounts, Repositories, Records, Blobs, Events, Faults int64
	// Odd is how many records could not be written here: they came with an import
	// and are kept as they are.
	Odd int64
}

// ErrNoDatabase: the folder is no data directory, or was never served.
var ErrNoDatabase = errors.New("there is no database")

// verifier is one run of a Verification.
type verifier struct {
	Verification

	dir string
	db  *sqlite.Inspection
	box *seal.Box // nil where its key is lost
	log firehose.Checker
	out Verified
}

// Run checks everything. An error means that it could not look; a server that
// runs on the directory is durable.ErrLocked.
func (v Verification) Run(ctx context.Context) (_ Verified, err error) {
	dir, release, err := lockStopped(v.Config.DataDirectory)
	if err != nil {
		return Verified{}, err
	}
	defer func() { err = errors.Join(err, release()) }()
	r := &verifier{Verification: v, dir: dir}
	report := r.Fault
	r.Fault = func(line string) { r.out.Faults++; report(line) }
	r.log.Report = r.Fault
	r.keyFiles()
	if r.db, err = sqlite.Inspect(ctx, filepath.Join(dir, databaseName)); err != nil {
		return r.out, err
	}
	defer func() { err = errors.Join(err, r.db.Close()) }()
	err = r.run(ctx)
	return r.out, err
}

// lockStopped locks a data directory that was served and is not now, and returns
// its full path: ErrNoDatabase, durable.ErrLocked.
func lockStopped(dir string) (full string, release func() error, err error) {
	if full, err = filepath.Abs(dir); err != nil {
		return "", nil, fmt.Errorf("find data directory: %w", err)
	}
	if _, err := os.Stat(filepath.Join(full, databaseName)); err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrNoDatabase, err)
	}
	release, err = durable.Lock(full)
	if errors.Is(err, durable.ErrLocked) {
		err = fmt.Errorf("%w; stop that server first (systemctl stop, or kill -TERM)", err)
	}
	return full, release, err
}

func (v *verifier) run(ctx context.Context) error {
	if v.Repaired != nil {
		switch intact, err := v.db.Intact(); {
		case err != nil:
			return err
		case !intact:
			// Queries may not see all that is there.
			v.Repaired("nothing is repaired: the database file itself is damaged")
		default:
			if err := v.eachAccount(ctx, v.repair); err != nil {
				return err
			}
		}
	}
	v.Progress("the database")
	if err := v.db.Faults(v.Fault); err != nil {
		return err
	}
	if err := v.events(ctx); err != nil {
		return err
	}
	if err := v.eachAccount(ctx, v.account); err != nil {
		return err
	}
	return v.blobs(ctx)
}

// keyFiles checks the files with keys, and opens the one that seals others.
// A key that is lost must not be made anew here.
func (v *verifier) keyFiles() {
	if err := auth.CheckKeyring(filepath.Join(v.dir, fileKeyring)); err != nil {
		v.Fault(err.Error())
	}
	var err error
	if v.box, err = readBox(keyFile(v.dir, v.Config.KeyEncryptionKeyFile)); err != nil {
		v.Fault(err.Error())
		return
	}
	if interrupted(v.dir) {
		v.Fault("a change of the key encryption key was interrupted: start the server, or run nestbox keys reseal, to finish it")
	}
	sealed, err := os.ReadFile(filepath.Join(v.dir, fileRotationKey))
	if errors.Is(err, os.ErrNotExist) { // it may be in the settings
		return
	}
	if err == nil {
		_, err = openRotationKey(sealed, v.box)
	}
	if err != nil {
		v.Fault("key file " + fileRotationKey + ": " + err.Error())
	}
}

// oddRemarks is how many records that could not be written here are named.
const oddRemarks = 20

// accountsAtOnce is how many accounts are in memory at a time.
const accountsAtOnce = 500

func (v *verifier) eachAccount(ctx context.Context, yield func(context.Context, sqlite.Inspected) error) error {
	for after := int64(0); ; {
		page, err := v.db.Accounts(after, accountsAtOnce)
		if err != nil || len(page) == 0 {
			return err
		}
		for _, a := range page {
			if err := yield(ctx, a); err != nil {
				return err
			}
			after = a.ID
		}
	}
}

// account checks an account's key and repository.
func (v *verifier) account(ctx context.Context, a sqlite.Inspected) error {
	v.out.Accounts++
	key, err := v.key(a)
	if err != nil {
		v.Fault(fmt.Sprintf("%s: %v", a.DID, err))
	}
	if a.Pending {
		return nil
	}
	check := v.checker(a, v.Fault)
	check.Key = key
	check.Odd = func(record string, why error) {
		if v.out.Odd++; v.out.Odd <= oddRemarks {
			v.Remark(fmt.Sprintf("%s: record %s came with an import and could not be written here: %v", a.DID, record, why))
		}
	}
	err = v.db.Repo(a.ID, func(rows repo.Rows) error {
		v.out.Repositories++
		done, err := check.Check(ctx, rows)
		v.out.Records += done.Records
		if h := rows.Head(); a.Active {
			v.log.Head(h.DID, h.Rev, h.CID)
		}
		return err
	})
	if err != nil && ctx.Err() == nil {
		v.Fault(fmt.Sprintf("%s: repository: %v", a.DID, err))
		err = nil
	}
	return err
}

func (v *verifier) checker(a sqlite.Inspected, fault func(string)) *repo.Checker {
	v.Progress(fmt.Sprintf("%s, %d records before it", a.DID, v.out.Records))
	return &repo.Checker{
		Lexicons: lexicon.Known(),
		Report:   func(what string) { fault(a.DID.String() + ": " + what) },
		Progress: func(n int64) { v.Progress(fmt.Sprintf("%s, record %d", a.DID, n)) },
	}
}

// key returns the key that an account's commits are signed with, where it is
// one, and says what is wrong with the private one that is kept of it.
func (v *verifier) key(a sqlite.Inspected) (atcrypto.PublicKey, error) {
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

func (v *verifier) events(ctx context.Context) error {
	v.Progress("the event log")
	err := v.db.Events(func(e firehose.Logged, total int64) error {
		v.log.Event(e, total)
		if v.log.Events%10_000 == 0 {
			v.Progress(fmt.Sprintf("event %d", e.Seq))
		}
		return ctx.Err()
	})
	if err != nil {
		return fmt.Errorf("read event log: %w", err)
	}
	v.out.Events = v.log.Events
	last, err := v.db.LastEvent()
	if err != nil {
		return fmt.Errorf("read event log: %w", err)
	}
	v.log.End(last)
	return nil
}

func (v *verifier) blobs(ctx context.Context) error {
	files := disk.Look(blobFolders(v.dir, &v.Config))
	check := blob.Checker{Files: files, Report: v.Fault}
	err := v.db.Blobs(func(did syntax.DID, b blob.Blob) error {
		v.Progress(fmt.Sprintf("blob %d, %d MB", check.Blobs+1, check.Bytes>>20))
		return check.Blob(ctx, did, b)
	})
	if err != nil {
		return fmt.Errorf("check blobs: %w", err)
	}
	v.out.Blobs = check.Blobs
	err = v.db.MissingBlobs(func(did syntax.DID, id, record string) error {
		v.Remark(fmt.Sprintf("%s: record %s refers to blob %s, which was not uploaded", did, record, id))
		return ctx.Err()
	})
	if err != nil {
		return fmt.Errorf("look for missing blobs: %w", err)
	}
	return files.Each(ctx, func(path, key string) error {
		known, err := key != "", error(nil)
		if known {
			known, err = v.db.KnowsFile(key)
		}
		if err == nil && !known {
			v.Remark("file " + path + " in the folder of blobs belongs to no blob")
		}
		return err
	})
}

// repair derives anew what follows from the records of one account.
func (v *verifier) repair(ctx context.Context, a sqlite.Inspected) error {
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
	if errors.Is(err, sqlite.ErrRecord) || errors.Is(err, sqlite.ErrTree) {
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

// describe says what a repair changed; empty: nothing.
func describe(r sqlite.Rebuilt) string {
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
		said = append(said, fmt.Sprintf("tree made anew, %d nodes", r.Nodes))
	}
	return strings.Join(said, ", ")
}
