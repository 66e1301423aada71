package account

import (
	"regexp"
	"strings"
	"testing"
)

func TestCleanCode(t *testing.T) {
	for _, typed := range []string{
		"ABCDE-23456", "abcde-23456", "abcde23456", " AbCdE 23456\n", "ABCDE–23456", "AB-CD-E2-34-56", "\u200bABCDE-23456\u00a0",
	} {
		if got := CleanCode(typed); got != "ABCDE-23456" {
			t.Errorf("%q is %q", typed, got)
		}
	}
	for _, typed := range []string{"", "ABCDE", "ABCDE-234567", "ABCDE-2345", strings.Repeat("-", 99) + "ABCDE-23456", "ÄBCDE-23456"} {
		if got := CleanCode(typed); got != "" {
			t.Errorf("%q is %q", typed, got)
		}
	}
}

func TestNewCode(t *testing.T) {
	form := regexp.MustCompile(`^[A-Z2-7]{5}-[A-Z2-7]{5}$`)
	seen, letters := map[string]bool{}, map[rune]bool{}
	for range 1000 {
		c := NewCode()
		if !form.MatchString(c) || CleanCode(c) != c || seen[c] {
			t.Fatalf("%q", c)
		}
		seen[c] = true
		for _, r := range c {
			letters[r] = true
		}
	}
	if len(letters) != 33 { // 32 and the dash
		t.Errorf("%d characters are used, want 33", len(letters))
	}
}

// TestHashOfCode: a stored hash is bound to its key and its purpose.
func TestHashOfCode(t *testing.T) {
	a, b := &Codes{Key: []byte("a")}, &Codes{Key: []byte("b")}
	hashes := map[string]bool{}
	for _, c := range []*Codes{a, b} {
		for _, p := range []Purpose{PurposeSignIn, PurposeResetPassword} {
			hashes[string(c.hash(p, "ABCDE-23456"))] = true
		}
	}
	if len(hashes) != 4 {
		t.Errorf("%d different hashes, want 4", len(hashes))
	}
}
