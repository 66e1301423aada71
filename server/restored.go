package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"

	"nestbox/auth"
	"nestbox/backup"
	"nestbox/backup/depot"
	"nestbox/blob"
	"nestbox/blob/disk"
	"nestbox/config"
	"nestbox/datadir"
	"nestbox/firehose"
	"nestbox/internal/durable"
	"nestbox/internal/seal"
	"nestbox/store"
	"nestbox/store/sqlite"
	"nestbox/verify"
)

// CheckBackup implements backup.Verification.Check: everything that nestbox verify checks.
func CheckBackup(progress func(line string)) func(context.Context, string, bool, *backup.Blobs, func(string)) error {
	return func(ctx context.Context, dir string, keys bool, blobs *backup.Blobs, fault func(string)) error {
		d := datadir.Dir(dir)
		if err := migrateOlder(ctx, d.Database()); err != nil {
			return err
		}
		keyFile := ""
		if c, _, err := config.Load(config.Flags{Data: dir, Command: true}, os.Environ()); err == nil {
			keyFile = c.KeyEncryptionKeyFile
		}
		v := verify.Verification{
			Lock:     func() (func() error, error) { return func() error { return nil }, nil }, // a folder of our own
			Database: sqlite.Inspector{Path: d.Database()},
			Keys: func(fault func(string)) *seal.Box {
				if !keys {
					return nil
				}
				if err := auth.CheckKeyring(d.Keyring()); err != nil {
					fault(err.Error())
				}
				return datadir.Keys{Dir: d, File: keyFile}.Check(fault)
			},
			Blobs: storedBlobs{blobs}, Now: time.Now, Fault: fault, Remark: func(string) {}, Progress: progress,
		}
		_, err := v.Run(ctx)
		return err
	}
}

// migrateOlder brings the database of an older version up to this one's schema.
func migrateOlder(ctx context.Context, path string) error {
	db, err := sqlite.Inspector{Path: path}.Open(ctx)
	if err == nil {
		return db.Close()
	}
	if !errors.Is(err, sqlite.ErrOlderSchema) {
		return err
	}
	opened, err := sqlite.Open(ctx, path, sqlite.Options{Log: logQuiet()})
	if err != nil {
		return err
	}
	return opened.Close()
}

// storedBlobs implements blob.Inspector over the blobs of a snapshot.
type storedBlobs struct{ blobs *backup.Blobs }

// Open implements blob.Inspector.
func (s storedBlobs) Open(ctx context.Context, key string) (blob.File, error) {
	in, err := s.blobs.Open(ctx, key)
	if errors.Is(err, backup.ErrMissing) {
		return nil, blob.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return onlyForward{in}, nil
}

// Each implements blob.Inspector.
func (s storedBlobs) Each(ctx context.Context, yield func(path, key string) error) error {
	return s.blobs.Each(ctx, yield)
}

// onlyForward is a blob.File that is read from its beginning to its end.
type onlyForward struct{ io.ReadCloser }

// Seek implements io.Seeker: it is an error.
func (onlyForward) Seek(int64, int) (int64, error) {
	return 0, fmt.Errorf("seek in a blob of a backup: %w", errors.ErrUnsupported)
}

// RestoreArgs are what is restored, and where to.
type RestoreArgs struct {
	Reader *backup.Reader
	// At, if it is set, is the time that what is restored must not be younger than.
	At time.Time
	// To is the data directory, Keys the file of keys that are not in the store, EnvFile one
	// with the settings of the server.
	To, Keys, EnvFile string
	// NoJump leaves the numbers of events as they are; JumpTo, if it is set, is the number
	// that they go on above, whatever relays say.
	NoJump bool
	JumpTo int64
	// Serve, if it is set, has the settings of the server that starts then: the blobs go where it looks for them,
	// and its own files may be in To.
	Serve *config.Config
	// Fault is called for each fault that the verification finds, Undone, if it is set, for what
	// the restore has undone.
	Fault  func(line string)
	Undone func(store.Undone)
	Log    *slog.Logger
}

// Restored is what Restore made.
type Restored struct {
	// Snapshot names the snapshot, Segments is how many segments of the log were applied to it,
	// Later how many are younger than the time that was asked for. Made is of when the state is,
	// Gap why it is not newer, if something is missing.
	Snapshot string    `json:"snapshot"`
	Segments int       `json:"segments"`
	Later    int       `json:"later,omitempty"`
	Gap      string    `json:"gap,omitempty"`
	Made     time.Time `json:"made"`
	// LeftOut are younger snapshots that cannot be used, and why. Gap is empty if the log leads past them.
	LeftOut []string `json:"leftOut,omitempty"`
	// Without are files that were left out because they are damaged or missing, and why. The server does
	// without them.
	Without []string `json:"without,omitempty"`
	// At is when it was restored, From the store.
	At   time.Time `json:"at"`
	From string    `json:"from"`
	// LastEvent is the number of the last event of the snapshot, JumpedTo the number above
	// which the numbers go on, 0 if there was no jump.
	LastEvent int64       `json:"lastEvent"`
	JumpedTo  int64       `json:"jumpedTo"`
	Relays    []RelaySeen `json:"relays"`
	Faults    int64       `json:"faults"`
	// LostBlobs is how many of the faults are blobs whose files are missing or damaged, Lost the first of them.
	LostBlobs int64      `json:"lostBlobs,omitempty"`
	Lost      []LostBlob `json:"lost,omitempty"`
	// Undone is what happened after the state that was restored, as far as the store has what came
	// later.
	Undone *Undone `json:"undone,omitempty"`
	// Blobs is the folder outside of the data directory that the blobs were restored to, empty if there is none.
	Blobs string `json:"blobs,omitempty"`
	// BlobsElsewhere is the folder in which the settings want the blobs, which are in the
	// data directory now; empty if that is right.
	BlobsElsewhere string `json:"blobsElsewhere,omitempty"`
}

// RelaySeen is what a relay has seen of the server before the restore.
type RelaySeen struct {
	Relay string `json:"relay"`
	// Seq is the number of the last event that it has, 0 if it knows none.
	Seq int64 `json:"seq"`
	// Error is why it could not be asked.
	Error string `json:"error,omitempty"`
}

const (
	// jumpMargin is how far above the relays' numbers the numbers go on: a relay may have seen
	// more than it reports. blindMargin is that if one could not be asked, or there is none.
	jumpMargin  = 1000
	blindMargin = 1_000_000
	// restoredName is the file of a data directory that tells of its restore, laterName a folder
	// for the later state that it is compared with.
	restoredName = "restored.json"
	laterName    = "later"
)

// Restore makes a data directory of the youngest state that can be restored, verifies it, asks the relays of its server
// what they have seen, and moves the numbers of events on: the next server announces every
// account again. No server may be started on it before.
func Restore(ctx context.Context, a RestoreArgs) (out Restored, err error) {
	out = Restored{At: time.Now().UTC().Truncate(time.Second), From: a.Reader.Depot.String(), Relays: []RelaySeen{}}
	err = a.Reader.RestoreNewest(ctx, backup.Target{
		Dir: a.To, Keys: a.Keys, At: a.At, Named: sqlite.BlobFiles,
		Spare: []string{datadir.FileSettings, datadir.TakeoverFile}, Makes: []string{restoredName, laterName, datadir.TakeoverFile},
		Beside: a.beside(),
		Place: func(ctx context.Context, database string) (backup.BlobPlace, error) {
			if err := noteTakeover(ctx, datadir.Dir(a.To), database); err != nil {
				return nil, err
			}
			return a.blobPlace(&out)
		},
		Then: func(replay *backup.Replay) error {
			out.Snapshot, out.LeftOut = replay.Snapshot().Name, replay.LeftOut
			out.Made, out.LastEvent, out.Segments, out.Later, out.Gap = replay.At, replay.LastEvent, replay.Segments(), replay.Later, replay.Gap
			out.Without = replay.Without
			return settle(ctx, a, replay, &out)
		},
	})
	return out, err
}

// beside returns the names in the data directory of what its server's settings have there: it may be there before.
func (a *RestoreArgs) beside() (names []string) {
	if a.Serve == nil {
		return nil
	}
	for _, path := range []string{a.Serve.BlobDiskLocation, a.Serve.BlobDiskTmpLocation, a.Serve.LogDestination, a.EnvFile} {
		if name, ok := config.NameIn(a.To, path); ok {
			names = append(names, name)
		}
	}
	return names
}

// blobPlace returns the folder of blobs that the settings name, nil for the data directory's own. A command that
// was not given one, or finds it in use, leaves it as it is.
func (a *RestoreArgs) blobPlace(out *Restored) (backup.BlobPlace, error) {
	const setting = "PDS_BLOBSTORE_DISK_LOCATION"
	c, dir, given := a.Serve, datadir.Dir(a.To), true
	if c == nil {
		flags := config.Flags{Data: a.To, EnvFile: a.EnvFile, Command: true}
		loaded, _, err := config.Load(flags, os.Environ())
		if err != nil {
			return nil, nil //nolint:nilnil,nilerr // settle says it
		}
		c = &loaded
		_, given = config.Origins(flags, os.Environ())[setting]
	}
	_, err := os.Stat(dir.Takeover()) // then the settings name the source's folder
	folder, tmp := blobFolders(dir, c)
	if err == nil || folder == dir.Blobs() {
		return nil, nil //nolint:nilnil // nil is none
	}
	if !given {
		out.BlobsElsewhere = folder
		return nil, nil //nolint:nilnil // nil is none
	}
	files, err := disk.Open(folder, tmp)
	switch {
	case errors.Is(err, durable.ErrLocked) && a.Serve == nil:
		out.BlobsElsewhere = folder
		return nil, nil //nolint:nilnil // nil is none
	case err != nil:
		return nil, fmt.Errorf("the blobs cannot be restored to %s, as %s wants it: %w", folder, setting, err)
	}
	out.Blobs = folder
	return files, nil
}

// settle verifies what was restored, and moves the numbers of events on. The data directory
// is locked already.
func settle(ctx context.Context, a RestoreArgs, replay *backup.Replay, out *Restored) error {
	dir := datadir.Dir(a.To)
	later := laterDatabase(ctx, a, replay, dir)
	if err := migrateOlder(ctx, dir.Database()); err != nil {
		return err
	}
	if out.Undone = later.compare(ctx, dir, a.Undone); out.Undone != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	c, _, err := config.Load(config.Flags{Data: a.To, EnvFile: a.EnvFile, Command: true}, os.Environ())
	if err != nil {
		return fmt.Errorf("everything was restored, and not verified: %w", err)
	}
	c.BlobDiskLocation = out.Blobs
	v, err := verificationOf(dir, &c)
	if err != nil {
		return err
	}
	v.Lock = func() (func() error, error) { return func() error { return nil }, nil }
	v.Now, v.Fault, v.Remark, v.Progress = time.Now, a.Fault, func(string) {}, func(string) {}
	v.Lost = out.lose
	done, err := v.Run(ctx)
	if out.Faults = done.Faults; err != nil {
		return err
	}
	if a.Serve != nil && out.Faults > out.LostBlobs {
		if err := checkIntact(ctx, dir); err != nil {
			return err
		}
	}
	if !a.NoJump {
		if err := jump(ctx, dir, &c, a, out); err != nil {
			return fmt.Errorf("everything was restored and verified, but the numbers of events were not moved on: "+
				"run nestbox firehose jump before you start the server: %w", err)
		}
	}
	raw, err := json.MarshalIndent(out, "", " ")
	if err != nil {
		return fmt.Errorf("encode what was restored: %w", err)
	}
	return durable.WriteFile(filepath.Join(a.To, restoredName), append(raw, '\n'), 0o600)
}

// jump moves the numbers of events above those that relays have seen, and that the store knows were given.
func jump(ctx context.Context, dir datadir.Dir, c *config.Config, a RestoreArgs, out *Restored) (err error) {
	to, margin := a.JumpTo, int64(0)
	if to == 0 {
		if to, err = backup.LastEvent(ctx, a.Reader.Depot); err != nil {
			return err
		}
		if to > mostSeen {
			return fmt.Errorf("%s: %w", a.Reader.Depot, firehose.ErrTooHigh)
		}
		to, margin = max(to, out.LastEvent), jumpMargin
		if len(c.Crawlers) == 0 {
			margin = blindMargin
		}
		asking := firehose.NewCrawler(c.Crawlers, c.Hostname, &http.Client{CheckRedirect: noRedirect}, a.Log)
		for _, relay := range c.Crawlers {
			seen := RelaySeen{Relay: relay}
			switch seen.Seq, err = asking.LastSeen(ctx, relay); {
			case errors.Is(err, firehose.ErrUnseen):
			case err != nil:
				seen.Error, margin = err.Error(), blindMargin
			case seen.Seq > mostSeen:
				return fmt.Errorf("%s: %w", relay, firehose.ErrTooHigh)
			}
			to = max(to, seen.Seq)
			out.Relays = append(out.Relays, seen)
		}
	}
	db, err := sqlite.Open(ctx, dir.Database(), sqlite.Options{Log: logQuiet()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.Stores().Log.Jump(ctx, to+margin); err != nil {
		return err
	}
	out.JumpedTo = to + margin
	return nil
}

// errRestoring: see openDir and findDir.
var errRestoring = errors.New("a restore to this folder has not ended: run nestbox restore again, with the same arguments")

// openDir is datadir.Open: errRestoring.
func openDir(path string) (dir datadir.Dir, release func() error, err error) {
	if dir, release, err = datadir.Open(path); err == nil && backup.Unfinished(string(dir)) {
		err = errRestoring
	}
	return dir, release, err
}

// findDir is datadir.Find: errRestoring.
func findDir(path string) (datadir.Dir, error) {
	if backup.Unfinished(path) {
		return "", errRestoring
	}
	return datadir.Find(path)
}

// RestoreFirst restores the data directory that the settings name from PDS_RESTORE_FROM if it
// has no database yet, logs what it restored and returns it, nil if nothing had to be. The settings that hold
// then are to be loaded again.
func RestoreFirst(ctx context.Context, c *config.Config, envFile string, log *slog.Logger) (*Restored, error) {
	if c.RestoreFrom == "" {
		return nil, nil //nolint:nilnil // nothing to restore is not an error
	}
	if _, err := datadir.Find(c.DataDirectory); err == nil && !backup.Unfinished(c.DataDirectory) {
		return nil, nil //nolint:nilnil // it is restored already
	}
	store, err := depot.Open(c.RestoreFrom, S3Settings(c.BackupS3()), false)
	if err != nil {
		return nil, err
	}
	reader := &backup.Reader{Depot: store}
	if c.RestoreIdentity != "" {
		if reader.Identities, err = ReadIdentities(c.RestoreIdentity); err != nil {
			return nil, err
		}
	}
	faults := 0
	out, err := Restore(ctx, RestoreArgs{
		Reader: reader, To: c.DataDirectory, EnvFile: envFile, Serve: c, Log: log,
		Fault: func(line string) {
			if faults++; faults <= faultsLogged {
				log.LogAttrs(ctx, slog.LevelError, "what was restored is damaged", slog.String("fault", line))
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("restore from PDS_RESTORE_FROM %s: %w", c.RestoreFrom, err)
	}
	if out.Faults > 0 {
		log.LogAttrs(ctx, slog.LevelError, "what was restored is damaged: nestbox verify names all of it", slog.Int64("faults", out.Faults))
	}
	log.LogAttrs(ctx, slog.LevelInfo, "restored from PDS_RESTORE_FROM", slog.Time("made", out.Made), slog.String("snapshot", out.Snapshot),
		slog.Int("segments", out.Segments), slog.Int64("jumped_to", out.JumpedTo))
	for _, one := range out.LeftOut {
		log.LogAttrs(ctx, slog.LevelWarn, "a younger snapshot was left out", slog.String("cause", one))
	}
	if out.Gap != "" {
		log.LogAttrs(ctx, slog.LevelWarn, "what was restored is not newer, because a part of the backups is missing or damaged",
			slog.String("cause", out.Gap))
	}
	for _, file := range out.Without {
		log.LogAttrs(ctx, slog.LevelWarn, "a file was not restored: the server does without it", slog.String("cause", file))
	}
	return &out, nil
}

// faultsLogged is how many faults of a restore RestoreFirst logs.
const faultsLogged = 100

// ReadIdentities reads a file with identities of age.
func ReadIdentities(path string) (_ []age.Identity, err error) {
	file, err := os.Open(path) //nolint:gosec // the operator's file
	if err != nil {
		return nil, fmt.Errorf("read the identity: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	list, err := age.ParseIdentities(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}
