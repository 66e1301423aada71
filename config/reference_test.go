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
}

// TestTakenOverWithoutSource: what is left of the source has no say in what is served, and
// nothing new begins where a source was.
func TestTakenOverWithoutSource(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		there   []string
		more    string
		served  string
		refused string
	}{
		"its files are removed": {[]string{"nestbox/takeover.json", "nestbox/nestbox.sqlite"}, "", "nestbox", ""},
		"its accounts are not mounted": {
			[]string{"nestbox/takeover.json", "actors/x"}, "PDS_ACCOUNT_DB_LOCATION=/not/mounted/account.sqlite", "nestbox", "",
		},
		"an empty server was beside it": {[]string{"nestbox/takeover.json", "nestbox.sqlite", "account.sqlite"}, "", "nestbox", ""},
		"unfinished":                    {[]string{"nestbox/nestbox.sqlite"}, "", "", "was not finished"},
		"not taken over, not mounted":   {[]string{"sequencer.sqlite"}, "PDS_ACCOUNT_DB_LOCATION=/not/mounted/account.sqlite", "", "was not taken over"},
		"only actors":                   {[]string{"actors/ab/key"}, "", "", "was not taken over"},
		"ours":                          {[]string{"nestbox.sqlite", "account.sqlite"}, "", ".", ""},
		"new":                           {nil, "", ".", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := filepath.Join(t.TempDir(), "pds")
			for _, path := range c.there {
				touch(t, filepath.Join(data, path))
			}
			got, _, err := config.Load(config.Flags{}, required("PDS_DATA_DIRECTORY="+data, c.more))
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("%v, want %q", err, c.refused)
				}
				return
			}
			if want := filepath.Join(data, c.served); err != nil || got.DataDirectory != want {
				t.Errorf("%s, %v, want %s", got.DataDirectory, err, want)
			}
		})
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
	// A file that cannot be read is named, and not what it would have set.
	_, _, _, err := config.LoadReference(config.Flags{Command: true, EnvFile: filepath.Join(t.TempDir(), "nope.env")}, nil, "", "")
	if err == nil || !strings.Contains(err.Error(), "nope.env") || strings.Contains(err.Error(), "it is not set") {
		t.Errorf("no file: %v", err)
	}
	_, ref, _, err := config.LoadReference(flags, append(settings, "PDS_ENTRYWAY_URL=https://x.test", "PDS_BLOBSTORE_S3_BUCKET=b"), "", "")
	if err != nil || len(ref.Unread) != 1 || ref.Bucket.Name != "" {
		t.Errorf("%+v, %v", ref, err)
	}
	_, ref, _, err = config.LoadReference(flags, required("PDS_DATA_DIRECTORY=/pds", "PDS_BLOBSTORE_S3_BUCKET=b", "PDS_BLOBSTORE_S3_REGION=r",
		"PDS_BLOBSTORE_S3_ENDPOINT=https://s3.test", "PDS_BLOBSTORE_S3_FORCE_PATH_STYLE=true", "PDS_BLOBSTORE_S3_ACCESS_KEY_ID=k",
		"PDS_BLOBSTORE_S3_SECRET_ACCESS_KEY=hunter2"), "", "")
	want := config.ReferenceBucket{Name: "b", S3: config.S3{
		Region: "r", Endpoint: "https://s3.test", AccessKey: "k", SecretKey: config.NewSecret("hunter2"), PathStyle: true,
	}}
	if err != nil || ref.Bucket != want {
		t.Errorf("%+v, %v", ref.Bucket, err)
	}
}
