package server_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/config"
	"nestbox/dagcbor"
	"nestbox/internal/pdstest"
	"nestbox/server"
	"nestbox/store/reference/referencetest"
	"nestbox/takeover"
)

// at returns a revision of a time.
func at(t time.Time) syntax.TID { return syntax.NewTID(t.UnixMicro(), 1) }

// rootOf makes account.sqlite name a revision of an account; of all if a is nil.
func (o *old) rootOf(a *referencetest.Account, rev syntax.TID) error {
	sql := fmt.Sprintf("UPDATE repo_root SET rev = '%s'", rev)
	if a != nil {
		sql += fmt.Sprintf(" WHERE did = '%s'", a.DID)
	}
	return o.Change("account.sqlite", sql)
}

// eventOf appends an event to the log that names a revision of an account.
func (o *old) eventOf(a *referencetest.Account, rev syntax.TID) error {
	body, err := dagcbor.Encode(map[string]any{"repo": a.DID.String(), "rev": rev.String()})
	if err != nil {
		return err
	}
	return o.Change("sequencer.sqlite", fmt.Sprintf("INSERT INTO repo_seq (did, eventType, event, sequencedAt) VALUES ('%s', 'append', x'%x', '%s')",
		a.DID, body, referencetest.ISO(rev.Time())))
}

// logsLost is a source whose account.sqlite and event log know nothing of the last hours.
func (o *old) logsLost() error {
	long := time.Now().Add(-50 * time.Hour)
	return errors.Join(
		o.rootOf(nil, at(long)),
		o.Change("sequencer.sqlite", "DELETE FROM repo_seq WHERE eventType IN ('append', 'sync'); UPDATE repo_seq SET sequencedAt = '"+referencetest.ISO(long)+"'"),
	)
}

// TestTakeoverBehind: a database that was copied without its log is a fault, also of an actor
// that the last pass need not read; --force takes it over as it is.
func TestTakeoverBehind(t *testing.T) {
	t.Parallel()
	newer := func(a *referencetest.Account) syntax.TID { return at(a.Rev.Time().Add(30 * time.Second)) }
	for name, c := range map[string]struct {
		plant func(o *old, a *referencetest.Account) error
		want  string
	}{
		"actor behind account.sqlite": {
			func(o *old, a *referencetest.Account) error { return o.rootOf(a, newer(a)) }, "and account.sqlite names the newer",
		},
		"actor behind the event log": {
			func(o *old, a *referencetest.Account) error { return o.eventOf(a, newer(a)) }, "and the event log names the newer",
		},
		"both behind the actors": {
			func(o *old, _ *referencetest.Account) error { return o.logsLost() }, "its repository is newer than the last event",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOld(t, referencetest.Options{Accounts: 10, Records: 6})
			o.settings = []string{"PDS_REPO_BACKFILL_LIMIT_MS=1"} // the planted event is not whole
			for path := range sums(t, o.Dir, "") {
				if err := os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
					t.Fatal(err)
				}
			}
			o.must(server.Prepare)
			if err := c.plant(o, o.Accounts[9]); err != nil {
				t.Fatal(err)
			}
			for _, pass := range []server.Pass{server.DryRun, server.Finish} {
				r, err := o.take(t.Context(), pass)
				if pass == server.Finish && !errors.Is(err, takeover.ErrFaults) {
					t.Errorf("%s: %v", pass, err)
				}
				if len(r.Faults) == 0 || !strings.Contains(r.Faults[0].String(), c.want) || !strings.Contains(r.Faults[0].Do, "-wal") || r.Done {
					t.Errorf("%s: faults %v, want %q", pass, r.Faults, c.want)
				}
			}
			o.options.Force = true
			if r := o.must(server.Finish); !r.Done || r.Stored.Accounts != 10 || len(r.Faults) > 0 {
				t.Errorf("forced: %+v", r)
			}
			pdstest.Verify(t, o.target())
		})
	}
}

// TestTakeoverCrashed: databases that lag by seconds, as a crash of the old server leaves them, are taken over.
func TestTakeoverCrashed(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: 1, Records: 6})
	a := o.Accounts[0]
	err := errors.Join(
		o.rootOf(a, at(a.Rev.Time().Add(-time.Second))),
		o.Change("sequencer.sqlite", "DELETE FROM repo_seq WHERE seq = (SELECT max(seq) FROM repo_seq WHERE eventType = 'append')"),
	)
	if err != nil {
		t.Fatal(err)
	}
	if r := o.must(server.Finish); !r.Done || r.Events.Syncs != 1 {
		t.Errorf("%+v", r)
	}
	pdstest.Verify(t, o.target())
}

// TestTakeoverTakenDown: a takedown without a case hides what it did in the old server.
func TestTakeoverTakenDown(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: 12, Records: 6})
	account, record, blob := o.Accounts[9], o.Accounts[0], o.Accounts[5]
	for path, sql := range map[string]string{
		"account.sqlite": "UPDATE actor SET takedownRef = '' WHERE did = '" + account.DID.String() + "'",
		o.Store(record):  "UPDATE record SET takedownRef = '' WHERE uri = (SELECT min(uri) FROM record)",
		o.Store(blob):    "UPDATE blob SET takedownRef = '' WHERE cid = '" + blob.Blob.String() + "'",
	} {
		if err := o.Change(path, sql); err != nil {
			t.Fatal(err)
		}
	}
	if n := o.must(server.Finish).Stored; n.TakenDown != 3 || n.Takedowns != 4 {
		t.Errorf("%d accounts are taken down, and %d records and blobs", n.TakenDown, n.Takedowns)
	}
	pdstest.Verify(t, o.target())
}

// TestTakeoverRestored: a blob whose file comes back between the passes is brought, and one
// that does not is said again. A table of records that lagged is no difference afterwards.
func TestTakeoverRestored(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: 9, Records: 8})
	back, gone, lag := o.Accounts[0], o.Accounts[5], o.Accounts[8]
	if err := o.Change(o.Store(lag), "DELETE FROM record WHERE uri = (SELECT max(uri) FROM record)"); err != nil {
		t.Fatal(err)
	}
	path := func(a *referencetest.Account) string {
		return filepath.Join(o.Blobs(), a.DID.String(), a.Blob.String())
	}
	content, err := os.ReadFile(path(back))
	if err = errors.Join(err, os.Remove(path(back)), os.Remove(path(gone))); err != nil {
		t.Fatal(err)
	}
	for name := range sums(t, o.Dir, "") {
		if err := os.Chtimes(name, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	if r := o.must(server.Prepare); len(r.Blobs.Bad) != 2 {
		t.Errorf("first pass: %+v", r.Blobs)
	}
	if err := os.WriteFile(path(back), content, 0o600); err != nil {
		t.Fatal(err)
	}
	r := o.must(server.Finish)
	if len(r.Blobs.Bad) != 1 || r.Blobs.Bad[0].CID != gone.Blob.String() || r.Accounts.Read != 2 || r.Stored.Blobs != 15 {
		t.Errorf("last pass: %+v, %d accounts read, stored %+v", r.Blobs, r.Accounts.Read, r.Stored)
	}
	c, err := server.CheckTakeover(t.Context(), &config.Config{DataDirectory: o.target()}, config.Reference{}, time.Now())
	if err != nil || len(c.Differences) > 0 || c.Same != 9 {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestTakeoverBusy: accounts that the running server makes or deletes while a dry run reads
// are no faults.
func TestTakeoverBusy(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: 10, Records: 2})
	defer o.hold("account.sqlite")()
	made, deleted, half := o.Accounts[9].DID, o.Accounts[8].DID, o.Accounts[7].DID
	if err := o.Change("account.sqlite", fmt.Sprintf("DELETE FROM actor WHERE did IN ('%s', '%s')", made, half)); err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int64
	o.options.Now = func() time.Time { calls.Add(1); return time.Now() }
	if r := o.must(server.DryRun); len(r.Faults) > 0 {
		t.Errorf("faults %v", r.Faults)
	}
	all := calls.Swap(0)
	o.options.Now = func() time.Time {
		var err error
		switch calls.Add(1) {
		case 1: // the source is open
			err = errors.Join(os.RemoveAll(o.ActorDir(deleted)),
				o.Change("account.sqlite", fmt.Sprintf("DELETE FROM account WHERE did = '%[1]s'; DELETE FROM actor WHERE did = '%[1]s'", deleted)))
		case all - 10: // some actors are read
			err = o.Change("account.sqlite", fmt.Sprintf("INSERT INTO actor (did, handle, createdAt) VALUES ('%s', 'made.test', '2026-01-01T00:00:00.000Z')", made))
		}
		if err != nil {
			t.Error(err)
		}
		return time.Now()
	}
	r := o.must(server.DryRun)
	said := strings.Join(r.Remarks, "\n")
	if len(r.Faults) > 0 || strings.Contains(said, made.String()) {
		t.Errorf("faults %v, remarks %s", r.Faults, said)
	}
	for _, want := range []string{deleted.String() + ": the old server deleted it meanwhile", half.String() + ": there is an actor store, and no account yet"} {
		if !strings.Contains(said, want) {
			t.Errorf("remarks %s, want %s", said, want)
		}
	}
}
