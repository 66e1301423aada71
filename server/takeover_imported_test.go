package server_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	"github.com/bluesky-social/indigo/atproto/syntax"

	"nestbox/dagcbor"
	"nestbox/internal/pdstest"
	"nestbox/repo"
	"nestbox/server"
	"nestbox/store/reference/referencetest"
)

// TestTakeoverImported: repositories that were imported there, and not written since, have the
// commit of the server before, by its key or by theirs, and a revision of their own. They are
// taken over, with a commit of a later revision by the account's key, and announced.
func TestTakeoverImported(t *testing.T) {
	t.Parallel()
	o := newOld(t, referencetest.Options{Accounts: referencetest.Special + 4, Records: 6})
	former, err := atcrypto.GeneratePrivateKeyK256()
	if err != nil {
		t.Fatal(err)
	}
	var revs []syntax.TID
	for i, key := range []*atcrypto.PrivateKeyK256{former, o.Accounts[referencetest.Special+1].Key} {
		a := o.Accounts[referencetest.Special+i]
		commit, err := repo.DecodeCommit(a.Commit)
		if err != nil {
			t.Fatal(err)
		}
		commit.Rev = syntax.NewTIDFromInteger(a.Rev.Integer() - 1<<30)
		if err := commit.Sign(key); err != nil {
			t.Fatal(err)
		}
		block := commit.Encode()
		id := dagcbor.CID(block).String()
		roots := fmt.Sprintf("UPDATE repo_root SET cid = '%s' WHERE did = '%s';", id, a.DID)
		blocks := fmt.Sprintf("UPDATE repo_block SET cid = '%s', content = x'%x', size = %d WHERE cid = '%s';", id, block, len(block), a.Head)
		if err := o.Change(o.Store(a), roots+blocks); err != nil {
			t.Fatal(err)
		}
		if err := o.Change("account.sqlite", roots); err != nil {
			t.Fatal(err)
		}
		revs = append(revs, a.Rev)
	}
	for _, pass := range []server.Pass{server.DryRun, server.Prepare} {
		if r := o.must(pass); len(r.Faults) > 0 {
			t.Errorf("%s: %+v", pass, r.Faults)
		}
	}
	if r := o.must(server.Finish); len(r.Faults) > 0 || r.Events.Syncs != 2 {
		t.Errorf("%d repositories are announced, want 2; faults %+v", r.Events.Syncs, r.Faults)
	}
	for i, was := range revs {
		did := o.Accounts[referencetest.Special+i].DID
		rev := strings.TrimSpace(rows(t, filepath.Join(o.target(), "nestbox.sqlite"),
			"SELECT r.rev FROM repo r JOIN account a ON a.id = r.account_id WHERE r.current = 1 AND a.did = '"+did.String()+"'"))
		if rev <= was.String() {
			t.Errorf("%s: revision %s, the old server said %s", did, rev, was)
		}
	}
	pdstest.Verify(t, o.target())
}
