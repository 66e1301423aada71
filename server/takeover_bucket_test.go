package server_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nestbox/backup"
	"nestbox/backup/depot"
	"nestbox/internal/pdstest"
	"nestbox/internal/s3test"
	"nestbox/server"
	"nestbox/store/reference/referencetest"
)

// bucketOf moves the blobs of a source into a bucket, as the reference keeps them there.
func (o *old) bucketOf() *depot.S3 {
	t := o.t
	t.Helper()
	url := s3test.Start(t)
	b, err := depot.OpenS3("s3://"+s3test.Bucket, depot.S3Settings{
		Endpoint: url, Region: "us-east-1", AccessKey: "key", SecretKey: "secret", PathStyle: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(o.Blobs(), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(o.Blobs(), path)
		if err != nil {
			return err
		}
		key := "blocks/" + filepath.ToSlash(rel)
		for folder, to := range map[string]string{"tempt/": "tmp/", "quarantine/": "quarantine/"} {
			if rest, ok := strings.CutPrefix(filepath.ToSlash(rel), folder); ok {
				key = to + rest
			}
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return b.Put(t.Context(), key, int64(len(raw)), bytes.NewReader(raw))
	})
	if err == nil {
		err = os.RemoveAll(o.Blobs())
	}
	if err != nil {
		t.Fatal(err)
	}
	o.settings = []string{
		"PDS_BLOBSTORE_S3_BUCKET=" + s3test.Bucket, "PDS_BLOBSTORE_S3_REGION=us-east-1", "PDS_BLOBSTORE_S3_ENDPOINT=" + url,
		"PDS_BLOBSTORE_S3_FORCE_PATH_STYLE=true", "PDS_BLOBSTORE_S3_ACCESS_KEY_ID=key", "PDS_BLOBSTORE_S3_SECRET_ACCESS_KEY=secret",
	}
	return b
}

// objects returns the names, sizes and dates of a bucket's objects.
func objects(t testing.TB, b *depot.S3) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := b.List(t.Context(), "", func(o backup.Object) error {
		out[o.Name] = fmt.Sprint(o.Size, o.At)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestTakeoverBucket: blobs that are in a bucket are copied into the new data directory, those
// that are there already not again; the bucket is as it was.
func TestTakeoverBucket(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: 12, Records: 8, Now: time.Now()})
	b := o.bucketOf()
	before := objects(t, b)
	if len(before) < 18 {
		t.Fatalf("%d objects", len(before))
	}
	r := o.must(server.DryRun)
	if r.Blobs.Count != 18 || len(r.Blobs.Bad) > 0 || r.Sizes.BlobFiles != int64(len(before)) || r.Sizes.Needed < r.Sizes.Blobs {
		t.Errorf("dry run: %+v, %+v", r.Blobs, r.Sizes)
	}
	o.options.HashBlobs = true
	if r := o.must(server.DryRun); len(r.Blobs.Bad) > 0 {
		t.Errorf("dry run that reads them: %v", r.Blobs.Bad)
	}
	if r := o.must(server.Prepare); r.Blobs.By["copy"] != 18 || len(r.Blobs.Bad) > 0 {
		t.Errorf("first pass: %+v", r.Blobs)
	}
	missing, damaged := o.Accounts[8], o.Accounts[9]
	for _, a := range []*referencetest.Account{missing, damaged} {
		// Read again, from a bucket that lacks what is here already.
		if err := o.Change(o.Store(a), `INSERT INTO account_pref (name, valueJson) VALUES ('x', '{"$type":"com.example.x"}')`); err != nil {
			t.Fatal(err)
		}
	}
	r = o.must(server.Finish)
	if !r.Done || r.Stored.Blobs != 18 || r.Blobs.By["copy"] != 0 {
		t.Errorf("second pass: %+v, %+v", r.Stored, r.Blobs)
	}
	if after := objects(t, b); !maps.Equal(before, after) {
		t.Error("the bucket changed")
	}
	pdstest.Verify(t, o.target())
	o.serve()
	if report, err := o.back(filepath.Join(t.TempDir(), "back")); err != nil || report.Accounts != 12 {
		t.Errorf("back: %+v, %v", report, err)
	}
}

// TestTakeoverBucketFaults: blobs that the bucket lacks are named; one that cannot be reached is
// refused.
func TestTakeoverBucketFaults(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: 10, Records: 4})
	b := o.bucketOf()
	missing, damaged := o.Accounts[0], o.Accounts[5]
	if err := b.Remove(t.Context(), "blocks/"+missing.DID.String()+"/"+missing.Blob.String()); err != nil {
		t.Fatal(err)
	}
	if err := b.Put(t.Context(), "blocks/"+damaged.DID.String()+"/"+damaged.Blob.String(), 6, strings.NewReader("spoilt")); err != nil {
		t.Fatal(err)
	}
	for _, pass := range []server.Pass{server.DryRun, server.Finish} {
		if r := o.must(pass); len(r.Blobs.Bad) != 2 {
			t.Errorf("%s: %v", pass, r.Blobs.Bad)
		}
	}
	pdstest.Verify(t, o.target())
	o = newOld(t, referencetest.Options{Accounts: 8, Records: 2})
	o.bucketOf()
	all := o.settings
	o.settings = slices.Concat(all, []string{"PDS_BLOBSTORE_S3_BUCKET=nothing-here"})
	if _, err := o.take(t.Context(), server.DryRun); err == nil || !strings.Contains(err.Error(), "PDS_BLOBSTORE_S3_") {
		t.Errorf("another bucket: %v", err)
	}
	o.settings = all[:len(all)-1]
	o.refused(server.DryRun, "PDS_BLOBSTORE_S3_SECRET_ACCESS_KEY is not set")
}

// TestTakeoverLetters: owners whose accounts are to be deleted get a mail, once.
func TestTakeoverLetters(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: 9, Records: 2})
	a := o.Accounts[referencetest.Deactivated]
	when := time.Now().Add(30 * 24 * time.Hour)
	err := o.Change("account.sqlite", fmt.Sprintf("UPDATE actor SET deleteAfter = '%[2]s' WHERE did = '%[1]s'; UPDATE account SET emailConfirmedAt = '%[3]s' WHERE did = '%[1]s'",
		a.DID, referencetest.ISO(when), referencetest.ISO(time.Now().Add(-time.Hour))))
	if err != nil {
		t.Fatal(err)
	}
	o.settings = []string{"PDS_EMAIL_SMTP_URL=smtp://127.0.0.1:9", "PDS_EMAIL_FROM_ADDRESS=pds@example.com"}
	o.options.KeepDeleteAfter = true
	o.must(server.Finish)
	o.write(false)
	r := o.must(server.Finish) // again, as the old server has written
	if len(r.DeleteAfter.Kept) != 1 || r.DeleteAfter.Mailed != 1 {
		t.Errorf("%+v", r.DeleteAfter)
	}
	got := rows(t, filepath.Join(o.target(), "nestbox.sqlite"), "SELECT recipient || ' ' || subject FROM outbox")
	if !strings.Contains(got, a.Email+" Deletion of your account") || strings.Count(got, a.Email) != 1 {
		t.Errorf("outbox: %q", got)
	}
}
