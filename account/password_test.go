package account_test

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/scrypt"

	"nestbox/account"
)

func TestCheckNewPassword(t *testing.T) {
	horses := strings.Repeat("🐎", 256) // four bytes each
	for p, want := range map[string]error{
		"12345678": nil, strings.Repeat("a", 256): nil, horses: nil, "🐎🐎🐎🐎🐎🐎🐎🐎": nil, "        ": nil, "pass\nword": nil,
		"": account.ErrPasswordTooShort, "1234567": account.ErrPasswordTooShort, "🐎🐎🐎🐎🐎🐎🐎": account.ErrPasswordTooShort,
		strings.Repeat("a", 257): account.ErrPasswordTooLong, horses + "a": account.ErrPasswordTooLong,
		"password\x00": account.ErrPasswordForm, "\x00": account.ErrPasswordForm, "pass\x00word": account.ErrPasswordForm,
		"password\xff": account.ErrPasswordForm, "\xed\xa0\x80password": account.ErrPasswordForm,
	} {
		if err := account.CheckNewPassword(p); !errors.Is(err, want) {
			t.Errorf("%.20q (%d bytes): %v, want %v", p, len(p), err, want)
		}
	}
}

func TestHash(t *testing.T) {
	h, ctx := account.NewHasher(2), t.Context()
	const password = "pässwörd 🐎"
	stored, err := h.Hash(ctx, password)
	if err != nil {
		t.Fatal(err)
	}
	if form := regexp.MustCompile(`^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`); !form.MatchString(stored) {
		t.Errorf("hash %s", stored)
	}
	if again, err := h.Hash(ctx, password); err != nil || again == stored {
		t.Errorf("two hashes of one password: %s, %s, %v", stored, again, err)
	}
	for p, want := range map[string]bool{
		password: true, "pässwörd 🐎 ": false, "Pässwörd 🐎": false, "": false, password + "\x00": false, stored: false,
	} {
		ok, upgrade, err := h.Verify(ctx, stored, p)
		if ok != want || upgrade || err != nil {
			t.Errorf("Verify(%q) = %v, %v, %v; want %v", p, ok, upgrade, err, want)
		}
	}
	if err := h.VerifyDummy(ctx, password); err != nil {
		t.Errorf("VerifyDummy: %v", err)
	}
}

// TestUpgrade: a hash names its cost. A hash of another cost than today's verifies, and
// is due for replacement.
func TestUpgrade(t *testing.T) {
	h := account.NewHasher(1)
	for _, c := range []struct {
		memory, time uint32
		threads      uint8
		key          uint32
		upgrade      bool
	}{
		{19456, 2, 1, 32, false},
		{19456, 3, 1, 32, true},
		{9216, 4, 1, 32, true},
		{19456, 2, 2, 32, true},
		{64, 1, 1, 16, true},
	} {
		salt := []byte("0123456789abcdef")
		key := argon2.IDKey([]byte("password"), salt, c.time, c.memory, c.threads, c.key)
		b64 := base64.RawStdEncoding.EncodeToString
		stored := fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$%s$%s", c.memory, c.time, c.threads, b64(salt), b64(key))
		ok, upgrade, err := h.Verify(t.Context(), stored, "password")
		if !ok || upgrade != c.upgrade || err != nil {
			t.Errorf("%s: %v, upgrade %v, %v; want upgrade %v", stored, ok, upgrade, err, c.upgrade)
		}
		if ok, _, err := h.Verify(t.Context(), stored, "passwore"); ok || err != nil {
			t.Errorf("%s with a wrong password: %v, %v", stored, ok, err)
		}
	}
}

// TestScrypt: the reference's hashes, one of them made by Node's
// crypto.scryptSync(password, salt, 64) with the salt as text.
func TestScrypt(t *testing.T) {
	const salt = "c5b2a0e3f1d4968712ab34cd56ef7890"
	node := map[string]string{
		"correct-horse-battery": salt + ":17808b55fb7c592bf61b59cce69d7037d6813e291a0faba4b22680224f1bf76be950735690569c4494eeda0106abe6ad8b0e8da9e33bf1cd739905d12ff7c4ab",
		"pässwörd 🐎":            salt + ":0cf2620645d39965a7507dbefab23a11e5232fe245bd46e9ef025827751782fafd008990ac56161954d2ec39838a788fc51d2de577321c0cf6836c6a16855ea3",
	}
	key, err := scrypt.Key([]byte("short"), []byte("00ff"), 16384, 8, 1, 64)
	if err != nil {
		t.Fatal(err)
	}
	node["short"] = "00ff:" + hex.EncodeToString(key)
	h := account.NewHasher(1)
	for password, stored := range node {
		if ok, upgrade, err := h.Verify(t.Context(), stored, password); !ok || !upgrade || err != nil {
			t.Errorf("%q: %v, upgrade %v, %v", password, ok, upgrade, err)
		}
		for _, wrong := range []string{password + "x", "", strings.ToUpper(password)} {
			if ok, _, err := h.Verify(t.Context(), stored, wrong); ok || err != nil {
				t.Errorf("%q for %q: %v, %v", wrong, password, ok, err)
			}
		}
	}
}

// TestDamagedHashes: what is not a whole hash is an error, matches nothing, and
// cannot make us compute for ever.
func TestDamagedHashes(t *testing.T) {
	h := account.NewHasher(1)
	good, err := h.Hash(t.Context(), "password")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, "$") // "", argon2id, version, parameters, salt, key
	with := func(i int, s string) string {
		changed := append([]string(nil), parts...)
		changed[i] = s
		return strings.Join(changed, "$")
	}
	hash64 := strings.Repeat("ab", 64)
	for name, stored := range map[string]string{
		"empty":                "",
		"text":                 "password",
		"another algorithm":    with(1, "argon2i"),
		"bcrypt":               "$2y$10$abcdefghijklmnopqrstuv",
		"another version":      with(2, "v=16"),
		"no version":           with(2, ""),
		"no parameters":        with(3, ""),
		"no memory":            with(3, "m=0,t=2,p=1"),
		"no time":              with(3, "m=19456,t=0,p=1"),
		"no lanes":             with(3, "m=19456,t=2,p=0"),
		"too much memory":      with(3, "m=4194304,t=2,p=1"),
		"too much time":        with(3, "m=19456,t=4000000,p=1"),
		"too many lanes":       with(3, "m=19456,t=2,p=255"),
		"negative":             with(3, "m=-1,t=2,p=1"),
		"parameters overflow":  with(3, "m=99999999999999999999,t=2,p=1"),
		"salt is no base64":    with(4, "!!"),
		"key is no base64":     with(5, "!!"),
		"key is empty":         with(5, ""),
		"key is short":         with(5, "AAAA"),
		"key is long":          with(5, strings.Repeat("AAAA", 50)),
		"cut short":            good[:len(good)-30],
		"one part more":        good + "$x",
		"one part less":        strings.Join(parts[:5], "$"),
		"scrypt without salt":  hash64 + hash64[:1],
		"scrypt, no colon":     hash64,
		"scrypt, short":        "salt:" + hash64[:126],
		"scrypt, long":         "salt:" + hash64 + "ab",
		"scrypt, no hash":      "salt:",
		"scrypt, not hex":      "salt:" + strings.Repeat("zz", 64),
		"scrypt, a third part": "salt:" + hash64 + ":x",
	} {
		for _, password := range []string{"password", "", stored} {
			if ok, _, err := h.Verify(t.Context(), stored, password); ok || err == nil {
				t.Errorf("%s: Verify(%q, %q) = %v, %v", name, stored, password, ok, err)
			}
		}
	}
}

// TestPasswordForms: a password is the same however its characters were composed; a hash
// of one as it was typed goes on working, and is replaced.
func TestPasswordForms(t *testing.T) {
	const composed, apart = "caf\u00e9-au-lait", "cafe\u0301-au-lait"
	h := account.NewHasher(2)
	stored, err := h.Hash(t.Context(), apart)
	if err != nil {
		t.Fatal(err)
	}
	older := argonOf(apart) // of a version that hashed what was typed
	for _, c := range []struct {
		stored, typed string
		ok, upgrade   bool
	}{
		{stored, composed, true, false},
		{stored, apart, true, false},
		{stored, "cafe-au-lait", false, false},
		{stored, "CAF\u00c9-au-lait", false, false},
		{older, apart, true, true},
		{older, composed, false, false},
		{older, "cafe-au-lait", false, false},
		{argonOf("a\u00a0blank-here"), "a\u00a0blank-here", true, true},
		{argonOf("a blank-here"), "a\u00a0blank-here", true, false},
		{argonOf("a\ttab-in-it"), "a\ttab-in-it", true, false}, // it has no other form
	} {
		ok, upgrade, err := h.Verify(t.Context(), c.stored, c.typed)
		if err != nil || ok != c.ok || ok && upgrade != c.upgrade {
			t.Errorf("%q: %t, upgrade %t, %v", c.typed, ok, upgrade, err)
		}
	}
}

// argonOf is the hash of a password as it is typed.
func argonOf(password string) string {
	salt := []byte("0123456789abcdef")
	key := argon2.IDKey([]byte(password), salt, 2, 19*1024, 1, 32)
	b64 := base64.RawStdEncoding
	return "$argon2id$v=19$m=19456,t=2,p=1$" + b64.EncodeToString(salt) + "$" + b64.EncodeToString(key)
}
