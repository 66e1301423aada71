// Command manual writes the configuration table between the markers of the
// README, from the comments and tags of the Config struct.
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

func main() {
	source := flag.String("source", "config.go", "file with the Config struct")
	readme := flag.String("readme", "README.md", "file with the table")
	check := flag.Bool("check", false, "only say whether the table is current")
	flag.Parse()
	if err := run(*source, *readme, *check); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(source, readme string, check bool) error {
	table, err := makeTable(source)
	if err != nil {
		return err
	}
	old, err := os.ReadFile(readme) //nolint:gosec // a file of this repository
	if err != nil {
		return err
	}
	head, rest, ok := strings.Cut(string(old), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no markers", readme)
	}
	text := head + begin + table + end + tail
	switch {
	case text == string(old):
		return nil
	case check:
		return fmt.Errorf("the table in %s is stale: run go generate ./config", readme)
	default:
		return os.WriteFile(readme, []byte(text), 0o644) //nolint:gosec // everyone may read the README
	}
}

func makeTable(source string) (string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), source, nil, parser.ParseComments)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	out.WriteString("\n| setting | default | under `--dev` | meaning |\n|---|---|---|---|\n")
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok || spec.Name.Name != "Config" {
			return true
		}
		config, ok := spec.Type.(*ast.StructType)
		if !ok {
			return false
		}
		for _, f := range config.Fields.List {
			raw, _ := strconv.Unquote(f.Tag.Value)
			tag := reflect.StructTag(raw)
			doc := strings.Join(strings.Fields(f.Doc.Text()), " ")
			fmt.Fprintf(&out, "| `%s` | %s | %s | %s |\n", tag.Get("env"), code(tag.Get("default")), code(tag.Get("dev")), strings.ReplaceAll(doc, "|", `\|`))
		}
		return false
	})
	out.WriteString("\n")
	return out.String(), nil
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}
