package findings_test

import (
	"os"
	"strings"
	"testing"

	"nestbox/faults/findings"
)

// TestDocuments: docs/clients.md explains each finding, in their order, with a bad and a good sequence.
func TestDocuments(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	_, found, _ := strings.Cut(string(text), "\n## What is found\n")
	found, _, _ = strings.Cut(found, "\n## ")
	parts := strings.Split("\n"+found, "\n### ")[1:]
	if len(parts) != len(findings.Lines()) {
		t.Fatalf("%d parts, %d findings", len(parts), len(findings.Lines()))
	}
	for _, row := range findings.Limits() {
		if !strings.Contains(found, "\n"+row+"\n") {
			t.Errorf("there is no row %s", row)
		}
	}
	for i, line := range findings.Lines() {
		heading, body, _ := strings.Cut(parts[i], "\n")
		if heading != string(line.Kind) || !strings.Contains(body, "\nbad   ") || !strings.Contains(body, "good  ") {
			t.Errorf("%s: part %q", line.Kind, heading)
		}
	}
}
