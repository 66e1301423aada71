package backup

import (
	"io"
	"strings"
	"testing"
)

// TestRenumberBroken: wherever the exchange of the entries and their table breaks off, an
// entry names its own pack, or none.
func TestRenumberBroken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w, err := newWriter(dir)
	if err != nil {
		t.Fatal(err)
	}
	table := []Stored{{packsFolder + "/" + strings.Repeat("00", 32), 10}, {packsFolder + "/" + strings.Repeat("11", 32), 10}}
	for i, o := range table {
		if err := w.pack(uint32(i), o); err != nil {
			t.Fatal(err)
		}
	}
	e := entry{at: place{pack: 1}, baseAt: place{pack: 1}}
	if err := w.entry(&e, &prints{}); err != nil {
		t.Fatal(err)
	}
	used, err := w.writeMap(io.Discard, table)
	if err != nil || len(used) != 1 {
		t.Fatalf("%v, %v", used, err)
	}
	if err := w.packs.Close(); err != nil { // so that the table cannot be changed
		t.Fatal(err)
	}
	if err := w.renumber(func(out io.Writer) error { _, err := w.writeMap(out, table); return err }, used); err == nil {
		t.Error("no error")
	}
	m := openMemory(dir, 0)
	defer m.close()
	if got, _, ok := m.next(func(Stored) bool { return true }); ok && m.packs[got.at.pack] != table[1] {
		t.Errorf("an entry of %s has the pack %s", table[1].Name, m.packs[got.at.pack].Name)
	}
}
