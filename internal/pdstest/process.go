package pdstest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"nestbox/config"
	"nestbox/datadir"
	"nestbox/server"
)

// Process is a server run by the real binary.
type Process struct {
	Client

	Dir string
	// Ready is the content of the READY line.
	Ready Ready

	args, settings []string

	cmd    *exec.Cmd
	out    *signal
	log    *logBuffer
	exited chan struct{}
	t      testing.TB
}

// Ready is the content of the READY line.
type Ready struct {
	URL    string `json:"url"`
	Listen string `json:"listen"`
	PLC    string `json:"plc"`
	DID    string `json:"did"`
	Data   string `json:"data"`
	PID    int    `json:"pid"`
	// Metrics is where PDS_METRICS_LISTEN leads to.
	Metrics string `json:"metrics"`
}

var built struct {
	sync.Once
	path string
	err  error
}

// Binary is the path of the nestbox binary: NESTBOX_BIN, else one that is built
// once for this process of tests.
func Binary(tb testing.TB) string {
	tb.Helper()
	if path := os.Getenv("NESTBOX_BIN"); path != "" {
		return path
	}
	built.Do(func() {
		built.path = filepath.Join(os.TempDir(), "nestbox-under-test")
		cmd := exec.Command("go", "build", "-o", built.path, "nestbox/cmd/nestbox") //nolint:noctx // ends by itself
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = &exec.Error{Name: "go build: " + string(out), Err: err}
		}
	})
	if built.err != nil {
		tb.Fatal(built.err)
	}
	return built.path
}

// readyTimeout is how long a server may take to start on a loaded machine.
const readyTimeout = 60 * time.Second

// Launch starts `nestbox serve --dev` on dir ("" makes one) and a free port,
// with further settings as NAME=value, and waits until it is ready. The process
// is stopped at the end of the test and its data directory is verified.
func Launch(tb testing.TB, dir string, settings ...string) *Process {
	tb.Helper()
	if dir == "" {
		dir = TempDir(tb)
	}
	p := LaunchArgs(tb, []string{"serve", "--dev", "--listen", "127.0.0.1:0", "--data", dir}, settings...)
	p.Dir = dir
	tb.Cleanup(func() {
		p.Stop()
		Verify(tb, dir)
	})
	return p
}

// LaunchArgs starts the binary with any arguments of a server that announces
// itself. The caller stops it.
func LaunchArgs(tb testing.TB, args []string, settings ...string) *Process {
	tb.Helper()
	p := &Process{t: tb, args: args, settings: settings, log: &logBuffer{}}
	p.start()
	return p
}

// Restart starts a process that has ended again, on the same data directory and
// address.
func (p *Process) Restart() {
	p.t.Helper()
	p.args = append(slices.Clone(p.args), "--listen", p.Ready.Listen)
	p.start()
}

func (p *Process) start() {
	t := p.t
	t.Helper()
	p.exited = make(chan struct{})
	p.cmd = exec.Command(Binary(t), p.args...) //nolint:noctx // the test stops it
	p.cmd.Env = append(cleanEnviron(), p.settings...)
	p.cmd.Stderr = p.log
	p.out = newSignal("READY ")
	p.cmd.Stdout = p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait() // its status is in ProcessState
		close(exited)
	}(p.cmd, p.exited)
	select {
	case <-p.out.seen:
	case <-p.exited:
		t.Fatalf("nestbox ended before it was ready: %s\n%s", p.cmd.ProcessState, p.log)
	case <-time.After(readyTimeout):
		p.Kill()
		t.Fatalf("nestbox is not ready after %s\n%s", readyTimeout, p.log)
	}
	if err := json.Unmarshal([]byte(strings.TrimPrefix(p.out.line(), "READY ")), &p.Ready); err != nil {
		p.Kill()
		t.Fatalf("READY line %q: %v", p.out.line(), err)
	}
	p.Client = Client{Base: p.Ready.URL, HTTP: p.HTTP}
}

// cleanEnviron returns the environment without our settings.
func cleanEnviron() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "PDS_") {
			env = append(env, kv)
		}
	}
	return env
}

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Stdout is what the process has written to standard output.
func (p *Process) Stdout() string { return p.out.String() }

// Log is what the process has written to standard error, over restarts.
func (p *Process) Log() string { return p.log.String() }

// AwaitLog waits until the process has written text to standard error.
func (p *Process) AwaitLog(text string) {
	p.t.Helper()
	timeout := time.After(readyTimeout)
	for {
		log, more := p.log.snapshot()
		if strings.Contains(log, text) {
			return
		}
		select {
		case <-more:
		case <-timeout:
			p.t.Fatalf("nestbox has not logged %q after %s\n%s", text, readyTimeout, log)
		}
	}
}

// Kill is kill -9; it returns when the process is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // one that has ended is dead enough
	<-p.exited
}

// Signal sends a signal and does not wait.
func (p *Process) Signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// Wait returns the exit status once the process has ended.
func (p *Process) Wait() int {
	<-p.exited
	return p.cmd.ProcessState.ExitCode()
}

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Stop is SIGTERM, and fails the test when the process does not end well.
func (p *Process) Stop() {
	p.t.Helper()
	select {
	case <-p.exited:
		return // killed, or stopped before
	default:
	}
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
		if code := p.Wait(); code != 0 {
			p.t.Errorf("nestbox ended with status %d\n%s", code, p.log)
		}
	case <-time.After(readyTimeout):
		p.Kill()
		p.t.Errorf("nestbox did not stop\n%s", p.log)
	}
}

// Run runs the binary with a command and returns its output; an exit status
// other than 0 is an error with what it printed to standard error.
func Run(tb testing.TB, stdin string, args ...string) (string, error) {
	tb.Helper()
	r := Exec(tb, Invocation{Args: args, Stdin: stdin})
	if r.Code != 0 {
		return r.Stdout, fmt.Errorf("nestbox %s: status %d: %s", strings.Join(args, " "), r.Code, r.Stderr)
	}
	return r.Stdout, nil
}

// Invocation is one run of the binary that ends by itself.
type Invocation struct {
	Args  []string
	Stdin string
	// Settings are NAME=value pairs of the environment.
	Settings []string
}

// Result is the outcome of an invocation.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// execTime bounds how long Exec waits: a server that should refuse to start, and starts, must not
// hold up the suite.
const execTime = 3 * time.Minute

// Exec runs the binary and waits for its end.
func Exec(tb testing.TB, i Invocation) Result {
	tb.Helper()
	var stdout, stderr bytes.Buffer
	ctx, cancel := context.WithTimeout(tb.Context(), execTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, Binary(tb), i.Args...)
	cmd.Env = append(cleanEnviron(), i.Settings...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(i.Stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		tb.Fatalf("run nestbox: %v", err)
	}
	return Result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// Verify fails the test for each fault that nestbox verify finds in a data
// directory that no server has open.
func Verify(tb testing.TB, dir string) {
	tb.Helper()
	c, _, err := config.Load(config.Flags{Data: dir, Dev: true, Command: true}, nil)
	if err != nil {
		tb.Errorf("verify %s: %v", dir, err)
		return
	}
	v, err := server.Verification(&c)
	if errors.Is(err, datadir.ErrNoDatabase) {
		return
	}
	if err != nil {
		tb.Errorf("verify %s: %v", dir, err)
		return
	}
	silent := func(string) {}
	v.Now, v.Remark, v.Progress = time.Now, silent, silent
	v.Fault = func(line string) { tb.Errorf("verify %s: %s", dir, line) }
	if _, err := v.Run(context.Background()); err != nil {
		tb.Errorf("verify %s: %v", dir, err)
	}
}

// logBuffer is a bytes.Buffer for two goroutines.
type logBuffer struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{} // closed by the next write; nil: nobody waits
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.more != nil {
		close(b.more)
		b.more = nil
	}
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// snapshot returns the content, and a channel that is closed when there is more.
func (b *logBuffer) snapshot() (string, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.more == nil {
		b.more = make(chan struct{})
	}
	return b.buf.String(), b.more
}

// signal is a writer that reports when a line with a prefix has come.
type signal struct {
	logBuffer

	prefix string
	once   sync.Once
	seen   chan struct{}
}

func newSignal(prefix string) *signal { return &signal{prefix: prefix, seen: make(chan struct{})} }

func (s *signal) Write(p []byte) (int, error) {
	n, err := s.logBuffer.Write(p)
	if s.line() != "" {
		s.once.Do(func() { close(s.seen) })
	}
	return n, err
}

// line is the first whole line with the prefix.
func (s *signal) line() string {
	for line := range strings.Lines(s.String()) {
		if strings.HasPrefix(line, s.prefix) && strings.HasSuffix(line, "\n") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}
