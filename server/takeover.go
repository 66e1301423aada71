package server

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
	"nestbox/auth"
	"nestbox/blob/disk"
	"nestbox/config"
	"nestbox/datadir"
	"nestbox/hosting"
	"nestbox/internal/durable"
	"nestbox/internal/seal"
	"nestbox/store/reference"
	"nestbox/store/sqlite"
	"nestbox/takeover"
)

// Pass is a pass of a take-over.
type Pass string

// The passes.
const (
	DryRun  Pass = "dry run"
	Prepare Pass = "prepare"
	Finish  Pass = "take over"
)

// TakeoverOptions are what an operator says of a take-over.
type TakeoverOptions struct {
	Config *config.Config
	From   config.Reference
	Pass   Pass
	Manner takeover.Manner
	Skip   []string
	// Force takes over what is known of a source that is newer, or whose event log is older
	// than its repositories.
	Force, KeepDeleteAfter bool
	// Relay is the host that has the repositories of accounts whose own are damaged; empty if
	// none is to be asked.
	Relay string
	// HashBlobs makes a dry run read the content of every blob.
	HashBlobs bool
	// Token is one of a session of the source: the take-over is refused unless the settings'
	// secret has signed it. Empty for none.
	Token   string
	Version string
	Now     func() time.Time
	// Progress is called with what is being done.
	Progress func(line string)
}

// Taken is the content of datadir.TakeoverFile.
type Taken struct {
	Source  string    `json:"source"`
	At      time.Time `json:"at"`
	Version string    `json:"version"`
	// LastEvent is the last number of the source's event log.
	LastEvent int64           `json:"lastEvent"`
	Counts    takeover.Counts `json:"counts"`
	// Places are where the source has what it has.
	Places reference.Places `json:"places"`
	// Written is the state of the source, Database that of the database that was made.
	Written  reference.Written `json:"written"`
	Database reference.State   `json:"database"`
}

// takeoverRun is one pass, and what it has open.
type takeoverRun struct {
	TakeoverOptions

	places  reference.Places
	dir     datadir.Dir
	scratch string
	report  *takeover.Report
	source  *reference.Source
	store   *sqlite.Takeover // nil in a dry run
	files   takeover.Files
	// originals are the files of the source's blobs.
	originals takeover.Originals
	box       *seal.Box
	closers   []func() error
	// seen is the state of the source before anything of it was read.
	seen reference.Written
	// again: the take-over has ended, and is made again.
	again bool
	// begun: nothing speaks against it, so that the target is kept.
	begun bool
}

// TakeOver makes a pass of the take-over of a reference PDS's data directory. The report is
// whole as far as the pass came, also with an error: takeover.Refusals, takeover.ErrFaults,
// durable.ErrLocked. A take-over that has ended is not repeated, and the report is Done, unless
// the old server has written since and this one has not.
func TakeOver(ctx context.Context, o TakeoverOptions) (_ *takeover.Report, err error) {
	from := o.From
	t := &takeoverRun{TakeoverOptions: o, dir: datadir.Dir(o.Config.DataDirectory), places: reference.Places{
		Data: from.Data, Accounts: from.Accounts, Events: from.Events, Documents: from.Documents,
		Actors: from.Actors, Blobs: from.Blobs, Uploads: from.Uploads, Bucket: from.Bucket.Name, Force: o.Force,
	}.In()}
	t.report = &takeover.Report{Source: t.places.Data, Target: string(t.dir), Pass: string(o.Pass)}
	defer func() {
		for i := range t.closers {
			err = errors.Join(err, t.closers[len(t.closers)-1-i]())
		}
	}()
	taken, err := readTaken(t.dir)
	if err != nil {
		return t.report, err
	}
	if taken != nil {
		if t.again, err = t.since(taken); err != nil || !t.again {
			return t.report, err
		}
	}
	if t.originals, err = originalsOf(from.Bucket, t.places); err != nil {
		return t.report, err
	}
	if err := t.before(ctx); err != nil {
		return t.report, err
	}
	if err := t.open(ctx); err != nil {
		return t.report, err
	}
	if t.report.Done { // but for the file that says so
		t.begun = true
		return t.report, t.writeTaken(ctx)
	}
	if err := t.inspect(ctx); err != nil {
		return t.report, err
	}
	if len(t.report.Refusals) > 0 {
		return t.report, t.report.Refusals
	}
	t.begun = true
	return t.report, t.run(ctx)
}

// before looks for reasons not to begin without writing anything.
func (t *takeoverRun) before(ctx context.Context) (err error) {
	if t.report.Refusals, err = t.beforehand(); err != nil {
		return err
	}
	if len(t.report.Refusals) == 0 {
		err = t.room(ctx)
	}
	if err == nil && len(t.report.Refusals) > 0 {
		err = t.report.Refusals
	}
	if err != nil || t.Pass != Finish {
		return err
	}
	t.seen, err = t.places.Written()
	return err
}

// readTaken reads what a take-over that has ended left; nil if there is nothing.
func readTaken(dir datadir.Dir) (*Taken, error) {
	raw, err := os.ReadFile(dir.Takeover())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil //nolint:nilnil // nil is none
	}
	if err != nil {
		return nil, fmt.Errorf("look for an earlier take-over: %w", err)
	}
	var taken Taken
	if err := json.Unmarshal(raw, &taken); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", dir.Takeover(), err)
	}
	taken.Places = whereTheyAre(dir, taken.Places)
	return &taken, nil
}

// write makes the file of a data directory.
func (t *Taken) write(dir datadir.Dir) error {
	raw, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", datadir.TakeoverFile, err)
	}
	if err := durable.WriteFile(dir.Takeover(), append(raw, '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", datadir.TakeoverFile, err)
	}
	return nil
}

// open opens the target and the source.
func (t *takeoverRun) open(ctx context.Context) (err error) {
	if t.Pass == DryRun {
		t.files, t.box = takeover.Looked{From: t.originals, Hash: t.HashBlobs}, throwawayBox()
		if t.scratch, err = os.MkdirTemp("", "nestbox-takeover-"); err != nil {
			return fmt.Errorf("make folder for copies of databases: %w", err)
		}
		t.closers = append(t.closers, func() error { return os.RemoveAll(t.scratch) })
	} else if err := t.openTarget(ctx); err != nil || t.report.Done {
		return err
	}
	t.source, err = reference.OpenSource(ctx, t.places, t.scratch)
	if err != nil {
		return fmt.Errorf("open the source: %w", err)
	}
	t.closers = append(t.closers, t.source.Close)
	return nil
}

// throwawayBox seals what is never stored.
func throwawayBox() *seal.Box {
	key := make([]byte, seal.KeySize)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the process instead
	box, err := seal.NewBox(key)
	if err != nil {
		panic(err) // the size is right
	}
	return box
}

func (t *takeoverRun) openTarget(ctx context.Context) error {
	made := t.dir
	if _, err := os.Stat(string(made)); errors.Is(err, os.ErrNotExist) {
		t.closers = append(t.closers, func() error { // what was made for nothing
			if t.begun {
				return nil
			}
			return os.RemoveAll(string(made))
		})
	}
	dir, release, err := openDir(string(t.dir))
	if release != nil {
		t.closers = append(t.closers, release)
	}
	if err != nil {
		return fmt.Errorf("open the target: %w", err)
	}
	t.dir, t.scratch = dir, filepath.Join(string(dir), "takeover")
	if err := errors.Join(os.RemoveAll(t.scratch), durable.MakeDir(t.scratch)); err != nil {
		return fmt.Errorf("make folder for copies of databases: %w", err)
	}
	t.closers = append(t.closers, func() error { return os.RemoveAll(t.scratch) })
	blobs, err := disk.Open(dir.Blobs(), "")
	if err != nil {
		return err
	}
	t.closers = append(t.closers, blobs.Close)
	t.files = takeover.DiskFiles{Disk: blobs}
	if t.places.Bucket != "" {
		t.files = takeover.FetchedFiles{DiskFiles: takeover.DiskFiles{Disk: blobs}, From: t.originals}
	}
	if t.store, err = sqlite.OpenTakeover(ctx, dir.Database(), t.files.Settle); err != nil {
		return err
	}
	t.closers = append(t.closers, t.store.Close)
	if t.again {
		if err := errors.Join(os.Remove(dir.Takeover()), durable.SyncDir(string(dir)), t.store.Reopen(ctx)); err != nil {
			return err
		}
	}
	stage, err := t.store.Begin(ctx, t.places.Data, t.Now())
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	t.report.Done, t.report.Events.Last = !stage.Finished.IsZero(), stage.LastEvent
	if t.report.Done {
		return t.sinceEnd(stage.Finished)
	}
	t.box, err = datadir.Keys{Dir: dir, File: t.Config.KeyEncryptionKeyFile, Sealed: takenKeys{t.store}}.Box(ctx)
	return err
}

// takenKeys implements datadir.Sealed.
type takenKeys struct{ store *sqlite.Takeover }

// Any implements datadir.Sealed.
func (k takenKeys) Any(ctx context.Context) (bool, error) {
	did, _, err := k.store.AnyKey(ctx)
	return did != "", err
}

// TryOpen implements datadir.Sealed.
func (k takenKeys) TryOpen(ctx context.Context, box *seal.Box) error {
	did, sealed, err := k.store.AnyKey(ctx)
	if err == nil && did != "" {
		_, err = hosting.OpenKey(box, did, sealed)
	}
	return err
}

// errReseal: a take-over makes a data directory, where no key is exchanged.
var errReseal = errors.New("a change of the key encryption key was interrupted here: remove the target and begin again")

// Reseal implements datadir.Sealed.
func (k takenKeys) Reseal(context.Context, *seal.Box, *seal.Box) (int, error) { return 0, errReseal }

// run makes the pass.
func (t *takeoverRun) run(ctx context.Context) error {
	c := t.Config
	skip := map[syntax.DID]bool{}
	for _, did := range t.Skip {
		skip[syntax.DID(did)] = true
	}
	stopped := t.Pass == Finish // it is refused else
	if !stopped {
		served, err := t.places.Served()
		stopped = err == nil && len(served) == 0
	}
	from, err := relayOf(t.Relay)
	if err != nil {
		return err
	}
	pass := &takeover.TakeOver{
		Settings: takeover.Settings{
			Source: t.places.Data, Target: string(t.dir), URL: c.PublicURL(""), KeepEvents: time.Duration(c.RepoBackfillLimitMS) * time.Millisecond,
			MaxEvents: c.FirehoseMaxBytes, Manner: t.Manner, Skip: skip, KeepDeleteAfter: t.KeepDeleteAfter,
			Stopped: stopped, Force: t.Force,
		},
		Source: t.source, Files: t.files, Relay: from, Letters: t.letters(),
		Box: t.box, Codes: &account.Codes{Key: t.box.Derive("e-mail codes"), Now: t.Now},
		Now: t.Now, Progress: t.Progress, Still: t.still,
	}
	if t.Pass == DryRun {
		return pass.DryRun(ctx, t.report)
	}
	pass.Store, pass.Sessions = t.store, t.sessions
	if t.Pass == Prepare {
		return pass.Prepare(ctx, t.report)
	}
	// Sessions go on by the old server's secret. What that has signed in this second is its, too:
	// tokens have whole seconds.
	next := func() time.Time { return t.Now().Add(time.Second) }
	if _, err := auth.OpenKeyring(t.dir.Keyring(), c.JWTSecret.Reveal(), next); err != nil {
		return err
	}
	if err := pass.Finish(ctx, t.report); err != nil {
		return err
	}
	return t.writeTaken(ctx)
}

// writeTaken writes the last file of a take-over: from then on a server starts on it.
func (t *takeoverRun) writeTaken(ctx context.Context) error {
	counts, err := t.store.Counts(ctx)
	if err != nil {
		return err
	}
	taken := Taken{
		Source: t.places.Data, At: t.Now().UTC(), Version: t.Version, LastEvent: t.report.Events.Last, Counts: counts, Places: t.places,
		Written: t.seen,
	}
	if taken.Database, err = reference.StateOf(t.dir.Database()); err != nil {
		return err
	}
	if err := t.give(); err != nil {
		return err
	}
	if err := taken.write(t.dir); err != nil {
		return err
	}
	t.report.Done = true
	return nil
}

// InPlace reports whether a take-over's target is where a server with the old env file looks
// for it.
func InPlace(r *takeover.Report) bool {
	return r.Target == filepath.Join(r.Source, datadir.TakeoverFolder)
}
