package nestbox_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestMessagesUsed: each message of pages and mails is named by their code or templates:
// whole, or by what an id begins or ends with if it is put together.
func TestMessagesUsed(t *testing.T) {
	for dir, whole := range map[string][]string{"web": {"web/*.go", "web/templates/*"}, "mail": {"mail/*.go"}} {
		raw, err := os.ReadFile(filepath.Join(dir, "messages", "en.json"))
		if err != nil {
			t.Fatal(err)
		}
		var ids map[string]json.RawMessage
		if err := json.Unmarshal(raw, &ids); err != nil {
			t.Fatal(err)
		}
		texts := namedIn(t, whole)
		if len(ids) < 50 || len(texts) < 50 {
			t.Fatalf("%s: %d messages, %d texts", dir, len(ids), len(texts))
		}
		for id := range ids {
			if !texts.name(id) {
				t.Errorf("%s: nothing uses the message %s", dir, id)
			}
		}
		for _, id := range []string{"no.such-message", "months.1"} {
			if texts.name(id) {
				t.Errorf("%s: the test takes %s for used", dir, id)
			}
		}
	}
}

// named are texts of source: of code the literals, of templates what is quoted.
type named map[string]bool

// name reports whether the texts name an id: a literal is it, or ends in a dot or a dash
// and begins it (then another literal, if it begins with a dash or a dot, may end it), or
// has a %s in it.
func (n named) name(id string) bool {
	if n[id] {
		return true
	}
	for text := range n {
		if head, tail, ok := strings.Cut(text, "%s"); ok && head != "" {
			if strings.HasPrefix(id, head) && strings.HasSuffix(id, tail) {
				return true
			}
			continue
		}
		if strings.HasPrefix(id, text) && len(text) > 2 && len(id) > len(text) && strings.ContainsRune(".-", rune(text[len(text)-1])) {
			return true
		}
		// kind + ".title", where kind is a literal of its own.
		if strings.HasSuffix(id, text) && len(text) > 2 && strings.ContainsRune(".-", rune(text[0])) && n[strings.TrimSuffix(id, text)] {
			return true
		}
	}
	return false
}

func namedIn(t *testing.T, patterns []string) named {
	t.Helper()
	out := named{}
	quoted := regexp.MustCompile(`"([^"]*)"`)
	for _, pattern := range patterns {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			raw, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(name, ".go") {
				for _, action := range regexp.MustCompile(`\{\{[^}]*\}\}`).FindAllString(string(raw), -1) {
					for _, m := range quoted.FindAllStringSubmatch(action, -1) {
						out[m[1]] = true
					}
				}
				continue
			}
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, raw, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && !slices.Contains([]string{`"."`, `"-"`}, lit.Value) {
					if text, err := strconv.Unquote(lit.Value); err == nil {
						out[text] = true
					}
				}
				return true
			})
		}
	}
	return out
}
