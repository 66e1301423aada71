package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nestbox/config"
)

// touch makes empty files, and the folders that they are in.
func touch(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTakenOver: the settings of a reference PDS lead to what was taken over of its data
// directory, and to nothing before that.
func TestTakenOver(t *testing.T) {
	t.Parallel()
	data, elsewhere := filepath.Join(t.TempDir(), "pds"), filepath.Join(t.TempDir(), "x.sqlite")
	settings := required("PDS_DATA_DIRECTORY="+data, "PDS_BLOBSTORE_DISK_LOCATION="+filepath.Join(data, "blocks"),
		"PDS_BLOBSTORE_DISK_TMP_LOCATION="+filepath.Join(data, "blocks", "tempt"), "PDS_ACTOR_STORE_DIRECTORY="+filepath.Join(data, "actors"))
	if c := load(t, config.Flags{}, required("PDS_DATA_DIRECTORY="+data)...); c.DataDirectory != data {
		t.Errorf("a new directory: %s", c.DataDirectory)
	}
	refused := func(more ...string) {
		t.Helper()
		for _, flags := range []config.Flags{{}, {Command: true}} {
			if _, _, err := config.Load(flags, append(settings, more...)); err == nil || !strings.Contains(err.Error(), "run nestbox takeover --env-file FILE") {
				t.Errorf("not taken over: %v", err)
			}
		}
	}
	touch(t, elsewhere)
	refused("PDS_ACCOUNT_DB_LOCATION=" + elsewhere)
	touch(t, filepath.Join(data, "account.sqlite"), filepath.Join(data, "nestbox", "nestbox.sqlite"))
	refused()
	touch(t, filepath.Join(data, "nestbox", "takeover.json"))
	for _, flags := range []config.Flags{{}, {Data: filepath.Join(data, "nestbox")}, {Command: true}} {
		c := load(t, flags, settings...)
		if c.DataDirectory != filepath.Join(data, "nestbox") || c.BlobDiskLocation != "" || c.BlobDiskTmpLocation != "" {
			t.Errorf("%+v: %s, blobs %s, %s", flags, c.DataDirectory, c.BlobDiskLocation, c.BlobDiskTmpLocation)
		}
	}
	// A directory of ours with a file of that name is ours.
	touch(t, filepath.Join(data, "nestbox.sqlite"))
	if c := load(t, config.Flags{}, required("PDS_DATA_DIRECTORY="+data)...); c.DataDirectory != data {
		t.Errorf("ours: %s", c.DataDirectory)
	}
}

// TestLoadReference: the places of the source are where its settings say, or where the same
// folder lies on this machine.
func TestLoadReference(t *testing.T) {
	t.Parallel()
	settings := required("PDS_DATA_DIRECTORY=/pds", "PDS_BLOBSTORE_DISK_LOCATION=/pds/blocks", "PDS_ACTOR_STORE_DIRECTORY=/actors")
	flags := config.Flags{Command: true}
	for _, c := range []struct{ from, to, data, target, blobs string }{
		{"", "", "/pds", "/pds/nestbox", "/pds/blocks"},
		{"/srv/old", "", "/srv/old", "/srv/old/nestbox", "/srv/old/blocks"},
		{"/srv/old", "/srv/new", "/srv/old", "/srv/new", "/srv/old/blocks"},
	} {
		conf, ref, _, err := config.LoadReference(flags, settings, c.from, c.to)
		if err != nil || ref.Data != c.data || conf.DataDirectory != c.target || ref.Blobs != c.blobs || ref.Actors != "/actors" || conf.BlobDiskLocation != "" {
			t.Errorf("%+v: %s, %+v, %v", c, conf.DataDirectory, ref, err)
		}
	}
	if _, _, _, err := config.LoadReference(flags, required(), "", ""); err == nil || !strings.Contains(err.Error(), "--from DIR") {
		t.Errorf("no data directory: %v", err)
	}
	_, ref, _, err := config.LoadReference(flags, append(settings, "PDS_ENTRYWAY_URL=https://x.test", "PDS_BLOBSTORE_S3_BUCKET=b"), "", "")
	if err != nil || len(ref.Unread) != 1 || ref.S3Bucket != "b" {
		t.Errorf("%+v, %v", ref, err)
	}
}
