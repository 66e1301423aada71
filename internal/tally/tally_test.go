package tally_test

import (
	"maps"
	"sync"
	"testing"

	"nestbox/internal/tally"
)

func TestWords(t *testing.T) {
	var w tally.Words
	if got := w.Counts(); len(got) != 0 {
		t.Errorf("of nothing: %v", got)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				w.Add("sent", 1)
				w.Add("refused", 2)
			}
		})
	}
	all.Wait()
	got := w.Counts()
	if want := map[string]uint64{"sent": 800, "refused": 1600}; !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
	got["sent"] = 0 // a copy
	if w.Counts()["sent"] != 800 {
		t.Error("the counts can be changed from outside")
	}
}
