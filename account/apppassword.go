package account

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/mail"
)

// MaxAppPasswordName bounds the name of an app password, in characters.
const MaxAppPasswordName = 64

// ErrAppPasswordName: the name is empty, too long or holds control characters.
var ErrAppPasswordName = errors.New("not a name for an app password")

var lowerBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewAppPassword returns a random password of 80 bits in the form that apps
// recognise: xxxx-xxxx-xxxx-xxxx.
func NewAppPassword() string {
	raw := make([]byte, 10)
	_, _ = rand.Read(raw) // never fails: crypto/rand ends the process instead
	s := lowerBase32.EncodeToString(raw)
	return s[:4] + "-" + s[4:8] + "-" + s[8:12] + "-" + s[12:]
}

// AppPasswords makes app passwords and ends them. Its fields are set once.
type AppPasswords struct {
	Store   Store
	Notices *Notices
	Now     func() time.Time
}

// Make makes an app password of an account, and returns what its owner types: nobody knows
// it later. Errors: ErrAppPasswordName, and those of Store.AddAppPassword.
func (s *AppPasswords) Make(ctx context.Context, a *Account, name string, privileged bool) (made AppPassword, password string, err error) {
	if err := CheckAppPasswordName(name); err != nil {
		return AppPassword{}, "", err
	}
	password = NewAppPassword()
	made = AppPassword{Name: name, Hash: HashAppPassword(a.DID, password), Privileged: privileged, CreatedAt: s.Now().UTC()}
	e := NewEntry(ctx, made.CreatedAt, EntryAppPasswordCreated, ActorOwner)
	e.Reason = name
	mails := s.Notices.Of(a, mail.NoticeAppPassword, e, "")
	if err := s.Store.AddAppPassword(ctx, a.ID, made, e, mails...); err != nil {
		s.Notices.Unsent(a, mail.NoticeAppPassword, e, mails)
		return AppPassword{}, "", err
	}
	return made, password, nil
}

// End revokes an app password, and the sessions that it opened. One that is not there has
// ended already.
func (s *AppPasswords) End(ctx context.Context, a *Account, name string) error {
	return s.Store.RevokeAppPassword(ctx, a.ID, name, NewEntry(ctx, s.Now().UTC(), EntryAppPasswordRevoked, ActorOwner))
}

var appPasswordForm = regexp.MustCompile(`^[a-z0-9]{4}(-[a-z0-9]{4}){3}$`)

// LooksLikeAppPassword reports whether p has the form of an app password, ours or the
// reference's, as people type it: with dashes or blanks between the groups, in any case.
func LooksLikeAppPassword(p string) bool {
	return strings.ContainsFunc(p, isGap) && TypedAppPassword(p) != ""
}

// TypedAppPassword returns the app password that was typed as p, with blanks, capitals,
// other dashes or none, or "" if p cannot be one.
func TypedAppPassword(p string) string {
	if len(p) > 4*MaxNewPassword {
		return ""
	}
	s := strings.ToLower(strings.Map(func(r rune) rune {
		if isGap(r) {
			return -1
		}
		return r
	}, p))
	if len(s) != 16 {
		return ""
	}
	if s = s[:4] + "-" + s[4:8] + "-" + s[8:12] + "-" + s[12:]; !appPasswordForm.MatchString(s) {
		return ""
	}
	return s
}

// isGap reports whether r may stand between the groups of an app password: a blank, a
// dash, or a character that is not seen.
func isGap(r rune) bool {
	return unicode.IsSpace(r) || unicode.Is(unicode.Pd, r) || unicode.Is(unicode.Cf, r) || r == '\u2212'
}

// CheckAppPasswordName returns ErrAppPasswordName for an unusable name.
func CheckAppPasswordName(name string) error {
	if name == "" || utf8.RuneCountInString(name) > MaxAppPasswordName ||
		!utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return ErrAppPasswordName
	}
	return nil
}

// appHashPrefix marks our form of app-password hashes. A password of 80 random
// bits needs no slow hash: there is nothing to guess.
const appHashPrefix = "sha256$"

// HashAppPassword returns the stored form of an app password.
func HashAppPassword(did syntax.DID, password string) string {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails: crypto/rand ends the process instead
	return appHash(did, password, base64.RawURLEncoding.EncodeToString(salt))
}

func appHash(did syntax.DID, password, salt string) string {
	h := sha256.New()
	for _, part := range []string{"nestbox app password", salt, did.String(), password} {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	return appHashPrefix + salt + "$" + base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// FindAppPassword returns the app password of list that was typed as password, nil if
// none was. All of our form are compared. Imported ones are scrypt hashes, those of one
// account with one salt: each salt costs one computation.
func (h *Hasher) FindAppPassword(ctx context.Context, did syntax.DID, list []AppPassword, password string) (*AppPassword, error) {
	var found *AppPassword
	if typed := TypedAppPassword(password); typed != "" {
		password = typed
	}
	keys := map[string][]byte{} // by salt
	for i, p := range list {
		if rest, ours := strings.CutPrefix(p.Hash, appHashPrefix); ours {
			salt, _, _ := strings.Cut(rest, "$")
			if subtle.ConstantTimeCompare([]byte(appHash(did, password, salt)), []byte(p.Hash)) == 1 {
				found = &list[i]
			}
			continue
		}
		ok, err := h.isImported(ctx, keys, p.Hash, password)
		if err != nil {
			return nil, err
		}
		if ok {
			found = &list[i]
		}
	}
	return found, nil
}

// isImported is Verify of an imported app password; keys remembers what scrypt made of the
// password and a salt.
func (h *Hasher) isImported(ctx context.Context, keys map[string][]byte, hash, password string) (bool, error) {
	salt, want, ok := splitScrypt(hash)
	if !ok {
		ok, _, err := h.Verify(ctx, hash, password)
		return ok, err
	}
	if keys[salt] == nil {
		release, err := h.acquire(ctx)
		if err != nil {
			return false, err
		}
		keys[salt], err = scryptOf(password, salt)
		release()
		if err != nil {
			return false, err
		}
	}
	return subtle.ConstantTimeCompare(keys[salt], want) == 1, nil
}

// Imported reports whether the hash is not of our form: then a better one of the same
// password should replace it, which HashAppPassword makes.
func (p *AppPassword) Imported() bool { return !strings.HasPrefix(p.Hash, appHashPrefix) }
