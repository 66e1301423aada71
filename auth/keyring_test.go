package auth_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"nestbox/auth"
)

// verifies reports whether the ring accepts a refresh token.
func verifies(k *auth.Keyring, token string) bool {
	_, err := k.VerifyRefresh(token, audience, noon(), false)
	return err == nil
}

// wantKeys fails the test unless the ring has n keys and exactly one, which it
// returns, signs.
func wantKeys(t *testing.T, k *auth.Keyring, n int) (signing auth.KeyInfo) {
	t.Helper()
	keys := k.Keys()
	i := slices.IndexFunc(keys, func(i auth.KeyInfo) bool { return i.Signing })
	signers := 0
	for _, key := range keys {
		if key.Signing {
			signers++
		}
	}
	if len(keys) != n || signers != 1 {
		t.Fatalf("%d keys of which %d sign, want %d and 1: %+v", len(keys), signers, n, keys)
	}
	return keys[i]
}

func TestKeyring(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	k := openRing(t, path, "")
	first := wantKeys(t, k, 1)
	if first.Legacy || first.Configured || !first.Created.Equal(noon()) {
		t.Errorf("a generated key is %+v", first)
	}
	before := mint(t, k)

	second, err := k.Rotate()
	if err != nil || wantKeys(t, k, 2) != second || second.ID == first.ID {
		t.Fatalf("Rotate = %+v, %v", second, err)
	}
	after := mint(t, k)
	for name, ring := range map[string]*auth.Keyring{"running": k, "restarted": openRing(t, path, "")} {
		if !verifies(ring, before.Refresh) || !verifies(ring, after.Refresh) {
			t.Errorf("%s: rotating the key logged somebody out", name)
		}
	}

	if err := k.Retire(second.ID); !errors.Is(err, auth.ErrSigningKey) {
		t.Errorf("retiring the signing key: %v", err)
	}
	if err := k.Retire("k-unknown"); !errors.Is(err, auth.ErrUnknownKey) {
		t.Errorf("retiring a key that is not: %v", err)
	}
	if wantKeys(t, k, 2) != second {
		t.Error("a refused retirement changed the ring")
	}
	if err := k.Retire(first.ID); err != nil {
		t.Fatal(err)
	}
	for name, ring := range map[string]*auth.Keyring{"running": k, "restarted": openRing(t, path, "")} {
		if verifies(ring, before.Refresh) {
			t.Errorf("%s: a retired key's token lives", name)
		}
		if _, err := ring.VerifyAccess(before.Access, audience, noon(), auth.ScopeAccess); faultOf(t, err) != unverified {
			t.Errorf("%s: a retired key's access token: %v", name, err)
		}
		if !verifies(ring, after.Refresh) || wantKeys(t, ring, 1) != second {
			t.Errorf("%s: the retirement ended more than the key's own tokens", name)
		}
	}
}

// TestConfiguredKey follows PDS_JWT_SECRET through its life: taken over, rotated
// away from, changed, removed, restored, retired.
func TestConfiguredKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	imported := forge(t, secret, refreshHeader(), refreshClaims()) // as the reference signs: no kid
	k := openRing(t, path, secret)
	configured := wantKeys(t, k, 1)
	if !configured.Legacy || !configured.Configured {
		t.Errorf("the configured key is %+v", configured)
	}
	own := mint(t, k).Refresh
	withKid := forge(t, secret, refreshHeader().with(object{"kid": configured.ID}), refreshClaims())
	for name, token := range map[string]string{"of another server": imported, "of ours": own, "with our kid": withKid} {
		if !verifies(k, token) {
			t.Errorf("a token %s is refused", name)
		}
	}

	// After a rotation it still verifies, and does not sign again after a restart.
	if _, err := k.Rotate(); err != nil {
		t.Fatal(err)
	}
	rotated := mint(t, k).Refresh
	k = openRing(t, path, secret)
	if wantKeys(t, k, 2).Configured || !verifies(k, imported) || !verifies(k, own) || !verifies(k, rotated) {
		t.Error("after a rotation and a restart something changed")
	}

	// Without its bytes nothing can be verified, and nothing else suffers.
	k = openRing(t, path, "")
	if wantKeys(t, k, 1).Configured || verifies(k, imported) || verifies(k, own) || !verifies(k, rotated) {
		t.Error("removed: its tokens live, or others died")
	}
	// Another secret signs, and tokens without kid are tried against it instead.
	k = openRing(t, path, "another secret, which is long enough")
	if other := wantKeys(t, k, 2); !other.Configured || other.ID == configured.ID {
		t.Errorf("changed: %+v signs", other)
	}
	changed := mint(t, k).Refresh
	if verifies(k, imported) || verifies(k, own) || !verifies(k, rotated) || !verifies(k, changed) {
		t.Error("changed: the old one's tokens live, or others died")
	}
	// The first one again: it is known, so it verifies.
	k = openRing(t, path, secret)
	if !verifies(k, imported) || !verifies(k, own) || verifies(k, changed) {
		t.Error("restored: its tokens are refused, or those of the other live")
	}

	// Once retired it stays retired, although its bytes are still configured and other
	// keys come.
	if err := k.Retire(configured.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Rotate(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if verifies(k, imported) || verifies(k, own) || !verifies(k, rotated) {
			t.Error("retired: its tokens live, or others died")
		}
		if slices.ContainsFunc(k.Keys(), func(i auth.KeyInfo) bool { return i.ID == configured.ID }) {
			t.Error("retired: it is listed")
		}
		openRing(t, path, "") // forgets nothing
		k = openRing(t, path, secret)
	}
}

// TestLegacyKeysAlone: a token without kid is not tried against generated keys.
func TestLegacyKeysAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	k := openRing(t, path, "")
	var file struct {
		Keys []struct {
			Kid    string `json:"kid"`
			Secret string `json:"secret"`
		} `json:"keys"`
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	key := decodeSecret(t, file.Keys[0].Secret)
	if token := forge(t, key, refreshHeader().with(object{"kid": file.Keys[0].Kid}), refreshClaims()); !verifies(k, token) {
		t.Error("with its kid the token is refused")
	}
	if token := forge(t, key, refreshHeader(), refreshClaims()); verifies(k, token) {
		t.Error("without kid the token is taken")
	}
}

func TestKeyringFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys.json")
	k := openRing(t, path, secret)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	old, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if _, err := k.Rotate(); err != nil {
		t.Fatal(err)
	}

	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	// The file is replaced, not overwritten: a reader of the old file reads all of it.
	if oldInfo, err := old.Stat(); err != nil || os.SameFile(oldInfo, info) {
		t.Errorf("the file was changed in place (%v)", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	data, err := os.ReadFile(path)
	if err != nil || bytes.Contains(data, []byte(secret)) {
		t.Errorf("the configured secret is in the file: %s, %v", data, err)
	}
}

// TestKeyringNotSaved: what is not on disk did not happen.
func TestKeyringNotSaved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "keys.json")
	k := openRing(t, path, secret)
	configured := wantKeys(t, k, 1)
	second, err := k.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	token := forge(t, secret, refreshHeader(), refreshClaims())

	away := dir + ".away"
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Rotate(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Rotate without a folder: %v", err)
	}
	if err := k.Retire(configured.ID); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Retire without a folder: %v", err)
	}
	if wantKeys(t, k, 2) != second || !verifies(k, token) {
		t.Error("a change that was not saved took effect")
	}
	if err := os.Rename(away, dir); err != nil {
		t.Fatal(err)
	}

	// The next change writes nothing of the failed one.
	third, err := k.Rotate()
	if err != nil {
		t.Fatal(err)
	}
	k = openRing(t, path, secret)
	if wantKeys(t, k, 3) != third || !verifies(k, token) {
		t.Error("the retirement that failed came back with the next change")
	}
	if data, err := os.ReadFile(path); err != nil || strings.Count(string(data), configured.ID) != 1 {
		t.Errorf("the file lists the key not once: %s, %v", data, err)
	}
}

func TestDamagedKeyring(t *testing.T) {
	good := func() []byte {
		path := filepath.Join(t.TempDir(), "keys.json")
		openRing(t, path, "")
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}()
	for name, data := range map[string][]byte{
		"empty":          {},
		"cut short":      good[:len(good)/2],
		"zeros":          make([]byte, 100),
		"twice":          append(slices.Clone(good), good...),
		"null":           []byte("null"),
		"no keys":        []byte(`{"keys":[]}`),
		"another object": []byte(`{"key":"x"}`),
		"no secret":      []byte(`{"keys":[{"kid":"k-1","signing":true}]}`),
		"short secret":   []byte(`{"keys":[{"kid":"k-1","signing":true,"secret":"c2hvcnQ"}]}`),
		"no base64":      []byte(`{"keys":[{"kid":"k-1","signing":true,"secret":"` + strings.Repeat("!", 43) + `"}]}`),
	} {
		path := filepath.Join(t.TempDir(), "keys.json")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := auth.OpenKeyring(path, secret, noon); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: OpenKeyring = %v, want an error that names the file", name, err)
		}
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, data) {
			t.Errorf("%s: the damaged file was changed", name)
		}
	}
	if _, err := auth.OpenKeyring(t.TempDir(), "", noon); err == nil {
		t.Error("a folder in the file's place was accepted")
	}
}

// TestKeyIDs: a kid is in every token, so it reveals nothing about the secret, and
// the same secret has the same kid on every start.
func TestKeyIDs(t *testing.T) {
	kid := func(s string) string {
		return wantKeys(t, openRing(t, filepath.Join(t.TempDir(), "keys.json"), s), 1).ID
	}
	first := kid(secret)
	if first != kid(secret) {
		t.Error("one secret has two ids")
	}
	generated, another := kid(""), kid("")
	if first == kid(secret+"x") || generated == another {
		t.Error("two keys have one id")
	}
	for i := range len(secret) - 3 {
		if strings.Contains(first, secret[i:i+4]) {
			t.Errorf("the id %q holds a part of the secret", first)
		}
	}
	if len(first) > 16 || !strings.HasPrefix(first, "env-") {
		t.Errorf("the id is %q", first)
	}
}

// TestSecretsDoNotPrint: neither a key's description nor the ring shows a
// secret, however it is printed.
func TestSecretsDoNotPrint(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	k := openRing(t, path, secret)
	if _, err := k.Rotate(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Keys []struct{ Secret string }
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	listed, err := json.Marshal(k.Keys())
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).LogAttrs(t.Context(), slog.LevelInfo, "ring", slog.Any("ring", k), slog.Any("keys", k.Keys()))
	shown := fmt.Sprintf("%s %v %+v %#v %s %v", listed, k, k, k, log.String(), k.Keys())
	hidden := []string{secret, fmt.Sprintf("%d", []byte(secret)), "secret\""}
	for _, key := range file.Keys {
		if key.Secret != "" {
			hidden = append(hidden, key.Secret, fmt.Sprintf("%d", []byte(decodeSecret(t, key.Secret))))
		}
	}
	if len(hidden) != 5 {
		t.Fatalf("the file does not hold one generated secret: %s", data)
	}
	for _, s := range hidden {
		if strings.Contains(shown, s) {
			t.Errorf("%q shows in %s", s, shown)
		}
	}
}

// TestConcurrentRotation: while keys come and go, every token of a key that stays
// verifies, and so does every new pair.
func TestConcurrentRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	k := openRing(t, path, secret)
	token := forge(t, secret, refreshHeader(), refreshClaims())
	const rotations, readers = 20, 3
	stop := make(chan struct{})
	var reading, changing sync.WaitGroup
	for range readers {
		reading.Go(func() {
			for {
				if p := mint(t, k); !verifies(k, token) || !verifies(k, p.Refresh) {
					t.Error("a good token was refused during a rotation")
					return
				}
				k.Keys()
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	for range 2 {
		changing.Go(func() {
			for range rotations {
				if _, err := k.Rotate(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	changing.Wait()
	close(stop)
	reading.Wait()
	signing := wantKeys(t, k, 1+2*rotations)
	if got := openRing(t, path, secret); wantKeys(t, got, 1+2*rotations) != signing {
		t.Error("the file holds another ring")
	}
}

// TestWeakConfiguredKey: a short PDS_JWT_SECRET of another server verifies its tokens, and never
// signs, not even where it did.
func TestWeakConfiguredKey(t *testing.T) {
	const weak = "jwt-secret"
	path := filepath.Join(t.TempDir(), "keys.json")
	imported := forge(t, weak, refreshHeader(), refreshClaims())
	for name := range map[string]bool{"new": true, "again": true} {
		k := openRing(t, path, weak)
		if signing := wantKeys(t, k, 2); signing.Configured || !verifies(k, imported) || !verifies(k, mint(t, k).Refresh) {
			t.Errorf("%s: %+v signs, the old server's token verifies: %t", name, signing, verifies(k, imported))
		}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	signs := strings.ReplaceAll(string(raw), `"signing": false`, `"signing": true`)
	if signs == string(raw) {
		t.Fatalf("%s", raw)
	}
	if err := os.WriteFile(path, []byte(signs), 0o600); err != nil {
		t.Fatal(err)
	}
	if signing := wantKeys(t, openRing(t, path, weak), 2); signing.Configured {
		t.Errorf("%+v signs", signing)
	}
}
