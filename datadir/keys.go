package datadir

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/bluesky-social/indigo/atproto/atcrypto"

	"nestbox/internal/durable"
	"nestbox/internal/seal"
)

const (
	fileKEK         = "key_encryption_key"
	fileRotationKey = "plc_rotation_key.sealed"
	fileAdmin       = "admin_password"
)

const rotationKeyLabel = "plc rotation key"

// Keys are the files with the keys that are sealed, and with the key that seals them.
type Keys struct {
	Dir Dir
	// File is the operator's own file with the key encryption key; if empty, it is in the
	// data directory.
	File string
	// Sealed is not needed for Check.
	Sealed Sealed
}

// Sealed are the private keys in the database, sealed with the key encryption key.
type Sealed interface {
	// Any reports whether there is one.
	Any(ctx context.Context) (bool, error)
	// TryOpen opens one of them, if there is any, with box.
	TryOpen(ctx context.Context, box *seal.Box) error
	// Reseal seals all with another key, in one transaction, and returns how many there
	// are: seal.ErrOpen if neither key opens one of them.
	Reseal(ctx context.Context, from, to *seal.Box) (int, error)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process instead
	return b
}

// errSealed: keys are sealed, and the key that opens them is not here.
var errSealed = errors.New("the private keys of this server are encrypted with another key: " +
	"bring back the right key file, from the backup that the database came from; nothing was changed")

// Box reads the key that seals other keys, from the operator's file or the data
// directory's own. The latter is made if nothing is sealed yet, and a change of it
// that was interrupted is completed. A key that does not open what is sealed is an
// error.
func (k Keys) Box(ctx context.Context) (*seal.Box, error) {
	if k.isOwn() && k.interrupted() {
		if _, err := k.renew(ctx); err != nil {
			return nil, fmt.Errorf("go on with the change of the key encryption key: %w", err)
		}
	}
	rotation, err := k.readRotation()
	if err != nil {
		return nil, err
	}
	signing, err := k.Sealed.Any(ctx)
	if err != nil {
		return nil, err
	}
	box, err := k.read(rotation == nil && !signing)
	if err != nil {
		return nil, err
	}
	if rotation != nil {
		if _, err := openRotationKey(rotation, box); err != nil {
			return nil, fmt.Errorf("%w: %w", errSealed, err)
		}
	}
	if err := k.Sealed.TryOpen(ctx, box); err != nil {
		return nil, fmt.Errorf("%w: %w", errSealed, err)
	}
	return box, nil
}

// own returns the path of the data directory's own key file, file that of the one in
// use; isOwn reports whether they are the same.
func (k Keys) own() string  { return k.Dir.in(fileKEK) }
func (k Keys) file() string { return cmp.Or(k.File, k.own()) }
func (k Keys) isOwn() bool  { return k.file() == k.own() }

func (k Keys) rotationFile() string { return k.Dir.in(fileRotationKey) }

// readRotation returns the PLC rotation key, sealed; nil if there is none, since it may be
// in the settings.
func (k Keys) readRotation() ([]byte, error) {
	sealed, err := os.ReadFile(k.rotationFile())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read PLC rotation key: %w", err)
	}
	return sealed, nil
}

// read reads the key file, and makes the data directory's own if it is missing and may
// be made.
func (k Keys) read(fresh bool) (*seal.Box, error) {
	if k.File != "" {
		box, err := readBox(k.File)
		if err != nil {
			return nil, fmt.Errorf("PDS_KEY_ENCRYPTION_KEY_FILE: %w", err)
		}
		return box, nil
	}
	if _, err := os.Stat(k.own()); errors.Is(err, os.ErrNotExist) && !fresh {
		return nil, fmt.Errorf("%w: there is no %s", errSealed, k.own())
	}
	return makeBox(k.own())
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
var errRotationLost = errors.New("the PLC rotation key of this server is missing: " +
	"bring back " + fileRotationKey + " from the backup, or PDS_PLC_ROTATION_KEY_K256_PRIVATE_KEY_HEX; " +
	"without it no identity here could be changed any more")

// Rotation returns the configured PLC rotation key, in hexadecimal digits, or the
// server's own, which is made if no key is sealed in the database yet.
func (k Keys) Rotation(ctx context.Context, configured string, box *seal.Box) (atcrypto.PrivateKey, error) {
	if configured != "" {
		raw, err := hex.DecodeString(configured)
		if err != nil {
			return nil, fmt.Errorf("PLC rotation key: %w", err)
		}
		return atcrypto.ParsePrivateBytesK256(raw)
	}
	sealed, err := durable.Secret(k.rotationFile(), func() ([]byte, error) {
		if some, err := k.Sealed.Any(ctx); some || err != nil {
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

// AdminPassword returns the configured password, or the server's own.
func (d Dir) AdminPassword(configured string) (string, error) {
	if configured != "" {
		return configured, nil
	}
	raw, err := durable.Secret(d.in(fileAdmin), func() ([]byte, error) {
		return []byte(base64.RawURLEncoding.EncodeToString(randomBytes(24)) + "\n"), nil
	})
	return strings.TrimSpace(string(raw)), err
}

// Check opens the key that seals others, and with it what is sealed in files. It returns
// nil if the key is lost, which it must not make again.
func (k Keys) Check(fault func(line string)) *seal.Box {
	box, err := readBox(k.file())
	if err != nil {
		fault(err.Error())
		return nil
	}
	if k.interrupted() {
		fault("a change of the key encryption key was interrupted: start the server, or run nestbox keys reseal, to finish it")
	}
	sealed, err := k.readRotation()
	if err == nil && sealed != nil {
		_, err = openRotationKey(sealed, box)
	}
	if err != nil {
		fault("key file " + fileRotationKey + ": " + err.Error())
	}
	return box
}
