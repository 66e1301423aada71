// Command manual writes the tables of settings, by subject, between the markers of
// docs/settings.md, from the comments and tags of the Config struct.
package main

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strconv"
	"strings"
)

const (
	begin = "<!-- config:begin (go generate ./config) -->\n"
	end   = "<!-- config:end -->"
)

// subject is one that settings have in common: the value of their group tag, and the
// heading of their table.
type subject struct{ group, title string }

// subjects are in the order of the manual.
var subjects = []subject{
	{"server", "Server"},
	{"accounts", "Accounts, sessions and moderation"},
	{"oauth", "OAuth: signing in to apps"},
	{"pages", "Pages for people"},
	{"services", "Other services: AppView, moderation, reports"},
	{"mail", "Mail"},
	{"limits", "Limits"},
	{"blobs", "Blobs"},
	{"backup", "Backups"},
	{"event stream", "Event stream"},
	{"identity", "Identity and keys"},
	{"development", "Development"},
}

func main() {
	source := flag.String("source", "config.go", "file with the Config struct")
	manual := flag.String("manual", "settings.md", "file with the tables")
	check := flag.Bool("check", false, "only report whether the tables are current")
	flag.Parse()
	if err := run(*source, *manual, *check); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(source, manual string, check bool) error {
	tables, err := makeTables(source)
	if err != nil {
		return err
	}
	old, err := os.ReadFile(manual) //nolint:gosec // a file of this repository
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(old), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no markers", manual)
	}
	text := head + begin + tables + end + tail
	switch {
	case text == string(old):
		return nil
	case check:
		return fmt.Errorf("the tables in %s are stale: run go generate ./config", manual)
	default:
		return os.WriteFile(manual, []byte(text), 0o644) //nolint:gosec // everyone may read the manual
	}
}

// makeTables returns a table for each subject, settings in the order of Config.
func makeTables(source string) (string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), source, nil, parser.ParseComments)
	if err != nil {
		return "", err
	}
	rows := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != "Config" {
			return true
		}
		if config, ok := spec.Type.(*ast.StructType); ok {
			for _, f := range config.Fields.List {
				raw, _ := strconv.Unquote(f.Tag.Value)
				tag := reflect.StructTag(raw)
				rows[tag.Get("group")] += row(tag, f.Doc.Text())
			}
		}
		return false
	})
	var out strings.Builder
	for _, s := range subjects {
		fmt.Fprintf(&out, "\n## %s\n\n| setting | default | under `--dev` | meaning |\n|---|---|---|---|\n%s", s.title, rows[s.group])
		delete(rows, s.group)
	}
	for group, left := range rows {
		return "", fmt.Errorf("there is no subject %q for settings: add group:\"...\" with one of %v to\n%s", group, subjects, left)
	}
	out.WriteString("\n")
	return out.String(), nil
}

func row(tag reflect.StructTag, doc string) string {
	meaning := strings.ReplaceAll(strings.Join(strings.Fields(doc), " "), "|", `\|`)
	return fmt.Sprintf("| %s | %s | %s | %s |\n", "`"+tag.Get("env")+"`", code(tag.Get("default")), code(tag.Get("dev")), meaning)
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}
