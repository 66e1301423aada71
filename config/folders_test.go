package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nestbox/config"
)

// TestBlobFolders: uploads and the rest of the data directory never share a folder,
// whatever the names of the folders.
func TestBlobFolders(t *testing.T) {
	root := t.TempDir()
	data := filepath.Join(root, "pds", "data")
	if err := os.MkdirAll(filepath.Join(data, "transfers"), 0o700); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"link-data": data, "link-above": filepath.Dir(data), "link-other": root} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	const blobs, tmp = "PDS_BLOBSTORE_DISK_LOCATION", "PDS_BLOBSTORE_DISK_TMP_LOCATION"
	for _, c := range []struct{ data, blobs, tmp, setting, want string }{
		{data: data, blobs: data + "/blobs"},
		{data: data, blobs: data + "/blocks", tmp: data + "/temp"},
		{data: data, blobs: data + "/transfers2"},
		{data: data, blobs: root + "/pds/blobs", tmp: root + "/pds/blobs/tmp"},
		{data: data, blobs: data + "2"},
		{data: data, tmp: data + "/blobs/uploads"},
		{data: root + "/link-data", blobs: root + "/link-other/blobs"},
		{data: root + "/new/data", blobs: root + "/new/blobs"}, // none of it exists
		{data, data, "", blobs, "it holds the data directory"},
		{data, data + "/x/../", "", blobs, "it holds the data directory"},
		{data, filepath.Dir(data), "", blobs, "it holds the data directory"},
		{data, "/", "", blobs, "it holds the data directory"},
		{data, root + "/link-data", "", blobs, "it holds the data directory"},
		{root + "/link-data", data, "", blobs, "it holds the data directory"},
		{data, root + "/link-above", "", blobs, "it holds the data directory"},
		{root + "/new/data", root + "/new", "", blobs, "it holds the data directory"},
		{data, data + "/transfers", "", blobs, "the data directory's folder transfers is for something else"},
		{data, root + "/link-data/transfers/deep", "", blobs, "the data directory's folder transfers is for something else"},
		{data, data + "/plc/x", "", blobs, "the data directory's folder plc is for something else"},
		{data, "", data, tmp, "it holds the data directory"},
		{data, "", data + "/transfers", tmp, "the data directory's folder transfers is for something else"},
		{data, "", data + "/blobs", tmp, "it is the folder of finished uploads"},
		{data, root + "/b", root + "/b/.", tmp, "it is the folder of finished uploads"},
		{data, root + "/b", root + "/b/AB/x", tmp, "it is in a folder of finished uploads"},
	} {
		_, _, err := config.Load(config.Flags{}, required("PDS_DATA_DIRECTORY="+c.data, blobs+"="+c.blobs, tmp+"="+c.tmp))
		var faults config.Faults
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%+v: %v", c, err)
		case c.want == "":
		case !errors.As(err, &faults) || len(faults) != 1 || faults[0].Setting != c.setting || faults[0].Problem != c.want || !strings.HasPrefix(faults[0].Want, "name "):
			t.Errorf("%+v: %v", c, err)
		}
	}
}
