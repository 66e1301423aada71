package repo

import (
	"slices"
	"testing"

	"nestbox/dagcbor"
)

func TestNames(t *testing.T) {
	id, other := []byte(dagcbor.CID([]byte("one")).KeyString()), []byte(dagcbor.CID([]byte("other")).KeyString())
	wanted := map[string]bool{string(id): true}
	for name, c := range map[string]struct {
		node []byte
		want bool
	}{
		"nothing":            {nil, false},
		"another one":        {other, false},
		"alone":              {id, true},
		"behind others":      {slices.Concat([]byte("x"), other, []byte("y"), id, other), true},
		"cut off":            {slices.Concat(other, id[:35]), false},
		"its beginning":      {slices.Concat(other, id[:4]), false},
		"behind a beginning": {slices.Concat(id[:4], id), true},
	} {
		if got := names(c.node, wanted); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	if names(id, nil) {
		t.Error("found though nothing is looked for")
	}
}
