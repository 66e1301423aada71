package server

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"nestbox/account"
	"nestbox/hosting"
	"nestbox/internal/durable"
	"nestbox/internal/seal"
)

// The files of the data directory that hold secrets. Each is made at first start,
// mode 0600, if the setting that replaces it is not given.
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

// errSealed: keys are sealed, and the key that opens them is not here.
var errSealed = errors.New("the private keys of this server are encrypted with another key: bring back the right key file, from the backup that the database came from; nothing was changed")

// openBox reads the key that seals other keys, from the operator's file or the data
// directory's own. The latter is made if nothing is sealed yet, and a change of it
// that was interrupted is completed. A key that does not open what is sealed is
// errSealed.
func openBox(ctx context.Context, dir, file string, keys hosting.Store) (*seal.Box, error) {
	if isOwn(dir, file) && interrupted(dir) {
		if _, err := renewKEK(ctx, dir, keys); err != nil {
			return nil, fmt.Errorf("go on with the change of the key encryption key: %w", err)
		}
	}
	rotation, err := os.ReadFile(filepath.Join(dir, fileRotationKey)) //nolint:gosec // a file of the operator's own data directory
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read PLC rotation key: %w", err)
	}
	did, signing, err := keys.AnyKey(ctx)
	if err != nil && !errors.Is(err, account.ErrNotFound) {
		return nil, err
	}
	box, err := keyBox(dir, file, rotation == nil && signing == nil)
	if err != nil {
		return nil, err
	}
	if rotation != nil {
		if _, err := openRotationKey(rotation, box); err != nil {
			return nil, fmt.Errorf("%w: %w", errSealed, err)
		}
	}
	if signing != nil {
		if _, err := hosting.OpenKey(box, did, signing); err != nil {
			return nil, fmt.Errorf("%w: %w", errSealed, err)
		}
	}
	return box, nil
}

// keyFile returns the path of the key file by the setting of
// PDS_KEY_ENCRYPTION_KEY_FILE, isOwn reports whether that is the data directory's own.
func keyFile(dir, setting string) string { return cmp.Or(setting, filepath.Join(dir, fileKEK)) }
func isOwn(dir, setting string) bool     { return keyFile(dir, setting) == keyFile(dir, "") }

// keyBox reads the key file, and makes the data directory's own if it is missing
// and may be made.
func keyBox(dir, file string, fresh bool) (*seal.Box, error) {
	if file != "" {
		box, err := readBox(file)
		if err != nil {
			return nil, fmt.Errorf("PDS_KEY_ENCRYPTION_KEY_FILE: %w", err)
		}
		return box, nil
	}
	own := keyFile(dir, "")
	if _, err := os.Stat(own); errors.Is(err, os.ErrNotExist) && !fresh {
		return nil, fmt.Errorf("%w: there is no %s", errSealed, own)
	}
	return makeBox(own)
}

// readBox reads a key file.
func readBox(file string) (*seal.Box, error) {
	raw, err := os.ReadFile(file) //nolint:gosec // the operator's setting, or a file of the data directory
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	return parseBox(file, raw)
}

// makeBox reads a key file, or makes it if there is none.
func makeBox(file string) (*seal.Box, error) {
	raw, err := durable.Secret(file, func() ([]byte, error) {
		return []byte(hex.EncodeToString(randomBytes(seal.KeySize)) + "\n"), nil
	})
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	return parseBox(file, raw)
}

func parseBox(file string, raw []byte) (*seal.Box, error) {
	key, err := hex.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil {
		return nil, fmt.Errorf("key file %s is damaged: %w", file, err)
	}
	box, err := seal.NewBox(key)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", file, err)
	}
	return box, nil
}

// errRotationLost: there are accounts whose DIDs name a rotation key that is gone.
var errRotationLost = errors.New("the PLC rotation key of this server is missing: bring back " + fileRotationKey + " from the backup, or PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX; without it no identity here could be changed any more")

// rotationKey returns the configured PLC rotation key, or the server's own, which
// is made if there are no accounts yet.
func rotationKey(ctx context.Context, dir, configured string, box *seal.Box, keys hosting.Store) (atcrypto.PrivateKey, error) {
	if configured != "" {
		raw, err := hex.DecodeString(configured)
		if err != nil {
			return nil, fmt.Errorf("PLC rotation key: %w", err)
		}
		return atcrypto.ParsePrivateBytesK256(raw)
	}
	sealed, err := durable.Secret(filepath.Join(dir, fileRotationKey), func() ([]byte, error) {
		if _, _, err := keys.AnyKey(ctx); !errors.Is(err, account.ErrNotFound) {
			return nil, cmp.Or(err, errRotationLost)
		}
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

// openDataDir makes the data directory, closed to other users, and locks it.
func openDataDir(dir string) (release func() error, err error) {
	if err := durable.MakeDir(dir); err != nil {
		return nil, fmt.Errorf("create data directory: %w", err)
	}
	return durable.Lock(dir)
}
