package disk_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"nestbox/blob/disk"
)

// TestLook lists what is there, also if the folders are symbolic links.
func TestLook(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	dir := filepath.Join(root, "blobs")
	f := open(t, dir, "")
	put(t, f, "ABCD", "one")
	put(t, f, "ABEF", "two")
	u := begin(t, f, "unfinished")
	defer u.Abort()
	for _, name := range []string{"stray", filepath.Join("AB", "XYZ")} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(root, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	want := []string{"AB/ABCD ABCD", "AB/ABEF ABEF", "AB/XYZ ", "stray "}
	for _, c := range []struct{ dir, tmp string }{
		{dir, ""},
		{link, ""},
		{link, filepath.Join(dir, "tmp")},
		{dir, filepath.Join(link, "tmp")},
	} {
		looked := disk.Look(c.dir, c.tmp)
		var got []string
		err := looked.Each(t.Context(), func(path, key string) error {
			got = append(got, path+" "+key)
			return nil
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%v: %q, %v", c, got, err)
		}
		if content, err := read(t, looked, "ABCD"); content != "one" || err != nil {
			t.Errorf("%v: %q, %v", c, content, err)
		}
	}
	if err := disk.Look(filepath.Join(root, "none"), "").Each(t.Context(), func(string, string) error { t.Error("a file"); return nil }); err != nil {
		t.Error(err)
	}
}
