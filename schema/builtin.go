package schema

import (
	"embed"
	"fmt"
	"strings"

	"github.com/bluesky-social/indigo/atproto/syntax"
)

// builtIn are documents by NSID. builtin/README.md tells where they are from.
//
//go:embed builtin/*.json
var builtIn embed.FS

// BuiltIn returns the documents of the permission sets that come with this program.
func BuiltIn() (map[syntax.NSID][]byte, error) {
	files, err := builtIn.ReadDir("builtin")
	if err != nil {
		return nil, fmt.Errorf("list permission sets: %w", err)
	}
	documents := make(map[syntax.NSID][]byte, len(files))
	for _, f := range files {
		document, err := builtIn.ReadFile("builtin/" + f.Name())
		if err != nil {
			return nil, fmt.Errorf("read permission set: %w", err)
		}
		documents[syntax.NSID(strings.TrimSuffix(f.Name(), ".json"))] = document
	}
	return documents, nil
}
