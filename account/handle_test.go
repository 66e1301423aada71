package account_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/account"
)

func TestNormalizeHandle(t *testing.T) {
	label := strings.Repeat("a", 63)
	for raw, want := range map[string]string{
		"alice.test": "alice.test", "ALICE.Test": "alice.test", "a.b.c.example.com": "a.b.c.example.com", "8.cn": "8.cn",
		"xn--ls8h.test": "xn--ls8h.test", "a-b.example": "", "jo@hn.test": "", label + ".com": label + ".com",
		label + "a.com": "", "alice": "", "": "", ".test": "", "alice.": "", "alice..test": "", "-a.test": "", "a-.test": "",
		"a_b.test": "", "a b.test": "", "älice.test": "", "alice.test ": "", "@alice.test": "", "alice.123": "", "a.1a": "",
		"alice.test/x": "", "alice.test:80": "", "did:plc:abc": "", "alice.t\x00est": "", "\xff.test": "",
		strings.Repeat("a.", 125) + "com": strings.Repeat("a.", 125) + "com", strings.Repeat("a.", 126) + "com": "",
		"alice.local": "", "alice.localhost": "", "alice.arpa": "", "alice.internal": "", "alice.onion": "", "alice.invalid": "", "alice.alt": "",
	} {
		h, err := account.NormalizeHandle(raw)
		if h.String() != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", raw, h, err, want)
		}
		if err != nil && !errors.Is(err, account.ErrHandleForm) && !errors.Is(err, account.ErrHandleTLD) {
			t.Errorf("%q: %v", raw, err)
		}
	}
	if _, err := account.NormalizeHandle("alice.local"); !errors.Is(err, account.ErrHandleTLD) {
		t.Errorf("alice.local: %v", err)
	}
}

func TestCheckServiceHandle(t *testing.T) {
	domains := []string{".test", ".example.com", ".people.example.com"}
	for h, want := range map[syntax.Handle]error{
		"bob.test": nil, "bob.example.com": nil, "bob.people.example.com": nil, "abcdefghijklmnopqr.test": nil, "b-b.test": nil, "123.test": nil,
		"bo.test": account.ErrHandleTooShort, "b.people.example.com": account.ErrHandleTooShort,
		"abcdefghijklmnopqrs.test": account.ErrHandleTooLong,
		"bob.bob.test":             account.ErrHandleCharacters, "bob.other.example.com": account.ErrHandleCharacters,
		"admin.test": account.ErrHandleReserved, "www.example.com": account.ErrHandleReserved, "nestbox.people.example.com": account.ErrHandleReserved,
		"bob.example.org": account.ErrUnsupportedDomain, "bobtest": account.ErrUnsupportedDomain, "bob.test.org": account.ErrUnsupportedDomain,
		"example.com": account.ErrUnsupportedDomain, "bob.notexample.com": account.ErrUnsupportedDomain,
	} {
		if err := account.CheckServiceHandle(h, domains); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", h, err, want)
		}
	}
	if err := account.CheckServiceHandle("bob.test", nil); !errors.Is(err, account.ErrUnsupportedDomain) {
		t.Errorf("without domains: %v", err)
	}
}

func TestIsServiceHandle(t *testing.T) {
	domains := []string{".test", ".pds.example.com"}
	for h, want := range map[syntax.Handle]bool{
		"bob.test": true, "a.bob.test": true, "pds.example.com": true, "bob.pds.example.com": true,
		"example.com": false, "bobpds.example.com": false, "bob.example.com": false, "mytest": false,
	} {
		if got := account.IsServiceHandle(h, domains); got != want {
			t.Errorf("%s: %v", h, got)
		}
	}
}

// FuzzNormalizeHandle: what is accepted is a handle, in a form that does not
// change any more.
func FuzzNormalizeHandle(f *testing.F) {
	for _, s := range []string{"alice.test", "ALICE.Example.COM", "", "xn--ls8h.test", "a.b", "alice.local", "İ.test", "\xff.test", "a\u200b.test"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		h, err := account.NormalizeHandle(raw)
		if err != nil {
			if h != "" {
				t.Fatalf("%q: %q with %v", raw, h, err)
			}
			return
		}
		if _, err := syntax.ParseHandle(h.String()); err != nil || strings.ToLower(h.String()) != h.String() {
			t.Fatalf("%q: %q is no handle in lower case: %v", raw, h, err)
		}
		if again, err := account.NormalizeHandle(h.String()); err != nil || again != h {
			t.Fatalf("%q: %q, then %q, %v", raw, h, again, err)
		}
	})
}

func TestCleanIdentifier(t *testing.T) {
	for raw, want := range map[string]string{
		"alice.test": "alice.test", "@Alice.Test": "alice.test", " alice.test\n": "alice.test", "al\u200bice.te\u00adst": "alice.test",
		"\u202aalice.test\u202c": "alice.test", "\ufeffalice.test": "alice.test", "alice\u00a0.test": "alice.test", "\u200f@alice.test": "alice.test",
		"@@alice.test": "alice.test", "Alice@Example.COM": "alice@example.com", "alice+tag@example.com": "alice+tag@example.com",
		"did:plc:ABC": "did:plc:abc", "ali\x00ce.test": "alice.test", "al\tice.test": "alice.test", "\xff\xfe": "", "": "", "@": "", " ": "",
		strings.Repeat("a", 2048): strings.Repeat("a", 2048), strings.Repeat("a", 2049): "",
	} {
		if got := account.CleanIdentifier(raw); got != want {
			t.Errorf("%q: %q, want %q", raw, got, want)
		}
	}
}

// FuzzCleanIdentifier: cleaning again changes nothing, and what is left can be
// looked for.
func FuzzCleanIdentifier(f *testing.F) {
	for _, s := range []string{"@Alice.Test", "\u200b@\u200balice.test", "İstanbul@example.com", "\xff", "ẞ", "K", "@ @ a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		s := account.CleanIdentifier(raw)
		if again := account.CleanIdentifier(s); again != s {
			t.Fatalf("%q: %q, then %q", raw, s, again)
		}
		if strings.HasPrefix(s, "@") || strings.ContainsAny(s, " \t\n\x00\u200b") || strings.ToValidUTF8(s, "") != s {
			t.Fatalf("%q: %q", raw, s)
		}
	})
}
