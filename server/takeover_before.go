package server

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"nestbox/firehose"
	"nestbox/identity"
	"nestbox/internal/durable"
	"nestbox/internal/system"
	"nestbox/plc"
	"nestbox/store/reference"
	"nestbox/takeover"
)

// stopOld is how the old server is stopped so that nothing starts it again.
const stopOld = "stop it for good: systemctl disable --now pds, or docker compose down, " +
	"and take away what would start it again (restart: unless-stopped, watchtower)"

// beforehand returns the reasons not to begin that are seen without opening anything.
func (t *takeoverRun) beforehand() (out takeover.Refusals, err error) {
	refuse := func(problem, do string) { out = append(out, takeover.Refusal{Problem: problem, Do: do}) }
	for _, setting := range t.From.Unread {
		name, do, _ := strings.Cut(setting, ": ")
		refuse(name+" is set", do)
	}
	if t.From.S3Bucket != "" && t.places.Blobs == "" {
		refuse("the blobs are in the S3 bucket "+t.From.S3Bucket, "copy its folders blocks, tmp and quarantine to FOLDER, FOLDER/tempt and "+
			"FOLDER/quarantine (aws s3 sync), and set PDS_BLOBSTORE_DISK_LOCATION=FOLDER in place of the PDS_BLOBSTORE_S3_ settings")
	}
	if t.places.Blobs == "" && t.From.S3Bucket == "" {
		refuse("PDS_BLOBSTORE_DISK_LOCATION is not set", "use the env file of the old server, as it was")
	}
	for name, path := range map[string]string{"accounts": t.places.Accounts, "event log": t.places.Events} {
		if _, err := reference.StateOf(path); errors.Is(err, reference.ErrMissing) {
			refuse("there is no "+path+", the database of the "+name, "name the old server's data directory with --from DIR")
		} else if errors.Is(err, fs.ErrPermission) {
			refuse(path+" cannot be read", "run the command as root, or as the old server's user")
		}
	}
	slices.SortFunc(out, func(a, b takeover.Refusal) int { return strings.Compare(a.Problem, b.Problem) })
	if fi, err := os.Stat(t.places.Blobs); t.places.Blobs != "" && (err != nil || !fi.IsDir()) {
		refuse("the folder of blobs "+t.places.Blobs+" cannot be read", "mount it here too, or name the data directory with --from DIR")
	}
	if t.Pass != Finish {
		return out, nil
	}
	served, err := t.places.Served()
	if errors.Is(err, fs.ErrPermission) {
		refuse("it cannot be seen whether the old server runs ("+err.Error()+")", "run the command as root, or as the old server's user")
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	if len(served) > 0 {
		refuse("the old server runs: it has "+strings.Join(served, ", ")+" open", stopOld)
	}
	return append(out, t.answering()...), nil
}

// answering refuses when a server of the same DID still answers on this machine.
func (t *takeoverRun) answering() takeover.Refusals {
	const imagesPort = 3000 // what the official image listens on
	client := &http.Client{Timeout: 2 * time.Second}
	for _, port := range slices.Compact([]int{t.Config.Port, imagesPort}) {
		base := fmt.Sprintf("http://127.0.0.1:%d", port)
		resp, err := client.Get(base + "/xrpc/com.atproto.server.describeServer") //nolint:noctx // it has a timeout
		if err != nil {
			continue // nobody listens
		}
		raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		var said struct{ DID string }
		if errors.Join(err, resp.Body.Close(), json.Unmarshal(raw, &said)) == nil && said.DID == t.Config.ServiceDID {
			return takeover.Refusals{{Problem: "a server of " + said.DID + " still answers on port " + fmt.Sprint(port), Do: stopOld}}
		}
	}
	return nil
}

// inspect looks at the opened source: its form, the clock, room on the disk, and what the
// network says of it.
func (t *takeoverRun) inspect(ctx context.Context) error {
	refusals, unread, err := t.source.Inspect()
	if err != nil {
		return err
	}
	t.report.Refusals, t.report.Unread = append(t.report.Refusals, refusals...), unread
	if len(refusals) > 0 {
		return nil
	}
	now := t.Now()
	newest, what, err := t.source.Newest()
	if err != nil {
		return err
	}
	if ahead := newest.Sub(now); ahead > 0 {
		t.refuse(fmt.Sprintf("this machine's clock says %s, and %s is of %s", now.UTC().Format(time.RFC3339), what, newest.Format(time.RFC3339)),
			"set the clock: what is written next would be older than what is there")
	}
	if err := t.room(); err != nil {
		return err
	}
	return t.network(ctx)
}

func (t *takeoverRun) refuse(problem, do string) {
	t.report.Refusals = append(t.report.Refusals, takeover.Refusal{Problem: problem, Do: do})
}

// room finds out how much of the disk is needed, and whether it is there.
func (t *takeoverRun) room() error {
	sizes, err := t.places.Sizes()
	if err != nil {
		return err
	}
	there := string(t.dir) // or the first folder above it that exists
	for {
		if _, err := os.Stat(there); err == nil || there == filepath.Dir(there) {
			break
		}
		there = filepath.Dir(there)
	}
	if sizes.Free, err = system.FreeSpace(there); err != nil {
		return fmt.Errorf("look at the disk of %s: %w", there, err)
	}
	sizes.Manner = t.Manner
	if t.Manner == takeover.Any {
		if sizes.Manner, err = t.manner(there); err != nil {
			return err
		}
	}
	// Half of what the actors have, the events that are kept, and copies of the three
	// databases.
	sizes.Needed = sizes.Actors/2 + min(sizes.Databases, t.Config.FirehoseMaxBytes) + sizes.Databases
	if sizes.Manner == takeover.Copy {
		sizes.Needed += sizes.Blobs
	}
	t.report.Sizes = sizes
	have := int64(0) // what an earlier pass has taken
	if fi, err := os.Stat(t.dir.Database()); err == nil {
		have = fi.Size()
		if sizes.Manner == takeover.Copy {
			if err := filepath.WalkDir(t.dir.Blobs(), func(_ string, e fs.DirEntry, err error) error {
				if err == nil && e.Type().IsRegular() {
					info, err := e.Info()
					if err == nil {
						have += info.Size()
					}
				}
				return err
			}); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("look at what was prepared: %w", err)
			}
		}
	}
	if sizes.Needed-have > sizes.Free {
		do := "make room, or name a folder on another disk with --to DIR"
		if sizes.Manner == takeover.Copy {
			do += "; on the file system of the blobs they need no room"
		}
		t.refuse(fmt.Sprintf("%d MB of the disk of %s are free, and about %d MB are needed", sizes.Free>>20, there, (sizes.Needed-have)>>20), do)
	}
	return nil
}

// manner tells how blobs can be brought: in a dry run by looking, else by trying on one.
func (t *takeoverRun) manner(target string) (takeover.Manner, error) {
	blob, err := t.places.AnyBlob()
	if err != nil || blob == "" {
		return takeover.Any, err
	}
	if t.Pass != DryRun {
		return takeover.MannerOf(filepath.Join(t.scratch, "manner"), blob)
	}
	device := func(path string) any {
		fi, err := os.Stat(path)
		if err != nil {
			return err
		}
		if st, ok := fi.Sys().(*syscall.Stat_t); ok {
			return st.Dev
		}
		return nil
	}
	if device(blob) == device(target) {
		return takeover.Link, nil
	}
	return takeover.Copy, nil
}

// sampled is how many accounts' identities are looked at in the network.
const sampled = 5

// network compares the source with the PLC directory and the relays, as far as they answer.
func (t *takeoverRun) network(ctx context.Context) error {
	if t.Config.EmbeddedPLC() {
		return nil
	}
	if err := t.rotationKey(ctx); err != nil {
		return err
	}
	last, _, err := t.source.LastEvent()
	if err != nil {
		return err
	}
	crawler := firehose.NewCrawler(t.Config.Crawlers, t.Config.Hostname, &http.Client{CheckRedirect: noRedirect, Timeout: doctorPatience},
		slog.New(slog.DiscardHandler))
	for _, relay := range t.Config.Crawlers {
		status, err := crawler.HostStatus(ctx, relay)
		switch {
		case errors.Is(err, firehose.ErrUnseen):
		case err != nil:
			t.report.Remark(fmt.Sprintf("%s does not say how far it is: %v", relay, err))
		case status.Seq > last:
			t.report.Remark(fmt.Sprintf("%s has seen event %d, and the event log ends at %d: run nestbox firehose jump before anybody writes",
				relay, status.Seq, last))
		}
	}
	return nil
}

// rotationKey refuses if none of a few accounts' identities can be changed by the server.
func (t *takeoverRun) rotationKey(ctx context.Context) error {
	if !t.Config.PLCRotationKey.IsSet() {
		t.refuse("PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX is not set", "use the env file of the old server, as it was")
		return nil
	}
	raw, err := hex.DecodeString(t.Config.PLCRotationKey.Reveal())
	if err != nil {
		return fmt.Errorf("PLC rotation key: %w", err)
	}
	private, err := atcrypto.ParsePrivateBytesK256(raw)
	if err != nil {
		return fmt.Errorf("PLC rotation key: %w", err)
	}
	public, err := private.PublicKey()
	if err != nil {
		return fmt.Errorf("PLC rotation key: %w", err)
	}
	accounts, _, err := t.source.Accounts()
	if err != nil {
		return err
	}
	directory := &identity.Directory{URL: t.Config.PLCURL, Client: &http.Client{Timeout: doctorPatience}}
	defer directory.Close()
	var without []string
	seen := 0
	for _, a := range accounts {
		if seen == sampled {
			break
		}
		if !strings.HasPrefix(a.DID.String(), "did:plc:") {
			continue
		}
		op, err := directory.Last(ctx, a.DID)
		if err != nil {
			t.report.Remark(fmt.Sprintf("the identities were not compared with %s: %v", t.Config.PLCURL, err))
			return ctx.Err()
		}
		seen++
		if data, ok := plc.DataOf(op); !ok || !slices.Contains(data.RotationKeys, public.DIDKey()) {
			without = append(without, a.DID.String())
		}
	}
	switch {
	case seen > 0 && len(without) == seen:
		t.refuse("the rotation key of the settings is not among those of "+strings.Join(without, ", "),
			"set PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX to the old server's: with another no handle and no key could be changed")
	case len(without) > 0:
		t.report.Remark("the rotation key of the settings is not among those of " + strings.Join(without, ", ") +
			": their owners change handles and keys themselves")
	}
	return nil
}

// give makes the target its owner's whom the source's data directory belongs to, if the
// command runs as root. Files that are linked with the source's are left as they are.
func (t *takeoverRun) give() error {
	fi, err := os.Stat(t.places.Data)
	if err != nil {
		return fmt.Errorf("look at %s: %w", t.places.Data, err)
	}
	owner, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 || owner.Uid == 0 {
		return nil
	}
	err = filepath.WalkDir(string(t.dir), func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && e.Type().IsRegular() && st.Nlink > 1 {
			return nil
		}
		return os.Lchown(path, int(owner.Uid), int(owner.Gid))
	})
	if err != nil {
		return fmt.Errorf("give %s to the owner of %s: %w", t.dir, t.places.Data, err)
	}
	return durable.SyncDir(string(t.dir))
}
