package nestbox_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	fence    = regexp.MustCompile("(?s)(?:^|\n)```.*?\n```")
	heading  = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	notSlug  = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
	external = regexp.MustCompile(`^[a-z]+:`)
	setting  = regexp.MustCompile(`PDS_[A-Z0-9_]+[A-Z0-9]`)
)

// documents returns the Markdown files of the module by name.
func documents(t *testing.T, root string) map[string]string {
	t.Helper()
	texts := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "node_modules" || d.Name() == "data") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".md") {
			return nil
		}
		text, err := os.ReadFile(path)
		texts[path] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

// anchors are the fragments of a document's headings, as forges make them.
func anchors(text string) []string {
	var all []string
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		slug := strings.ToLower(strings.TrimSpace(notSlug.ReplaceAllString(m[1], "")))
		all = append(all, strings.ReplaceAll(slug, " ", "-"))
	}
	return all
}

// brokenLinks returns the relative links of documents that lead nowhere.
func brokenLinks(texts map[string]string) []string {
	var broken []string
	for name, text := range texts {
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
			if external.MatchString(m[1]) {
				continue
			}
			path, fragment, _ := strings.Cut(m[1], "#")
			target := name
			if path != "" {
				target = filepath.Join(filepath.Dir(name), path)
			}
			_, err := os.Stat(target)
			_, isDocument := texts[target]
			if !isDocument && err != nil || fragment != "" && !slices.Contains(anchors(texts[target]), fragment) {
				broken = append(broken, name+": "+m[1])
			}
		}
	}
	slices.Sort(broken)
	return broken
}

func TestLinks(t *testing.T) {
	for _, b := range brokenLinks(documents(t, ".")) {
		t.Errorf("%s leads nowhere", b)
	}
}

// TestLinksReports shows that a broken link is found, and a right one is not.
func TestLinksReports(t *testing.T) {
	got := brokenLinks(map[string]string{
		"a.md": "# One\n[x](#one) [x](#two) [x](docs/b.md#taking-over-pds_x) [x](docs/gone.md) [x](go.mod) [x](https://atproto.com/gone)",
		"docs/b.md": "## Taking over `PDS_X`?\n```\n# no heading\n[x](nowhere)\n```\n" +
			"[x](../a.md) [x](a.md) [x](#no-heading)",
	})
	want := []string{"a.md: #two", "a.md: docs/gone.md", "docs/b.md: #no-heading", "docs/b.md: a.md"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestDocumentsNameWhatExists compares the documents with the source: the
// settings and the trail's events that they name.
func TestDocumentsNameWhatExists(t *testing.T) {
	source := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	texts := documents(t, ".")
	var names []string
	for _, m := range regexp.MustCompile(`env:"(PDS_\w+)"`).FindAllStringSubmatch(source("config/config.go"), -1) {
		names = append(names, m[1])
		if !strings.Contains(texts["docs/settings.md"], "| `"+m[1]+"` |") {
			t.Errorf("docs/settings.md lacks %s: run go generate ./config", m[1])
		}
	}
	later := source("config/load.go") // names of the reference that have no effect yet
	for name, text := range texts {
		for _, s := range setting.FindAllString(text, -1) {
			if !slices.Contains(names, s) && !strings.Contains(later, s) {
				t.Errorf("%s names %s, which is no setting", name, s)
			}
		}
	}
	for _, c := range []struct{ file, what, pattern string }{
		{"account/trail.go", "event", `EntryKind += "([a-z-]+)"`},
		{"session/service.go", "reason", `noteRefusal\(ctx, a, t.SID, "([^"]+)"\)`},
	} {
		found := regexp.MustCompile(c.pattern).FindAllStringSubmatch(source(c.file), -1)
		if len(found) == 0 {
			t.Errorf("%s: no %s found", c.file, c.what)
		}
		for _, m := range found {
			if !strings.Contains(texts["docs/sessions.md"], "`"+m[1]+"`") {
				t.Errorf("docs/sessions.md lacks the %s %q of %s", c.what, m[1], c.file)
			}
		}
	}
}

// TestReadmeIsShort: the README is for newcomers; what they need later is in
// documents that it names.
func TestReadmeIsShort(t *testing.T) {
	const most = 150
	readme := documents(t, ".")["README.md"]
	if n := strings.Count(readme, "\n"); n >= most {
		t.Errorf("README.md has %d lines, %d are too many", n, most)
	}
	documented, err := filepath.Glob("docs/*.md")
	if err != nil || len(documented) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	for _, name := range documented {
		if !strings.Contains(readme, "]("+name+")") {
			t.Errorf("README.md does not name %s", name)
		}
	}
}
