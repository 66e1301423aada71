package server

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"nestbox/internal/durable"
	"nestbox/internal/seal"
)

// The files of the data directory that hold secrets. Each is made at first
// start, mode 0600, where the setting that replaces it is not given.
const (
	fileKeyring     = "keyring.json"
	fileKEK         = "key_encryption_key"
	fileRotationKey = "plc_rotation_key.sealed"
	fileAdmin       = "admin_password"
)

const rotationKeyLabel = "plc rotation key"

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process instead
	return b
}

// openBox reads the key that seals other keys.
func openBox(dir string) (*seal.Box, error) {
	raw, err := durable.Secret(filepath.Join(dir, fileKEK), func() ([]byte, error) {
		return []byte(hex.EncodeToString(randomBytes(seal.KeySize)) + "\n"), nil
	})
	if err != nil {
		return nil, err
	}
	box, err := parseBox(raw)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", fileKEK, err)
	}
	return box, nil
}

// parseBox reads the content of the key file.
func parseBox(raw []byte) (*seal.Box, error) {
	key, err := hex.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	return seal.NewBox(key)
}

// rotationKey returns the configured PLC rotation key, or the server's own.
func rotationKey(dir, configured string, box *seal.Box) (atcrypto.PrivateKey, error) {
	if configured != "" {
		raw, err := hex.DecodeString(configured)
		if err != nil {
			return nil, fmt.Errorf("PLC rotation key: %w", err)
		}
		return atcrypto.ParsePrivateBytesK256(raw)
	}
	sealed, err := durable.Secret(filepath.Join(dir, fileRotationKey), func() ([]byte, error) {
		key, err := atcrypto.GeneratePrivateKeyK256()
		if err != nil {
			return nil, fmt.Errorf("make PLC rotation key: %w", err)
		}
		return box.Seal(key.Bytes(), rotationKeyLabel), nil
	})
	if err != nil {
		return nil, err
	}
	return openRotationKey(sealed, box)
}

func openRotationKey(sealed []byte, box *seal.Box) (atcrypto.PrivateKey, error) {
	raw, err := box.Open(sealed, rotationKeyLabel)
	if err != nil {
		return nil, fmt.Errorf("PLC rotation key: %w", err)
	}
	return atcrypto.ParsePrivateBytesK256(raw)
}

// adminPassword returns the configured password, or the server's own.
func adminPassword(dir, configured string) (string, error) {
	if configured != "" {
		return configured, nil
	}
	raw, err := durable.Secret(filepath.Join(dir, fileAdmin), func() ([]byte, error) {
		return []byte(base64.RawURLEncoding.EncodeToString(randomBytes(24)) + "\n"), nil
	})
	return strings.TrimSpace(string(raw)), err
}

// openDataDir makes the data directory, closed to others, and locks it.
func openDataDir(dir string) (release func() error, err error) {
	if err := durable.MakeDir(dir); err != nil {
		return nil, fmt.Errorf("create data directory: %w", err)
	}
	return durable.Lock(dir)
}
