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

// What indigo's programs may complain of if a server is killed all the time.
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

// passedOn is what indigo's relay passed on of one account. Cut off, it comes back with a cursor from before that (its
// cmd/relay/relay/slurper.go:363 and 404), and a #sync takes its rev back (ingest.go:169): what followed comes again.
type passedOn struct {
	commits []cid.Cid      // each once
	events  []string       // theirs and the #syncs', as digest has them
	syncs   map[string]int // where in events each #sync is
	at      int            // in events: before the end where some come again
}

// take takes the next event. After a #sync that comes again, events must be the
// same, in the same order, up to the last one before.
func (p *passedOn) take(event string, m message) error {
	switch m.(type) {
	case *comatproto.SyncSubscribeRepos_Sync:
		if i, again := p.syncs[event]; again && i < p.at {
			p.at = i
		}
	case *comatproto.SyncSubscribeRepos_Commit:
	default:
		return nil
	}
	if p.at < len(p.events) {
		if want := p.events[p.at]; event != want {
			return fmt.Errorf("%s where %s came before", event, want)
		}
		p.at++
		return nil
	}
	switch m := m.(type) {
	case *comatproto.SyncSubscribeRepos_Sync:
		p.syncs[event] = p.at
	case *comatproto.SyncSubscribeRepos_Commit:
		p.commits = append(p.commits, cid.Cid(m.Commit))
	}
	p.events = append(p.events, event)
	p.at++
	return nil
}

func TestPassedOn(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ passed, want string }{
		{"#sync 1 2 #sync' 3", "#sync 1 2 #sync' 3"},
		{"#sync 1 #sync 1 2", "#sync 1 2"},
		{"#sync 1 2 #sync 1 2 #sync 1 2 3", "#sync 1 2 3"},
		{"#sync 1 #sync' 2 #sync' 2 #sync 1 #sync' 2 3", "#sync 1 #sync' 2 3"},
		{"#sync 1 2 #sync #sync 1 2 3", "#sync 1 2 3"}, // cut off once more

		// Everything else is compared.
		{"#sync 1 1", "#sync 1 1"},
		{"#sync 1 2 1 2", "#sync 1 2 1 2"},
		{"#sync 1 2 #sync 2", "2 where 1 came before"},
		{"#sync 1 2 #sync 1 3", "3 where 2 came before"},
		{"#sync 1 #sync' 2 #sync #sync' 2", "#sync' where 1 came before"},
		{"#sync 1 #sync #sync'", "#sync' where 1 came before"},
	} {
		p, err := passedOn{syncs: map[string]int{}}, error(nil)
		for event := range strings.FieldsSeq(c.passed) {
			var m message = &comatproto.SyncSubscribeRepos_Commit{}
			if strings.HasPrefix(event, "#sync") {
				m = &comatproto.SyncSubscribeRepos_Sync{}
			}
			if err = p.take(event, m); err != nil {
				break
			}
		}
		got := strings.Join(p.events, " ")
		if err != nil {
			got = err.Error()
		}
		if got != c.want || len(p.commits)+len(p.syncs) != len(p.events) {
			t.Errorf("%s: %s, %d commits; want %s", c.passed, got, len(p.commits), c.want)
		}
	}
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
	passed, complaints := map[string]*passedOn{}, ""
	for _, m := range k.members {
		passed[m.DID] = &passedOn{syncs: map[string]int{}}
	}
	err := subscribe(k.t.Context(), r.base, 0, func(frame []byte) bool {
		did, event, m := digest(k.t, frame)
		if m == nil {
			return false
		}
		if p := passed[did]; p != nil {
			if err := p.take(event, m); err != nil {
				k.t.Errorf("%s, as the relay passed it on: %v", did, err)
				return false
			}
		}
		if c, ok := m.(*comatproto.SyncSubscribeRepos_Commit); ok && c.Rev == left[c.Repo] {
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
			// Events from before the deletion are not sent any more: the relay may
			// have seen more of them, as they came, or fewer, if it was away.
			both := min(len(said.commits), len(passed[m.DID].commits))
			if !slices.Equal(said.commits[:both], passed[m.DID].commits[:both]) || !strings.HasPrefix(has[m.DID], "[deleted ") {
				k.t.Errorf("account %d, which was deleted, is %s for the relay, after other commits", i, has[m.DID])
			}
			continue
		}
		if got := passed[m.DID].commits; !slices.Equal(got, said.commits) {
			k.t.Errorf("account %d: %d commits, the relay passed on %d: %s\n%s", i, len(said.commits), len(got), said.commits, got)
		}
		want := fmt.Sprint([]string{cmp.Or(m.status, "active"), said.rev, said.commit.String(), said.data.String()})
		if has[m.DID] != want {
			k.t.Errorf("account %d is %s, for the relay %s", i, want, has[m.DID])
		}
	}
}

// checkTap compares what indigo's tap has, and passed to its application.
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
	// It forgets an account that is deleted, and tries to read it when older
	// events of the account come again.
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
