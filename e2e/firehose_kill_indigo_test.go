package e2e

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	comatproto "github.com/bluesky-social/indigo/api/atproto"
	"github.com/ipfs/go-cid"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// What indigo's programs may say against a server that is killed all the time.
var (
	relayLost = []string{"host connection failed", "dialing failed", "dropping commit with old rev"}
	tapLost   = []string{"firehose connection failed", "dialing failed", "failed to ping"}
)

// tap is indigo's, with an application behind it.
type tap struct {
	*program

	app      *tapApp
	database string
}

// startTap runs it behind a server, for the whole network.
func startTap(t *testing.T, binary, plc, server string) *tap {
	t.Helper()
	address, database := freeAddress(t), filepath.Join(t.TempDir(), "tap.db")
	p := startProgram(t, binary, "run", "--full-network", "--disable-acks", "--bind", address, "--plc-url", plc,
		"--relay-url", server, "--db-url", "sqlite://"+database)
	p.await("connected to firehose")
	return &tap{p, openTap(t, address), database}
}

// said counts the lines with a message.
func (p *program) said(msg string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, line := range p.lines {
		if line["msg"] == msg {
			n++
		}
	}
	return n
}

// unexpected are the complaints but those with a message that is known, and
// those about an account.
func (p *program) unexpected(did string, known ...string) string {
	var b strings.Builder
	for line := range strings.Lines(p.complaints()) {
		var l struct{ Msg, DID string }
		if json.Unmarshal([]byte(line), &l) != nil || !slices.Contains(known, l.Msg) && (did == "" || l.DID != did) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// checkRelay compares what indigo's relay has, and passed on.
func (k *killing) checkRelay(rounds int) {
	k.t.Helper()
	if k.relay == nil {
		return
	}
	r, j, left := k.relay, k.judge.judge, map[string]string{}
	for _, m := range k.members {
		if m.status != "deleted" {
			left[m.DID] = j.repos[m.DID].rev
		}
	}
	passed, complaints := map[string][]cid.Cid{}, ""
	err := subscribe(k.t.Context(), r.base, 0, func(frame []byte) bool {
		_, m, err := readFrame(frame)
		if err != nil {
			k.t.Error(err)
			return false
		}
		c, ok := m.(*comatproto.SyncSubscribeRepos_Commit)
		if !ok {
			return true
		}
		passed[c.Repo] = append(passed[c.Repo], cid.Cid(c.Commit))
		if c.Rev == left[c.Repo] {
			delete(left, c.Repo)
		}
		if len(left) > 0 {
			return true
		}
		complaints = r.unexpected("", relayLost...) // before this subscriber leaves, which is one
		return false
	})
	if err != nil {
		k.t.Errorf("what is missing of the relay's stream: %v: %v", left, err)
	}
	if complaints != "" {
		k.t.Errorf("the relay complains:\n%s", complaints)
	}
	if n := r.said("host connection failed"); n < rounds*9/10 {
		k.t.Errorf("the relay lost its connection %d times in %d rounds", n, rounds)
	}
	r.stop()
	has := rows(k.t, r.database, `SELECT did, upstream_status, rev, commit_cid, commit_data_cid FROM account JOIN account_repo USING (uid)`)
	for i, m := range k.members {
		said := j.repos[m.DID]
		if m.status == "deleted" {
			// What came before the deletion is told to nobody any more: of that the
			// relay may have seen more, as it came, or less, as it was away.
			both := min(len(said.commits), len(passed[m.DID]))
			if !slices.Equal(said.commits[:both], passed[m.DID][:both]) || !strings.HasPrefix(has[m.DID], "[deleted ") {
				k.t.Errorf("account %d, which was deleted, is %s for the relay, after other commits", i, has[m.DID])
			}
			continue
		}
		if !slices.Equal(passed[m.DID], said.commits) {
			k.t.Errorf("account %d: %d commits, the relay passed on %d: %s\n%s", i, len(said.commits), len(passed[m.DID]), said.commits, passed[m.DID])
		}
		want := fmt.Sprint([]string{cmp.Or(m.status, "active"), said.rev, said.commit.String(), said.data.String()})
		if has[m.DID] != want {
			k.t.Errorf("account %d is %s, for the relay %s", i, want, has[m.DID])
		}
	}
}

// checkTap compares what indigo's tap has, and told its application.
func (k *killing) checkTap(rounds int) {
	k.t.Helper()
	if k.tap == nil {
		return
	}
	deleted := ""
	k.tap.app.await("at the end", func(got *tapApp) string {
		var b strings.Builder
		for _, m := range k.members {
			if m.status == "deleted" {
				deleted = m.DID
				continue
			}
			if d := difference(m.want(), got.records[m.DID]); d != "" || got.status[m.DID] != "active" {
				fmt.Fprintf(&b, "%s, which is %s:\n%s", m.DID, got.status[m.DID], d)
			}
		}
		return b.String()
	})
	// It forgets an account that is deleted, and wants to read it where it is told
	// again of what came before.
	if complaints := k.tap.unexpected(deleted, tapLost...); complaints != "" {
		k.t.Errorf("tap complains:\n%s", complaints)
	}
	// It waits longer and longer before it comes again: on a fast machine most
	// rounds are over by then.
	if n := k.tap.said("connected to firehose"); n < rounds/10 {
		k.t.Errorf("tap connected %d times in %d rounds", n, rounds)
	}
	k.tap.stop()
	has := rows(k.t, k.tap.database, `SELECT did, state, status, rev, prev_data FROM repos`)
	for i, m := range k.members {
		if m.status == "deleted" {
			continue
		}
		said := k.judge.judge.repos[m.DID]
		want := fmt.Sprint([]string{"active", "active", said.rev, said.data.String()})
		if has[m.DID] != want {
			k.t.Errorf("account %d is %s, for tap %s", i, want, has[m.DID])
		}
	}
}

// rows reads a database that a program left: the rest of each row, by its first
// column.
func rows(t *testing.T, path, query string) map[string]string {
	t.Helper()
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	err = sqlitex.Execute(c, query, &sqlitex.ExecOptions{ResultFunc: func(s *sqlite.Stmt) error {
		var rest []string
		for i := 1; i < s.ColumnCount(); i++ {
			rest = append(rest, s.ColumnText(i))
		}
		out[s.ColumnText(0)] = fmt.Sprint(rest)
		return nil
	}})
	if err := errors.Join(err, c.Close()); err != nil {
		t.Fatal(err)
	}
	return out
}
