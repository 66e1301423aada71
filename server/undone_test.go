package server_test

import (
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
	"slices"
	"strings"
	"testing"
	"time"

	"nestbox/admin"
	"nestbox/backup"
	"nestbox/backup/depot"
	"nestbox/config"
	"nestbox/internal/pdstest"
	"nestbox/server"
	stores "nestbox/store"
)

// restoreTo restores a store to a time, zero for the newest, into a folder.
func restoreTo(t *testing.T, from, dir, relays string, at time.Time) (server.Restored, error) {
	t.Helper()
	d, err := depot.Open(from, depot.S3Settings{}, false)
	if err != nil {
		t.Fatal(err)
	}
	env := filepath.Join(t.TempDir(), "pds.env")
	if err := os.WriteFile(env, []byte("PDS_DEV_MODE=true\nPDS_CRAWLERS="+relays+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return server.Restore(t.Context(), server.RestoreArgs{
		Reader: &backup.Reader{Depot: d}, At: at, To: dir, EnvFile: env, Log: slog.New(slog.DiscardHandler),
		Fault: func(line string) { t.Errorf("fault: %s", line) },
	})
}

// TestRestoreUndone: a restore to a time lists what was ended and changed since, from the log
// between two snapshots, and from a later snapshot as well. One to the newest state has nothing to list.
func TestRestoreUndone(t *testing.T) {
	t.Parallel()
	from, data := filepath.Join(t.TempDir(), "store"), t.TempDir()
	start := func() *pdstest.InProcess { // one that stops sends the rest of the log
		return pdstest.Start(t, pdstest.Options{Dir: data, Settings: []string{"PDS_BACKUP_TO=" + from, "PDS_BACKUP_LOG_EVERY=1s"}})
	}
	s := start()
	await(t, s, true, "what is written is there within 1s")
	alice, bob := s.SignUp(t, "alice"), s.SignUp(t, "bob")
	second := s.SignIn(t, alice.DID, pdstest.Password)
	s.Do(t, pdstest.Request{
		NSID: "com.atproto.server.createAppPassword", Auth: pdstest.Bearer(alice.AccessJwt), Body: map[string]string{"name": "bot"},
	})
	s.Stop()
	at := time.Now()
	s = start()
	s.Do(t, pdstest.Request{NSID: "com.atproto.server.deleteSession", Auth: pdstest.Bearer(second.RefreshJwt), Method: http.MethodPost})
	s.Do(t, pdstest.Request{
		NSID: "com.atproto.server.revokeAppPassword", Auth: pdstest.Bearer(alice.AccessJwt), Body: map[string]string{"name": "bot"},
	})
	var line admin.AccountLine
	for cmd, args := range map[string]any{
		string(admin.CmdAccountPassword): admin.PasswordArgs{Account: alice.DID, Password: "another password"},
		string(admin.CmdAccountTakedown): admin.TakedownArgs{Account: bob.DID},
	} {
		if err := s.Run(t.Context(), cmd, args, &line); err != nil {
			t.Fatal(err)
		}
	}
	s.Stop()
	want := map[stores.UndoneKind]int{stores.UndoneAppPassword: 1, stores.UndonePassword: 1, stores.UndoneTakedown: 1}
	check := func(what string) {
		t.Helper()
		dir := filepath.Join(t.TempDir(), "data")
		out, err := restoreTo(t, from, dir, "", at)
		if err != nil || out.Undone == nil || out.Undone.Error != "" {
			t.Fatalf("%s: %+v, %v", what, out, err)
		}
		for kind, n := range want {
			if out.Undone.Count[kind] != n {
				t.Errorf("%s: %d of %s, want %d: %+v", what, out.Undone.Count[kind], kind, n, out.Undone)
			}
		}
		if out.Undone.Count[stores.UndoneSession] < 3 { // those of both accounts
			t.Errorf("%s: %+v", what, out.Undone)
		}
		for _, u := range out.Undone.List {
			if u.DID == "" || u.Handle == "" || u.At.Before(at.Add(-time.Second)) {
				t.Errorf("%s: %+v", what, u)
			}
		}
		raw, err := os.ReadFile(filepath.Join(dir, "restored.json"))
		if err != nil || !strings.Contains(string(raw), `"app-password-revoked"`) {
			t.Errorf("%s: restored.json: %s, %v", what, raw, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "later")); err == nil {
			t.Errorf("%s: the later state is left", what)
		}
	}
	check("from the log")
	gapListed(t, from, at)
	s = start()
	if made, err := backUp(t, s, server.BackupArgs{To: from}); err != nil || made.Snapshot == nil {
		t.Fatalf("%+v, %v", made, err)
	}
	check("from a later snapshot")
	if out, err := restoreTo(t, from, filepath.Join(t.TempDir(), "data"), "", time.Time{}); err != nil || out.Undone != nil {
		t.Errorf("the newest state: %+v, %v", out.Undone, err)
	}
}

// gapListed damages the end of the log of a store: what a restore has undone is listed up to there, and
// the gap is named.
func gapListed(t *testing.T, from string, at time.Time) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(from, "log", "*", "*.ltx"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("%q, %v", segments, err)
	}
	last := segments[len(segments)-1]
	content, err := os.ReadFile(last)
	changed := slices.Clone(content)
	changed[len(changed)/2] ^= 1
	if err := errors.Join(err, os.WriteFile(last, changed, 0o600)); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "data")
	out, err := restoreTo(t, from, dir, "", at)
	if err != nil || out.Undone == nil || out.Undone.Error != "" || out.Undone.Until.Before(at.Add(-time.Second)) || !strings.Contains(out.Undone.Gap, "is damaged") {
		t.Errorf("%+v, %v", out, err)
	}
	var told server.Restored
	raw, err := os.ReadFile(filepath.Join(dir, "restored.json"))
	if err := errors.Join(err, json.Unmarshal(raw, &told), os.WriteFile(last, content, 0o600)); err != nil {
		t.Fatal(err)
	}
	if told.Undone == nil || told.Undone.Gap != out.Undone.Gap {
		t.Errorf("restored.json: %s", raw)
	}
}

// TestRestoreKilled: a restore that is killed before the numbers are moved on is not taken for one
// that has ended. The next one, or a server that restores first, ends it.
func TestRestoreKilled(t *testing.T) {
	t.Parallel()
	from := filepath.Join(t.TempDir(), "store")
	s := pdstest.Start(t, pdstest.Options{})
	s.SignUp(t, "alice")
	if made, err := backUp(t, s, server.BackupArgs{To: from}); err != nil || made.Snapshot == nil {
		t.Fatalf("%+v, %v", made, err)
	}
	seen := lastEvent(t, s) + 500
	dir, killed := filepath.Join(t.TempDir(), "data"), t.TempDir()
	relay := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if _, err := os.Stat(filepath.Join(killed, "1")); err != nil { // what a kill would leave now
			for _, to := range []string{"1", "2"} {
				if err := os.CopyFS(filepath.Join(killed, to), os.DirFS(dir)); err != nil {
					t.Error(err)
				}
			}
		}
		_, _ = io.WriteString(w, fmt.Sprintf(`{"hostname":"localhost","seq":%d}`, seen))
	}))
	t.Cleanup(relay.Close)
	if out, err := restoreTo(t, from, dir, relay.URL, time.Time{}); err != nil || out.JumpedTo <= seen {
		t.Fatalf("%+v, %v", out, err)
	}
	load := func(dir string, settings ...string) config.Config {
		t.Helper()
		c, _, err := config.Load(config.Flags{Data: dir, Dev: true, Listen: "127.0.0.1:0"}, settings)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	one, two := filepath.Join(killed, "1"), filepath.Join(killed, "2")
	opened, err := server.Open(context.WithoutCancel(t.Context()), server.Options{Config: load(one), Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "run nestbox restore again") {
		t.Errorf("%v, %v", opened, err)
	}
	if out, err := restoreTo(t, from, one, relay.URL, time.Time{}); err != nil || out.JumpedTo <= seen {
		t.Errorf("%+v, %v", out, err)
	}
	env := filepath.Join(t.TempDir(), "pds.env")
	if err := os.WriteFile(env, []byte("PDS_DEV_MODE=true\nPDS_CRAWLERS="+relay.URL+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := load(two, "PDS_RESTORE_FROM="+from)
	if out, err := server.RestoreFirst(t.Context(), &c, env, slog.New(slog.DiscardHandler)); err != nil || out == nil || out.JumpedTo <= seen {
		t.Errorf("%+v, %v", out, err)
	}
	for _, dir := range []string{one, two} {
		var told server.Restored
		raw, err := os.ReadFile(filepath.Join(dir, "restored.json"))
		if err != nil || json.Unmarshal(raw, &told) != nil || told.JumpedTo <= seen || backup.Unfinished(dir) {
			t.Errorf("%s: %s, %v", dir, raw, err)
		}
	}
}
