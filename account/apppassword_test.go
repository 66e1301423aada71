package account_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"golang.org/x/crypto/scrypt"

	"nestbox/account"
	"nestbox/internal/costtest"
)

func TestNewAppPassword(t *testing.T) {
	form := regexp.MustCompile(`^[a-z2-7]{4}-[a-z2-7]{4}-[a-z2-7]{4}-[a-z2-7]{4}$`)
	seen := map[string]bool{}
	for range 1000 {
		p := account.NewAppPassword()
		if !form.MatchString(p) || !account.LooksLikeAppPassword(p) || seen[p] {
			t.Fatalf("app password %q", p)
		}
		seen[p] = true
	}
}

func TestLooksLikeAppPassword(t *testing.T) {
	for p, want := range map[string]bool{
		"abcd-efgh-ijkl-mnop": true, "ab12-34gh-5678-9010": true, "ABCD-EFGH-IJKL-MNOP": true, "AB2D E3GH IJ4L MN5P": true,
		"abcd-efgh-ijkl-mnop ": true, " abcd-efgh-ijkl-mnop": true, "abcd-efgh-ijkl-mnop\n": true,
		"": false, "abcd-efgh-ijkl": false, "abcd-efgh-ijkl-mnop-qrst": false, "abcdefghijklmnop": false, "correct-horse-battery": false,
		"abcd_efgh_ijkl_mnop": false, "äbcd-efgh-ijkl-mnop": false,
	} {
		if got := account.LooksLikeAppPassword(p); got != want {
			t.Errorf("%q: %v", p, got)
		}
	}
}

func TestCheckAppPasswordName(t *testing.T) {
	for name, good := range map[string]bool{
		"a": true, "my phone": true, "Телефон 🐎": true, strings.Repeat("ä", 64): true, " ": true,
		"": false, strings.Repeat("ä", 65): false, "a\nb": false, "a\x00": false, "\x7f": false, "\u0085": false, "\xff": false,
	} {
		if err := account.CheckAppPasswordName(name); (err == nil) != good || err != nil && !errors.Is(err, account.ErrAppPasswordName) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestFindAppPassword(t *testing.T) {
	h, ctx := account.NewHasher(2), t.Context()
	const did, other = syntax.DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz"), syntax.DID("did:plc:ewvi7nxzyoun6zhxrhs64oia")
	var list []account.AppPassword
	var passwords []string
	for i := range account.MaxAppPasswords {
		p := account.NewAppPassword()
		passwords = append(passwords, p)
		list = append(list, account.AppPassword{ID: int64(i), Name: fmt.Sprint(i), Hash: account.HashAppPassword(did, p)})
	}
	// One that was imported from the reference, in the middle.
	imported, err := h.Hash(ctx, "abcd-efgh-ijkl-mnop")
	if err != nil {
		t.Fatal(err)
	}
	list[50].Hash, passwords[50] = imported, "abcd-efgh-ijkl-mnop"
	for i, p := range passwords {
		if i%10 != 0 && i != 99 {
			continue
		}
		found, err := h.FindAppPassword(ctx, did, list, p)
		if err != nil || found != &list[i] {
			t.Errorf("%d: %+v, %v", i, found, err)
		}
	}
	for _, wrong := range []string{"", account.NewAppPassword(), passwords[0] + "a", list[0].Hash} {
		if found, err := h.FindAppPassword(ctx, did, list, wrong); found != nil || err != nil {
			t.Errorf("%q: %+v, %v", wrong, found, err)
		}
	}
	if found, err := h.FindAppPassword(ctx, other, list[:50], passwords[0]); found != nil || err != nil {
		t.Errorf("under another account: %+v, %v", found, err)
	}
	if found, err := h.FindAppPassword(ctx, did, nil, passwords[0]); found != nil || err != nil {
		t.Errorf("among none: %+v, %v", found, err)
	}
	if a, b := account.HashAppPassword(did, "x"), account.HashAppPassword(did, "x"); a == b || !strings.HasPrefix(a, "sha256$") || strings.Contains(a, "x$") {
		t.Errorf("hashes %s, %s", a, b)
	}
	for _, damaged := range []string{"", "sha256$", "sha256$salt", "nonsense"} {
		list := []account.AppPassword{{Hash: damaged}}
		if found, _ := h.FindAppPassword(ctx, did, list, damaged); found != nil {
			t.Errorf("hash %q matches", damaged)
		}
	}
}

// TestTypedAppPassword: an app password is found as people type it, and nothing else is.
func TestTypedAppPassword(t *testing.T) {
	const did, password = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "ab2d-e3gh-ij4l-mn5p"
	h := account.NewHasher(1)
	list := []account.AppPassword{{Name: "other", Hash: account.HashAppPassword(did, "xxxx-xxxx-xxxx-xxxx")}, {Name: "this", Hash: account.HashAppPassword(did, password)}}
	for typed, want := range map[string]bool{
		password: true, "AB2D-E3GH-IJ4L-MN5P": true, " ab2d-e3gh-ij4l-mn5p\n": true, "ab2d e3gh ij4l mn5p": true, "ab2de3ghij4lmn5p": true,
		"ab2d\u2013e3gh\u2014ij4l\u2011mn5p": true, "ab2d\u00a0e3gh\u200bij4lmn5p": true,
		"ab2d-e3gh-ij4l-mn5": false, "ab2d-e3gh-ij4l-mn5pp": false, "ab2d_e3gh_ij4l_mn5p": false, "ab2d-e3gh-ij4l-mn5q": false, "": false, "----": false,
		"\u00e1b2d-e3gh-ij4l-mn5p": false,
	} {
		found, err := h.FindAppPassword(t.Context(), did, list, typed)
		if err != nil || (found != nil) != want || found != nil && found.Name != "this" {
			t.Errorf("%q: %+v, %v", typed, found, err)
		}
	}
}

// TestFindImportedAppPasswords: the reference's app passwords of one account have one salt,
// so that a wrong password costs one computation and not one for each.
func TestFindImportedAppPasswords(t *testing.T) {
	const did = syntax.DID("did:plc:ewvi7nxzyoun6zhxrhs64oiz")
	h := account.NewHasher(1)
	const salt = "00112233445566778899aabbccddeeff"
	var list []account.AppPassword
	for i := range 12 {
		key, err := scrypt.Key(fmt.Appendf(nil, "abcd-efgh-ijkl-mn%02d", i), []byte(salt), 16384, 8, 1, 64)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, account.AppPassword{ID: int64(i), Hash: salt + ":" + hex.EncodeToString(key)})
	}
	list = append(list, account.AppPassword{ID: 12, Hash: account.HashAppPassword(did, "abcd-efgh-ijkl-zzzz")})
	begun := costtest.CPU(t)
	if found, err := h.FindAppPassword(t.Context(), did, list[:1], "abcd-efgh-ijkl-yyyy"); found != nil || err != nil {
		t.Errorf("%+v, %v", found, err)
	}
	one := costtest.CPU(t) - begun
	begun = costtest.CPU(t)
	for typed, want := range map[string]int64{"abcd-efgh-ijkl-mn07": 7, "ABCD EFGH IJKL MN11": 11, "abcd-efgh-ijkl-zzzz": 12, "abcd-efgh-ijkl-yyyy": -1} {
		found, err := h.FindAppPassword(t.Context(), did, list, typed)
		if err != nil || (found == nil) != (want < 0) || found != nil && (found.ID != want || found.Imported() != (want < 12)) {
			t.Errorf("%s: %+v, %v", typed, found, err)
		}
	}
	if all := costtest.CPU(t) - begun; all > 20*one {
		t.Errorf("four passwords among 12 took %s, one among one %s", all, one)
	}
}
