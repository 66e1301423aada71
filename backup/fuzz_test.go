package backup

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// FuzzBlobLine: a line that is read names a file below the folder of blobs, and is written as
// it was read.
func FuzzBlobLine(f *testing.F) {
	sum := strings.Repeat("0f", 32)
	for _, text := range []string{
		"ABCD 12 " + sum, "ABCD 12 " + sum + " word\n", "", "A 1 " + sum, "../x 1 " + sum, "ABCD -1 " + sum, "ABCD 1 " + sum + " ../x", "ABCD 1 00",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		line, err := parseBlobLine(text)
		if err != nil {
			return
		}
		if again, err := parseBlobLine(line.String()); err != nil || again != line {
			t.Errorf("%q is read as %+v and then as %+v, %v", text, line, again, err)
		}
		name := line.name()
		if parts := strings.Split(name, "/"); len(parts) != 3 || parts[0] != blobsFolder || slices.Contains(parts, "..") || strings.HasPrefix(parts[2], ".") {
			t.Errorf("%q names %q", text, name)
		}
	})
}

// FuzzChart: a map that is read has the chunks that were asked for, each in packs that it has,
// and a delta that fits changes a chunk in nothing but what it names.
func FuzzChart(f *testing.F) {
	pack := strings.Repeat("\x01", 32)
	e := entry{at: place{0, 1, 2}, baseAt: place{0, 1, 2}}
	f.Add([]byte(mapMagic+"\x00\x00\x00\x01"+pack+string(e.append(nil))), uint8(1))
	f.Add([]byte(mapMagic+"\xff\xff\xff\xff"), uint8(9))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x02"+strings.Repeat("x", unitSize)), uint8(0))
	f.Fuzz(func(t *testing.T, raw []byte, n uint8) {
		if c, err := readChart(bytes.NewReader(raw), int64(n)); err == nil {
			if len(c.entries) != int(n) {
				t.Errorf("%d chunks, want %d", len(c.entries), n)
			}
			for i := range c.entries {
				if int(max(c.entries[i].at.pack, c.entries[i].baseAt.pack)) >= len(c.packs) {
					t.Errorf("chunk %d is in a pack that is not there", i)
				}
			}
		}
		chunk := make([]byte, chunkSize)
		if applyDelta(chunk, raw) == nil {
			now, before := printsOf(chunk), printsOf(make([]byte, chunkSize))
			for i := range now {
				if named := raw[7-i/8]&(1<<(i%8)) != 0; !named && now[i] != before[i] {
					t.Errorf("unit %d was changed, and is not named", i)
				}
			}
		}
	})
}
