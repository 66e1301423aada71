package plc_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bluesky-social/indigo/atproto/atcrypto"
	didplc "github.com/did-method-plc/go-didplc"

	"nestbox/plc"
)

// changed returns the operation behind prev with a change, signed by a key.
func changed(t *testing.T, prev didplc.OpEnum, by atcrypto.PrivateKey, c plc.Change) didplc.OpEnum {
	t.Helper()
	op, err := plc.Update(prev, c, by)
	if err != nil {
		t.Fatal(err)
	}
	return didplc.OpEnum{Regular: op}
}

// TestHistory: a log that a directory wrote says of each operation what it changed, who signed
// it, and who can undo it until when; an operation that was undone says neither.
func TestHistory(t *testing.T) {
	strong, weak, own := newKey(t), newP256Key(t), newKey(t)
	did, genesis, err := plc.Create(data(strong, weak), weak)
	if err != nil {
		t.Fatal(err)
	}
	first := didplc.OpEnum{Regular: genesis}
	added := changed(t, first, weak, plc.Change{RotationKeys: []string{strong.did, own.did, weak.did}})
	stolen := changed(t, added, weak, plc.Change{AlsoKnownAs: []string{"at://mallory.test"}, RotationKeys: []string{weak.did}})
	saved := changed(t, added, own, plc.Change{
		AlsoKnownAs: []string{"at://bob.test", "https://bob.example"}, RotationKeys: []string{own.did, strong.did, weak.did},
		VerificationMethods: map[string]string{"atproto": own.did, "other": strong.did},
		Services: map[string]didplc.OpService{
			"atproto_pds": {Type: "AtprotoPersonalDataServer", Endpoint: "https://new.example.com"}, "label": {Type: "Labeler", Endpoint: "https://l.example"},
		},
	})
	var log []plc.Entry
	for i, op := range []didplc.OpEnum{first, added, stolen, saved} {
		if log, err = plc.Append(did, log, op, day0.Add(time.Duration(i)*time.Hour)); err != nil {
			t.Fatalf("operation %d: %v", i, err)
		}
	}
	var lines []map[string]any
	for _, e := range log {
		lines = append(lines, map[string]any{"did": did, "operation": &e.Operation, "cid": e.CID, "nullified": e.Nullified, "createdAt": e.CreatedAt})
	}
	raw, err := json.Marshal(lines)
	if err != nil {
		t.Fatal(err)
	}
	read, err := plc.ReadLog(raw)
	if err != nil || len(read) != len(log) {
		t.Fatalf("%d entries, %v", len(read), err)
	}
	names := strings.NewReplacer(strong.did, "strong", weak.did, "weak", own.did, "own")
	var got []string
	for _, s := range plc.History(read, 10) {
		line := fmt.Sprintf("%t %v by %s, undone %t, by %v", s.First, s.Changes, s.Signer, s.Nullified, s.UndoBy)
		if len(s.UndoBy) > 0 {
			line += " until " + s.UndoUntil.Sub(day0).String()
		}
		got = append(got, names.Replace(line))
	}
	want := []string{
		"false [{handle alice.test bob.test} {host https://pds.example.com https://new.example.com} {signing-key weak own} {rotation-order  } " +
			"{alias  https://bob.example} {method  other strong} {service  label Labeler https://l.example}] by own, undone false, by [strong] until 75h0m0s",
		"false [{handle alice.test mallory.test} {rotation-key strong } {rotation-key own }] by weak, undone true, by []",
		"false [{rotation-key  own}] by weak, undone false, by [strong] until 73h0m0s",
		"true [] by weak, undone false, by []",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if n := len(plc.History(read, 2)); n != 2 {
		t.Errorf("%d operations, want 2", n)
	}
	for key, since := range map[string]time.Time{strong.did: day0, own.did: day0.Add(time.Hour), newKey(t).did: {}} {
		if got := plc.Since(read, key); !got.Equal(since) {
			t.Errorf("since %v, want %v", got, since)
		}
	}
}

// TestHistoryOdd: the end of an identity, its undoing, a log without its beginning, and what is
// no log.
func TestHistoryOdd(t *testing.T) {
	strong, weak := newKey(t), newKey(t)
	did, genesis, err := plc.Create(data(strong, weak), weak)
	if err != nil {
		t.Fatal(err)
	}
	first := didplc.OpEnum{Regular: genesis}
	end := didplc.OpEnum{Tombstone: &didplc.TombstoneOp{Type: "plc_tombstone", Prev: plc.Head(first)}}
	if err := end.Tombstone.Sign(weak); err != nil {
		t.Fatal(err)
	}
	log, err := plc.Append(did, nil, first, day0)
	if err == nil {
		log, err = plc.Append(did, log, end, day0.Add(time.Hour))
	}
	if err != nil {
		t.Fatal(err)
	}
	s := plc.History(log, 10)[0]
	if fmt.Sprint(s.Changes) != "[{end  }]" || s.Signer != weak.did || !slices.Equal(s.UndoBy, []string{strong.did}) {
		t.Errorf("the end: %+v", s)
	}
	if back := plc.Compare(end, first); len(back) != 5 || back[0].New != "alice.test" {
		t.Errorf("undone: %v", back)
	}
	if s := plc.History(log[1:], 10)[0]; s.Signer != "" || len(s.UndoBy) != 0 || len(s.Changes) != 0 {
		t.Errorf("without what it follows: %+v", s)
	}
	for _, raw := range []string{"", "{}", `[{"operation":{}}]`, `[{"operation":{"type":"plc_operation"}}]`, `[{"createdAt":"yesterday"}]`} {
		if log, err := plc.ReadLog([]byte(raw)); err == nil {
			t.Errorf("%s: read as %v", raw, log)
		}
	}
}
