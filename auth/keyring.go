package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"nestbox/internal/durable"
)

// MinSecret is how long a secret must be to sign, in bytes: the holder of a token
// could guess a shorter one.
const MinSecret = 32

// Errors of the keyring's own operations.
var (
	ErrUnknownKey = errors.New("no such key")
	ErrSigningKey = errors.New("the signing key cannot be retired; rotate first")
)

// KeyInfo describes a key without its secret.
type KeyInfo struct {
	ID      string    `json:"kid"`
	Created time.Time `json:"created,omitzero"`
	// Signing means that the key signs new tokens. Exactly one key does.
	Signing bool `json:"signing"`
	// Legacy means that tokens without kid are tried against it.
	Legacy bool `json:"legacy"`
	// Configured means that the key is PDS_JWT_SECRET; no file of ours holds its bytes.
	Configured bool `json:"configured"`
}

type key struct {
	KeyInfo

	secret []byte
	// macs holds HMAC states keyed with secret, for reuse.
	macs *sync.Pool
	// headers are the encoded JOSE headers of the kinds of token, by typ, made once.
	headers map[string]string
}

// keyFile is the form on disk. The configured key is listed without a secret,
// so that its retirement, or a rotation away from it, is remembered.
type keyFile struct {
	Keys []storedKey `json:"keys"`
}

type storedKey struct {
	KeyInfo

	Secret  string `json:"secret,omitempty"`
	Retired bool   `json:"retired,omitempty"`
}

// Keyring signs session tokens of both families with one key and verifies with all of them, by kid.
// Rotating the signing key signs nobody out; retiring a key ends the tokens that it
// signed. It is safe for concurrent use; changes are on disk (atomically replaced,
// mode 0600) before they take effect.
type Keyring struct {
	path string
	now  func() time.Time

	mu      sync.Mutex // serialises changes
	retired []storedKey
	keys    atomic.Pointer[[]*key]
}

// OpenKeyring reads the keyring at path, and makes it with one fresh key if it does
// not exist. A non-empty configured secret (PDS_JWT_SECRET) is the ring's first
// key: it signs until a rotation, and tokens without kid, which another server
// issued under the same secret, are tried against it. A configured secret that the
// file does not know yet becomes the signing key. One that is shorter than MinSecret
// verifies, and never signs.
func OpenKeyring(path, configured string, now func() time.Time) (*Keyring, error) {
	k := &Keyring{path: path, now: now}
	stored, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	var keys []*key
	known, weak := false, len(configured) < MinSecret
	for _, s := range stored.Keys {
		switch {
		case s.Configured && configured != "" && s.ID == configuredID(configured):
			known = true
			if s.Retired {
				k.retired = append(k.retired, s)
				continue
			}
			s.Signing = s.Signing && !weak
			keys = append(keys, newKey(s.KeyInfo, []byte(configured)))
		case s.Configured:
			// A former PDS_JWT_SECRET: without its bytes it verifies nothing. It
			// stays listed in case the operator sets it again.
			s.Signing = false
			k.retired = append(k.retired, s)
		default:
			secret, err := s.secret(path)
			if err != nil {
				return nil, err
			}
			keys = append(keys, newKey(s.KeyInfo, secret))
		}
	}
	if configured != "" && !known {
		for _, old := range keys {
			old.Signing = old.Signing && weak
		}
		info := KeyInfo{ID: configuredID(configured), Created: now().UTC(), Signing: !weak, Legacy: true, Configured: true}
		keys = append(keys, newKey(info, []byte(configured)))
	}
	if !slices.ContainsFunc(keys, func(k *key) bool { return k.Signing }) {
		keys = append(keys, freshKey(now()))
	}
	return k, k.save(keys, k.retired)
}

func readKeyFile(path string) (keyFile, error) {
	var f keyFile
	data, err := os.ReadFile(path) //nolint:gosec // the path is the operator's own data directory
	if errors.Is(err, os.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return f, fmt.Errorf("read key ring: %w", err)
	}
	if err := json.Unmarshal(data, &f); err != nil {
		return f, fmt.Errorf("key ring %s is damaged: %w", path, err)
	}
	if len(f.Keys) == 0 {
		// Every ring that we wrote has a key; making a new one would sign everybody out.
		return f, fmt.Errorf("key ring %s is damaged: it holds no key", path)
	}
	return f, nil
}

// secret decodes the secret of a key that is not configured.
func (s storedKey) secret(path string) ([]byte, error) {
	secret, err := base64.RawURLEncoding.DecodeString(s.Secret)
	if err != nil || len(secret) < MinSecret {
		return nil, fmt.Errorf("key ring %s: key %q has no usable secret", path, s.ID)
	}
	return secret, nil
}

// configuredID returns a name for PDS_JWT_SECRET that reveals nothing about it: a
// hash for this purpose alone, cut short.
func configuredID(secret string) string {
	h := sha256.New()
	h.Write([]byte("nestbox keyring kid of PDS_JWT_SECRET\x00"))
	h.Write([]byte(secret))
	return "env-" + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:6])
}

func freshKey(now time.Time) *key {
	secret := make([]byte, 32)
	id := make([]byte, 6)
	_, _ = rand.Read(secret) // never fails: crypto/rand ends the process instead
	_, _ = rand.Read(id)
	return newKey(KeyInfo{ID: "k-" + base64.RawURLEncoding.EncodeToString(id), Created: now.UTC(), Signing: true}, secret)
}

func newKey(info KeyInfo, secret []byte) *key {
	k := &key{
		KeyInfo: info, secret: secret,
		macs:    &sync.Pool{New: func() any { return hmac.New(sha256.New, secret) }},
		headers: map[string]string{},
	}
	for _, typ := range []string{typAccess, typRefresh, typOAuthAccess, typOAuthRefresh} {
		k.headers[typ] = encodeHeader(typ, info.ID)
	}
	return k
}

func encodeHeader(typ, kid string) string {
	b, err := json.Marshal(struct {
		Typ string `json:"typ"`
		Alg string `json:"alg"`
		Kid string `json:"kid"`
	}{typ, algHS256, kid})
	if err != nil {
		panic(err) // three strings always encode
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// save writes keys to disk and then makes them current. The caller holds mu or is the
// constructor.
func (k *Keyring) save(keys []*key, retired []storedKey) error {
	f := keyFile{Keys: slices.Clone(retired)}
	for _, key := range keys {
		s := storedKey{KeyInfo: key.KeyInfo}
		if !key.Configured {
			s.Secret = base64.RawURLEncoding.EncodeToString(key.secret)
		}
		f.Keys = append(f.Keys, s)
	}
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("encode key ring: %w", err)
	}
	if err := durable.WriteFile(k.path, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write key ring: %w", err)
	}
	k.retired = retired
	k.keys.Store(&keys)
	return nil
}

// Keys returns the keys of the ring, oldest first.
func (k *Keyring) Keys() []KeyInfo {
	var out []KeyInfo
	for _, key := range *k.keys.Load() {
		out = append(out, key.KeyInfo)
	}
	return out
}

// Rotate adds a fresh signing key; the old one only verifies from now on.
func (k *Keyring) Rotate() (KeyInfo, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var keys []*key
	for _, old := range *k.keys.Load() {
		c := *old
		c.Signing = false
		keys = append(keys, &c)
	}
	fresh := freshKey(k.now())
	return fresh.KeyInfo, k.save(append(keys, fresh), k.retired)
}

// Retire removes a key: the tokens that it signed stop working. Errors:
// ErrUnknownKey, ErrSigningKey.
func (k *Keyring) Retire(id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	keys := slices.Clone(*k.keys.Load())
	i := slices.IndexFunc(keys, func(c *key) bool { return c.ID == id })
	if i < 0 {
		return ErrUnknownKey
	}
	gone := keys[i]
	if gone.Signing {
		return ErrSigningKey
	}
	retired := slices.Clone(k.retired)
	if gone.Configured {
		retired = append(retired, storedKey{KeyInfo: gone.KeyInfo, Retired: true})
	}
	return k.save(slices.Delete(keys, i, i+1), retired)
}

func (k *Keyring) signing() *key {
	for _, c := range *k.keys.Load() {
		if c.Signing {
			return c
		}
	}
	panic("keyring without a signing key") // OpenKeyring, Rotate and Retire keep one
}

// header returns the encoded JOSE header of this key's tokens of a kind.
func (c *key) header(typ string) string { return c.headers[typ] }

// candidates returns the keys that may have signed a token with this kid. For a token
// without a kid those are the keys marked as legacy.
func (k *Keyring) candidates(kid string, hasKid bool) []*key {
	var out []*key
	for _, c := range *k.keys.Load() {
		if hasKid && c.ID == kid || !hasKid && c.Legacy {
			out = append(out, c)
		}
	}
	return out
}

// sign returns the compact form of a token with the claims cl.
func (c *key) sign(typ string, cl any) (string, error) {
	payload, err := json.Marshal(cl)
	if err != nil {
		return "", fmt.Errorf("encode claims: %w", err)
	}
	token := make([]byte, 0, 512)
	token = append(append(token, c.header(typ)...), '.')
	token = base64.RawURLEncoding.AppendEncode(token, payload)
	mac := c.mac(token)
	return string(base64.RawURLEncoding.AppendEncode(append(token, '.'), mac)), nil
}

// mac returns the HS256 signature (RFC 7518 section 3.2) of a token's first two
// parts. The library's own function prepares the key again in each call, which costs
// as much as the signature.
func (c *key) mac(signed []byte) []byte {
	h, ok := c.macs.Get().(hash.Hash)
	if !ok {
		panic("pool of HMAC states holds something else") // newKey fills it
	}
	defer c.macs.Put(h)
	h.Reset()
	_, _ = h.Write(signed) // never fails: hash.Hash says so
	return h.Sum(nil)
}
