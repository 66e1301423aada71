package repo_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ipfs/go-cid"

	"nestbox/dagcbor"
	"nestbox/firehose/event"
	"nestbox/repo"
	"nestbox/repo/mst"
)

// TestDrop: verify finds a record with an empty collection, as older versions
// imported it, and the operator drops it.
func TestDrop(t *testing.T) {
	w := newWorld(t)
	alice := newMover(t, w)
	alice.forge(t, "/x")
	if faults := alice.faults(t); !slices.ContainsFunc(faults, func(s string) bool { return strings.Contains(s, "record /x: malformed record: its collection") }) {
		t.Errorf("verify finds %q", faults)
	}
	before := len(w.events(0))
	if _, err := w.Drop(t.Context(), alice.account(), "/y"); !errors.Is(err, repo.ErrNoRecord) {
		t.Errorf("another one: %v", err)
	}
	if _, err := w.Drop(t.Context(), alice.account(), "x"); !errors.Is(err, repo.ErrNoRecord) {
		t.Errorf("no key: %v", err)
	}
	head, err := w.Drop(t.Context(), alice.account(), "/x")
	if err != nil || head.Records != 20 || alice.head().CID != head.CID {
		t.Fatalf("%+v, %v", head, err)
	}
	if faults := alice.faults(t); len(faults) > 0 {
		t.Errorf("verify finds %q", faults)
	}
	if got := w.events(0)[before:]; len(got) != 1 || got[0].Kind != event.KindSync {
		t.Errorf("events %+v, want one #sync", got)
	}
	alice.checkExport()
	alice.mustCreate("com.example.note", nil, `{}`)
}

// forge puts a record with any key into the repository, as an older version imported
// it.
func (m mover) forge(t *testing.T, key string) {
	t.Helper()
	was := m.head()
	records := posts(20)
	records[key] = block(map[string]any{})
	keys := make([]string, 0, len(records))
	for k := range records {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var nodes []mst.Changed
	b := mst.Builder{NextID: 1, Emit: func(n mst.Changed) error { nodes = append(nodes, n); return nil }}
	var writes []repo.Write
	for _, k := range keys {
		d, err := (&repo.Checker{Lexicons: m.w.Lexicons}).Derive(repo.Record{Key: k, CID: records[k].CID, Block: records[k].Data})
		if err != nil && k != key {
			t.Fatal(err)
		}
		write := repo.Write{Key: k, CID: records[k].CID, Block: records[k].Data, Subject: d.Subject}
		for _, text := range d.Blobs {
			id, err := cid.Decode(text)
			if err != nil {
				t.Fatal(err)
			}
			write.Blobs = append(write.Blobs, id)
		}
		writes = append(writes, write)
		if err := b.Add(k, records[k].CID); err != nil {
			t.Fatal(err)
		}
	}
	root, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	c := repo.Commit{DID: m.did, Data: root.CID, Rev: repo.NextTID(m.w.Now(), 1, was.Rev)}
	if err := c.Sign(m.key); err != nil {
		t.Fatal(err)
	}
	number, err := m.w.Store.Stage(t.Context(), m.id)
	if err != nil {
		t.Fatal(err)
	}
	next := repo.Head{
		Number: number, DID: m.did, CID: dagcbor.CID(c.Encode()), Rev: c.Rev, Commit: c.Encode(), Root: root, NextNode: b.NextID, Records: int64(len(writes)), First: c.Rev,
	}
	err = m.w.Store.Fill(t.Context(), number, c.Rev, nodes, writes)
	if err == nil {
		err = m.w.Store.Switch(t.Context(), m.id, was.CID, next, event.Sync{DID: m.did, Rev: c.Rev}.Event(), m.w.Now())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// faults returns the faults that nestbox verify finds in the repository.
func (p *person) faults(t *testing.T) (out []string) {
	t.Helper()
	i, err := p.w.Inspect.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = i.Repo(p.id, func(rows repo.Rows) error {
		c := repo.Checker{Lexicons: p.w.Lexicons, Key: p.public, Report: func(fault string) { out = append(out, fault) }}
		_, err := c.Check(t.Context(), rows)
		return err
	})
	if err := errors.Join(err, i.Close()); err != nil {
		t.Fatal(err)
	}
	return out
}
