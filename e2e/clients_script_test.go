package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"testing"
	"time"
)

// scriptTimeout is for a machine under load; a script takes seconds.
const scriptTimeout = 3 * time.Minute

// handlers answer a script's requests, by name.
type handlers map[string]func(argument string) any

// scriptLine is a line that a script writes, see harness.mjs.
type scriptLine struct {
	Step, Error   string
	Ask, Argument string
	Finished      bool
}

// node makes a command that runs a script of this folder; its process ends with
// the test.
func node(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	path, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is missing")
	}
	if _, err := os.Stat("node_modules/.package-lock.json"); err != nil {
		t.Skip("the clients are not installed: run make test-e2e, or npm ci here")
	}
	return exec.CommandContext(ctx, path, args...)
}

// runScript runs a script and makes each of its steps a subtest.
func runScript(t *testing.T, args, env []string, h handlers) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), scriptTimeout)
	defer cancel()
	cmd := node(ctx, t, args...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	finished := false
	answers := json.NewEncoder(in)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var line scriptLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Errorf("script wrote %q", lines.Bytes())
			continue
		}
		switch {
		case line.Ask != "":
			if err := answers.Encode(h[line.Ask](line.Argument)); err != nil {
				t.Errorf("answer %s: %v", line.Ask, err)
			}
		case line.Step != "":
			t.Run(line.Step, func(t *testing.T) {
				if line.Error != "" {
					t.Error(line.Error)
				}
			})
		}
		finished = finished || line.Finished
	}
	if err := cmd.Wait(); err != nil || !finished {
		t.Errorf("script did not finish: %v\n%s", err, stderr.String())
	}
}
