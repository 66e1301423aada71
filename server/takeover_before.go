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
	"net"
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
	if t.places.Blobs == "" && t.places.Bucket == "" {
		refuse("PDS_BLOBSTORE_DISK_LOCATION is not set", "use the env file of the old server, as it was")
	}
	if b := t.From.Bucket; b.Name != "" && (b.AccessKey == "" || !b.SecretKey.IsSet()) {
		refuse("the blobs are in the S3 bucket "+b.Name+", and PDS_BLOBSTORE_S3_ACCESS_KEY_ID or PDS_BLOBSTORE_S3_SECRET_ACCESS_KEY is not set",
			"set both for this command: keys that the machine has from its cloud are not used")
	}
	if t.Token != "" {
		if err := t.checkToken(); err != nil {
			refuse("the token of --token does not fit the env file: "+err.Error(),
				"set PDS_JWT_SECRET, PDS_HOSTNAME and PDS_SERVICE_DID to the old server's: with others everybody would be signed out")
		}
	}
	for name, path := range map[string]string{"accounts": t.places.Accounts, "event log": t.places.Events} {
		if _, err := reference.StateOf(path); errors.Is(err, reference.ErrMissing) {
			refuse("there is no "+path+", the database of the "+name, "name the old server's data directory with --from DIR")
		} else if errors.Is(err, fs.ErrPermission) {
			refuse(path+" cannot be read", "run the command as root, or as the old server's user")
		}
	}
	if string(t.dir) == t.places.Data || sameFile(string(t.dir), t.places.Data) {
		refuse(string(t.dir)+" is the old data directory", "leave --to out, or name another folder")
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

// sameFile reports whether two paths lead to the same file.
func sameFile(one, other string) bool {
	a, err := os.Stat(one)
	if err != nil {
		return false
	}
	b, err := os.Stat(other)
	return err == nil && os.SameFile(a, b)
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
	if t.store != nil { // blobs were tried on
		if err := t.room(ctx); err != nil {
			return err
		}
	}
	return t.network(ctx)
}

func (t *takeoverRun) refuse(problem, do string) {
	t.report.Refusals = append(t.report.Refusals, takeover.Refusal{Problem: problem, Do: do})
}

// room finds out how much of the disk is needed, and whether it is there.
func (t *takeoverRun) room(ctx context.Context) (err error) {
	sizes := t.report.Sizes
	if sizes.Needed == 0 { // it is looked at once, before anything is written
		if sizes, err = t.places.Sizes(); err != nil {
			return err
		}
		if err := t.sizesOfBucket(ctx, &sizes); err != nil {
			return err
		}
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
	if t.places.Bucket != "" {
		sizes.Manner = takeover.Copy
	} else if t.Manner == takeover.Any {
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
	if t.Pass == DryRun {
		if err := t.roomForCopies(); err != nil {
			return err
		}
	}
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

// roomForCopies refuses a dry run whose copies of databases have no room.
func (t *takeoverRun) roomForCopies() error {
	needed, err := t.places.Copied()
	if err != nil {
		return err
	}
	free, err := system.FreeSpace(os.TempDir())
	if err != nil {
		return fmt.Errorf("look at the disk of %s: %w", os.TempDir(), err)
	}
	if needed > free {
		t.refuse(fmt.Sprintf("%d MB of the disk of %s are free, and copies of the databases need %d MB", free>>20, os.TempDir(), needed>>20),
			"set TMPDIR to a folder with more room")
	}
	return nil
}

// manner tells how blobs can be brought: by trying on one, or before the target is there, as in
// a dry run, by looking.
func (t *takeoverRun) manner(target string) (takeover.Manner, error) {
	blob, err := t.places.AnyBlob()
	if err != nil || blob == "" {
		return takeover.Any, err
	}
	if t.store != nil {
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

// sampled is how many accounts' identities are looked at in the network, sampledMost how many
// if none fits.
const (
	sampled     = 5
	sampledMost = 50
)

// network compares the source with the PLC directory and the relays, as far as they answer.
func (t *takeoverRun) network(ctx context.Context) error {
	if t.Config.EmbeddedPLC() {
		return nil
	}
	if err := t.identities(ctx); err != nil {
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

// rotationKey returns the did:key of the server's rotation key; empty if it is not set, which
// is refused.
func (t *takeoverRun) rotationKey() (string, error) {
	if !t.Config.PLCRotationKey.IsSet() {
		t.refuse("PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX is not set", "use the env file of the old server, as it was")
		return "", nil
	}
	raw, err := hex.DecodeString(t.Config.PLCRotationKey.Reveal())
	if err != nil {
		return "", fmt.Errorf("PLC rotation key: %w", err)
	}
	private, err := atcrypto.ParsePrivateBytesK256(raw)
	if err != nil {
		return "", fmt.Errorf("PLC rotation key: %w", err)
	}
	public, err := private.PublicKey()
	if err != nil {
		return "", fmt.Errorf("PLC rotation key: %w", err)
	}
	return public.DIDKey(), nil
}

// identities refuses if none of a few accounts' identities can be changed by the server, or
// none names it. Accounts that are not active may have moved away.
func (t *takeoverRun) identities(ctx context.Context) error {
	key, err := t.rotationKey()
	if err != nil || key == "" {
		return err
	}
	accounts, _, err := t.source.Accounts()
	if err != nil {
		return err
	}
	directory := &identity.Directory{URL: t.Config.PLCURL, Client: &http.Client{Timeout: doctorPatience}}
	defer directory.Close()
	_, port, err := net.SplitHostPort(t.Config.Listen)
	if err != nil {
		return fmt.Errorf("listen address: %w", err)
	}
	url := t.Config.PublicURL(port)
	var without, elsewhere []string
	host := "" // what the identities name instead
	seen := 0
	for _, a := range accounts {
		if seen == sampledMost || seen >= sampled && len(without) < seen && len(elsewhere) < seen {
			break
		}
		if !strings.HasPrefix(a.DID.String(), "did:plc:") || !a.DeactivatedAt.IsZero() || slices.Contains(t.Skip, a.DID.String()) {
			continue
		}
		op, err := directory.Last(ctx, a.DID)
		if err != nil {
			t.report.Remark(fmt.Sprintf("the identities were not compared with %s: %v", t.Config.PLCURL, err))
			return ctx.Err()
		}
		seen++
		data, ok := plc.DataOf(op)
		if !ok || !slices.Contains(data.RotationKeys, key) {
			without = append(without, a.DID.String())
		}
		if !ok || strings.TrimRight(data.PDS, "/") != url {
			elsewhere, host = append(elsewhere, a.DID.String()), data.PDS
		}
	}
	switch {
	case len(without) == 0:
	case len(without) == seen:
		t.refuse("the rotation key of the settings is not among those of "+some(without),
			"set PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX to the old server's: with another no handle and no key could be changed")
	default:
		t.report.Remark("the rotation key of the settings is not among those of " + some(without) +
			": their owners change handles and keys themselves")
	}
	switch {
	case len(elsewhere) == 0:
	case len(elsewhere) == seen:
		t.refuse(fmt.Sprintf("the settings say that this server is %s, and the identities of %s name %s", url, some(elsewhere), host),
			"set PDS_HOSTNAME to the old server's")
	default:
		t.report.Remark("the identities of " + some(elsewhere) + " name another server than " + url + ": they may have moved away")
	}
	return nil
}

// some names the first of a list.
func some(dids []string) string {
	if len(dids) > sampled {
		return fmt.Sprintf("%s and %d more", strings.Join(dids[:sampled], ", "), len(dids)-sampled)
	}
	return strings.Join(dids, ", ")
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
		return os.Lchown(path, int(owner.Uid), int(owner.Gid)) //nolint:gosec // of a link in its place, the link itself
	})
	if err != nil {
		return fmt.Errorf("give %s to the owner of %s: %w", t.dir, t.places.Data, err)
	}
	return durable.SyncDir(string(t.dir))
}
