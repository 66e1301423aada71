package e2e

import (
	"encoding/hex"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nestbox/internal/pdstest"
)

// TestKeyFile: a server whose key file is lost, or another one, does not start, and
// changes nothing; with the right one again it goes on. The file may be elsewhere.
func TestKeyFile(t *testing.T) {
	elsewhere := filepath.Join(t.TempDir(), "key")
	dir := pdstest.TempDir(t)
	p := pdstest.Launch(t, dir, "PDS_LOG_LEVEL=warn")
	alice := p.SignUp(t, "alice")
	p.Stop()
	own := filepath.Join(dir, "key_encryption_key")
	key, rotation := readFile(t, dir, "key_encryption_key"), readFile(t, dir, "plc_rotation_key.sealed")
	write := func(path string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	serve := []string{"serve", "--dev", "--listen", "127.0.0.1:0", "--data", dir}
	start := func(settings ...string) error {
		r := pdstest.Exec(t, pdstest.Invocation{Args: serve, Settings: settings})
		if r.Code == 0 {
			return nil
		}
		return errors.New(r.Stderr)
	}
	other := []byte(hex.EncodeToString(make([]byte, 32)))
	for what, do := range map[string]func(){
		"lost":                      func() { remove(t, own) },
		"another":                   func() { write(own, other) },
		"lost, and no rotation key": func() { remove(t, own); remove(t, filepath.Join(dir, "plc_rotation_key.sealed")) },
	} {
		do()
		before := names(t, dir)
		if err := start(); err == nil || !strings.Contains(err.Error(), "bring back the right key file") {
			t.Errorf("%s: %v", what, err)
		}
		if after := names(t, dir); after != before {
			t.Errorf("%s: the files are %s, were %s", what, after, before)
		}
		write(own, key)
		write(filepath.Join(dir, "plc_rotation_key.sealed"), rotation)
	}

	remove(t, filepath.Join(dir, "plc_rotation_key.sealed"))
	if err := start(); err == nil || !strings.Contains(err.Error(), "bring back plc_rotation_key.sealed") {
		t.Errorf("no rotation key: %v", err)
	}
	write(filepath.Join(dir, "plc_rotation_key.sealed"), rotation)

	setting := "PDS_KEY_ENCRYPTION_KEY_FILE=" + elsewhere
	if err := start(setting); err == nil || !strings.Contains(err.Error(), "PDS_KEY_ENCRYPTION_KEY_FILE") {
		t.Errorf("no file: %v", err)
	}
	write(elsewhere, []byte("nonsense"))
	if err := start(setting); err == nil || !strings.Contains(err.Error(), elsewhere) {
		t.Errorf("no key in it: %v", err)
	}
	remove(t, own)
	write(elsewhere, key)
	p = pdstest.LaunchArgs(t, serve, setting, "PDS_LOG_LEVEL=warn")
	s := p.SignIn(t, "alice.test", pdstest.Password)
	p.SignUp(t, "bob")
	if s.DID != alice.DID {
		t.Errorf("alice is %s, was %s", s.DID, alice.DID)
	}
	p.Stop()
	if _, err := os.Stat(own); !os.IsNotExist(err) {
		t.Errorf("a key file was made beside: %v", err)
	}
	// Commands use the server's settings.
	if out, err := pdstest.Run(t, "", "verify", "--data", dir); err != nil {
		t.Errorf("verify: %v\n%s", err, out)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// names returns a folder's files except those of a running process.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "nestbox.") {
			list = append(list, e.Name())
		}
	}
	return strings.Join(list, " ")
}

// reseal runs nestbox keys reseal.
func reseal(t *testing.T, dir string, args []string, settings ...string) error {
	t.Helper()
	r := pdstest.Exec(t, pdstest.Invocation{Args: append([]string{"keys", "reseal", "--dev", "--data", dir}, args...), Settings: settings})
	if r.Code != 0 {
		return errors.New(r.Stderr)
	}
	return nil
}

// TestReseal: a new key encryption key replaces the old one, in the data directory,
// out of it and back; whatever interrupts that, the server still opens every key, and
// if the old key is not the right one nothing changes.
func TestReseal(t *testing.T) {
	dir := pdstest.TempDir(t)
	p := pdstest.Launch(t, dir, "PDS_LOG_LEVEL=warn")
	p.SignUp(t, "alice")
	if err := reseal(t, dir, nil); err == nil || !strings.Contains(err.Error(), "stop that server first") {
		t.Errorf("beside the server: %v", err)
	}
	p.Stop()
	old := savedKeys(t, dir)
	if err := reseal(t, dir, nil); err != nil {
		t.Fatal(err)
	}
	next := savedKeys(t, dir)
	for name := range old {
		if string(old[name]) == string(next[name]) {
			t.Errorf("%s is as it was", name)
		}
	}
	use(t, dir)

	// What a crash may leave, until the last step.
	key, fresh, rotation := old["key_encryption_key"], next["key_encryption_key"], old["plc_rotation_key.sealed"]
	for what, files := range map[string]map[string][]byte{
		"the key is made":            {"nestbox.sqlite": old["nestbox.sqlite"], "plc_rotation_key.sealed": rotation},
		"signing keys are done":      {"plc_rotation_key.sealed": rotation},
		"the rotation key also":      {},
		"the command goes on itself": {"plc_rotation_key.sealed": rotation},
	} {
		put(t, dir, next)
		put(t, dir, files)
		put(t, dir, map[string][]byte{"key_encryption_key": key, "key_encryption_key.next": fresh})
		if out, err := pdstest.Run(t, "", "verify", "--dev", "--data", dir); err == nil || !strings.Contains(out, "was interrupted") {
			t.Errorf("%s: verify: %v\n%s", what, err, out)
		}
		if strings.Contains(what, "command") {
			if err := reseal(t, dir, nil); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		use(t, dir)
		if got := savedKeys(t, dir)["key_encryption_key"]; string(got) != string(fresh) {
			t.Errorf("%s: the key is %s, want that of afterwards", what, got)
		}
	}

	elsewhere, own := filepath.Join(t.TempDir(), "key"), filepath.Join(dir, "key_encryption_key")
	setting := func(file string) string { return "PDS_KEY_ENCRYPTION_KEY_FILE=" + file }
	another := filepath.Join(t.TempDir(), "another")
	if err := os.WriteFile(another, []byte(strings.Repeat("ab", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	before := savedKeys(t, dir)
	for what, c := range map[string]struct {
		err  error
		says string
	}{
		"no --to":           {reseal(t, dir, nil, setting(another)), "--to"},
		"the same":          {reseal(t, dir, []string{"--to", own}), "the same key"},
		"no such file":      {reseal(t, dir, []string{"--to", elsewhere}, setting(another+"x")), "no such file"},
		"no key":            {reseal(t, dir, []string{"--to", filepath.Join(dir, "nestbox.sqlite")}), "damaged"},
		"another of before": {reseal(t, dir, []string{"--to", elsewhere}, setting(another)), "encrypted with another key"},
		"never served":      {reseal(t, t.TempDir(), nil), "no database"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", what, c.err, c.says)
		}
	}
	for name, data := range savedKeys(t, dir) {
		if name != "nestbox.sqlite" && string(data) != string(before[name]) {
			t.Errorf("%s changed", name)
		}
	}
	put(t, dir, map[string][]byte{"key_encryption_key": []byte(strings.Repeat("ab", 32))})
	if err := reseal(t, dir, nil); err == nil || !strings.Contains(err.Error(), "encrypted with another key") || strings.Contains(names(t, dir), ".next") {
		t.Errorf("with another key in the data directory: %v, files %s", err, names(t, dir))
	}
	put(t, dir, map[string][]byte{"key_encryption_key": before["key_encryption_key"]})
	use(t, dir)
	for range 2 { // repeated, before the setting is changed: it is done already
		if err := reseal(t, dir, []string{"--to", elsewhere}); err != nil {
			t.Fatal(err)
		}
	}
	remove(t, own)
	use(t, dir, setting(elsewhere))
	if err := reseal(t, dir, []string{"--to", own}); err != nil {
		t.Fatal(err)
	}
	remove(t, elsewhere)
	use(t, dir)
}

// savedKeys are the files of a stopped server that resealing changes.
func savedKeys(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, name := range []string{"key_encryption_key", "plc_rotation_key.sealed", "nestbox.sqlite"} {
		out[name] = readFile(t, dir, name)
	}
	return out
}

func put(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// use starts the server of a data directory, needs every kind of private key of it
// (for a record, for a handle) and stops it, without a fault.
func use(t *testing.T, dir string, settings ...string) {
	t.Helper()
	p := pdstest.LaunchArgs(t, []string{"serve", "--dev", "--listen", "127.0.0.1:0", "--data", dir}, append(settings, "PDS_LOG_LEVEL=warn")...)
	s := p.SignIn(t, "alice.test", pdstest.Password)
	for _, r := range []pdstest.Request{
		{NSID: "com.atproto.identity.updateHandle", Body: map[string]string{"handle": "moved.test"}},
		{NSID: "com.atproto.identity.updateHandle", Body: map[string]string{"handle": "alice.test"}},
		{NSID: "com.atproto.repo.createRecord", Body: map[string]any{
			"repo": s.DID, "collection": "app.bsky.feed.post",
			"record": map[string]string{"text": "signed", "createdAt": "2026-01-01T00:00:00Z"},
		}},
	} {
		r.Method, r.Auth = http.MethodPost, pdstest.Bearer(s.AccessJwt)
		if a := p.Do(t, r); a.Status != http.StatusOK {
			t.Errorf("%s: %+v", r.NSID, a)
		}
	}
	p.Stop()
	if out, err := pdstest.Run(t, "", "verify", "--dev", "--data", dir); err != nil {
		t.Errorf("verify: %v\n%s", err, out)
	}
}
