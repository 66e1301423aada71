package server_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/syntax"

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

// TestTakeoverCrashed: what a crash of the old server leaves behind by seconds is no fault.
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
