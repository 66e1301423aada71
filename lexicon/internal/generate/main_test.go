package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func lexicons(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "lexicons")
}

// TestCurrent: the catalogue follows indigo's current documents.
func TestCurrent(t *testing.T) {
	want, err := generate(lexicons(t))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../known_gen.go")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("lexicon/known_gen.go is stale: run go generate ./lexicon")
	}
}

// TestFacts: the catalogue has a document's records and what they refer to, and no
// prose.
func TestFacts(t *testing.T) {
	folder := t.TempDir()
	write := func(path, text string) {
		path = filepath.Join(folder, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range authorities() {
		write(a+"/README", "not JSON")
	}
	write("app/bsky/r.json", `{"lexicon":1,"id":"app.bsky.r","defs":{
		"main":{"type":"record","description":"Prose.","key":"tid","record":{"type":"object","properties":{
			"z":{"type":"string","description":"Prose.","knownValues":["a"],"default":"a","maxLength":3,"enum":["\"a"],"const":1},
			"description":{"type":"array","items":{"type":"union","refs":["#near","chat.bsky.o"]}}}}},
		"near":{"type":"object","required":["again"],"properties":{"again":{"type":"ref","ref":"#near"}}},
		"far":{"type":"object"}}}`)
	write("chat/bsky/o.json", `{"lexicon":1,"id":"chat.bsky.o","defs":{"main":{"type":"object"},"other":{"type":"object"}}}`)
	write("com/atproto/q.json", `{"lexicon":1,"id":"com.atproto.q","defs":{"main":{"type":"query"}}}`)
	write("com/example/r.json", `{"lexicon":1,"id":"com.example.r","defs":{"main":{"type":"record","key":"tid","record":{"type":"object"}}}}`)

	got, err := generate(folder)
	if err != nil {
		t.Fatal(err)
	}
	_, got, _ = strings.Cut(got, "return []Document{\n")
	want := `Document{ID: "app.bsky.r", Defs: map[string]Definition{` +
		`"main": Definition{Type: "record", Key: "tid", Record: &Definition{Type: "object", Properties: Properties{` +
		`Property{Name: "z", Definition: Definition{Type: "string", MaxLength: new(int(3)), Enum: []JSON{"\"\\\"a\""}, Const: "1"}}, ` +
		`Property{Name: "description", Definition: Definition{Type: "array", Items: &Definition{Type: "union", Refs: []string{"#near", "chat.bsky.o"}}}}}}}, ` +
		`"near": Definition{Type: "object", Required: []string{"again"}, Properties: Properties{Property{Name: "again", Definition: Definition{Type: "ref", Ref: "#near"}}}}}},` + "\n" +
		`Document{ID: "chat.bsky.o", Defs: map[string]Definition{"main": Definition{Type: "object"}}},` + "\n}\n}\n"
	got = strings.ReplaceAll(got, "\t", "")
	if got != want {
		t.Errorf("generated\n%s, want\n%s", got, want)
	}

	write("app/bsky/s.json", `{"id":"app.bsky.s","defs":{"main":{"type":"record","key":"tid","record":{"type":"object","properties":{"a":{"type":"ref","ref":"app.bsky.gone#x"}}}}}}`)
	if _, err := generate(folder); err == nil || !strings.Contains(err.Error(), "app.bsky.gone#x") {
		t.Errorf("a reference to nothing: %v", err)
	}
	write("app/bsky/s.json", `{`)
	if _, err := generate(folder); err == nil || !strings.Contains(err.Error(), "s.json") {
		t.Errorf("a document that is no JSON: %v", err)
	}
}
