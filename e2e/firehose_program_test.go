package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// indigoBinary is one of indigo's programs, which the Makefile builds.
func indigoBinary(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs("../.cache/bin/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("indigo's %s is not built: make .cache/bin/%s", name, name)
	}
	return path
}

// program is a running one whose log is JSON, a line each.
type program struct {
	t   *testing.T
	cmd *exec.Cmd

	mu    sync.Mutex
	moved *sync.Cond // with each line, and with the end
	lines []map[string]any
	ended bool
	done  chan struct{}
}

// startProgram starts a program, which ends with the test at the latest.
func startProgram(t *testing.T, args ...string) *program {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	p := &program{t: t, cmd: exec.CommandContext(ctx, args[0], args[1:]...), done: make(chan struct{})}
	p.moved = sync.NewCond(&p.mu)
	p.cmd.Dir = t.TempDir()
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); <-p.done })
	go func() {
		defer close(p.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var line map[string]any
			if json.Unmarshal(lines.Bytes(), &line) != nil {
				line = map[string]any{"msg": lines.Text()} // of a library
			}
			p.add(line)
		}
		_ = p.cmd.Wait() // it was stopped, or killed
		p.add(nil)
	}()
	return p
}

func (p *program) add(line map[string]any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if line == nil {
		p.ended = true
	} else {
		p.lines = append(p.lines, line)
	}
	p.moved.Broadcast()
}

// await returns the first line with a message, once it is there.
func (p *program) await(msg string) map[string]any {
	p.t.Helper()
	return p.awaitAbout("", msg)
}

// awaitAbout is await for a message about an account.
func (p *program) awaitAbout(did, msg string) map[string]any {
	p.t.Helper()
	late := time.AfterFunc(streamPatience, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := 0; ; i++ {
		for i == len(p.lines) {
			if p.ended {
				p.t.Fatalf("%s ended and never said %q: %v", p.cmd.Path, msg, p.lines)
			}
			p.moved.Wait()
		}
		if line := p.lines[i]; line["msg"] == msg && (did == "" || line["did"] == did) {
			return line
		}
	}
}

// stop is SIGTERM; it returns when the program has ended.
func (p *program) stop() {
	p.t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // one that has ended is stopped
	late := time.AfterFunc(streamPatience, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	<-p.done
}

// complaints returns the lines of warnings and errors, and those that are not
// JSON.
func (p *program) complaints() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	for _, line := range p.lines {
		if level := line["level"]; level == "WARN" || level == "ERROR" || level == nil && line["msg"] != nil {
			raw, _ := json.Marshal(line) // it was JSON
			b.Write(append(raw, '\n'))
		}
	}
	return b.String()
}

// freeAddress returns an address that nothing listens on, for a program that
// cannot report which one it chose.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
