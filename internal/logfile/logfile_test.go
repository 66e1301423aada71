package logfile_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"nestbox/internal/logfile"
)

// lines returns the lines of files, in their order.
func lines(t *testing.T, names ...string) (all []string) {
	t.Helper()
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(raw) > 0 && raw[len(raw)-1] != '\n' {
			t.Errorf("%s ends with half a line", name)
		}
		all = append(all, strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")...)
	}
	return all
}

func write(t *testing.T, f *logfile.File, from, to int) {
	t.Helper()
	for i := range to - from {
		if _, err := fmt.Fprintf(f, "line %04d\n", from+i); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTurn: a file of the size begins again, no line is lost or split, and old files go.
func TestTurn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f, err := logfile.Open(path, 100, 2) // ten lines
	if err != nil {
		t.Fatal(err)
	}
	write(t, f, 0, 25)
	got := lines(t, path+".2", path+".1", path)
	if len(got) != 25 || got[0] != "line 0000" || got[24] != "line 0024" || !slices.IsSorted(got) {
		t.Errorf("%q", got)
	}
	if fi, err := os.Stat(path + ".1"); err != nil || fi.Size() != 100 || fi.Mode().Perm()&0o007 != 0 {
		t.Errorf("%v, %v", fi, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	// A process that starts again goes on where the file was.
	if f, err = logfile.Open(path, 100, 2); err != nil {
		t.Fatal(err)
	}
	write(t, f, 25, 31)
	if got := lines(t, path+".2", path+".1", path); len(got) != 21 || got[0] != "line 0010" || got[20] != "line 0030" {
		t.Errorf("%q", got)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 3 {
		t.Errorf("%v, %v", entries, err)
	}
	if _, err := f.Write([]byte(strings.Repeat("x", 300) + "\n")); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestMoved: what logrotate does, by moving and by copying, loses no line while many write.
func TestMoved(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	f, err := logfile.Open(path, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for i := range 500 {
				if _, err := fmt.Fprintf(f, "writer %d line %04d\n", w, i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	names := []string{}
	for n := range 5 {
		moved := fmt.Sprintf("%s-moved-%d", path, n)
		if err := os.Rename(path, moved); err != nil {
			t.Fatal(err)
		}
		names = append(names, moved)
		if err := f.Reopen(); err != nil {
			t.Fatal(err)
		}
	}
	all.Wait()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	got := lines(t, append(names, path)...)
	got = slices.DeleteFunc(got, func(s string) bool { return s == "" })
	slices.Sort(got)
	if len(slices.Compact(got)) != 2000 {
		t.Errorf("%d lines of 2,000", len(got))
	}
}

// TestEmptied: after another program has copied and emptied the file, it goes on at its start.
func TestEmptied(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f, err := logfile.Open(path, 100, 2)
	if err != nil {
		t.Fatal(err)
	}
	write(t, f, 0, 9)
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	write(t, f, 9, 15)
	if got := lines(t, path); len(got) != 6 || got[0] != "line 0009" {
		t.Errorf("%q", got)
	}
	if _, err := os.Stat(path + ".1"); err == nil {
		t.Error("a file that was emptied was put aside")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
