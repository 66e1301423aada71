package session

import (
	"math"
	"testing"
)

func TestParseSID(t *testing.T) {
	for _, c := range []struct {
		sid   string
		id    int64
		nonce string
		ok    bool
	}{
		{"1-abc", 1, "abc", true},
		{"zz-abc", 35*36 + 35, "abc", true},
		{"1-a-b", 1, "a-b", true}, // base64url has dashes
		{"1--", 1, "-", true},
		{"1y2p0ij32e8e7-x", math.MaxInt64, "x", true},
		{"1y2p0ij32e8e8-x", 0, "", false}, // one more than fits
		{"", 0, "", false},
		{"1", 0, "", false},
		{"1-", 0, "", false},
		{"-abc", 0, "", false},
		{"-1-abc", 0, "", false},
		{"0-abc", 0, "", false},
		{"01-abc", 0, "", false},
		{"+1-abc", 0, "", false},
		{"Z-abc", 0, "", false}, // one session has one name
		{" 1-abc", 0, "", false},
		{"1_0-abc", 0, "", false},
		{"é-abc", 0, "", false},
	} {
		id, nonce, ok := parseSID(c.sid)
		if ok != c.ok || ok && (id != c.id || nonce != c.nonce) {
			t.Errorf("parseSID(%q) = %d, %q, %t; want %d, %q, %t", c.sid, id, nonce, ok, c.id, c.nonce, c.ok)
		}
	}
}

func TestParseJTI(t *testing.T) {
	for _, c := range []struct {
		jti, sid   string
		generation int64
		ok         bool
	}{
		{"1-abc.0", "1-abc", 0, true},
		{"1-abc.17", "1-abc", 17, true},
		{"1-abc.9223372036854775807", "1-abc", math.MaxInt64, true},
		{"1-abc.9223372036854775808", "1-abc", 0, false},
		{"1-abc.0", "2-abc", 0, false},
		{"1-abc.0", "1-abd", 0, false},
		{"1-abc.0", "1-ab", 0, false},
		{"1-abc0", "1-abc", 0, false},
		{"1-abc.", "1-abc", 0, false},
		{"1-abc", "1-abc", 0, false},
		{"1-abc.00", "1-abc", 0, false},
		{"1-abc.-1", "1-abc", 0, false},
		{"1-abc.+1", "1-abc", 0, false},
		{"1-abc.-0", "1-abc", 0, false},
		{"1-abc.1.2", "1-abc", 0, false},
		{"1-abc.0x1", "1-abc", 0, false},
		{"", "1-abc", 0, false},
		{"a-random-id-of-another-server", "1-abc", 0, false},
	} {
		generation, ok := parseJTI(c.jti, c.sid)
		if ok != c.ok || ok && generation != c.generation {
			t.Errorf("parseJTI(%q, %q) = %d, %t; want %d, %t", c.jti, c.sid, generation, ok, c.generation, c.ok)
		}
	}
}

// FuzzTokenNames: a name is accepted only if it is exactly that of some session and
// generation, so two names never mean the same.
func FuzzTokenNames(f *testing.F) {
	f.Add("1-abc", "1-abc.0")
	f.Add("zz-a-b", "zz-a-b.17")
	f.Add("01-abc", "01-abc.00")
	f.Add("", ".0")
	f.Fuzz(func(t *testing.T, sid, jti string) {
		id, nonce, ok := parseSID(sid)
		if !ok {
			return
		}
		s := State{ID: id, Nonce: nonce}
		if got := s.SID(); got != sid {
			t.Fatalf("%q was taken for %q", sid, got)
		}
		generation, ok := parseJTI(jti, sid)
		if ok && s.JTI(generation) != jti {
			t.Fatalf("%q was taken for %q", jti, s.JTI(generation))
		}
		// And a minted name is read back.
		if n, ok := parseJTI(s.JTI(id), sid); !ok || n != id {
			t.Fatalf("%q is not read back: %d, %t", s.JTI(id), n, ok)
		}
	})
}
