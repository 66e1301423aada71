package account

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/scrypt"
	"golang.org/x/text/secure/precis"

	"nestbox/internal/gate"
	"nestbox/request"
)

// Lengths of passwords, in characters.
const (
	MinNewPassword  = 8
	MaxNewPassword  = 256
	MaxUsedPassword = 512
)

// Errors of password checks.
var (
	ErrPasswordTooShort = errors.New("password is too short")
	ErrPasswordTooLong  = errors.New("password is too long")
	ErrPasswordForm     = errors.New("password holds a NUL character or is not valid UTF-8")
	// ErrBusy: more password computations wait than memory and patience allow.
	ErrBusy = errors.New("too many password checks are waiting")
)

// CheckNewPassword checks that a password may be set: 8 to 256 characters, no
// NUL (scrypt ignores trailing ones, so "password\0" would verify).
func CheckNewPassword(p string) error {
	switch n := utf8.RuneCountInString(p); {
	case !utf8.ValidString(p) || strings.ContainsRune(p, 0):
		return ErrPasswordForm
	case n < MinNewPassword:
		return ErrPasswordTooShort
	case n > MaxNewPassword:
		return ErrPasswordTooLong
	default:
		return nil
	}
}

// opaque returns the form of a password that is hashed: RFC 8265's OpaqueString, in
// which é is one character however it was typed, and every space is the same. What that
// has no form for, such as a control character, is hashed as typed.
func opaque(password string) string {
	if form, err := precis.OpaqueString.String(password); err == nil {
		return form
	}
	return password
}

// argonParams are the cost of an argon2id hash; they stand in the hash.
type argonParams struct {
	memory  uint32 // KiB
	time    uint32
	threads uint8
}

// The cost of new hashes: the OWASP recommendation for argon2id (19 MiB, two
// passes).
const (
	argonMemory  = 19 * 1024
	argonTime    = 2
	argonThreads = 1
	argonKey     = 32
	argonSalt    = 16
	// maxWaiting bounds the callers that wait for the running computations, waitingOf
	// those of one client network; the last keptWaiting places in the queue are for
	// networks that were here before.
	maxWaiting  = 512
	waitingOf   = 64
	keptWaiting = 64
)

// Limits of what a stored hash may cost: one that asks for more is damaged.
const (
	maxArgonMemory = 256 * 1024
	maxArgonTime   = 16
	maxArgonLanes  = 16
)

// The reference's scrypt parameters (Node's defaults) and sizes.
const (
	scryptN, scryptR, scryptP = 16384, 8, 1
	scryptKey                 = 64
)

// Hasher computes password hashes, only so many at once: each takes 19 MiB. It
// is safe for concurrent use.
type Hasher struct {
	parallel int
	places   gate.Places[string]
}

// NewHasher returns a Hasher that computes up to parallel hashes at once.
func NewHasher(parallel int) *Hasher { return &Hasher{parallel: max(parallel, 1)} }

// acquire waits until few enough hashes are computed. Client networks take turns.
// ErrBusy if too many callers wait already, in all or from the client's network.
func (h *Hasher) acquire(ctx context.Context) (release func(), err error) {
	client := request.ClientOf(ctx)
	room := gate.Room{All: h.parallel, Waiting: client.Open(maxWaiting, keptWaiting)}
	place, err := h.places.Take(ctx, room, client.Shares(gate.Share[string]{Waiting: waitingOf}, maxWaiting)...)
	switch {
	case errors.Is(err, gate.ErrFull), errors.Is(err, gate.ErrShare):
		return nil, ErrBusy
	case err != nil:
		return nil, err
	default:
		return place.Leave, nil
	}
}

// Hash returns the argon2id hash of a password in the form of opaque, with its
// parameters, as
// $argon2id$v=19$m=19456,t=2,p=1$salt$hash.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	release, err := h.acquire(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	salt := make([]byte, argonSalt)
	_, _ = rand.Read(salt) // never fails: crypto/rand ends the process instead
	key := argon2.IDKey([]byte(opaque(password)), salt, argonTime, argonMemory, argonThreads, argonKey)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version,
		argonMemory, argonTime, argonThreads, b64.EncodeToString(salt), b64.EncodeToString(key)), nil
}

// Verify reports whether stored was made of password, as typed or in the form of
// opaque, and whether stored should be replaced by a hash of today's form: that of the
// reference, scrypt, verifies, and so does one of a password as it was typed.
func (h *Hasher) Verify(ctx context.Context, stored, password string) (ok, upgrade bool, err error) {
	release, err := h.acquire(ctx)
	if err != nil {
		return false, false, err
	}
	defer release()
	form := opaque(password)
	ok, upgrade, err = verify(stored, password)
	if form == password || err != nil {
		return ok, upgrade, err
	}
	if ok {
		return true, true, nil
	}
	return verify(stored, form)
}

func verify(stored, password string) (ok, upgrade bool, err error) {
	if strings.HasPrefix(stored, "$") {
		return verifyArgon(stored, password)
	}
	ok, err = verifyScrypt(stored, password)
	return ok, true, err
}

// VerifyDummy costs what Verify of a hash of today's form costs when it fails: for an
// identifier that belongs to nobody.
func (h *Hasher) VerifyDummy(ctx context.Context, password string) error {
	release, err := h.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	tries := []string{password}
	if form := opaque(password); form != password {
		tries = append(tries, form)
	}
	for _, try := range tries {
		argon2.IDKey([]byte(try), make([]byte, argonSalt), argonTime, argonMemory, argonThreads, argonKey)
	}
	return nil
}

func verifyArgon(stored, password string) (ok, upgrade bool, err error) {
	var version int
	var p argonParams
	parts := strings.Split(stored, "$")
	if len(parts) != 6 || parts[1] != "argon2id" {
		return false, false, errors.New("password hash has an unknown form")
	}
	if _, err := fmt.Sscanf(parts[2], "v=%d", &version); err != nil || version != argon2.Version {
		return false, false, errors.New("password hash has an unknown version")
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &p.memory, &p.time, &p.threads); err != nil ||
		p.memory < 8 || p.memory > maxArgonMemory || p.time < 1 || p.time > maxArgonTime || p.threads < 1 || p.threads > maxArgonLanes {
		return false, false, errors.New("password hash has unusable parameters")
	}
	salt, err1 := base64.RawStdEncoding.DecodeString(parts[4])
	want, err2 := base64.RawStdEncoding.DecodeString(parts[5])
	if err1 != nil || err2 != nil || len(want) < 16 || len(want) > 128 {
		return false, false, errors.New("password hash is damaged")
	}
	got := argon2.IDKey([]byte(password), salt, p.time, p.memory, p.threads, uint32(len(want))) //nolint:gosec // at most 128
	upgrade = p != argonParams{argonMemory, argonTime, argonThreads}
	return subtle.ConstantTimeCompare(got, want) == 1, upgrade, nil
}

// verifyScrypt checks the reference's form, salt:hash in hexadecimal. The salt
// is used as the text that it is written as, not as the bytes that it stands
// for.
func verifyScrypt(stored, password string) (bool, error) {
	salt, want, ok := splitScrypt(stored)
	if !ok {
		return false, errors.New("password hash has an unknown form")
	}
	got, err := scryptOf(password, salt)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(got, want) == 1, nil
}

// splitScrypt returns the parts of a hash in the reference's form.
func splitScrypt(stored string) (salt string, hash []byte, ok bool) {
	salt, text, found := strings.Cut(stored, ":")
	hash, err := hex.DecodeString(text)
	return salt, hash, found && err == nil && len(hash) == scryptKey
}

func scryptOf(password, salt string) ([]byte, error) {
	key, err := scrypt.Key([]byte(password), []byte(salt), scryptN, scryptR, scryptP, scryptKey)
	if err != nil {
		return nil, fmt.Errorf("compute scrypt hash: %w", err)
	}
	return key, nil
}
