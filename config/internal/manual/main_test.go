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

// TestManual: docs/settings.md has what the comments of Config say now.
func TestManual(t *testing.T) {
	if err := run(source, "../../../docs/settings.md", true); err != nil {
		t.Error(err)
	}
}

// TestTables: each setting has one line, under its subject, with its defaults and a
// meaning.
func TestTables(t *testing.T) {
	tables, err := makeTables(source)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(tables, "\n## ")[1:]
	if len(parts) != len(subjects) {
		t.Fatalf("%d tables for %d subjects", len(parts), len(subjects))
	}
	lines := map[string][]string{}
	for i, s := range subjects {
		title, table, _ := strings.Cut(strings.TrimSpace(parts[i]), "\n")
		if title != s.title {
			t.Errorf("table %d is of %q, want %q", i, title, s.title)
		}
		lines[s.group] = strings.Split(strings.TrimSpace(table), "\n")[2:]
	}
	for f := range reflect.TypeFor[config.Config]().Fields() {
		group := f.Tag.Get("group")
		if len(lines[group]) == 0 {
			t.Errorf("%s has no line under %q", f.Tag.Get("env"), group)
			continue
		}
		line := lines[group][0]
		lines[group] = lines[group][1:]
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		name, value, dev := code(f.Tag.Get("env")), code(f.Tag.Get("default")), code(f.Tag.Get("dev"))
		if len(cells) != 4 || cells[0] != name || cells[1] != value || cells[2] != dev || !strings.HasSuffix(cells[3], ".") {
			t.Errorf("line %q, want that of %s, %s, %s", line, name, value, dev)
		}
	}
	for group, left := range lines {
		if len(left) > 0 {
			t.Errorf("under %q there are more lines: %q", group, left)
		}
	}
}

// TestSubjects: a setting without a subject is reported.
func TestSubjects(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.go")
	text := "package config\ntype Config struct {\n\t// A.\n\tA int `env:\"PDS_A\" group:\"server\"`\n\t// B.\n\tB int `env:\"PDS_B\"`\n}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := makeTables(file); err == nil || !strings.Contains(err.Error(), "PDS_B") || strings.Contains(err.Error(), "PDS_A") {
		t.Error(err)
	}
}

func TestRun(t *testing.T) {
	manual := filepath.Join(t.TempDir(), "settings.md")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(manual, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# Before\n" + begin + "old\n" + end + "after\n")
	if err := run(source, manual, true); err == nil || !strings.Contains(err.Error(), "stale") {
		t.Errorf("check of an old table: %v", err)
	}
	if err := run(source, manual, false); err != nil {
		t.Fatal(err)
	}
	if err := run(source, manual, true); err != nil {
		t.Errorf("check of a new table: %v", err)
	}
	text, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := makeTables(source)
	if want := "# Before\n" + begin + tables + end + "after\n"; err != nil || string(text) != want {
		t.Errorf("wrote %s, %v", text, err)
	}
	for _, bad := range []string{"", begin, end, end + begin} {
		write(bad)
		if err := run(source, manual, false); err == nil || !strings.Contains(err.Error(), "no markers") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if err := run(source, filepath.Join(t.TempDir(), "none"), true); err == nil {
		t.Error("a manual that is not there")
	}
	if err := run("none.go", manual, true); err == nil {
		t.Error("a source that is not there")
	}
}
