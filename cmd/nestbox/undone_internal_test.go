package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"nestbox/server"
	"nestbox/store"
)

// TestUndoneTexts: each kind of what a restore undoes has its text, and a terminal shows the first
// of many.
func TestUndoneTexts(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("../../store/undone.go")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 30, 8, 0, 0, 0, time.UTC)
	kinds := regexp.MustCompile(`UndoneKind = "([a-z-]+)"`).FindAllStringSubmatch(string(source), -1)
	for _, kind := range kinds {
		u := &server.Undone{Until: at, Count: map[store.UndoneKind]int{store.UndoneKind(kind[1]): 8}}
		for range 8 {
			u.List = append(u.List, store.Undone{Kind: store.UndoneKind(kind[1]), DID: "did:plc:a", Handle: "alice.test", At: at, What: "bot"})
		}
		said := undoneText(u)
		if !strings.Contains(said, "- 8: ") || strings.Count(said, "alice.test did:plc:a, 2026-11-30T08:00:00Z, bot") != undoneShown ||
			!strings.Contains(said, "and 3 more: restored.json has them") {
			t.Errorf("%s: %s", kind[1], said)
		}
	}
	many := &server.Undone{Count: map[store.UndoneKind]int{store.UndoneTakedown: 9}, List: []store.Undone{
		{Kind: store.UndoneSession}, {Kind: store.UndoneTakedown, DID: "did:plc:a"},
	}}
	if said := undoneText(many); !strings.Contains(said, "did:plc:a\n    and 8 more: restored.json has the first 1") {
		t.Error(said)
	}
	if len(kinds) != len(undoneTexts) || len(kinds) < 20 {
		t.Errorf("%d kinds, %d texts", len(kinds), len(undoneTexts))
	}
	if said := undoneText(&server.Undone{Until: at}); !strings.Contains(said, "nothing was ended") || strings.Contains(said, "cannot be listed") {
		t.Error(said)
	}
	many.Until, many.Gap = at, "segment 3 of the log x is missing"
	for _, u := range []*server.Undone{many, {Until: at, Gap: many.Gap}} {
		if said := undoneText(u); !strings.HasSuffix(said, "after 2026-11-30T08:00:00Z cannot be listed, because segment 3 of the log x is missing.") {
			t.Error(said)
		}
	}
	// Behind a gap of the restore itself, a later snapshot may tell everything.
	for _, u := range []*server.Undone{nil, {Until: at}} {
		said := restoredText(server.Restored{Gap: "segment 3 of the log x is missing", Undone: u}, "data")
		if !strings.Contains(said, "is not newer, because segment 3 of the log x is missing.") || strings.Contains(said, "cannot be listed") != (u == nil) {
			t.Error(said)
		}
	}
	if said := undoneText(&server.Undone{Error: "no room"}); said != "\nno room." {
		t.Error(said)
	}
}
