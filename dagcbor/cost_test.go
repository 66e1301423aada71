package dagcbor_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"nestbox/dagcbor"
	"nestbox/internal/costtest"
)

// TestCost: the cost of reading DAG-CBOR and JSON follows the size of the input,
// whatever it repeats, nests or promises.
func TestCost(t *testing.T) {
	// promise returns the head of a list that claims to have n items.
	promise := func(n int) []byte { return binary.BigEndian.AppendUint32([]byte{0x9a}, uint32(n)) }
	for name, input := range map[string]func(n int) []byte{
		"lists that promise items": func(n int) []byte {
			var b []byte
			for range dagcbor.MaxDepth - 1 {
				b = append(b, promise(n/2)...)
			}
			return append(b, make([]byte, n)...)
		},
		"small lists": func(n int) []byte { return append(promise(n), bytes.Repeat([]byte{0x80}, n)...) },
		"a map": func(n int) []byte {
			b := binary.BigEndian.AppendUint32([]byte{0xba}, uint32(n/8))
			for i := range n / 8 {
				b = append(append(b, 0x67), fmt.Sprintf("%07d", i)...)
				b = append(b, 0)
			}
			return b
		},
		"a text": func(n int) []byte {
			return append(binary.BigEndian.AppendUint32([]byte{0x7a}, uint32(n)), bytes.Repeat([]byte("x"), n)...)
		},
		"bad text": func(n int) []byte {
			return append(binary.BigEndian.AppendUint32([]byte{0x7a}, uint32(n)), bytes.Repeat([]byte{0xff}, n)...)
		},
		"deep lists": func(n int) []byte { return bytes.Repeat([]byte{0x81}, n) },
	} {
		t.Run(name, func(t *testing.T) {
			costtest.Linear(t, 200_000, func(n int) func() {
				b := input(n)
				return func() {
					_, _ = dagcbor.Decode(b)
					_, _ = dagcbor.AppendJSON(nil, b)
					_, _ = dagcbor.DecodeLoose(b)
					_, _ = dagcbor.AppendLooseJSON(nil, b)
				}
			})
		})
	}
	for name, input := range map[string]func(n int) string{
		"a link in base58": func(n int) string { return `{"$link":"z` + strings.Repeat("2", n) + `"}` },
		"bytes":            func(n int) string { return `{"$bytes":"` + strings.Repeat("A", n) + strings.Repeat("=", n) + `"}` },
		"a long number":    func(n int) string { return strings.Repeat("1", n) },
		"deep lists":       func(n int) string { return strings.Repeat("[", n) },
		"deep, in a list": func(n int) string {
			return "[" + strings.Repeat(strings.Repeat("[", 60)+strings.Repeat("]", 60)+",", n/120) + "0]"
		},
		"members": func(n int) string {
			var b strings.Builder
			for i := range n / 12 {
				fmt.Fprintf(&b, `"k%07d":0,`, i)
			}
			return "{" + b.String() + `"end":0}`
		},
		"a name again": func(n int) string { return "{" + strings.Repeat(`"a":0,`, n/6) + `"a":0}` },
	} {
		t.Run("JSON: "+name, func(t *testing.T) {
			costtest.Linear(t, 100_000, func(n int) func() {
				text := []byte(input(n))
				return func() { _, _ = dagcbor.FromJSON(text) }
			})
		})
	}
}

// TestDecodeMemory: a block takes a small multiple of its size, though lists in it
// promise many items at each level.
func TestDecodeMemory(t *testing.T) {
	block := bytes.Repeat([]byte{0x9a, 0, 0x07, 0, 0}, dagcbor.MaxDepth-1)
	block = append(block, make([]byte, 1<<19)...)
	got := testing.Benchmark(func(b *testing.B) { //nolint:thelper // not a helper
		for b.Loop() {
			_, _ = dagcbor.Decode(block)
		}
	})
	if size := got.AllocedBytesPerOp(); size > 128*int64(len(block)) {
		t.Errorf("%d bytes of input take %d bytes", len(block), size)
	}
}

// TestLoose: data of other servers is read as far as it has a meaning.
func TestLoose(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"half float":            {"\xf9\x3c\x00", "1"},
		"the smallest half":     {"\xf9\x00\x01", "5.960464477539063e-08"},
		"a negative half":       {"\xf9\xc0\x00", "-2"},
		"a half that is none":   {"\xf9\x7e\x00", "null"},
		"a half without end":    {"\xf9\xfc\x00", "null"},
		"float":                 {"\xfa\x3f\xc0\x00\x00", "1.5"},
		"double":                {"\xfb\x3f\xf1\x99\x99\x99\x99\x99\x9a", "1.1"},
		"undefined":             {"\xf7", "null"},
		"largest":               {"\x1b\xff\xff\xff\xff\xff\xff\xff\xff", "18446744073709551615"},
		"smallest":              {"\x3b\xff\xff\xff\xff\xff\xff\xff\xff", "-18446744073709551616"},
		"below -2^53":           {"\x3b\x00\x1f\xff\xff\xff\xff\xff\xff", "-9007199254740992"},
		"long form":             {"\x18\x01", "1"},
		"map out of order":      {"\xa2\x61b\x01\x61a\x02", `{"b":1,"a":2}`},
		"key twice":             {"\xa2\x61a\x01\x61a\x02", ""},
		"bad text":              {"\x62a\xff", "\"a\ufffd\""},
		"bytes behind":          {"\x00\x00", ""},
		"cut off":               {"\x19\x00", ""},
		"cut off float":         {"\xfb\x00\x00", ""},
		"of no definite length": {"\x9f\xff", ""},
		"a date":                {"\xc0\x61:", ""},
		"another simple value":  {"\xf8\xff", ""},
		"too deep":              {strings.Repeat("\x81", dagcbor.MaxDepth+1) + "\xf6", ""},
	} {
		got, err := dagcbor.AppendLooseJSON(nil, []byte(c.in))
		_, derr := dagcbor.DecodeLoose([]byte(c.in))
		if (err == nil) != (c.want != "") || (derr == nil) != (err == nil) || err == nil && string(got) != c.want {
			t.Errorf("%s: %s, %v, %v; want %s", name, got, err, derr, c.want)
		}
	}
}

// FuzzLoose: both loose readers accept the same input, return valid JSON, and agree
// with the strict reader on what that accepts.
func FuzzLoose(f *testing.F) {
	for _, seed := range []string{"\xa1\x61x\xf9\x3c\x00", "\xa2\x61b\x01\x61a\x02", "\xf7", "\x62a\xff", "\x1b\xff\xff\xff\xff\xff\xff\xff\xff"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, err := dagcbor.DecodeLoose(raw)
		text, jerr := dagcbor.AppendLooseJSON(nil, raw)
		if (err == nil) != (jerr == nil) {
			t.Fatalf("DecodeLoose says %v, AppendLooseJSON %v", err, jerr)
		}
		if err == nil && !json.Valid(text) {
			t.Fatalf("%s is not JSON", text)
		}
		if strict, serr := dagcbor.AppendJSON(nil, raw); serr == nil && !bytes.Equal(strict, text) {
			t.Fatalf("loose %s, strict %s", text, strict)
		}
	})
}
