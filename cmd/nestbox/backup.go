package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"filippo.io/age"
	"golang.org/x/term"

	"nestbox/backup"
	"nestbox/backup/depot"
	"nestbox/config"
	"nestbox/server"
	"nestbox/store"
)

type backupCmd struct {
	Make   backupMakeCmd   `cmd:"" default:"withargs" help:"Make a backup (default)."`
	List   backupListCmd   `cmd:"" help:"List the snapshots of a store."`
	Prune  backupPruneCmd  `cmd:"" help:"Remove old snapshots of a store, whoever made them, and what only they need."`
	Verify backupVerifyCmd `cmd:"" help:"Restore the newest snapshot of a store to a scratch folder, and verify everything in it."`
}

type backupMakeCmd struct {
	where
	output

	To        string   `required:"" help:"Where it goes: a folder, or s3://bucket/prefix." placeholder:"STORE"`
	Recipient []string `help:"Encrypt it to this public key of age; may be given more than once. The identity stays with you." placeholder:"age1…"`
	Keep      string   `help:"Afterwards remove snapshots, except the newest one of each of so many days, weeks and months." placeholder:"daily=7,weekly=4,monthly=6"`
	KeysApart string   `help:"Write the keys to this file instead of the store." type:"path" placeholder:"FILE" xor:"open"`
	Plain     bool     `help:"Send it to a bucket although it is not encrypted." xor:"open"`
	Again     bool     `help:"Send everything, also what the store has: it is damaged there."`
	Adopt     bool     `help:"Count the snapshots that another data directory made as this one's, as after a restore: --keep removes them, too."`
}

// Run makes a backup through the server, or of a data directory that none serves.
func (c *backupMakeCmd) Run() error {
	conf, _, err := config.Load(c.flags(), os.Environ())
	if err != nil {
		return err
	}
	// The backup of an empty folder, as of a disk that is not mounted, would be the newest.
	if _, err := os.Stat(filepath.Join(conf.DataDirectory, backup.DatabaseName)); err != nil {
		return fmt.Errorf("nothing to back up: %w", err)
	}
	args := server.BackupArgs{
		To: c.To, Recipients: c.Recipient, Keep: c.Keep, KeysApart: c.KeysApart, Plain: c.Plain, Again: c.Again, Adopt: c.Adopt,
	}
	if c.EnvFile != "" { // it is backed up, too
		var err error
		if args.EnvFile, err = filepath.Abs(c.EnvFile); err != nil {
			return fmt.Errorf("file with settings: %w", err)
		}
	}
	if !depot.IsS3(args.To) { // the server may run in another folder
		var err error
		if args.To, err = filepath.Abs(strings.TrimPrefix(args.To, "file://")); err != nil {
			return fmt.Errorf("folder of backups: %w", err)
		}
	}
	steps := newSteps(c.JSON)
	var failed error
	done := false
	lines := &lineWriter{each: func(raw []byte) error {
		var line server.BackupLine
		if err := json.Unmarshal(raw, &line); err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		switch {
		case line.Step != nil:
			steps.step(*line.Step)
		case line.Error != "":
			failed = errors.New(line.Error)
		case line.Snapshot != nil:
			done = true
			s := line.Snapshot
			steps.result(s, fmt.Sprintf("%s in %s: database %s, %d blobs of %s; %s sent in %.1f s%s",
				snapshotName(s.Name), s.Store, bytesText(s.Database), s.Blobs, bytesText(s.BlobBytes), bytesText(s.Sent),
				float64(s.Took)/1000, map[bool]string{true: ", encrypted", false: ""}[s.Encrypted]))
			if s.Ahead != "" {
				steps.result(nil, fmt.Sprintf("the store also has a %s, of a later time: a clock was wrong; remove %s from the store",
					snapshotName(s.Ahead), s.Ahead))
			}
			if s.Gone > 0 {
				steps.result(nil, fmt.Sprintf("%d files of blobs are missing on the server itself: run nestbox verify", s.Gone))
			}
		case line.Removed != nil:
			steps.result(line.Removed, removedText(*line.Removed))
		}
		return nil
	}}
	if err := c.stream(server.BackupCommand, args, strings.NewReader(""), lines); err != nil {
		return err
	}
	if failed == nil && !done {
		failed = errors.New("the server broke off: its log says why")
	}
	return failed
}

// lineWriter calls each for each line.
type lineWriter struct {
	each func([]byte) error
	rest []byte
}

// Write implements io.Writer.
func (w *lineWriter) Write(p []byte) (int, error) {
	w.rest = append(w.rest, p...)
	for {
		line, rest, whole := bytes.Cut(w.rest, []byte{'\n'})
		if !whole {
			return len(p), nil
		}
		if err := w.each(line); err != nil {
			return 0, err
		}
		w.rest = rest
	}
}

// snapshotName returns a snapshot's time: nobody types its whole name.
func snapshotName(name string) string {
	at, _, _ := strings.Cut(strings.TrimPrefix(name, "snapshots/"), "-")
	return "snapshot " + at
}

// bytesText returns a size for people.
func bytesText(n int64) string {
	const kilo, mega, giga = 1 << 10, 1 << 20, 1 << 30
	switch {
	case n >= giga:
		return fmt.Sprintf("%.1f GB", float64(n)/giga)
	case n >= mega:
		return fmt.Sprintf("%.1f MB", float64(n)/mega)
	default:
		return fmt.Sprintf("%.1f kB", float64(n)/kilo)
	}
}

// steps shows progress: a bar on a terminal, else one JSON line a step.
type steps struct {
	bar  bool
	last backup.Step
	out  *json.Encoder
}

func newSteps(asJSON bool) *steps {
	return &steps{bar: !asJSON && term.IsTerminal(int(os.Stdout.Fd())), out: json.NewEncoder(os.Stdout)}
}

// barWidth is that of a bar, in characters.
const barWidth = 30

func (s *steps) step(p backup.Step) {
	if p.Step != s.last.Step {
		s.ended()
	}
	s.last = p
	if !s.bar {
		return
	}
	part := percentOf(p) * barWidth / 100
	fmt.Printf("\r\x1b[K%-10s [%s%s] %d%%", p.Step, strings.Repeat("#", part), strings.Repeat(".", barWidth-part), percentOf(p))
	if p.Sent > 0 {
		fmt.Printf(", %s sent", bytesText(p.Sent))
	}
}

// percentOf returns how much of a step is done. One with nothing to do is done.
func percentOf(p backup.Step) int {
	if p.Done >= p.Total {
		return 100
	}
	return int(p.Done * 100 / p.Total)
}

// ended ends the step that is shown.
func (s *steps) ended() {
	switch {
	case s.last.Step == "":
	case s.bar:
		fmt.Println()
	default:
		_ = s.out.Encode(s.last) // nobody listens
	}
	s.last = backup.Step{}
}

// result shows what something came to: JSON, or a sentence for people.
func (s *steps) result(value any, people string) {
	s.ended()
	switch {
	case s.bar:
		fmt.Fprintln(printable{os.Stdout}, people)
	case value != nil:
		_ = s.out.Encode(value) // nobody listens
	}
}

// fault shows something that is wrong.
func (s *steps) fault(line string) { s.result(map[string]string{"fault": line}, "fault: "+line) }

// undone shows a line of what a restore has undone, unless people read: their text has it.
func (s *steps) undone(one store.Undone) {
	if !s.bar {
		s.result(map[string]store.Undone{"undone": one}, "")
	}
}

// storeFlags name a store that is read.
type storeFlags struct {
	Store   string `arg:"" help:"A folder, or s3://bucket/prefix."`
	EnvFile string `help:"File with PDS_BACKUP_S3_* settings." placeholder:"FILE"`
}

func (f storeFlags) open() (backup.Depot, error) {
	s3, err := config.LoadS3(config.Flags{EnvFile: f.EnvFile}, os.Environ())
	if err != nil {
		return nil, err
	}
	return depot.Open(f.Store, server.S3Settings(s3), false)
}

// identities are the flags that open what is encrypted.
type identities struct {
	Identity string `help:"File with the identity of age that the backup was encrypted to." type:"path" placeholder:"FILE"`
	Keys     string `help:"File that backup --keys-apart wrote." type:"path" placeholder:"FILE"`
}

func (i identities) read() ([]age.Identity, error) {
	if i.Identity == "" {
		return nil, nil
	}
	return server.ReadIdentities(i.Identity)
}

// reader returns what reads the store, and shows its steps.
func (f storeFlags) reader(key identities, s *steps) (*backup.Reader, error) {
	store, err := f.open()
	if err != nil {
		return nil, err
	}
	list, err := key.read()
	if err != nil {
		return nil, err
	}
	return &backup.Reader{Depot: store, Identities: list, Progress: s.step}, nil
}

type backupPruneCmd struct {
	output
	storeFlags

	Keep string `required:"" help:"What stays: the newest snapshot of each of so many days, weeks and months." placeholder:"daily=7,weekly=4,monthly=6"`
}

// Run removes old snapshots without making one: by credentials that no server has.
func (c *backupPruneCmd) Run() (err error) {
	store, err := c.open()
	if err != nil {
		return err
	}
	keep, err := backup.ParseKeep(c.Keep)
	if err != nil {
		return err
	}
	log, err := newLogger("warn", "text")
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "nestbox-prune-")
	if err != nil {
		return fmt.Errorf("make scratch folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	service := &backup.Service{Depot: store, Keep: keep, Adopt: true, State: scratch, Now: time.Now, Log: log}
	removed, err := service.Retain(ctx)
	if err != nil {
		return err
	}
	return c.print(removed, func(w io.Writer) { fmt.Fprintln(w, removedText(removed)) })
}

// removedText describes to people what retention removed.
func removedText(r backup.Retained) string {
	return fmt.Sprintf("%d old snapshots removed, %s in the store", r.Snapshots, bytesText(r.Bytes))
}

type backupListCmd struct {
	output
	storeFlags
}

// listedLine is a snapshot as backup list prints it.
type listedLine struct {
	Name      string    `json:"name"`
	At        time.Time `json:"at"`
	Host      string    `json:"host,omitempty"`
	Version   string    `json:"version,omitempty"`
	Schema    int       `json:"schema,omitempty"`
	LastEvent int64     `json:"lastEvent,omitempty"`
	Database  int64     `json:"database,omitempty"`
	Blobs     int64     `json:"blobs"`
	BlobBytes int64     `json:"blobBytes,omitempty"`
	Encrypted bool      `json:"encrypted"`
	KeysApart bool      `json:"keysApart,omitempty"`
	Error     string    `json:"error,omitempty"`
}

func (c *backupListCmd) Run() error {
	store, err := c.open()
	if err != nil {
		return err
	}
	lines, err := listed(context.Background(), store)
	if err != nil {
		return err
	}
	spans, err := backup.Spans(context.Background(), store)
	if err != nil {
		return err
	}
	return c.print(map[string]any{"snapshots": lines, "restorable": spans}, func(w io.Writer) { listText(w, lines, spans) })
}

// listed returns the snapshots of a store, the oldest first.
func listed(ctx context.Context, store backup.Depot) ([]listedLine, error) {
	found, err := backup.List(ctx, store)
	if err != nil {
		return nil, err
	}
	lines := []listedLine{}
	for _, l := range found {
		line := listedLine{Name: l.Name, At: l.Made}
		if l.Err != nil {
			line.Error = l.Err.Error()
		} else {
			m := l.Manifest
			line = listedLine{
				Name: l.Name, At: l.Made, Host: m.Host, Version: m.Version, Schema: m.Schema, LastEvent: m.LastEvent, Database: m.Size(),
				Blobs: m.BlobCount, BlobBytes: m.BlobBytes, Encrypted: m.Encrypted(), KeysApart: m.KeysApart,
			}
		}
		lines = append(lines, line)
	}
	return lines, nil
}

// listText describes the snapshots of a store to people, and which times can be restored.
func listText(w io.Writer, lines []listedLine, spans []backup.Span) {
	for _, s := range spans {
		line := fmt.Sprintf("can be restored: %s to %s; %s", s.From.Format(backup.ShownTime), s.To.Format(backup.ShownTime), s.Why)
		fmt.Fprintln(w, strings.TrimSuffix(line, "; "))
	}
	fmt.Fprintln(w, "MADE\tHOST\tVERSION\tDATABASE\tBLOBS\tLAST EVENT\tENCRYPTED\tERROR")
	for _, l := range lines {
		made := l.At.Format(backup.ShownTime)
		if l.Error != "" {
			fmt.Fprintf(w, "%s\t-\t-\t-\t-\t-\t-\tcannot be read: %s\n", made, l.Error)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d, %s\t%d\t%t\t\n", made, l.Host, l.Version,
			bytesText(l.Database), l.Blobs, bytesText(l.BlobBytes), l.LastEvent, l.Encrypted)
	}
}

type backupVerifyCmd struct {
	output
	storeFlags
	identities

	Full    bool   `help:"Verify every snapshot, not only the newest."`
	Scratch string `help:"Folder for the database while it is verified. Default: the system's temporary folder." type:"path" placeholder:"DIR"`
}

// errFaulty: see backupVerifyCmd.Run.
var (
	errFaulty = errors.New("the store is damaged: make another backup now, to another store or with --again")
	errNoted  = errors.New("the store is damaged: the next backup sends again what is damaged and still needed; make one now. " +
		"Older snapshots stay damaged until they are removed")
	errLacking = errors.New("the store has what the server had, and the server itself lacked files of blobs: run nestbox verify there")
)

// verifiedText describes a verification to people.
func verifiedText(done *backup.Verified) string {
	if done.HashesOnly {
		return fmt.Sprintf("the hashes of %d objects compared: %d faults. "+
			"Nothing was restored: the store is encrypted; name the identity with --identity", done.Objects, done.Faults)
	}
	said := fmt.Sprintf("%d snapshots restored and verified, %d objects, %d blobs: %d faults", done.Snapshots, done.Objects, done.Blobs,
		done.Faults)
	if done.KeysUnchecked {
		said += ". The keys were not looked at: they are not in the store; name their file with --keys"
	}
	return said
}

// Run prints a line for each fault, and fails if there is one.
func (c *backupVerifyCmd) Run() error {
	steps := newSteps(c.JSON)
	reader, err := c.reader(c.identities, steps)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	done, err := backup.Verification{
		Reader: reader, Full: c.Full, Scratch: c.Scratch, Keys: c.Keys,
		Check: server.CheckBackup(func(string) {}), Now: time.Now, Fault: steps.fault,
	}.Run(ctx)
	if err != nil {
		err = fmt.Errorf("not verified to the end: %w", err)
		if len(done.DamagedObjects) > 0 { // the next backup sends again what was found until then
			err = errors.Join(err, backup.MarkDamaged(context.WithoutCancel(ctx), reader.Depot, done.DamagedObjects))
		}
		return err
	}
	steps.result(done, verifiedText(&done))
	switch {
	case done.Damaged():
		if err := backup.MarkDamaged(ctx, reader.Depot, done.DamagedObjects); err != nil || len(done.DamagedObjects) == 0 {
			return errors.Join(errFaulty, err)
		}
		return errNoted
	case done.Faults > 0:
		return errLacking
	}
	return nil
}

type restoreCmd struct {
	output
	storeFlags
	identities

	To     string `required:"" help:"The data directory to make: an empty folder, or one that does not exist." type:"path" placeholder:"DIR"`
	NoJump bool   `help:"Leave the numbers of events as they are." xor:"jump"`
	JumpTo int64  `help:"The next event gets a number above this one, whatever relays have seen." placeholder:"N" xor:"jump"`

	At string `help:"Restore the newest state that is not younger than this time, like 2026-11-29T22:00:00Z." placeholder:"TIME"`
}

// restoredText describes a restore to people.
func restoredText(done server.Restored, dir string) string {
	var said strings.Builder
	said.WriteString(snapshotName(done.Snapshot))
	switch done.Segments {
	case 0:
		said.WriteString(" is")
	case 1:
		said.WriteString(" and one segment of the log are")
	default:
		fmt.Fprintf(&said, " and %d segments of the log are", done.Segments)
	}
	fmt.Fprintf(&said, " in %s, with everything as it was at %s.", dir, done.Made.Format(backup.ShownTime))
	if done.Gap != "" {
		fmt.Fprintf(&said, "\nIt is not newer, because %s.", done.Gap)
	}
	switch {
	case done.Undone != nil:
		said.WriteString(undoneText(done.Undone))
	case done.Gap != "":
		said.WriteString(" What was ended or changed behind that cannot be listed.")
	}
	for _, one := range done.LeftOut {
		if one != done.Gap {
			fmt.Fprintf(&said, "\nA younger snapshot was left out: %s.", one)
		}
	}
	for _, file := range done.Without {
		fmt.Fprintf(&said, "\nA file was not restored, and the server does without it: %s.", file)
	}
	for _, r := range done.Relays {
		switch {
		case r.Error != "":
			fmt.Fprintf(&said, "\n%s could not be asked what it has seen: %s", r.Relay, r.Error)
		case r.Seq > done.LastEvent:
			fmt.Fprintf(&said, "\n%s has seen %d events that are lost.", r.Relay, r.Seq-done.LastEvent)
		}
	}
	if done.JumpedTo > 0 {
		fmt.Fprintf(&said, "\nThe next event gets a number above %d, and the server announces every account again when it starts.",
			done.JumpedTo)
	}
	if done.Blobs != "" {
		fmt.Fprintf(&said, "\nThe blobs are in %s, as PDS_BLOBSTORE_DISK_LOCATION wants it.", done.Blobs)
	}
	if done.BlobsElsewhere != "" {
		fmt.Fprintf(&said, "\nMove the folder %s to %s, as PDS_BLOBSTORE_DISK_LOCATION wants it.",
			filepath.Join(dir, backup.BlobsName), done.BlobsElsewhere)
	}
	return said.String()
}

// errAt: see parseAt.
var errAt = errors.New("write the time of --at like 2026-11-29T22:00:00Z")

// parseAt reads the time of a flag; none is zero.
func parseAt(text string) (at time.Time, err error) {
	if text == "" {
		return at, nil
	}
	if at, err = time.Parse(time.RFC3339, text); err != nil {
		return at, errAt
	}
	return at, nil
}

// Run restores, then verifies.
func (c *restoreCmd) Run() error {
	at, err := parseAt(c.At)
	if err != nil {
		return err
	}
	steps := newSteps(c.JSON)
	reader, err := c.reader(c.identities, steps)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	done, err := server.Restore(ctx, server.RestoreArgs{
		Reader: reader, At: at, To: c.To, Keys: c.Keys, EnvFile: c.EnvFile,
		NoJump: c.NoJump, JumpTo: c.JumpTo, Log: slog.New(slog.DiscardHandler),
		Fault: steps.fault, Undone: steps.undone,
	})
	if err != nil {
		return err
	}
	said := restoredText(done, c.To)
	if done.Undone != nil {
		done.Undone.List = nil // each had a line of its own
	}
	steps.result(done, said)
	if done.Faults > 0 {
		return fmt.Errorf("it is damaged: %d faults", done.Faults)
	}
	return nil
}
