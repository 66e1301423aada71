package e2e

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nestbox/internal/pdstest"
)

// TestKeyFile: a server whose key file is lost, or another one, does not start, and
// changes nothing; with the right one again it goes on. The file may lie elsewhere.
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
	// What the server was told, commands remember.
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

// names are a folder's files that are not of a process.
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
