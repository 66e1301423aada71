package server_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/internal/pdstest"
	"nestbox/server"
	"nestbox/store/reference/referencetest"
	"nestbox/takeover"
)

// TestTakeoverRefused: what speaks against beginning is named, with what to do, and nothing
// is taken over.
func TestTakeoverRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		plant func(o *old) error
		want  string
	}{
		"newer": {func(o *old) error {
			return o.Change("account.sqlite", "INSERT INTO kysely_migration VALUES ('008', ''); ALTER TABLE actor ADD COLUMN storeSchemaVersion TEXT")
		}, "with the migrations 008, which add actor.storeSchemaVersion: use a newer nestbox, or take over what is known with --force"},
		"older": {func(o *old) error {
			return o.Change("account.sqlite", "DELETE FROM kysely_migration WHERE name = '007'")
		}, "without the migrations 007"},
		"locked": {func(o *old) error {
			return o.Change("sequencer.sqlite", "UPDATE kysely_migration_lock SET is_locked = 1")
		}, "let the old version start once"},
		"no accounts": {func(o *old) error { return os.Remove(filepath.Join(o.Dir, "account.sqlite")) }, "account.sqlite"},
		"log left behind": {
			func(o *old) error {
				return o.Change("sequencer.sqlite", "DROP TABLE repo_seq; DROP TABLE kysely_migration; DROP TABLE kysely_migration_lock")
			},
			"with the files that end in -wal",
		},
		"log too old": {
			func(o *old) error {
				return o.Change("sequencer.sqlite", "UPDATE repo_seq SET sequencedAt = '2025-01-01T00:00:00.000Z'")
			},
			"12 repositories are newer than its last event: copy the whole data directory again",
		},
		"log behind one": {func(o *old) error {
			since := time.Now().Add(-48 * time.Hour)
			return errors.Join(
				o.Change("sequencer.sqlite", "UPDATE repo_seq SET sequencedAt = '"+referencetest.ISO(since)+"'"),
				o.rootOf(o.Accounts[3], at(since.Add(2*time.Minute))),
			)
		}, "1 repositories are newer than its last event"},
		"accounts left behind": {func(o *old) error { return o.rootOf(nil, at(time.Now().Add(-50*time.Hour))) }, "account.sqlite: the event log has a revision of"},
		"damaged":              {func(o *old) error { return spoil(filepath.Join(o.Dir, "account.sqlite"), 4096*3) }, "bring it back from a backup"},
		"clock": {func(o *old) error {
			o.options.Now = func() time.Time { return time.Now().Add(-72 * time.Hour) }
			return nil
		}, "set the clock"},
		"kms":      {func(o *old) error { o.settings = []string{"PDS_PLC_ROTATION_KEY_KMS_KEY_ID=x"}; return nil }, "PDS_PLC_ROTATION_KEY_KMS_KEY_ID is set: a rotation key in AWS KMS cannot be used"},
		"entryway": {func(o *old) error { o.settings = []string{"PDS_ENTRYWAY_URL=https://x.test"}; return nil }, "PDS_ENTRYWAY_URL is set"},
		"s3": {
			func(o *old) error {
				o.settings = []string{"PDS_BLOBSTORE_S3_BUCKET=bucket"}
				return nil
			},
			"S3 bucket bucket",
		},
		"other blobs": {func(o *old) error {
			return errors.Join(os.RemoveAll(o.Blobs()), os.MkdirAll(o.Blobs(), 0o700))
		}, "the files of 18 of 18 blobs are missing"},
		"skip typo":   {func(o *old) error { o.options.Skip = []string{"did:plc:nobody"}; return nil }, "--skip did:plc:nobody: there is no such account"},
		"skip handle": {func(o *old) error { o.options.Skip = []string{"user3.test"}; return nil }, "use --skip did:plc:"},
		"no blobs":    {func(o *old) error { return os.RemoveAll(o.Blobs()) }, "the folder of blobs"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOld(t, referencetest.Options{Accounts: 12, Records: 4})
			if err := c.plant(o); err != nil {
				t.Fatal(err)
			}
			for _, pass := range []server.Pass{server.DryRun, server.Finish} {
				r, err := o.take(t.Context(), pass)
				if err == nil || !strings.Contains(err.Error(), c.want) || r.Done {
					t.Errorf("%s: %v, want %q", pass, err, c.want)
				}
			}
			if _, err := os.Stat(filepath.Join(o.target(), "takeover.json")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it ended: %v", err)
			}
		})
	}
}

// spoil overwrites 4 kB of a file.
func spoil(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(strings.Repeat("spoilt", 700)), at)
	return errors.Join(err, f.Close())
}

// TestTakeoverFaults: what is wrong with an account is named, and nothing is switched; left
// out, the others are taken over.
func TestTakeoverFaults(t *testing.T) {
	t.Parallel()
	noKey := map[string]bool{"no key": true, "other key": true, "key damaged": true} // no relay has it
	for name, c := range map[string]struct {
		plant func(o *old, a *referencetest.Account) error
		want  string
	}{
		"key damaged": {func(o *old, a *referencetest.Account) error {
			return os.WriteFile(filepath.Join(o.ActorDir(a.DID), "key"), []byte("short"), 0o600)
		}, "not a K-256 key"},
		"no store": {func(o *old, a *referencetest.Account) error { return os.RemoveAll(o.ActorDir(a.DID)) }, "there is no actor store"},
		"no key": {func(o *old, a *referencetest.Account) error {
			return os.Remove(filepath.Join(o.ActorDir(a.DID), "key"))
		}, "its signing key is missing"},
		"other key": {func(o *old, a *referencetest.Account) error {
			return os.WriteFile(filepath.Join(o.ActorDir(a.DID), "key"), o.Accounts[0].Key.Bytes(), 0o600)
		}, "not signed by the key"},
		"no commit": {func(o *old, a *referencetest.Account) error { return o.Change(o.Store(a), "DELETE FROM repo_root") }, "it has no commit"},
		"commit missing": {func(o *old, a *referencetest.Account) error {
			return o.Change(o.Store(a), "DELETE FROM repo_block WHERE cid = (SELECT cid FROM repo_root)")
		}, "its latest commit"},
		"record changed": {func(o *old, a *referencetest.Account) error {
			return o.Change(o.Store(a), "UPDATE repo_block SET content = x'a0' WHERE cid = (SELECT min(cid) FROM record)")
		}, "its block is"},
		"record missing": {func(o *old, a *referencetest.Account) error {
			return o.Change(o.Store(a), "DELETE FROM repo_block WHERE cid = (SELECT min(cid) FROM record)")
		}, "is missing"},
		"database damaged": {func(o *old, a *referencetest.Account) error { return spoil(filepath.Join(o.Dir, o.Store(a)), 4096*2) }, "damaged"},
		"not a database": {func(o *old, a *referencetest.Account) error {
			return os.WriteFile(filepath.Join(o.Dir, o.Store(a)), []byte(strings.Repeat("nothing", 1000)), 0o600)
		}, "damaged"},
		"newer store": {func(o *old, a *referencetest.Account) error {
			return o.Change(o.Store(a), "INSERT INTO kysely_migration VALUES ('002', '')")
		}, "with --force"},
		"locked store": {func(o *old, a *referencetest.Account) error {
			return o.Change(o.Store(a), "UPDATE kysely_migration_lock SET is_locked = 1")
		}, "not ended; let the old version start once"},
		"no password": {func(o *old, a *referencetest.Account) error {
			return o.Change("account.sqlite", "DELETE FROM account WHERE did = '"+a.DID.String()+"'")
		}, "no address and no password"},
		"same address": {func(o *old, a *referencetest.Account) error {
			return o.Change("account.sqlite", "DROP INDEX account_email_lower_idx; UPDATE account SET email = 'USER9@example.com' WHERE did = '"+a.DID.String()+"'")
		}, "change that of one of them (com.atproto.admin.updateAccountEmail)"},
		"not a DID": {func(o *old, a *referencetest.Account) error {
			return o.Change("account.sqlite", "INSERT INTO actor (did, handle, createdAt) VALUES ('did:plc:../../x', 'odd.test', '2026-01-01T00:00:00.000Z')")
		}, "it is not a DID"},
		"no account": {func(o *old, a *referencetest.Account) error {
			return o.Change("account.sqlite", "DELETE FROM actor WHERE did = '"+a.DID.String()+"'")
		}, "there is an actor store, and no account"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOld(t, referencetest.Options{Accounts: 11, Records: 6})
			bad := o.Accounts[10]
			if err := c.plant(o, bad); err != nil {
				t.Fatal(err)
			}
			r, err := o.take(t.Context(), server.Finish)
			if !errors.Is(err, takeover.ErrFaults) || len(r.Faults) == 0 || r.Done {
				t.Fatalf("%v, %+v", err, r.Faults)
			}
			if !slices.ContainsFunc(r.Faults, func(f takeover.Fault) bool { return strings.Contains(f.String(), c.want) }) {
				t.Errorf("faults %v, want %q", r.Faults, c.want)
			}
			for _, f := range r.Faults {
				if noKey[name] && (strings.Contains(f.Do, "--from-relay") || !strings.Contains(f.Do, "file named key")) {
					t.Errorf("to do: %s", f.Do)
				}
				o.options.Skip = append(o.options.Skip, f.DID.String())
			}
			if name == "not a DID" {
				if err := o.Change("account.sqlite", "DELETE FROM actor WHERE handle = 'odd.test'"); err != nil {
					t.Fatal(err)
				}
				o.options.Skip = nil
			}
			r = o.must(server.Finish)
			if want := int64(11 - len(o.options.Skip)); name != "not a DID" && name != "no account" && r.Stored.Accounts != want || !r.Done {
				t.Errorf("%d accounts, want %d", r.Stored.Accounts, want)
			}
			pdstest.Verify(t, o.target())
		})
	}
}

// TestTakeoverMended: what can be mended is, and it is said.
func TestTakeoverMended(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: 12, Records: 16})
	lag, noHandle, ahead, noFile, spoilt := o.Accounts[8], o.Accounts[10], o.Accounts[9], o.Accounts[0], o.Accounts[5]
	for path, sql := range map[string]string{
		o.Store(lag):       "DELETE FROM record WHERE uri = (SELECT max(uri) FROM record)",
		"account.sqlite":   "UPDATE actor SET handle = NULL WHERE did = '" + noHandle.DID.String() + "'",
		"sequencer.sqlite": fmt.Sprintf("DELETE FROM repo_seq WHERE seq = (SELECT max(seq) FROM repo_seq WHERE did = '%s' AND eventType = 'append')", ahead.DID),
	} {
		if err := o.Change(path, sql); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(
		os.Remove(filepath.Join(o.Blobs(), noFile.DID.String(), noFile.Blob.String())),
		os.WriteFile(filepath.Join(o.Blobs(), spoilt.DID.String(), spoilt.Blob.String()), []byte("spoilt"), 0o600),
	)
	if err != nil {
		t.Fatal(err)
	}
	r := o.must(server.Finish)
	if !slices.Equal(r.Lagging, []syntax.DID{lag.DID}) || r.Events.Syncs != 1 || r.Events.Statuses != 0 || len(r.Blobs.Bad) != 2 {
		t.Errorf("lagging %v, events %+v, blobs %+v", r.Lagging, r.Events, r.Blobs.Bad)
	}
	if r.Stored.Records != 12*16 || r.Stored.LastEvent != o.Last+1 {
		t.Errorf("%+v", r.Stored)
	}
	if !strings.Contains(strings.Join(r.Remarks, "\n"), noHandle.Handle) {
		t.Errorf("remarks %q do not name %s", r.Remarks, noHandle.Handle)
	}
	pdstest.Verify(t, o.target())
}
