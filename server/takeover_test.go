package server_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nestbox/admin"
	"nestbox/config"
	"nestbox/internal/pdstest"
	"nestbox/server"
	"nestbox/store/reference/referencetest"
	"nestbox/store/sqlite"
	"nestbox/takeover"
)

const rotationKey = "PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX=1111111111111111111111111111111111111111111111111111111111111111"

// old is a data directory to take over.
type old struct {
	*referencetest.Source

	t testing.TB
	// settings are more of the env file's.
	settings []string
	options  server.TakeoverOptions
	to       string
}

func newOld(t testing.TB, o referencetest.Options) *old {
	t.Helper()
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	return &old{Source: referencetest.Make(t, filepath.Join(t.TempDir(), "pds"), o), t: t}
}

// take makes a pass.
func (o *old) take(ctx context.Context, pass server.Pass) (*takeover.Report, error) {
	o.t.Helper()
	environ := append([]string{"PDS_DEV_MODE=true", "PDS_DATA_DIRECTORY=" + o.Dir, "PDS_PORT=1", rotationKey}, o.settings...)
	if !slices.ContainsFunc(o.settings, func(s string) bool { return strings.Contains(s, "S3_BUCKET") }) {
		environ = append(environ, "PDS_BLOBSTORE_DISK_LOCATION="+o.Blobs())
	}
	c, from, _, err := config.LoadReference(config.Flags{Command: true}, environ, "", o.to)
	if err != nil {
		o.t.Fatal(err)
	}
	options := o.options
	options.Config, options.From, options.Pass = &c, from, pass
	if options.Progress == nil {
		options.Progress = func(string) {}
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	return server.TakeOver(ctx, options)
}

func (o *old) must(pass server.Pass) *takeover.Report {
	o.t.Helper()
	r, err := o.take(o.t.Context(), pass)
	if err != nil {
		o.t.Fatalf("%s: %v, faults %v", pass, err, r.Faults)
	}
	return r
}

func (o *old) target() string { return filepath.Join(o.Dir, "nestbox") }

// sums returns the SHA-256 of each file below a folder, but for one below it.
func sums(t testing.TB, dir, but string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path == but:
			return filepath.SkipDir
		case d.IsDir():
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		h := sha256.New()
		_, err = io.Copy(h, f)
		out[path] = hex.EncodeToString(h.Sum(nil))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// unchanged checks that a function changes nothing of the source.
func (o *old) unchanged(do func()) {
	o.t.Helper()
	before := sums(o.t, o.Dir, o.target())
	do()
	if after := sums(o.t, o.Dir, o.target()); !maps.Equal(before, after) {
		o.t.Errorf("the source changed: %d files before, %d after", len(before), len(after))
	}
}

// frames reads the event log that was made.
func frames(t testing.TB, dir string) (out [][]byte, numbers []int64) {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(dir, "nestbox.sqlite"), sqlite.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for after := int64(0); ; {
		events, err := db.Stores().Log.Read(t.Context(), after, 1000, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) == 0 {
			return out, numbers
		}
		for _, e := range events {
			after = e.Seq
			numbers = append(numbers, e.Seq)
			if !e.Removed() {
				out = append(out, e.Frame(e.Seq))
			}
		}
	}
}

// TestTakeover: everything of a source is there afterwards, and the source is as it was,
// whether its databases were closed or killed.
func TestTakeover(t *testing.T) {
	t.Parallel()
	for name, logs := range map[string]bool{"stopped": false, "killed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOld(t, referencetest.Options{Accounts: 12, Records: 30, LeaveLogs: logs})
			o.settings = []string{"PDS_REPO_BACKFILL_LIMIT_MS=604800000"}
			o.unchanged(func() {
				dry := o.must(server.DryRun)
				if _, err := os.Stat(o.target()); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("a dry run made %s: %v", o.target(), err)
				}
				if len(dry.Faults) > 0 || dry.Records != 360 || dry.Accounts.Read != 12 || dry.Sizes.Needed == 0 {
					t.Errorf("dry run: %+v", dry)
				}
				r := o.must(server.Finish)
				n := r.Stored
				if n.Accounts != 12 || n.Records != 360 || n.TakenDown != 2 || n.Deactivated != 1 || n.Blobs != 18 || n.AppPasswords != 2 ||
					n.Invites != 2 || n.InviteUses != 1 || n.ReservedKeys != 1 || n.EmailCodes != 1 || n.Preferences != 1 || n.Takedowns != 2 {
					t.Errorf("stored %+v", n)
				}
				if r.Dropped.AppPasswords != 1 || r.Dropped.EmailCodes != 1 || len(r.DeleteAfter.Dropped) != 1 || len(r.Blobs.Bad) > 0 {
					t.Errorf("%+v", r)
				}
				if r.Events.Syncs+r.Events.Statuses != 0 || n.LastEvent != o.Last {
					t.Errorf("events %+v, last %d of %d", r.Events, n.LastEvent, o.Last)
				}
			})
			got, numbers := frames(t, o.target())
			if !slices.EqualFunc(got, o.Frames, slices.Equal) {
				t.Errorf("%d frames are not the %d of the source", len(got), len(o.Frames))
			}
			if int64(len(numbers)) != o.Last {
				t.Errorf("%d numbers, the last is %d", len(numbers), o.Last)
			}
			o.serve()
		})
	}
}

// serve serves what was taken over, and uses it as clients do. Its end verifies the data
// directory.
func (o *old) serve() {
	t := o.t
	t.Helper()
	s := pdstest.Start(t, pdstest.Options{Dir: o.Dir, Settings: []string{rotationKey, "PDS_BLOBSTORE_DISK_LOCATION=" + o.Blobs()}})
	for i, a := range o.Accounts[:referencetest.Special] {
		switch i {
		case referencetest.TakenDownByCase, referencetest.TakenDownByTime:
			got := s.Do(t, pdstest.Request{NSID: "com.atproto.server.createSession", Body: map[string]any{"identifier": a.Handle, "password": a.Password}})
			if name, _ := got.Error(t); got.Status != http.StatusUnauthorized || name != "AccountTakedown" {
				t.Errorf("%s: %d %s", a.Handle, got.Status, got.Body)
			}
			continue
		}
		for range 2 { // the second time with the upgraded hash
			s.SignIn(t, a.Handle, a.Password)
		}
	}
	app := o.Accounts[referencetest.WithAppPasswords]
	for range 2 {
		s.SignIn(t, app.DID.String(), app.AppPassword)
	}
	a := o.Accounts[referencetest.WithPreferences]
	get := func(nsid string, query ...string) pdstest.Answer {
		values := url.Values{}
		for i := 0; i < len(query); i += 2 {
			values.Set(query[i], query[i+1])
		}
		return s.Do(t, pdstest.Request{NSID: nsid + "?" + values.Encode()})
	}
	var head struct{ CID, Rev string }
	get("com.atproto.sync.getLatestCommit", "did", a.DID.String()).Decode(t, &head)
	if head.CID != a.Head.String() || head.Rev != a.Rev.String() {
		t.Errorf("head %+v, want %s", head, a.Head)
	}
	if got := get("com.atproto.sync.getBlob", "did", a.DID.String(), "cid", a.Blob.String()); got.Status != http.StatusOK || len(got.Body) != 2000 {
		t.Errorf("blob: %d, %d bytes", got.Status, len(got.Body))
	}
	down := o.Accounts[referencetest.Quarantined]
	if got := get("com.atproto.sync.getBlob", "did", down.DID.String(), "cid", down.Blob.String()); got.Status == http.StatusOK {
		t.Error("a blob that was taken down is given out")
	}
	s.Stop()
}

// TestTakeoverPrepared: the second pass reads what changed since the first, and nothing
// else, whatever changed.
func TestTakeoverPrepared(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: 12, Records: 20, Now: time.Now()})
	// What changed within the last seconds is read again in any case.
	for path := range sums(t, o.Dir, "") {
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if r := o.must(server.Prepare); r.Accounts.Read != 12 || r.Done {
		t.Errorf("first pass: %+v", r)
	}
	if r := o.must(server.Prepare); r.Accounts.Read != 0 {
		t.Errorf("first pass again: %+v", r.Accounts)
	}
	if _, _, err := config.Load(config.Flags{Data: o.Dir, Dev: true}, nil); err == nil || !strings.Contains(err.Error(), "run nestbox takeover") {
		t.Errorf("a server would start on it: %v", err)
	}
	gone, one, two, changed := o.Accounts[8], o.Accounts[9], o.Accounts[10], o.Accounts[11]
	for path, sql := range map[string]string{
		"account.sqlite": fmt.Sprintf(`DELETE FROM account WHERE did = '%[1]s'; DELETE FROM actor WHERE did = '%[1]s'; DELETE FROM repo_root WHERE did = '%[1]s';
			UPDATE actor SET handle = 'x' WHERE did = '%[2]s'; UPDATE actor SET handle = '%[4]s' WHERE did = '%[3]s';
			UPDATE actor SET handle = '%[5]s' WHERE did = '%[2]s'`, gone.DID, one.DID, two.DID, one.Handle, two.Handle),
		o.Store(changed): `INSERT INTO account_pref (name, valueJson) VALUES ('x', '{"$type":"com.example.x"}')`,
	} {
		if err := o.Change(path, sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(o.ActorDir(gone.DID)); err != nil {
		t.Fatal(err)
	}
	r := o.must(server.Finish)
	if r.Accounts.Read != 1 || r.Stored.Accounts != 11 || r.Stored.Preferences != 2 || r.Stored.Repositories != 11 {
		t.Errorf("second pass: %+v, stored %+v", r.Accounts, r.Stored)
	}
	pdstest.Verify(t, o.target())
	s := pdstest.Start(t, pdstest.Options{Dir: o.Dir, Settings: []string{rotationKey}})
	if got := s.SignIn(t, two.Handle, one.Password); got.DID != one.DID.String() {
		t.Errorf("%s has %s", two.Handle, got.DID)
	}
}

// dump returns what is stored, but for times and sealed keys.
func dump(t testing.TB, dir string) string {
	t.Helper()
	out, err := referencetest.Dump(filepath.Join(dir, "nestbox.sqlite"), []string{
		"SELECT id, did, handle, email, password_hash, invited_with, signing_key FROM account ORDER BY id",
		"SELECT a.did, r.rev, hex(r.cid), r.records, r.blobs, r.root_id, r.next_node, r.first_rev FROM repo r LEFT JOIN account a ON a.id = r.account_id ORDER BY a.id",
		"SELECT a.did, c.key, c.rev, hex(c.cid), c.subject FROM record c JOIN repo r ON r.id = c.repo_id JOIN account a ON a.id = r.account_id ORDER BY a.id, c.key",
		"SELECT a.did, n.id & 0xffffffff, n.rev, hex(n.children) FROM node n JOIN repo r ON r.id = n.id >> 32 JOIN account a ON a.id = r.account_id ORDER BY a.id, n.id",
		"SELECT count(*) FROM node", "SELECT count(*) FROM record", "SELECT count(*) FROM blob_ref", "SELECT count(*) FROM blob_garbage",
		"SELECT account_id, cid, size, mime_type, file, unused_since IS NULL, was_used FROM blob ORDER BY account_id, cid",
		"SELECT seq, at, kind, did, split, total, hex(body) FROM event ORDER BY seq", "SELECT name, seq FROM sqlite_sequence WHERE name = 'event'",
		"SELECT account_id, kind FROM trail ORDER BY id", "SELECT what FROM audit", "SELECT did, subject, ref, cid FROM takedown ORDER BY did, subject",
		"SELECT account_id, name, hash, privileged, created_at FROM app_password ORDER BY account_id, name", "SELECT code, available, disabled FROM invite_code ORDER BY code",
		"SELECT account_id, document FROM identity ORDER BY account_id", "SELECT account_id, list FROM preferences ORDER BY account_id",
		"SELECT count(*) FROM session", "SELECT count(*) FROM takeover_actor",
	})
	if err != nil {
		t.Fatal(err)
	}
	files := []string{}
	for path := range sums(t, filepath.Join(dir, "blobs"), "") {
		files = append(files, filepath.Base(path))
	}
	slices.Sort(files)
	return out + strings.Join(files, "\n")
}

// TestTakeoverKilled: wherever a take-over is interrupted, no server starts on what there
// is, and the repeated command ends with the same result.
func TestTakeoverKilled(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: 10, Records: 12})
	o.must(server.Finish)
	want := dump(t, o.target())
	var calls atomic.Int64
	o.options.Now = func() time.Time { calls.Add(1); return time.Now() }
	o.to = filepath.Join(t.TempDir(), "counted")
	o.must(server.Finish)
	all := calls.Load()
	if all < 20 {
		t.Fatalf("only %d moments to interrupt it at", all)
	}
	o.to = filepath.Join(t.TempDir(), "interrupted")
	for at := int64(1); at < all; at += max(1, all/25) {
		ctx, cancel := context.WithCancel(t.Context())
		calls.Store(0)
		o.options.Now = func() time.Time {
			if calls.Add(1) == at {
				cancel()
			}
			return time.Now()
		}
		pass := server.Finish
		if at%3 == 0 {
			pass = server.Prepare
		}
		if at%5 == 0 { // from the beginning
			if err := os.RemoveAll(o.to); err != nil {
				t.Fatal(err)
			}
		}
		r, err := o.take(ctx, pass)
		cancel()
		if r.Done {
			break
		}
		if err == nil && pass == server.Finish {
			t.Fatalf("interrupted at %d of %d: %+v", at, all, r)
		}
		o.notServed(at)
	}
	o.options.Now = time.Now
	if r := o.must(server.Finish); !r.Done {
		t.Errorf("%+v", r)
	}
	if got := dump(t, o.to); got != want {
		t.Errorf("the result differs from that of one run: %s", differ(want, got))
	}
	if r := o.must(server.Finish); !r.Done || r.Stored != nil {
		t.Errorf("once more: %+v", r)
	}
	// All but the last file was written.
	if err := os.Remove(filepath.Join(o.to, "takeover.json")); err != nil {
		t.Fatal(err)
	}
	if r := o.must(server.Finish); !r.Done {
		t.Errorf("the last file alone: %+v", r)
	}
	pdstest.Verify(t, o.to)
}

// notServed checks that no server starts on what was interrupted, unless nothing was taken
// over yet.
func (o *old) notServed(at int64) {
	t := o.t
	t.Helper()
	if _, err := os.Stat(o.to); errors.Is(err, os.ErrNotExist) {
		return // it was interrupted before anything was taken over
	}
	db, err := sqlite.Open(t.Context(), filepath.Join(o.to, "nestbox.sqlite"), sqlite.Options{Log: slog.New(slog.DiscardHandler)})
	if errors.Is(err, sqlite.ErrUnfinished) {
		return
	}
	if err != nil {
		t.Fatalf("what was interrupted at %d: %v", at, err)
	}
	defer db.Close()
	if list, err := db.Stores().Accounts.List(t.Context(), 0, 1); len(list) > 0 || err != nil {
		t.Fatalf("a server starts on what was interrupted at %d: %v", at, err)
	}
}

// differ returns the first line that differs.
func differ(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("line %d: want %.300q, got %.300q", i, w[i], g[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(g), len(w))
}

// TestTakeoverGaps: events that are not brought over leave no gap, and numbers go on from
// the source's last one.
func TestTakeoverGaps(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sql  string
		kept bool
		last int64
	}{
		"a jump":       {"UPDATE sqlite_sequence SET seq = 5000 WHERE name = 'repo_seq'", true, 5000},
		"a large jump": {"UPDATE sqlite_sequence SET seq = 5000000 WHERE name = 'repo_seq'", false, 5_000_000},
		"old events":   {"UPDATE repo_seq SET sequencedAt = '2025-01-01T00:00:00.000Z'", false, 0},
		"odd types":    {"UPDATE repo_seq SET eventType = 'tombstone' WHERE seq = 5", true, 0},
		"odd bytes":    {"UPDATE repo_seq SET event = x'ff' WHERE seq = 3", true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOld(t, referencetest.Options{Accounts: 9, Records: 2})
			o.settings, o.options.Force = []string{"PDS_REPO_BACKFILL_LIMIT_MS=604800000"}, true
			if err := o.Change("sequencer.sqlite", c.sql); err != nil {
				t.Fatal(err)
			}
			r := o.must(server.Finish)
			if want := max(c.last, o.Last); r.Events.Last != want || (r.Events.Kept > 0) != c.kept || r.Stored.LastEvent != want+int64(r.Events.Syncs) {
				t.Errorf("%+v, stored %+v, want %d", r.Events, r.Stored, want)
			}
			pdstest.Verify(t, o.target())
		})
	}
}

// peakMemory forgets the most memory that this process has had; the function that it returns
// returns by how much the most since is above what it has now, in MB, 0 where that is not known.
func peakMemory(b *testing.B) func() float64 {
	b.Helper()
	debug.FreeOSMemory()
	kilobytes := func(name string) (out float64) {
		raw, err := os.ReadFile("/proc/self/status")
		_, rest, found := strings.Cut(string(raw), name+":")
		if err != nil || !found {
			return 0
		}
		if _, err := fmt.Sscan(rest, &out); err != nil {
			b.Fatal(err)
		}
		return out
	}
	forgotten, before := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0o200), kilobytes("VmRSS")
	return func() float64 {
		if forgotten != nil {
			return 0
		}
		return (kilobytes("VmHWM") - before) / 1024
	}
}

// BenchmarkTakeover takes 3,000 accounts with 200 records each over.
func BenchmarkTakeover(b *testing.B) {
	accounts := 3000
	if testing.Short() {
		accounts = 100
	}
	o := newOld(b, referencetest.Options{Accounts: accounts, Records: 200})
	defer debug.SetGCPercent(debug.SetGCPercent(300)) // as the command has it
	o.Accounts, o.Frames = nil, nil                   // what tests compare, which is half a gigabyte beside the collector's garbage
	b.ResetTimer()
	for i := range b.N {
		o.to = filepath.Join(b.TempDir(), fmt.Sprint(i))
		resident := peakMemory(b)
		r := o.must(server.Finish)
		b.ReportMetric(resident(), "memory-MB")
		b.ReportMetric(float64(r.Stored.Accounts), "accounts")
		b.ReportMetric(float64(r.Stored.Records), "records")
		b.ReportMetric(float64(r.Took)/1000, "took-s")
		b.ReportMetric(float64(r.Stored.Accounts)*1000/float64(r.Took), "accounts/s")
		b.ReportMetric(float64(r.Stored.Records)*1000/float64(r.Took), "records/s")
	}
}

// TestOldServer: the doctor looks whether the server that was taken over runs again, if there
// was one.
func TestOldServer(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: 1, Records: 2})
	o.must(server.Finish)
	s := pdstest.Start(t, pdstest.Options{Dir: o.Dir, Settings: []string{rotationKey}})
	var found admin.Diagnosis
	if err := s.Run(t.Context(), "doctor", struct{}{}, &found); err != nil {
		t.Fatal(err)
	}
	if last := found.Findings[len(found.Findings)-1]; last.What != "old server" || !last.OK || !strings.Contains(last.Says, "does not run") {
		t.Errorf("%+v", last)
	}
	fresh := pdstest.Start(t, pdstest.Options{})
	if err := fresh.Run(t.Context(), "doctor", struct{}{}, &found); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(found.Findings, func(f admin.Finding) bool { return f.What == "old server" }) {
		t.Errorf("%+v", found)
	}
}
