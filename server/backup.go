package server

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"filippo.io/age"

	"nestbox/backup"
	"nestbox/backup/depot"
	"nestbox/blob"
	"nestbox/config"
	"nestbox/datadir"
	"nestbox/internal/durable"
)

// BackupCommand is the name of the command that makes a backup. It answers with a
// BackupLine for each step.
const BackupCommand = "backup.make"

// BackupArgs are the arguments of BackupCommand.
type BackupArgs struct {
	// To is the path of a folder or s3://bucket/prefix.
	To string `json:"to"`
	// Recipients are public keys of age.
	Recipients []string `json:"recipients"`
	// Keep is what backup.ParseKeep reads.
	Keep string `json:"keep"`
	// KeysApart is the file that gets the keys; Plain insists on a store on the network that
	// anybody can read who has access to it.
	KeysApart string `json:"keysApart"`
	Plain     bool   `json:"plain"`
	// Again sends everything, also what the store has.
	Again bool `json:"again"`
	// Adopt counts the snapshots that others made as those of this data directory.
	Adopt bool `json:"adopt"`
	// EnvFile is a file with settings that is backed up, too.
	EnvFile string `json:"envFile"`
}

// BackupLine is a step of a backup, or what it came to: one of the fields is set.
type BackupLine struct {
	Step     *backup.Step     `json:"progress,omitempty"`
	Snapshot *BackupDone      `json:"snapshot,omitempty"`
	Removed  *backup.Retained `json:"removed,omitempty"`
	Error    string           `json:"error,omitempty"`
}

// BackupDone is a snapshot that was made.
type BackupDone struct {
	Name      string `json:"name"`
	Store     string `json:"store"`
	Database  int64  `json:"database"`
	Blobs     int64  `json:"blobs"`
	BlobBytes int64  `json:"blobBytes"`
	Sent      int64  `json:"sent"`
	Took      int64  `json:"milliseconds"`
	Encrypted bool   `json:"encrypted"`
	// Gone is how many files of blobs the server itself lacks.
	Gone int64 `json:"gone,omitempty"`
	// Ahead names a snapshot of a later time in the store: a clock was wrong.
	Ahead string `json:"ahead,omitempty"`
}

// Errors of backups.
var (
	errBackingUp = errors.New("a backup of this server is being made already: wait until it has ended")
	errNoStore   = errors.New("name where the backup goes, with --to: a folder, or s3://bucket/prefix")
	errInside    = errors.New("the backup would be lost with the data directory: name a folder outside of it, on another disk")
	errTogether  = errors.New("the keys would be in the store: name a file outside of it, with --keys-apart")
	errOpen      = errors.New("anybody with access to the bucket would have the keys of all accounts: " +
		"encrypt the backup with --recipient age1…, keep the keys apart with --keys-apart FILE, or insist with --plain")
)

// progressEvery is the time between two lines of one step.
const progressEvery = 200 * time.Millisecond

// backUp answers BackupCommand.
func (s *Server) backUp(ctx context.Context, raw []byte, in io.Reader, out io.Writer) error {
	// Only when it was read to its end, ctx ends with a client that leaves.
	if _, err := io.Copy(io.Discard, in); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	var args BackupArgs
	if err := json.Unmarshal(raw, &args); err != nil {
		return fmt.Errorf("read arguments: %w", err)
	}
	service, ctx, done, err := s.beginBackup(ctx, args)
	if err != nil {
		return err
	}
	defer done()
	lines := json.NewEncoder(out)
	flush, _ := out.(interface{ Flush() error })
	say := func(l BackupLine) {
		_ = lines.Encode(l) // a client that has left ends ctx
		if flush != nil {
			_ = flush.Flush()
		}
	}
	last, at := "", time.Time{}
	service.Progress = func(p backup.Step) {
		if now := time.Now(); p.Step != last || p.Done >= p.Total || now.Sub(at) >= progressEvery {
			last, at = p.Step, now
			say(BackupLine{Step: &p})
		}
	}
	m, err := service.Snapshot(ctx)
	if err != nil {
		say(BackupLine{Error: err.Error()})
		return nil //nolint:nilerr // it was said
	}
	s.noteBackup(ctx, datadir.BackupMade)
	say(BackupLine{Snapshot: &BackupDone{
		Name: m.Name, Store: service.Depot.String(), Database: m.Size(), Blobs: m.BlobCount, BlobBytes: m.BlobBytes,
		Sent: m.Sent, Took: m.Took, Encrypted: m.Encrypted(), Gone: m.Gone, Ahead: m.Ahead,
	}})
	removed, err := service.Retain(ctx)
	if err != nil {
		say(BackupLine{Error: "the backup was made, but old ones were not removed: " + err.Error()})
		return nil //nolint:nilerr // it was said
	}
	if removed != (backup.Retained{}) {
		say(BackupLine{Removed: &removed})
	}
	return nil
}

// beginBackup returns the service that makes a backup as the arguments say, and notes that it
// is made. Its context also ends when the server stops. Nothing else may be done with backups
// before done is called.
func (s *Server) beginBackup(ctx context.Context, args BackupArgs) (_ *backup.Service, _ context.Context, done func(), err error) {
	service, err := s.backupTo(args)
	if err != nil {
		return nil, nil, nil, err
	}
	if !s.backingUp.TryLock() {
		return nil, nil, nil, errBackingUp
	}
	options := "recipients: " + cmp.Or(strings.Join(args.Recipients, " "), "none")
	if err := s.admin.NoteBackup(ctx, service.Depot.String(), options); err != nil {
		s.backingUp.Unlock()
		return nil, nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.stopping, cancel)
	return service, ctx, func() { stop(); cancel(); s.backingUp.Unlock() }, nil
}

// backupTo returns the service that makes backups as the arguments say.
func (s *Server) backupTo(args BackupArgs) (*backup.Service, error) {
	return s.backupBy(args, func(to string, s3 depot.S3Settings) (backup.Depot, error) { return depot.Open(to, s3, true) })
}

// backupBy is backupTo with the function that opens the store.
func (s *Server) backupBy(args BackupArgs, open func(to string, s3 depot.S3Settings) (backup.Depot, error)) (*backup.Service, error) {
	if args.To == "" {
		return nil, errNoStore
	}
	recipients, err := parseRecipients(args.Recipients)
	if err != nil {
		return nil, err
	}
	keep, err := backup.ParseKeep(args.Keep)
	if err != nil {
		return nil, err
	}
	switch bucket := depot.IsS3(args.To); {
	case bucket && len(recipients) == 0 && args.KeysApart == "" && !args.Plain:
		return nil, errOpen
	case bucket:
	case config.Below(s.DataDir, args.To):
		return nil, errInside
	case args.KeysApart != "" && config.Below(args.To, args.KeysApart):
		return nil, errTogether
	}
	store, err := open(args.To, S3Settings(s.opts.Config.BackupS3()))
	if err != nil {
		return nil, err
	}
	name := sha256.Sum256([]byte(store.String()))
	state := filepath.Join(s.dir.Backups(), hex.EncodeToString(name[:8]))
	if err := durable.MakeDir(state); err != nil {
		return nil, err
	}
	var segments *backup.Segments
	if state == s.backupState {
		segments = s.segments
	}
	return &backup.Service{
		Segments: segments,
		Source:   s.backupSource(args.EnvFile), Depot: store, Recipients: recipients, KeysApart: args.KeysApart, Again: args.Again,
		Adopt: args.Adopt, State: state, Keep: keep, Now: s.opts.Now, Log: s.opts.Log,
	}, nil
}

// S3Settings returns how buckets are reached.
func S3Settings(c config.S3) depot.S3Settings {
	return depot.S3Settings{
		Endpoint: c.Endpoint, Region: c.Region, AccessKey: c.AccessKey, SecretKey: c.SecretKey.Reveal(), PathStyle: c.PathStyle,
	}
}

func parseRecipients(names []string) (out []age.Recipient, err error) {
	for _, name := range names {
		list, err := age.ParseRecipients(strings.NewReader(name))
		if err != nil {
			return nil, fmt.Errorf("recipient %q: write a public key like age1…, as age-keygen prints it: %w", name, err)
		}
		out = append(out, list...)
	}
	return out, nil
}

// backupSource returns this server as what is backed up.
func (s *Server) backupSource(envFile string) backup.Source {
	src := backup.Source{
		Database: s.db, HoldBlobs: s.blobs.HoldFiles, OpenBlob: s.openBlobFile,
		Host: s.opts.Config.Hostname, DID: s.DID, Version: s.opts.Version,
	}
	for _, f := range s.dir.Smalls(s.opts.Config.KeyEncryptionKeyFile) {
		src.Files = append(src.Files, backup.File(f))
	}
	if envFile != "" {
		src.Files = append(src.Files, backup.File{Name: "pds.env", Path: envFile, Key: true})
	}
	return src
}

// openBlobFile implements backup.Source.OpenBlob.
func (s *Server) openBlobFile(ctx context.Context, key string) (io.ReadCloser, int64, error) {
	file, err := s.blobFiles.Open(ctx, key)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, 0, backup.ErrMissing
	}
	if err != nil {
		return nil, 0, err
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("look at a file of a blob: %w", err), file.Close())
	}
	return file, size, nil
}

// logQuiet is for databases that are opened to be checked.
func logQuiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
