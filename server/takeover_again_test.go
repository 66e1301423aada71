package server_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"nestbox/config"
	"nestbox/internal/pdstest"
	"nestbox/plc"
	"nestbox/server"
	"nestbox/store/reference/referencetest"
	"nestbox/takeover"
)

// heldVar names a database that TestHoldDatabase holds open, as the old server does.
const heldVar = "NESTBOX_SERVER_TEST_HELD"

// TestHoldDatabase is the process that hold starts.
func TestHoldDatabase(t *testing.T) {
	path := os.Getenv(heldVar)
	if path == "" {
		return // it is for hold
	}
	_, err := referencetest.Hold(path)
	fmt.Println("held", err)
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// hold holds one of the source's databases open from another process until the function that
// it returns is called.
func (o *old) hold(name string) (release func()) {
	t := o.t
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells whether a database is open")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHoldDatabase$")
	cmd.Env = append(os.Environ(), heldVar+"="+filepath.Join(o.Dir, name))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "held <nil>\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return func() {
		_ = in.Close() // it ends the process
		_ = cmd.Wait()
	}
}

// write writes to the source as the old server does: a change without an event, and one with
// its event.
func (o *old) write(event bool) {
	o.t.Helper()
	time.Sleep(10 * time.Millisecond) // a later time of change
	err := o.Change("account.sqlite", fmt.Sprintf("UPDATE actor SET handle = 'renamed.test', createdAt = '%s' WHERE did = '%s'",
		time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), o.Accounts[8].DID))
	if event {
		err = errors.Join(err, o.Change("sequencer.sqlite",
			`INSERT INTO repo_seq (did, eventType, event, invalidated, sequencedAt) SELECT did, eventType, event, invalidated, sequencedAt
			FROM repo_seq WHERE eventType = 'identity' LIMIT 1`))
	}
	if err != nil {
		o.t.Fatal(err)
	}
}

// open opens a server on the data directory, as serve does, and closes it at once.
func (o *old) open() error {
	o.t.Helper()
	c, _, err := config.Load(config.Flags{Listen: "127.0.0.1:0", Data: o.Dir, Dev: true}, []string{rotationKey})
	if err != nil {
		o.t.Fatal(err)
	}
	s, err := server.Open(context.WithoutCancel(o.t.Context()), server.Options{
		Config: c, Version: "test", Log: slog.New(slog.DiscardHandler), Now: time.Now, Listen: true,
		Fatal: func(err error) { o.t.Error(err) },
	})
	if err != nil {
		return err
	}
	return s.Close()
}

func (o *old) refused(pass server.Pass, want string) {
	o.t.Helper()
	r, err := o.take(o.t.Context(), pass)
	if _, ok := errors.AsType[takeover.Refusals](err); !ok || r.Done || !strings.Contains(err.Error(), want) {
		o.t.Errorf("%s: %v, done %t, want %q", pass, err, r.Done, want)
	}
}

// TestTakeoverAgain: after the way back nothing that the old server got is lost. What it wrote is
// taken over again, or refused if nestbox has written, too; and it is not served beside it.
func TestTakeoverAgain(t *testing.T) {
	t.Parallel()
	for name, event := range map[string]bool{"an account": true, "a setting": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOld(t, referencetest.Options{Accounts: 10, Records: 4})
			first := o.must(server.Finish)
			if r := o.must(server.Finish); !r.Done || r.Stored != nil {
				t.Errorf("nothing changed: %+v", r)
			}
			o.write(event)
			if err := o.open(); err == nil || !strings.Contains(err.Error(), "run nestbox takeover") {
				t.Errorf("served though the old server has written: %v", err)
			}
			if r := o.must(server.DryRun); r.Done || r.Accounts.Read != 10 {
				t.Errorf("dry run: %+v", r)
			}
			r := o.must(server.Finish)
			if !r.Done || r.Stored == nil || r.Stored.Accounts != first.Stored.Accounts || (r.Events.Last > first.Events.Last) != event {
				t.Errorf("again: %+v", r)
			}
			pdstest.Verify(t, o.target())
			s := pdstest.Start(t, pdstest.Options{Dir: o.Dir, Settings: []string{rotationKey}})
			if got := s.SignIn(t, "renamed.test", o.Accounts[8].Password); got.DID != o.Accounts[8].DID.String() {
				t.Errorf("renamed.test is %s", got.DID)
			}
			s.Stop()
			o.write(event)
			for _, pass := range []server.Pass{server.DryRun, server.Prepare, server.Finish} {
				o.refused(pass, "and so has nestbox")
			}
			// Without an event nobody got a commit from the old server: nestbox goes on.
			if err := o.open(); (err != nil) != event {
				t.Errorf("served again: %v", err)
			}
			if err := os.Rename(filepath.Join(o.Dir, "sequencer.sqlite"), filepath.Join(o.Dir, "old.sqlite")); err != nil {
				t.Fatal(err)
			}
			if err := o.open(); err != nil {
				t.Errorf("what serve says was done: %v", err)
			}
		})
	}
}

// TestTakeoverBesideOldServer: while the old server has its databases open, nothing ends, and
// nothing is served.
func TestTakeoverBesideOldServer(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: 9, Records: 2})
	// It starts while its data is read.
	var release func()
	o.options.Progress = func(line string) {
		if line == "events" && release == nil {
			release = o.hold("account.sqlite")
		}
	}
	o.refused(server.Finish, "was started while its data was read")
	release()
	o.options.Progress = func(line string) {
		if line == "events" {
			o.write(false)
		}
	}
	o.refused(server.Finish, "was started while its data was read")
	o.options.Progress = nil
	o.must(server.Finish)
	release = o.hold("sequencer.sqlite")
	o.refused(server.Finish, "the old server runs")
	if err := o.open(); err == nil || !strings.Contains(err.Error(), "sequencer.sqlite open") {
		t.Errorf("served beside the old server: %v", err)
	}
	// Killed before the last file was written.
	if err := os.Remove(filepath.Join(o.target(), "takeover.json")); err != nil {
		t.Fatal(err)
	}
	o.refused(server.Prepare, "the old server has run since")
	release()
	o.write(true)
	o.refused(server.Finish, "the old server has run since")
}

// TestTakeoverTarget: what is refused leaves no target, and the source is none.
func TestTakeoverTarget(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: 8, Records: 2})
	o.options.Now = func() time.Time { return time.Now().Add(-72 * time.Hour) }
	o.refused(server.Finish, "set the clock")
	if _, err := os.Stat(o.target()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a target was left: %v", err)
	}
	o.options.Now = nil
	o.to = o.Dir
	o.refused(server.Finish, "is the old data directory")
	if _, err := os.Stat(filepath.Join(o.Dir, "nestbox.sqlite")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the source became a target: %v", err)
	}
}

// identityOf returns an identity's last operation, as the PLC directory does.
func identityOf(t *testing.T, rotationKey, pds string) []byte {
	t.Helper()
	raw, err := hex.DecodeString(rotationKey)
	if err != nil {
		t.Fatal(err)
	}
	private, err := atcrypto.ParsePrivateBytesK256(raw)
	if err != nil {
		t.Fatal(err)
	}
	public, err := private.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	key := public.DIDKey()
	_, op, err := plc.Create(plc.Data{RotationKeys: []string{key}, SigningKey: key, Handle: "a.test", PDS: pds}, private)
	if err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(op)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestTakeoverIdentities: of the identities of active accounts one at least must be the
// server's to change, and name it.
func TestTakeoverIdentities(t *testing.T) {
	t.Parallel()
	ours, theirs := strings.Repeat("11", 32), strings.Repeat("22", 32)
	const here, gone = "http://localhost:1", "https://pds.test"
	for name, c := range map[string]struct {
		// at returns the rotation key and the host of the i-th account.
		at   func(i int) (key, host string)
		sql  string
		want string
	}{
		"ours":         {func(int) (string, string) { return ours, here }, "", ""},
		"another host": {func(int) (string, string) { return ours, gone }, "", "name https://pds.test: set PDS_HOSTNAME"},
		"another key":  {func(int) (string, string) { return theirs, here }, "", "set PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX"},
		"the first moved away, and are active": {func(i int) (string, string) {
			if i < 8 {
				return theirs, gone
			}
			return ours, here
		}, "", ""},
		"those that moved away are not asked": {
			func(i int) (string, string) { return theirs, gone },
			"UPDATE actor SET deactivatedAt = '2026-01-01T00:00:00.000Z'", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOld(t, referencetest.Options{Accounts: 12, Records: 2})
			answers := map[string][]byte{}
			for i, a := range o.Accounts {
				key, host := c.at(i)
				answers["/"+a.DID.String()+"/log/last"] = identityOf(t, key, host)
			}
			directory := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = w.Write(answers[r.URL.Path])
			}))
			defer directory.Close()
			if c.sql != "" {
				if err := o.Change("account.sqlite", c.sql); err != nil {
					t.Fatal(err)
				}
			}
			o.settings = []string{"PDS_DID_PLC_URL=" + directory.URL}
			if c.want != "" {
				o.refused(server.DryRun, c.want)
				return
			}
			r := o.must(server.DryRun)
			if strings.Contains(strings.Join(r.Remarks, " "), "were not compared") {
				t.Errorf("%q", r.Remarks)
			}
		})
	}
}
