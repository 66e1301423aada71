package backup

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"unicode"

	"nestbox/internal/durable"
)

func bytesReader(b []byte) io.Reader { return bytes.NewReader(b) }

// keyFile is a key in the file of Service.KeysApart.
type keyFile struct {
	Name    string `json:"name"`
	Content []byte `json:"content"`
}

// keySet is the keys at one time. Each snapshot names that which it needs: the file keeps all.
type keySet struct {
	ID    string    `json:"id"`
	Files []keyFile `json:"files"`
}

// ErrOtherKeys: see pickKeys.
var ErrOtherKeys = errors.New("it has keys of another time or server, and not those of this snapshot")

// readKeys reads a file of keys.
func readKeys(path string) ([]keySet, error) {
	raw, err := os.ReadFile(path) //nolint:gosec // the operator's own file
	if err != nil {
		return nil, fmt.Errorf("read the keys: %w", err)
	}
	sets, err := decodeKeys(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return sets, nil
}

// pickKeys returns the keys of a snapshot from a file: ErrOtherKeys.
func pickKeys(path, id string) ([]keyFile, error) {
	sets, err := readKeys(path)
	if err != nil {
		return nil, err
	}
	for _, s := range sets {
		if s.ID == id {
			return s.Files, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", path, ErrOtherKeys)
}

// checkKeysApart makes sure that the keys can be written to their file, before anything is sent.
func (s *Service) checkKeysApart() error {
	if s.KeysApart == "" {
		return nil
	}
	if fi, err := os.Stat(filepath.Dir(s.KeysApart)); err != nil || !fi.IsDir() {
		return fmt.Errorf("the folder of the keys: %w", cmp.Or(err, errNoFolder))
	}
	if _, err := readKeys(s.KeysApart); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("it is left alone, name another file: %w", err)
	}
	return nil
}

var errNoFolder = errors.New("it is a file")

// keepApart adds keys to the file of keys, unless it has them, and returns their name there.
func (s *Service) keepApart(files []keyFile) (id string, err error) {
	sets, err := readKeys(s.KeysApart)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	for _, set := range sets {
		if reflect.DeepEqual(set.Files, files) {
			return set.ID, nil
		}
	}
	// Not a hash of them: those who have the store could try passwords.
	id = strings.ToLower(rand.Text()[:12])
	raw, err := encodeKeys(append(sets, keySet{id, files}))
	if err != nil {
		return "", err
	}
	if err := durable.WriteFile(s.KeysApart, raw, 0o600); err != nil {
		return "", fmt.Errorf("write the keys to %s: %w", s.KeysApart, err)
	}
	return id, nil
}

func encodeKeys(sets []keySet) ([]byte, error) {
	raw, err := json.MarshalIndent(map[string]any{"nestbox-keys": sets}, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encode the keys: %w", err)
	}
	return append(raw, '\n'), nil
}

var errNoKeys = errors.New("it is not a file that nestbox backup --keys-apart wrote")

// decodeKeys reads what encodeKeys wrote.
func decodeKeys(raw []byte) ([]keySet, error) {
	var in struct {
		Keys []keySet `json:"nestbox-keys"`
	}
	if err := json.Unmarshal(raw, &in); err != nil || in.Keys == nil {
		return nil, errors.Join(errNoKeys, err)
	}
	for _, s := range in.Keys {
		for _, f := range s.Files {
			if err := checkName(f.Name); err != nil {
				return nil, err
			}
		}
	}
	return in.Keys, nil
}

// KeysChanged reports whether the server's keys differ from those of the last snapshot, as far as the
// state knows it, or whether that snapshot has none that the service's recipients can open. They are
// files, so no segment of the log has them.
func (s *Service) KeysChanged() bool {
	own, err := s.remembered()
	if err != nil || own.KeysApart && s.KeysApart == "" || !isTo(filepath.Join(s.State, lastFolder), s.recipients()) {
		return true
	}
	var sent map[string]string
	raw, err := os.ReadFile(filepath.Join(s.State, lastFolder, keysFile))
	if err != nil || json.Unmarshal(raw, &sent) != nil {
		return true
	}
	for _, f := range s.Source.Files {
		if !f.Key {
			continue
		}
		now := "" // of a file that is missing
		content, err := os.ReadFile(f.Path)
		if err == nil {
			now = sumOf(content)
		}
		// Of one that cannot be read the snapshot says why.
		if err != nil && !errors.Is(err, os.ErrNotExist) || now != sent[f.Name] {
			return true
		}
	}
	return false
}

// checkName refuses the name of a file that would lie outside of the data directory.
func checkName(name string) error {
	if !filepath.IsLocal(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Errorf("the snapshot has a file named %q, outside of the data directory: %w", name, ErrDamaged)
	}
	return nil
}
