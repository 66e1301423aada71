package nestbox_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// clumsy are patterns of English that a reader in a hurry stumbles over, with what
// to write in place of them. CONTRIBUTING.md, "How we write", gives the reasons.
var clumsy = []struct{ pattern, instead string }{
	{`(?:^|[.;:(] |\b(?:of|for|than|as|that|but|with|by|to) )[Ww]ho (?:is|was|has|may|moves|asks|comes|wants|cannot|waits|leaves|reads|writes|needs)\b`, `a noun: "a client that asks again"`},
	{`\b(?:is|are|was|were|be|been) told\b`, `who does what: "the owner is notified", "the log names"`},
	{`\bsays? (?:whether|what|how|who)\b`, `"reports whether", "returns what"`},
	{`\b(?:has|have|had) (?:the |a |its |each )?[A-Za-z ]{2,30} (?:called|told|tell|look|queue|kept|sent)\b`, `"makes Run check"`},
	{`\banew\b`, `"again"`},
	{`\bof (?:before|afterwards|now|then)\b`, `"the old key", "the new key"`},
	{`\b(?:is|are) no (?:URL|DID|error|fault|secret|key|port|host|handle|object|record|number)\b`, `"is not a URL"`},
	{`\bbelongs? into\b`, `"belongs in"`},
	{`(?:^|[.;:(] )[Ww]hoever\b`, `a noun: "a client that"`},
}

var clumsyPattern = func() *regexp.Regexp {
	var all []string
	for _, c := range clumsy {
		all = append(all, c.pattern)
	}
	return regexp.MustCompile(strings.Join(all, "|"))
}()

// stumble is a place where a text has a clumsy pattern.
type stumble struct{ where, words string }

// stumbles returns each match of a clumsy pattern in a text.
func stumbles(where, text string) (found []stumble) {
	text = strings.Join(strings.Fields(text), " ")
	for _, at := range clumsyPattern.FindAllStringIndex(text, -1) {
		from, to := max(0, at[0]-30), min(len(text), at[1]+30)
		found = append(found, stumble{where, "…" + strings.ToValidUTF8(text[from:to], "") + "…"})
	}
	return found
}

// prose is the English of one Go file: comments, which a developer reads, and
// what a user reads: help, errors and log messages.
type prose struct{ comments, shown []stumble }

// textCalls are functions whose string literals a user reads.
var textCalls = []string{
	"New", "Errorf", // errors and fmt
	"Debug", "Info", "Warn", "Error", "DebugContext", "InfoContext", "WarnContext", "ErrorContext", // slog
	"Fprintf", "Fprintln", "Fprint", "Printf", "Println",
}

// readProse collects the clumsy English of a Go file.
func readProse(fset *token.FileSet, f *ast.File) (p prose) {
	at := func(pos token.Pos) string { return fset.Position(pos).String() }
	for _, group := range f.Comments {
		var text []string
		for line := range strings.Lines(group.Text()) {
			if strings.HasPrefix(line, "\t") { // code and tables
				continue
			}
			text = append(text, line)
		}
		p.comments = append(p.comments, stumbles(at(group.Pos()), strings.Join(text, ""))...)
	}
	test := strings.HasSuffix(fset.Position(f.Pos()).Filename, "_test.go")
	if test {
		return p
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Field:
			if n.Tag != nil {
				if tag, err := strconv.Unquote(n.Tag.Value); err == nil {
					p.shown = append(p.shown, stumbles(at(n.Pos()), reflect.StructTag(tag).Get("help"))...)
				}
			}
		case *ast.CallExpr:
			name, ok := n.Fun.(*ast.SelectorExpr)
			if !ok || !slices.Contains(textCalls, name.Sel.Name) {
				return true
			}
			for _, arg := range n.Args {
				if lit, ok := arg.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if text, err := strconv.Unquote(lit.Value); err == nil {
						p.shown = append(p.shown, stumbles(at(lit.Pos()), text)...)
					}
				}
			}
		}
		return true
	})
	return p
}

// TestProse holds the English: what a user reads and what a developer reads has none
// of the clumsy patterns.
func TestProse(t *testing.T) {
	t.Parallel()
	var comments, shown []stumble
	fset := token.NewFileSet()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "data") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || path == "prose_test.go" {
			return nil
		}
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil || ast.IsGenerated(f) {
			return err
		}
		p := readProse(fset, f)
		comments = append(comments, p.comments...)
		shown = append(shown, p.shown...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range documents(t, ".") {
		if name == "CONTRIBUTING.md" { // it shows what not to write
			continue
		}
		shown = append(shown, stumbles(name, fence.ReplaceAllString(text, ""))...)
	}
	for _, s := range shown {
		t.Errorf("%s: a user reads %q", s.where, s.words)
	}
	for _, s := range comments {
		t.Errorf("%s: a comment has %q", s.where, s.words)
	}
	if t.Failed() {
		t.Log("CONTRIBUTING.md, How we write, has the cure")
	}
}

// TestClumsy shows that the patterns find what they are for, and not their cure.
func TestClumsy(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"Who waits is told of it anew":                        3,
		"young says whether a directory may come":             1,
		"the key of before":                                   1,
		"this is no URL":                                      1,
		"has the event log tell of a change":                  1,
		"young reports whether a directory may still come":    0,
		"A client that waits learns of it again.":             0,
		"the old key; this is not a URL; the owner, who pays": 0,
	} {
		if got := len(stumbles("here", text)); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}
