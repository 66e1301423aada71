package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"nestbox/config"
)

const source = "../../config.go"

// TestReadme: the table in the README is what the comments of Config say now.
func TestReadme(t *testing.T) {
	if err := run(source, "../../../README.md", true); err != nil {
		t.Error(err)
	}
}

// TestTable: each setting has its line, with its defaults and a meaning.
func TestTable(t *testing.T) {
	table, err := makeTable(source)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(table), "\n")[2:]
	i := 0
	for f := range reflect.TypeFor[config.Config]().Fields() {
		cells := strings.Split(strings.Trim(lines[i], "| "), " | ")
		i++
		name, value, dev := code(f.Tag.Get("env")), code(f.Tag.Get("default")), code(f.Tag.Get("dev"))
		if len(cells) != 4 || cells[0] != name || cells[1] != value || cells[2] != dev || !strings.HasSuffix(cells[3], ".") {
			t.Errorf("line %q, want that of %s, %s, %s", lines[i-1], name, value, dev)
		}
	}
	if i != len(lines) {
		t.Errorf("%d lines for %d settings", len(lines), i)
	}
}

func TestRun(t *testing.T) {
	readme := filepath.Join(t.TempDir(), "README.md")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(readme, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# Before\n" + begin + "old\n" + end + "after\n")
	if err := run(source, readme, true); err == nil || !strings.Contains(err.Error(), "stale") {
		t.Errorf("check of an old table: %v", err)
	}
	if err := run(source, readme, false); err != nil {
		t.Fatal(err)
	}
	if err := run(source, readme, true); err != nil {
		t.Errorf("check of a new table: %v", err)
	}
	text, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	table, err := makeTable(source)
	if want := "# Before\n" + begin + table + end + "after\n"; err != nil || string(text) != want {
		t.Errorf("wrote %s, %v", text, err)
	}
	for _, bad := range []string{"", begin, end, end + begin} {
		write(bad)
		if err := run(source, readme, false); err == nil || !strings.Contains(err.Error(), "no markers") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := run(source, filepath.Join(t.TempDir(), "none"), true); err == nil {
		t.Error("a README that is not there")
	}
	if err := run("none.go", readme, true); err == nil {
		t.Error("a source that is not there")
	}
}
