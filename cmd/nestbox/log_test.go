package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// TestJournal: each line begins with its level, whatever was added to the logger.
func TestJournal(t *testing.T) {
	var out bytes.Buffer
	log, err := journalLogger(&out, "debug", "text")
	if err != nil {
		t.Fatal(err)
	}
	log.Debug("d")
	log.Info("i")
	log.Warn("w")
	log.With(slog.String("a", "b")).WithGroup("g").Error("e", slog.Int("n", 1))
	for i, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		if want := []string{"<7>time=", "<6>time=", "<4>time=", "<3>time="}[i]; !strings.HasPrefix(line, want) {
			t.Errorf("line %d: %s", i, line)
		}
	}
	if !strings.Contains(out.String(), "msg=e a=b g.n=1") {
		t.Error(out.String())
	}
	if log, err = journalLogger(&out, "warn", "json"); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	log.Info("i")
	log.Error("e")
	if !strings.HasPrefix(out.String(), `<3>{"time"`) || strings.Count(out.String(), "\n") != 1 {
		t.Error(out.String())
	}
}
