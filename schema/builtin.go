package schema

import (
	_ "embed"
	"fmt"

	"github.com/bluesky-social/indigo/atproto/syntax"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// builtIn are the documents of the permission sets of Bluesky's apps, by NSID, for when the
// network has none. They allow what the published ones allow; the words are ours.
//
//go:embed builtin.json
var builtIn []byte

// BuiltIn returns the documents of the permission sets that come with this program.
func BuiltIn() (map[syntax.NSID][]byte, error) {
	var all map[syntax.NSID]jsontext.Value
	if err := json.Unmarshal(builtIn, &all); err != nil {
		return nil, fmt.Errorf("read permission sets: %w", err)
	}
	documents := make(map[syntax.NSID][]byte, len(all))
	for nsid, document := range all {
		documents[nsid] = document
	}
	return documents, nil
}
