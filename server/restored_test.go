package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nestbox/admin"
	"nestbox/backup"
	"nestbox/backup/depot"
	"nestbox/config"
	"nestbox/internal/pdstest"
	"nestbox/server"
)

// lastEvent returns the number of the last event of a server.
func lastEvent(t *testing.T, s *pdstest.InProcess) int64 {
	t.Helper()
	var st admin.FirehoseStatus
	if err := s.Run(t.Context(), string(admin.CmdFirehoseStatus), admin.Done{}, &st); err != nil {
		t.Fatal(err)
	}
	return st.Last
}

// TestRestoreJump: a restore moves the numbers of events above those that relays have seen,
// and far above if one cannot be asked. The next server announces every account.
func TestRestoreJump(t *testing.T) {
	t.Parallel()
	store := filepath.Join(t.TempDir(), "store")
	s := pdstest.Start(t, pdstest.Options{})
	alice := s.SignUp(t, "alice")
	made, err := backUp(t, s, server.BackupArgs{To: store})
	if err != nil || made.Snapshot == nil {
		t.Fatalf("%+v, %v", made, err)
	}
	kept := lastEvent(t, s)
	for n := range 5 {
		s.SignUp(t, fmt.Sprintf("lost%d", n))
	}
	later := s.MustRefresh(t, alice.RefreshJwt)
	seen := lastEvent(t, s)
	plc := s.PLC
	relay := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("hostname") != "localhost" {
			t.Errorf("asked for %s", r.URL)
		}
		_, _ = io.WriteString(w, fmt.Sprintf(`{"hostname":"localhost","seq":%d}`, seen))
	}))
	t.Cleanup(relay.Close)
	down := httptest.NewServer(nil)
	down.Close()

	restore := func(relays string, more func(*server.RestoreArgs)) (string, server.Restored) {
		t.Helper()
		env := filepath.Join(t.TempDir(), "pds.env")
		if err := os.WriteFile(env, []byte("PDS_DEV_MODE=true\nPDS_CRAWLERS="+relays+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := depot.Open(store, depot.S3Settings{}, false)
		if err != nil {
			t.Fatal(err)
		}
		args := server.RestoreArgs{
			Reader: &backup.Reader{Depot: d}, To: filepath.Join(t.TempDir(), "data"), EnvFile: env, Log: slog.New(slog.DiscardHandler),
			Fault: func(line string) { t.Errorf("fault: %s", line) },
		}
		if more != nil {
			more(&args)
		}
		out, err := server.Restore(t.Context(), args)
		if err != nil || out.LastEvent != kept || out.Faults != 0 {
			t.Fatalf("%+v, %v", out, err)
		}
		return args.To, out
	}
	if _, out := restore(relay.URL, func(a *server.RestoreArgs) { a.NoJump = true }); out.JumpedTo != 0 {
		t.Errorf("it jumped to %d", out.JumpedTo)
	}
	if _, out := restore(relay.URL, func(a *server.RestoreArgs) { a.JumpTo = 77_777 }); out.JumpedTo != 77_777 {
		t.Errorf("it jumped to %d", out.JumpedTo)
	}
	for _, relays := range []string{relay.URL + "," + down.URL, ""} { // one cannot be asked, or there is none to ask
		if _, out := restore(relays, nil); out.JumpedTo < kept+1_000_000 || len(out.Relays) != len(strings.FieldsFunc(relays, func(r rune) bool { return r == ',' })) {
			t.Errorf("%q: %+v", relays, out)
		}
	}
	dir, out := restore(relay.URL, nil)
	if out.JumpedTo != seen+1000 || len(out.Relays) != 1 || out.Relays[0].Seq != seen {
		t.Errorf("%+v, want a jump to %d", out, seen+1000)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "restored.json"))
	var told server.Restored
	if err != nil || json.Unmarshal(raw, &told) != nil || told.JumpedTo != out.JumpedTo || told.Snapshot != made.Snapshot.Name {
		t.Errorf("restored.json: %s, %v", raw, err)
	}
	again := pdstest.Start(t, pdstest.Options{Dir: dir, Settings: []string{"PDS_DID_PLC_URL=" + plc}})
	again.MustRefresh(t, later.RefreshJwt)
	if got := lastEvent(t, again); got < out.JumpedTo {
		t.Errorf("the last event is %d", got)
	}
}

// TestRestoreJumpStore: a restore to an earlier time moves the numbers of events above all that the store
// knows were given: by later segments of the log, later snapshots, and the log of another chain.
func TestRestoreJumpStore(t *testing.T) {
	t.Parallel()
	store := filepath.Join(t.TempDir(), "store")
	s := pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_BACKUP_TO=" + store, "PDS_BACKUP_LOG_EVERY=1s"}})
	await(t, s, true, "was restored and verified; what is written")
	early := time.Now()
	s.SignUp(t, "alice")
	if made, err := backUp(t, s, server.BackupArgs{To: store}); err != nil || made.Snapshot == nil {
		t.Fatalf("%+v, %v", made, err)
	}
	made := lastEvent(t, s)
	s.SignUp(t, "bob")
	sent := lastEvent(t, s)
	s.Stop() // it sends the rest
	check := func(known int64) {
		t.Helper()
		out, err := restoreTo(t, store, filepath.Join(t.TempDir(), "data"), "", early)
		if err != nil || out.LastEvent >= made || out.JumpedTo != known+1_000_000 {
			t.Errorf("%+v, %v, want a jump to %d", out, err, known+1_000_000)
		}
	}
	check(sent)
	log := filepath.Join(store, "log")
	if err := os.RemoveAll(log); err != nil {
		t.Fatal(err)
	}
	check(made)
	other := filepath.Join(log, "other")
	segment := fmt.Sprintf("000000000001-20261129T220000.000Z-%d-%s-%s.ltx", sent+500, strings.Repeat("0", 16), strings.Repeat("ab", 32))
	if err := errors.Join(os.MkdirAll(other, 0o700), os.WriteFile(filepath.Join(other, segment), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	check(sent + 500)
}

// TestRestoreFirst: a server with nothing but PDS_RESTORE_FROM restores, and does not again.
// No server starts on a folder to which a restore has not ended.
func TestRestoreFirst(t *testing.T) {
	t.Parallel()
	store := filepath.Join(t.TempDir(), "store")
	s := pdstest.Start(t, pdstest.Options{})
	s.SignUp(t, "alice")
	if made, err := backUp(t, s, server.BackupArgs{To: store}); err != nil || made.Snapshot == nil {
		t.Fatalf("%+v, %v", made, err)
	}
	load := func(dir string, settings ...string) config.Config {
		t.Helper()
		c, _, err := config.Load(config.Flags{Data: dir, Dev: true, Listen: "127.0.0.1:0"}, settings)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	env := filepath.Join(t.TempDir(), "pds.env")
	if err := os.WriteFile(env, []byte("PDS_DEV_MODE=true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	dir := filepath.Join(t.TempDir(), "data")
	c := load(dir, "PDS_RESTORE_FROM="+store)
	out, err := server.RestoreFirst(t.Context(), &c, env, log)
	if err != nil || out == nil || out.Faults != 0 {
		t.Fatalf("%+v, %v", out, err)
	}
	if out, err := server.RestoreFirst(t.Context(), &c, env, log); err != nil || out != nil {
		t.Errorf("restored again: %+v, %v", out, err)
	}
	none := load(t.TempDir())
	if out, err := server.RestoreFirst(t.Context(), &none, env, log); err != nil || out != nil {
		t.Errorf("restored from nowhere: %+v, %v", out, err)
	}
	lost := load(t.TempDir(), "PDS_RESTORE_FROM="+filepath.Join(store, "elsewhere"))
	if _, err := server.RestoreFirst(t.Context(), &lost, env, log); err == nil {
		t.Error("a store that is not there was restored from")
	}
	half := t.TempDir()
	if err := os.WriteFile(filepath.Join(half, "restore-unfinished"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	opened, err := server.Open(context.WithoutCancel(t.Context()), server.Options{Config: load(half), Log: log})
	if err == nil || !strings.Contains(err.Error(), "has not ended") {
		t.Errorf("%v, %v", opened, err)
	}
	c = load(half)
	_, verifyErr := server.Verification(&c)
	_, downgradeErr := server.Downgrade(&c, "")
	_, resealErr := server.Reseal(t.Context(), &c, "")
	for _, err := range []error{verifyErr, downgradeErr, resealErr} {
		if err == nil || !strings.Contains(err.Error(), "has not ended") {
			t.Errorf("a command on half a restore: %v", err)
		}
	}
}

// TestRestoreFirstSays: a server that restores first logs of when the state is that it restored, from
// how many segments of the log, and what keeps it from being newer.
func TestRestoreFirstSays(t *testing.T) {
	t.Parallel()
	store := filepath.Join(t.TempDir(), "store")
	s := pdstest.Start(t, pdstest.Options{Settings: []string{"PDS_BACKUP_TO=" + store, "PDS_BACKUP_LOG_EVERY=1s"}})
	await(t, s, true, "what is written is there within 1s")
	s.SignUp(t, "alice")
	s.Stop() // it sends the rest
	segments, err := filepath.Glob(filepath.Join(store, "log", "*", "*.ltx"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("%q, %v", segments, err)
	}
	env := filepath.Join(t.TempDir(), "pds.env")
	if err := os.WriteFile(env, []byte("PDS_DEV_MODE=true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, damaged := range []bool{false, true} {
		want := len(segments)
		if damaged {
			want--
			if err := os.Truncate(segments[want], 10); err != nil {
				t.Fatal(err)
			}
		}
		c, _, err := config.Load(config.Flags{Data: filepath.Join(t.TempDir(), "data"), Dev: true}, []string{"PDS_RESTORE_FROM=" + store})
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		out, err := server.RestoreFirst(t.Context(), &c, env, slog.New(slog.NewJSONHandler(&log, nil)))
		if err != nil || out == nil {
			t.Fatalf("%+v, %v", out, err)
		}
		var line struct {
			Made     time.Time
			Segments int
		}
		first, rest, _ := strings.Cut(log.String(), "\n")
		if err := json.Unmarshal([]byte(first), &line); err != nil || line.Segments != want || !line.Made.Equal(out.Made) {
			t.Errorf("damaged: %t, %s, want %d segments of %s, %v", damaged, first, want, out.Made, err)
		}
		if strings.Contains(rest, "is damaged") != damaged || (rest == "") == damaged {
			t.Errorf("damaged: %t, %q", damaged, rest)
		}
	}
}

// TestRestoreFirstDamaged: a server comes up from a store that has lost blobs and the settings of the last
// server, or the newest snapshot. The log names the first of the blobs, and counts them, and the snapshot.
func TestRestoreFirstDamaged(t *testing.T) {
	t.Parallel()
	const lost = 103
	store, data := filepath.Join(t.TempDir(), "store"), t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "last_settings.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := pdstest.Start(t, pdstest.Options{Dir: data})
	alice := s.SignUp(t, "alice")
	for n := range lost {
		s.Do(t, pdstest.Request{
			NSID: "com.atproto.repo.uploadBlob", Auth: pdstest.Bearer(alice.AccessJwt), Body: fmt.Sprintf("file %d", n),
			Header: http.Header{"Content-Type": {"text/plain"}},
		})
	}
	made, err := backUp(t, s, server.BackupArgs{To: store})
	if err != nil || made.Snapshot == nil {
		t.Fatalf("%+v, %v", made, err)
	}
	if err := os.RemoveAll(filepath.Join(store, "blobs")); err != nil {
		t.Fatal(err)
	}
	d, err := depot.Open(store, depot.S3Settings{}, false)
	if err != nil {
		t.Fatal(err)
	}
	m, err := backup.Load(t.Context(), d, made.Snapshot.Name)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range m.Files {
		if f.Name == "last_settings.json" {
			if err := os.Remove(filepath.Join(store, f.Stored.Name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	env := filepath.Join(t.TempDir(), "pds.env")
	if err := os.WriteFile(env, []byte("PDS_DEV_MODE=true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	restore := func() (*server.Restored, error) {
		log.Reset()
		c, _, err := config.Load(config.Flags{Data: filepath.Join(t.TempDir(), "data"), Dev: true}, []string{"PDS_RESTORE_FROM=" + store})
		if err != nil {
			t.Fatal(err)
		}
		return server.RestoreFirst(t.Context(), &c, env, slog.New(slog.NewJSONHandler(&log, nil)))
	}
	out, err := restore()
	if err != nil || out == nil || out.Faults != lost || len(out.Without) != 1 {
		t.Fatalf("%+v, %v", out, err)
	}
	if n := strings.Count(log.String(), "it is missing"); n != 101 || !strings.Contains(log.String(), fmt.Sprintf(`"faults":%d`, lost)) {
		t.Errorf("%d are named: %s", n, log.String())
	}
	newer, err := backUp(t, s, server.BackupArgs{To: store})
	if err != nil || newer.Snapshot == nil {
		t.Fatalf("%+v, %v", newer, err)
	}
	if err := os.Truncate(filepath.Join(store, newer.Snapshot.Name), 10); err != nil {
		t.Fatal(err)
	}
	out, err = restore()
	if err != nil || out == nil || out.Snapshot != made.Snapshot.Name || len(out.LeftOut) != 1 || out.Gap != out.LeftOut[0] {
		t.Fatalf("%+v, %v", out, err)
	}
	if !strings.Contains(out.Gap, newer.Snapshot.Name) || !strings.Contains(log.String(), "a younger snapshot was left out") {
		t.Errorf("%q: %s", out.Gap, log.String())
	}
}
